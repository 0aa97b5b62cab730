//! From a writer's number to its record: for the newest segment in memory, for each older one in a file beside it.
//!
//! The file is derived: one that is missing or damaged is made again from its segment. In memory stays a filter of 10 bits for each record
//! that tells of nearly every number that is not there that it is not.

use crate::bytes::{crc, put_u32, put_u64, to_u32, to_usize, u32_at, u64_at};
use crate::record::Writer;
use semper_store::{PAGE_SIZE, StoreId};
use std::collections::BTreeMap;

const MAGIC: [u8; 8] = *b"SMPRJIDX";
/// Version of the file. It is derived, so that one of another version is made again.
const VERSION: u32 = 2;
/// Bytes of an entry in the file.
const ENTRY: usize = 24;
/// Entries of a page; its last bytes are its checksum.
pub(crate) const PER_PAGE: usize = (PAGE_SIZE - 8) / ENTRY;
const SUM: usize = PAGE_SIZE - 4;
/// Bits of the filter for each record, and how many of them a record sets: one in a hundred that are not there seem to be.
const BITS: u64 = 10;
const PROBES: u64 = 6;

/// A writer and its number.
pub(crate) type Name = (Writer, u64);

/// Where a record is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    pub sequence: u64,
    pub offset: u32,
}

/// The records of a segment by name.
pub(crate) type Entries = BTreeMap<Name, Place>;

/// What tells of most names that they are not there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Filter(Vec<u64>);

impl Filter {
    fn of<'a>(names: impl ExactSizeIterator<Item = &'a Name>) -> Self {
        let words = (names.len() as u64 * BITS).div_ceil(64).max(1);
        let mut filter = Self(vec![0; to_usize(words)]);
        for name in names {
            for bit in filter.bits(*name) {
                filter.0[to_usize(bit / 64)] |= 1 << (bit % 64);
            }
        }
        filter
    }

    /// Whether `name` may be there.
    pub fn may_hold(&self, name: Name) -> bool {
        self.bits(name).all(|bit| self.0[to_usize(bit / 64)] & 1 << (bit % 64) != 0)
    }

    /// Words of 64 bits.
    pub fn words(&self) -> u64 {
        self.0.len() as u64
    }

    fn bits(&self, (writer, number): Name) -> impl Iterator<Item = u64> + use<> {
        let all = self.0.len() as u64 * 64;
        let first = mix(writer.word() ^ mix(number));
        let second = mix(first) | 1;
        (0..PROBES).map(move |i| first.wrapping_add(i.wrapping_mul(second)) % all)
    }
}

/// splitmix64's last steps.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// What the first page of an index says of its segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Summary {
    pub store: StoreId,
    pub first: u64,
    /// The record after its last.
    pub end: u64,
    pub salt: u64,
    /// Its records; fewer than there were if some were given up.
    pub count: u64,
    /// The latest time of a record in it.
    pub last_time: u64,
}

/// The checksum of `bytes`, that lie from page `page` on of the index of the segment with this salt: what was written elsewhere is seen.
fn sum_at(salt: u64, page: u64, bytes: &[u8]) -> u32 {
    crc(&[&salt.to_le_bytes(), &page.to_le_bytes(), bytes])
}

/// The bytes of an index file.
pub(crate) fn encode(summary: &Summary, entries: &Entries) -> (Vec<u8>, Filter) {
    let filter = Filter::of(entries.keys());
    let mut out = vec![0; PAGE_SIZE];
    out.extend(filter.0.iter().flat_map(|word| word.to_le_bytes()));
    let filter_sum = sum_at(summary.salt, 1, &out[PAGE_SIZE..]);
    out.resize(out.len().next_multiple_of(PAGE_SIZE), 0);
    let mut page = [0; PAGE_SIZE];
    let mut filled = 0;
    let put = |page: &mut [u8; PAGE_SIZE], out: &mut Vec<u8>| {
        let sum = sum_at(summary.salt, (out.len() / PAGE_SIZE) as u64, &page[..SUM]);
        put_u32(page, SUM, sum);
        out.extend_from_slice(page);
        page.fill(0);
    };
    for ((writer, number), place) in entries {
        let at = filled * ENTRY;
        put_u64(&mut page, at, writer.word());
        put_u64(&mut page, at + 8, *number);
        put_u32(&mut page, at + 16, to_u32(to_usize(place.sequence - summary.first)));
        put_u32(&mut page, at + 20, place.offset);
        filled += 1;
        if filled == PER_PAGE {
            put(&mut page, &mut out);
            filled = 0;
        }
    }
    if filled > 0 {
        put(&mut page, &mut out);
    }
    let head = &mut out[..PAGE_SIZE];
    head[..8].copy_from_slice(&MAGIC);
    put_u32(head, 8, VERSION);
    head[16..32].copy_from_slice(&summary.store.0);
    let words = [summary.first, summary.end, summary.salt, summary.count, summary.last_time, filter.0.len() as u64];
    for (i, word) in words.into_iter().enumerate() {
        put_u64(head, 32 + i * 8, word);
    }
    put_u32(head, 80, filter_sum);
    let sum = crc(&[&head[..12], &head[16..]]);
    put_u32(head, 12, sum);
    (out, filter)
}

