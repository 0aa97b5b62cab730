//! What is cached of the pages: where the records of listed kinds are, and which pages the next check must read.
//!
//! Both can be dropped and made again from the pages.

/// Records that are compared at once, and for which memory is taken if one of them is listed.
const CHUNK: usize = 64;

/// What stands for a record that is not listed: free, retired, or of a kind that is not.
pub(super) const UNLISTED: u16 = 0;

/// The kind of every listed record, and how many there are of each. Its size follows them, not the table: 8 bytes for 64
/// records of which none is listed.
#[derive(Default)]
pub(super) struct Directory {
    chunks: Vec<Option<Box<[u16; CHUNK]>>>,
    /// A handful of kinds: a linear search beats a map.
    counts: Vec<(u16, u32)>,
    /// Records whose kind changed in the open transaction.
    changed: Vec<u32>,
}

impl Directory {
    pub(super) fn kind(&self, index: u32) -> u16 {
        let (chunk, place) = split(index);
        self.chunks.get(chunk).and_then(Option::as_ref).map_or(UNLISTED, |kinds| kinds[place])
    }

    pub(super) fn count(&self, kind: u16) -> u32 {
        self.counts.iter().find(|(k, _)| *k == kind).map_or(0, |(_, count)| *count)
    }

    /// The first record of `kind` from `index` on.
    pub(super) fn next_of(&self, kind: u16, index: u32) -> Option<u32> {
        let (first, mut from) = split(index);
        for (chunk, kinds) in self.chunks.iter().enumerate().skip(first) {
            if let Some(kinds) = kinds {
                // Without an early exit the comparison is done for many kinds at once.
                let has = kinds[from..].iter().fold(false, |found, k| found | (*k == kind));
                let place = if has { kinds[from..].iter().position(|k| *k == kind) } else { None };
                if let Some(place) = place {
                    return u32::try_from(chunk * CHUNK + from + place).ok();
                }
            }
            from = 0;
        }
        None
    }

    /// Whether any record from `first` to before `end` is listed.
    pub(super) fn any_in(&self, first: u32, end: u32) -> bool {
        (first..end).any(|index| self.kind(index) != UNLISTED)
    }

    /// Files the record at `index`.
    pub(super) fn set(&mut self, index: u32, kind: u16) {
        let (chunk, place) = split(index);
        if chunk >= self.chunks.len() {
            if kind == UNLISTED {
                return;
            }
            self.chunks.resize_with(chunk + 1, || None);
        }
        let slot = &mut self.chunks[chunk];
        if slot.is_none() && kind == UNLISTED {
            return;
        }
        let kinds = slot.get_or_insert_with(|| Box::new([UNLISTED; CHUNK]));
        let old = std::mem::replace(&mut kinds[place], kind);
        if kind == UNLISTED && kinds.iter().all(|k| *k == UNLISTED) {
            *slot = None;
        }
        if old != UNLISTED
            && let Some((_, count)) = self.counts.iter_mut().find(|(k, _)| *k == old)
        {
            *count -= 1;
        }
        if kind != UNLISTED {
            match self.counts.iter_mut().find(|(k, _)| *k == kind) {
                Some((_, count)) => *count += 1,
                None => self.counts.push((kind, 1)),
            }
        }
    }

    /// As [`Directory::set`], within a transaction.
    pub(super) fn change(&mut self, index: u32, kind: u16) {
        if self.kind(index) != kind {
            self.changed.push(index);
            self.set(index, kind);
        }
    }

    /// The records whose kind changed since the last call of this or [`Directory::forget_changed`].
    pub(super) fn take_changed(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.changed)
    }

    pub(super) fn forget_changed(&mut self) {
        self.changed.clear();
    }
}

fn split(index: u32) -> (usize, usize) {
    (index as usize / CHUNK, index as usize % CHUNK)
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
