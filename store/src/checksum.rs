//! Checksums bound to identity.
//!
//! A checksum is 64 bits: the low half a CRC-32 (every burst of up to 32 bits is found for certain), the high half a
//! seeded XXH3 (an independent function: two CRCs of one polynomial with different seeds differ by a constant and
//! would add nothing). Both cover *who the bytes are* as well as what they are, so a page that is intact but stale,
//! misdirected or of another store does not pass, and neither does a reference that was moved to another key. (A checksum
//! lies in the reference, not beside the data, which alone binds it to one content; the identity is there for the case
//! that the reference itself is wrong, and for equal contents.)

use crate::ids::{PAGE_SIZE, StoreId};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Tells the three kinds of checked blocks apart, so that one never passes for another.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Kind {
    Page = b'P',
    Node = b'N',
    Root = b'R',
}

/// Bytes of an identity: kind and padding, store id, three numbers.
const IDENTITY_LEN: usize = 8 + 16 + 3 * 8;

fn bound(kind: Kind, id: StoreId, numbers: [u64; 3], data: &[u8]) -> u64 {
    let mut identity = [0; IDENTITY_LEN];
    identity[0] = kind as u8;
    identity[8..24].copy_from_slice(&id.0);
    for (bytes, number) in identity[24..].chunks_exact_mut(8).zip(numbers) {
        bytes.copy_from_slice(&number.to_le_bytes());
    }
    let mut crc = crc32fast::Hasher::new();
    crc.update(&identity);
    crc.update(data);
    let high = xxh3_64_with_seed(data, xxh3_64_with_seed(&identity, 0));
    (high & !0xffff_ffff) | u64::from(crc.finalize())
}

/// The checksum of the page of a segment that was written by the commit `birth`.
pub(crate) fn of_page(id: StoreId, segment: u64, page: u64, birth: u64, data: &[u8]) -> u64 {
    debug_assert_eq!(data.len(), PAGE_SIZE);
    bound(Kind::Page, id, [segment, page, birth], data)
}

/// The checksum of a tree node of `level` that the commit `birth` wrote to `place`.
pub(crate) fn of_node(id: StoreId, place: u64, birth: u64, level: u8, data: &[u8]) -> u64 {
    bound(Kind::Node, id, [place, birth, u64::from(level)], data)
}

/// The checksum of the root in `slot` (over everything but the checksum itself).
pub(crate) fn of_root(id: StoreId, slot: u64, sequence: u64, data: &[u8]) -> u64 {
    bound(Kind::Root, id, [slot, sequence, 0], data)
}

/// Whether a page holds nothing but zeros.
pub(crate) fn is_zero(page: &[u8]) -> bool {
    // Wide strides of plain integers, which the compiler turns into vector instructions.
    page.chunks(256).all(|stride| stride.iter().fold(0, |any, byte| any | byte) == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_of_the_identity_counts() {
        let page = [7; PAGE_SIZE];
        let id = StoreId([1; 16]);
        let sum = of_page(id, 1, 2, 3, &page);
        assert_ne!(sum, of_page(StoreId([2; 16]), 1, 2, 3, &page));
        assert_ne!(sum, of_page(id, 2, 2, 3, &page));
        assert_ne!(sum, of_page(id, 1, 3, 3, &page));
        assert_ne!(sum, of_page(id, 1, 2, 4, &page));
        assert_ne!(of_node(id, 1, 2, 0, &page), of_node(id, 1, 2, 1, &page));
        assert_ne!(sum, of_root(id, 1, 2, &page));
    }

    #[test]
    fn both_halves_depend_on_every_bit() {
        let mut page = [0; PAGE_SIZE];
        let id = StoreId([1; 16]);
        let sum = of_page(id, 1, 2, 3, &page);
        for bit in (0..PAGE_SIZE * 8).step_by(37) {
            page[bit / 8] ^= 1 << (bit % 8);
            let other = of_page(id, 1, 2, 3, &page);
            assert_ne!(sum >> 32, other >> 32);
            assert_ne!(sum & 0xffff_ffff, other & 0xffff_ffff);
            page[bit / 8] ^= 1 << (bit % 8);
        }
    }
}