/// What the first page says, words of the filter, and the filter's checksum. None: it is damaged, or of another version.
pub(crate) fn decode_head(page: &[u8]) -> Option<(Summary, u64, u32)> {
    let sound = page.len() == PAGE_SIZE
        && page[..8] == MAGIC
        && u32_at(page, 8) == VERSION
        && crc(&[&page[..12], &page[16..]]) == u32_at(page, 12);
    if !sound {
        return None;
    }
    let store = StoreId(std::array::from_fn(|i| page[16 + i]));
    let [first, end, salt, count, last_time, words] = [32, 40, 48, 56, 64, 72].map(|at| u64_at(page, at));
    Some((Summary { store, first, end, salt, count, last_time }, words, u32_at(page, 80)))
}

/// The filter in `bytes`, if its checksum holds.
pub(crate) fn decode_filter(bytes: &[u8], salt: u64, sum: u32) -> Option<Filter> {
    let words = bytes.chunks_exact(8).map(|word| u64_at(word, 0)).collect::<Vec<_>>();
    (sum_at(salt, 1, bytes) == sum && !words.is_empty()).then_some(Filter(words))
}

/// The entries of `page`, the page of this number in the index that `summary` begins, which are at most `count`; none if it is damaged.
pub(crate) fn decode_page(page: &[u8], summary: &Summary, number: u64, count: usize) -> Option<Vec<(Name, Place)>> {
    if page.len() != PAGE_SIZE || sum_at(summary.salt, number, &page[..SUM]) != u32_at(page, SUM) {
        return None;
    }
    let first = summary.first;
    let entry = |at: &[u8]| {
        let name = (Writer::from_word(u64_at(at, 0)), u64_at(at, 8));
        (name, Place { sequence: first + u64::from(u32_at(at, 16)), offset: u32_at(at, 20) })
    };
    Some(page.chunks_exact(ENTRY).take(count.min(PER_PAGE)).map(entry).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn name(number: u64) -> Name {
        (Writer { number: 1, born: 2 }, number)
    }

    #[test]
    fn an_index_holds_what_it_was_made_of() {
        let entries: Entries = (0..1000)
            .map(|n| (name(n * 3), Place { sequence: 50 + n, offset: u32::try_from(n * 64).unwrap() }))
            .collect();
        let summary = Summary { store: StoreId([4; 16]), first: 50, end: 1050, salt: 6, count: 1000, last_time: 7 };
        let (bytes, filter) = encode(&summary, &entries);
        let (read, words, sum) = decode_head(&bytes[..PAGE_SIZE]).unwrap();
        assert_eq!(read, summary);
        let end = PAGE_SIZE + to_usize(words) * 8;
        assert_eq!(decode_filter(&bytes[PAGE_SIZE..end], summary.salt, sum), Some(filter.clone()));
        let mut found = Vec::new();
        for (number, page) in (0..).zip(bytes.chunks(PAGE_SIZE)).skip(end.div_ceil(PAGE_SIZE)) {
            assert!(decode_page(page, &summary, number + 1, 1000).is_none(), "a page in a wrong place");
            found.extend(decode_page(page, &summary, number, 1000 - found.len()).unwrap());
        }
        assert!(found.into_iter().eq(entries));
        assert!((0..1000).all(|n| filter.may_hold(name(n * 3))));
        let wrong = (0..10_000).filter(|n| filter.may_hold(name(n * 3 + 1))).count();
        assert!(wrong < 500, "{wrong} of 10,000 seem to be there");
    }
}
