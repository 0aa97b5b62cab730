//! Which pages of an image are never written, by its own headers.

/// A program header that says what to load.
const LOAD: u64 = 1;
/// The flag of one that can be written.
const WRITABLE: u64 = 2;
const PAGE: u64 = 4096;

/// Pages between `start`, the address of the image's first byte, and the first one that the program may write, as the ELF
/// header in `image` says; `None`: it begins with no such header.
pub(crate) fn pages_before_data(image: &[u8], start: u64) -> Option<u64> {
    let number = |at: usize, len: usize| {
        let bytes = image.get(at..at.checked_add(len)?)?;
        Some(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    };
    // 64 bits, little-endian.
    if !image.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let (table, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    let mut first = None;
    for n in 0..count {
        let at = usize::try_from(table.checked_add(n * size)?).ok()?;
        if number(at, 4)? == LOAD && number(at + 4, 4)? & WRITABLE != 0 {
            let address = number(at + 16, 8)?;
            first = Some(first.map_or(address, |found: u64| found.min(address)));
        }
    }
    first?.checked_sub(start).map(|bytes| bytes / PAGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An image with two program headers: flags and address.
    fn image(headers: [(u32, u64); 2]) -> [u8; 256] {
        let mut image = [0; 256];
        image[..6].copy_from_slice(b"\x7fELF\x02\x01");
        image[32] = 64;
        (image[54], image[56]) = (56, 2);
        for (n, (flags, address)) in headers.into_iter().enumerate() {
            let header = &mut image[64 + 56 * n..];
            header[0] = 1;
            header[4..8].copy_from_slice(&flags.to_le_bytes());
            header[16..24].copy_from_slice(&address.to_le_bytes());
        }
        image
    }

    #[test]
    fn what_lies_before_the_first_writable_part_is_shared() {
        assert_eq!(pages_before_data(&image([(5, 0x40_0000), (6, 0x40_3f80)]), 0x40_0000), Some(3));
        assert_eq!(pages_before_data(&image([(7, 0x40_0000), (6, 0x40_3f80)]), 0x40_0000), Some(0));
    }

    #[test]
    fn an_image_that_says_nothing_shares_nothing() {
        assert_eq!(pages_before_data(&[0; 256], 0), None);
        assert_eq!(pages_before_data(&image([(5, 0), (4, 0x1000)]), 0), None);
        assert_eq!(pages_before_data(&image([(6, 0), (6, 0)]), 0x1000), None);
        let mut cut = image([(5, 0), (6, 0x1000)]);
        cut[32..40].fill(0xff);
        assert_eq!(pages_before_data(&cut, 0), None);
    }
}
