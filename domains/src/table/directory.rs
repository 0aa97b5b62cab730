//! What is cached of the pages: the kind of each record, and which pages the next check must read.
//!
//! Both can be dropped and made again from the pages.

/// Kinds that are compared at once.
const CHUNK: usize = 64;

/// The kind of every record below the high-water mark, and how many there are of each.
#[derive(Default)]
pub(super) struct Directory {
    kinds: Vec<u16>,
    /// A handful of kinds: a linear search beats a map.
    counts: Vec<(u16, u32)>,
    /// Records whose kind changed in the open transaction.
    changed: Vec<u32>,
}

impl Directory {
    pub(super) fn kind(&self, index: u32) -> Option<u16> {
        self.kinds.get(index as usize).copied()
    }

    pub(super) fn count(&self, kind: u16) -> u32 {
        self.counts.iter().find(|(k, _)| *k == kind).map_or(0, |(_, count)| *count)
    }

    /// The first record of `kind` from `index` on.
    pub(super) fn next_of(&self, kind: u16, index: u32) -> Option<u32> {
        let rest = self.kinds.get(index as usize..)?;
        // Whole chunks first: without an early exit the comparison is done for many kinds at once.
        let has = |chunk: &[u16]| chunk.iter().fold(false, |found, k| found | (*k == kind));
        let passed = rest.chunks(CHUNK).take_while(|chunk| !has(chunk)).count() * CHUNK;
        let ahead = passed + rest.get(passed..)?.iter().position(|k| *k == kind)?;
        u32::try_from(ahead).ok()?.checked_add(index)
    }

    /// Files the record at `index`, which is at most the next one after the last.
    pub(super) fn set(&mut self, index: u32, kind: u16) {
        let place = index as usize;
        assert!(place <= self.kinds.len(), "records come into use one after the other");
        if place == self.kinds.len() {
            self.kinds.push(kind);
        } else {
            let old = std::mem::replace(&mut self.kinds[place], kind);
            self.uncount(old);
        }
        match self.counts.iter_mut().find(|(k, _)| *k == kind) {
            Some((_, count)) => *count += 1,
            None => self.counts.push((kind, 1)),
        }
    }

    /// As [`Directory::set`], within a transaction.
    pub(super) fn change(&mut self, index: u32, kind: u16) {
        self.changed.push(index);
        self.set(index, kind);
    }

    pub(super) fn truncate(&mut self, high_water: u32) {
        while self.kinds.len() > high_water as usize {
            if let Some(kind) = self.kinds.pop() {
                self.uncount(kind);
            }
        }
    }

    /// The records whose kind changed since the last call of this or [`Directory::forget_changed`].
    pub(super) fn take_changed(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.changed)
    }

    pub(super) fn forget_changed(&mut self) {
        self.changed.clear();
    }

    fn uncount(&mut self, kind: u16) {
        if let Some((_, count)) = self.counts.iter_mut().find(|(k, _)| *k == kind) {
            *count -= 1;
        }
    }
}

/// A set of record pages that is cheap to add to.
#[derive(Default)]
pub(super) struct TouchedPages {
    bits: Vec<u64>,
    pages: Vec<u32>,
}

impl TouchedPages {
    pub(super) fn add(&mut self, page: u32) {
        let (word, bit) = ((page / 64) as usize, 1 << (page % 64));
        if word >= self.bits.len() {
            self.bits.resize(word + 1, 0);
        }
        if self.bits[word] & bit == 0 {
            self.bits[word] |= bit;
            self.pages.push(page);
        }
    }

    pub(super) fn pages(&self) -> &[u32] {
        &self.pages
    }

    pub(super) fn clear(&mut self) {
        for page in self.pages.drain(..) {
            self.bits[(page / 64) as usize] = 0;
        }
    }
}
