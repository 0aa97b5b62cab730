//! The map of a program's memory: which addresses are mapped, how they may be used, and what they are.
//!
//! Pure algebra over ranges of pages. Invariants, held after every operation and checked by [`Vmas::check`]: areas lie
//! inside the window, are page-aligned, not empty, do not overlap, and no two that touch are alike (they are one area).
//! The map remembers which areas an operation touched, so that its owner can bring the records into line.

use crate::abi::{WINDOW_END, WINDOW_START};
use std::collections::{BTreeMap, BTreeSet};

/// Bytes in a page, as an address step.
pub const PAGE: u64 = 4096;
/// May be read.
pub const READ: u32 = 1;
/// May be written.
pub const WRITE: u32 = 2;
/// May be executed.
pub const EXEC: u32 = 4;

/// What an area is; shown in `/proc/self/maps`, and areas of different kinds never merge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A segment of the program's own file.
    Image,
    /// Grown by brk.
    Heap,
    /// The stack made at the start.
    Stack,
    /// Private anonymous memory.
    Private,
    /// Shared anonymous memory (nobody shares it yet).
    Shared,
    /// A private copy of a part of a file that the program could never write.
    File,
    /// A private copy of a part of a file, or of its own, that the program may have changed.
    Copy,
}

impl Kind {
    /// The number that stands for it in a record.
    #[must_use]
    pub const fn code(self) -> u32 {
        match self {
            Self::Image => 1,
            Self::Heap => 2,
            Self::Stack => 3,
            Self::Private => 4,
            Self::Shared => 5,
            Self::File => 6,
            Self::Copy => 7,
        }
    }

    /// The kind that a record's number stands for.
    #[must_use]
    pub const fn from_code(code: u32) -> Option<Self> {
        match code {
            1 => Some(Self::Image),
            2 => Some(Self::Heap),
            3 => Some(Self::Stack),
            4 => Some(Self::Private),
            5 => Some(Self::Shared),
            6 => Some(Self::File),
            7 => Some(Self::Copy),
            _ => None,
        }
    }
}

/// The file that an area came from, if it came from one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// The inode; 0: none, or (for [`Kind::Image`]) the program's own file.
    pub inode: u64,
    /// What is added to an address to have its offset in the file, the same all over the area; it may wrap.
    pub delta: u64,
}

impl Source {
    /// The byte `offset` of a file lies at `address`.
    #[must_use]
    pub const fn at(inode: u64, offset: u64, address: u64) -> Self {
        Self { inode, delta: offset.wrapping_sub(address) }
    }

    /// The same bytes of the file after a move from one address to another.
    #[must_use]
    pub const fn moved(self, from: u64, to: u64) -> Self {
        if self.inode == 0 && self.delta == 0 { self } else { Self::at(self.inode, self.offset(from), to) }
    }

    /// The offset in the file of what lies at `address`.
    #[must_use]
    pub const fn offset(self, address: u64) -> u64 {
        address.wrapping_add(self.delta)
    }
}

/// How an area may be used and what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// [`READ`], [`WRITE`], [`EXEC`].
    pub protection: u32,
    /// What it is.
    pub kind: Kind,
    /// Where its content came from.
    pub source: Source,
}

impl Attributes {
    /// Of memory that came from no file.
    #[must_use]
    pub const fn new(protection: u32, kind: Kind) -> Self {
        Self { protection, kind, source: Source { inode: 0, delta: 0 } }
    }

    /// Whether all of `need` may be done; on this processor what may be written may be read.
    #[must_use]
    pub const fn allows(self, need: u32) -> bool {
        let readable = if self.protection & WRITE != 0 { READ } else { 0 };
        (self.protection | readable) & need == need
    }

    /// The same memory under another protection.
    const fn reprotected(self, protection: u32) -> Self {
        let kind = match self.kind {
            Kind::File if protection & WRITE != 0 => Kind::Copy,
            Kind::Image if (self.protection | protection) & WRITE != 0 => Kind::Copy,
            kind => kind,
        };
        Self { protection, kind, ..self }
    }
}

/// One mapped area: `start..end` in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vma {
    /// First address.
    pub start: u64,
    /// First address after it.
    pub end: u64,
    /// Its use and kind.
    pub attributes: Attributes,
}

impl Vma {
    /// Bytes in it.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.end - self.start
    }

    /// Never: an area has at least one page.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.end == self.start
    }
}

/// The map.
#[derive(Clone, Debug, Default)]
pub struct Vmas {
    areas: BTreeMap<u64, (u64, Attributes)>,
    touched: BTreeSet<u64>,
    bytes: u64,
}

