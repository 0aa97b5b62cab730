//! The one place where numbers change width, and where they become bytes.

/// A count or offset that comes from a `u64` of the format. Semper runs on 64-bit machines only.
#[expect(clippy::cast_possible_truncation, reason = "usize is 64 bits wide, asserted below")]
pub(crate) const fn to_usize(x: u64) -> usize {
    x as usize
}

const _: () = assert!(size_of::<usize>() == size_of::<u64>());

/// A length that is below 4 GiB by construction.
pub(crate) fn to_u32(x: usize) -> u32 {
    u32::try_from(x).unwrap_or(u32::MAX)
}

/// Reads a little-endian `u64` at `at`.
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

/// Reads a little-endian `u32` at `at`.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

/// Writes a little-endian `u64` at `at`.
pub(crate) fn put_u64(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

/// Writes a little-endian `u32` at `at`.
pub(crate) fn put_u32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

/// The CRC-32 of `parts`, one after the other.
pub(crate) fn crc(parts: &[&[u8]]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    parts.iter().for_each(|part| hasher.update(part));
    hasher.finalize()
}

/// Wall time in nanoseconds since 1970.
pub(crate) fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// Puts `bytes` on the disk at `offset`, which is that of a page; the rest of the last page is zeros. Not flushed.
pub(crate) fn write(disk: &dyn semper_store::Disk, offset: u64, bytes: &[u8]) -> std::io::Result<()> {
    use semper_store::{BUFFER_LEN, PAGE_SIZE};
    let pool = semper_store::BufferPool::default();
    for (i, part) in bytes.chunks(BUFFER_LEN).enumerate() {
        let mut buffer = pool.take()?;
        buffer.extend(part);
        let rest = part.len().next_multiple_of(PAGE_SIZE) - part.len();
        buffer.extend(&[0; PAGE_SIZE][..rest]);
        disk.write_at(offset + (i * BUFFER_LEN) as u64, buffer)?;
    }
    Ok(())
}