/// Checks that `start..start + length` is page-aligned (the length is rounded up), not empty and in the window.
#[must_use]
pub fn window_range(start: u64, length: u64) -> Option<(u64, u64)> {
    let length = length.checked_add(PAGE - 1)? & !(PAGE - 1);
    let end = start.checked_add(length)?;
    (start.is_multiple_of(PAGE) && length > 0 && start >= WINDOW_START && end <= WINDOW_END).then_some((start, end))
}

impl Vmas {
    /// All areas, by address.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Vma> + '_ {
        self.areas.iter().map(|(&start, &(end, attributes))| Vma { start, end, attributes })
    }

    /// The areas that overlap `start..end`, whole.
    pub fn overlapping(&self, start: u64, end: u64) -> impl Iterator<Item = Vma> + '_ {
        let first = self.areas.range(..=start).next_back().filter(|&(_, &(e, _))| e > start).map_or(start, |(&s, _)| s);
        self.areas.range(first..end.max(first)).map(|(&start, &(end, attributes))| Vma { start, end, attributes })
    }

    /// The area that holds `address`.
    #[must_use]
    pub fn find(&self, address: u64) -> Option<Vma> {
        let (&start, &(end, attributes)) = self.areas.range(..=address).next_back()?;
        (address < end).then_some(Vma { start, end, attributes })
    }

    /// The area that starts exactly at `start`.
    #[must_use]
    pub fn starting_at(&self, start: u64) -> Option<Vma> {
        self.areas.get(&start).map(|&(end, attributes)| Vma { start, end, attributes })
    }

    /// How many areas there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.areas.len()
    }

    /// Whether nothing is mapped.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.areas.is_empty()
    }

    /// Mapped bytes.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Mapped bytes within `start..end`.
    #[must_use]
    pub fn bytes_within(&self, start: u64, end: u64) -> u64 {
        self.overlapping(start, end).map(|v| v.end.min(end) - v.start.max(start)).sum()
    }

    /// How many bytes from `address` on, at most `length`, are mapped with all of `need`.
    #[must_use]
    pub fn accessible(&self, address: u64, length: u64, need: u32) -> u64 {
        let end = address.saturating_add(length);
        let mut at = address;
        while at < end {
            match self.find(at) {
                Some(v) if v.attributes.allows(need) => at = v.end.min(end),
                _ => break,
            }
        }
        at - address
    }

    /// Maps `start..end`, replacing what was there.
    pub fn map(&mut self, start: u64, end: u64, attributes: Attributes) {
        self.unmap(start, end);
        let (mut from, mut to) = (start, end);
        if let Some((&s, &(e, a))) = self.areas.range(..start).next_back()
            && e == start
            && a == attributes
        {
            from = s;
        }
        if let Some(&(e, a)) = self.areas.get(&end)
            && a == attributes
        {
            to = e;
            self.take(end);
        }
        self.put(from, to, attributes);
    }

    /// Unmaps `start..end`; areas that reach beyond it are cut.
    pub fn unmap(&mut self, start: u64, end: u64) {
        let hit: Vec<Vma> = self.overlapping(start, end).collect();
        for v in hit {
            self.take(v.start);
            if v.start < start {
                self.put(v.start, start, v.attributes);
            }
            if v.end > end {
                self.put(end, v.end, v.attributes);
            }
        }
    }

    /// Gives what is mapped within `start..end` another protection.
    pub fn protect(&mut self, start: u64, end: u64, protection: u32) {
        let hit: Vec<Vma> = self.overlapping(start, end).filter(|v| v.attributes.protection != protection).collect();
        for v in hit {
            self.map(v.start.max(start), v.end.min(end), v.attributes.reprotected(protection));
        }
    }

    /// The highest free range of `length` bytes that ends at or below `top` and starts at or above `bottom`.
    #[must_use]
    pub fn free_below(&self, length: u64, bottom: u64, top: u64) -> Option<u64> {
        let mut ceiling = top;
        for (&start, &(end, _)) in self.areas.range(..top).rev() {
            if end < ceiling && ceiling - end >= length {
                break;
            }
            ceiling = ceiling.min(start);
            if ceiling <= bottom {
                return None;
            }
        }
        ceiling.checked_sub(length).filter(|&s| s >= bottom)
    }

    /// Starts of the areas that changed, came or went since this was last asked.
    pub fn take_touched(&mut self) -> BTreeSet<u64> {
        std::mem::take(&mut self.touched)
    }

    /// What is wrong with the map, if anything.
    #[must_use]
    pub fn check(&self) -> Option<String> {
        let mut before: Option<Vma> = None;
        let mut bytes = 0;
        for v in self.iter() {
            if v.end <= v.start || window_range(v.start, v.end - v.start) != Some((v.start, v.end)) {
                return Some(format!(
                    "the area {:#x}..{:#x} is empty, unaligned or outside the window",
                    v.start, v.end
                ));
            }
            if let Some(b) = before {
                if b.end > v.start {
                    return Some(format!("the areas {:#x}..{:#x} and {:#x} overlap", b.start, b.end, v.start));
                }
                if b.end == v.start && b.attributes == v.attributes {
                    return Some(format!("the areas at {:#x} and {:#x} should be one", b.start, v.start));
                }
            }
            bytes += v.len();
            before = Some(v);
        }
        (bytes != self.bytes).then(|| format!("{bytes} bytes are mapped, but {} are counted", self.bytes))
    }

    fn take(&mut self, start: u64) {
        if let Some((end, _)) = self.areas.remove(&start) {
            self.bytes -= end - start;
            self.touched.insert(start);
        }
    }

    fn put(&mut self, start: u64, end: u64, attributes: Attributes) {
        if let Some((old, _)) = self.areas.insert(start, (end, attributes)) {
            self.bytes -= old - start;
        }
        self.bytes += end - start;
        self.touched.insert(start);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PAGES: u64 = 64;
    const BASE: u64 = WINDOW_START;

    #[derive(Clone, Debug)]
    enum Step {
        Map(u64, u64, u32, u32),
        Unmap(u64, u64),
        Protect(u64, u64, u32),
    }

    fn step() -> impl Strategy<Value = Step> {
        let range = || (0..PAGES, 1..16u64);
        prop_oneof![
            (range(), 0..4u32, 1..8u32).prop_map(|((a, n), p, k)| Step::Map(a, n.min(PAGES - a), p, k)),
            range().prop_map(|(a, n)| Step::Unmap(a, n.min(PAGES - a))),
            (range(), 0..8u32).prop_map(|((a, n), p)| Step::Protect(a, n.min(PAGES - a), p)),
        ]
    }

    fn at(page: u64) -> u64 {
        BASE + page * PAGE
    }

    proptest! {
        #[test]
        fn the_map_is_what_an_array_of_pages_would_be(steps in proptest::collection::vec(step(), 1..80)) {
            let mut map = Vmas::default();
            let mut model: Vec<Option<Attributes>> = vec![None; usize::try_from(PAGES).unwrap()];
            let mut records: BTreeMap<u64, Vma> = BTreeMap::new();
            for step in steps {
                let (first, count) = match step {
                    Step::Map(a, n, ..) | Step::Unmap(a, n) | Step::Protect(a, n, _) => (a, n),
                };
                let pages = usize::try_from(first).unwrap()..usize::try_from(first + count).unwrap();
                let (start, end) = (at(first), at(first + count));
                match step {
                    Step::Map(_, _, protection, kind) => {
                        let kind = Kind::from_code(kind).unwrap();
                        let file = matches!(kind, Kind::File | Kind::Copy);
                        let source = if file { Source::at(u64::from(protection / 2), 0, start) } else { Source::default() };
                        let attributes = Attributes { source, ..Attributes::new(protection, kind) }.reprotected(protection);
                        map.map(start, end, attributes);
                        model[pages].fill(Some(attributes));
                    }
                    Step::Unmap(..) => {
                        map.unmap(start, end);
                        model[pages].fill(None);
                    }
                    Step::Protect(_, _, protection) => {
                        map.protect(start, end, protection);
                        model[pages].iter_mut().flatten().for_each(|a| *a = a.reprotected(protection));
                    }
                }
                prop_assert_eq!(map.check(), None);
                for (page, wanted) in model.iter().enumerate() {
                    let address = at(page as u64) + 5;
                    prop_assert_eq!(map.find(address).map(|v| v.attributes), *wanted);
                }
                let mapped = model.iter().flatten().count() as u64;
                prop_assert_eq!(map.bytes(), mapped * PAGE);
                // Whoever follows what was touched has the same map.
                for start in map.take_touched() {
                    match map.starting_at(start) {
                        Some(v) => records.insert(start, v),
                        None => records.remove(&start),
                    };
                }
                prop_assert!(map.iter().eq(records.values().copied()));
                for length in 1..8 {
                    let free = |a: u64| (a..a + length).all(|p| model[usize::try_from(p).unwrap()].is_none());
                    let wanted = (0..=PAGES - length).rev().find(|&a| free(a)).map(at);
                    prop_assert_eq!(map.free_below(length * PAGE, BASE, at(PAGES)), wanted);
                }
            }
        }
    }
}
