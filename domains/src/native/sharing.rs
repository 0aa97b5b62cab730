//! Memory that several domains of a recorded world could touch at the same time: what they find there depends on who is faster, which no record tells.
//!
//! All that domains map which have run is known here, by the segment. Two that map the same pages, one of them to write, cannot be repeated; nor can an
//! order that reads or writes pages which a domain that runs may write or read meanwhile.

use super::ExecutiveError;
use super::turn::Turn;
use crate::objects::{self, Effect, Place, Rights, Text};
use crate::table::RecordId;
use semper_store::PAGE_SIZE;
use std::collections::HashMap;

const PAGE: u64 = PAGE_SIZE as u64;
/// Why a record ends.
pub(super) const SHARED: &str = "domains share memory";
const TOUCHED: &str = "memory of a domain that ran was read, written or mapped by a key";

/// Pages of a segment that a domain maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mapped {
    domain: RecordId,
    first: u64,
    end: u64,
    writes: bool,
}

impl Mapped {
    const fn meets(&self, first: u64, end: u64) -> bool {
        self.first < end && first < self.end
    }
}

/// What the domains map that have run.
#[derive(Default)]
pub(super) struct Sharing {
    /// By the number of the segment.
    mapped: HashMap<u64, Vec<Mapped>>,
    /// The segments of a domain.
    of: HashMap<u64, Vec<u64>>,
}

impl Sharing {
    /// Whether it is known what a domain maps.
    pub fn knows(&self, domain: RecordId) -> bool {
        self.of.contains_key(&domain.as_u64())
    }

    /// A domain maps nothing any more.
    pub fn forget(&mut self, domain: RecordId) {
        for number in self.of.remove(&domain.as_u64()).unwrap_or_default() {
            if let Some(all) = self.mapped.get_mut(&number) {
                all.retain(|one| one.domain != domain);
                if all.is_empty() {
                    self.mapped.remove(&number);
                }
            }
        }
    }

    /// A domain maps these pages: segment, first, end, whether to write. Returns whether it shares some with another.
    fn set(&mut self, domain: RecordId, pages: &[(u64, u64, u64, bool)]) -> bool {
        self.forget(domain);
        let mut shares = false;
        for &(number, first, end, writes) in pages {
            let all = self.mapped.entry(number).or_default();
            let with = |one: &Mapped| one.domain != domain && one.meets(first, end) && (one.writes || writes);
            shares |= all.iter().any(with);
            all.push(Mapped { domain, first, end, writes });
        }
        self.of.insert(domain.as_u64(), pages.iter().map(|(number, ..)| *number).collect());
        shares
    }

    /// Whether any two share memory.
    pub fn is_shared(&self) -> bool {
        self.mapped.values().any(|all| {
            let pairs = all.iter().enumerate().flat_map(|(n, one)| all[n + 1..].iter().map(move |other| (one, other)));
            let mut pairs = pairs.filter(|(one, other)| one.domain != other.domain && (one.writes || other.writes));
            pairs.any(|(one, other)| one.meets(other.first, other.end))
        })
    }

    /// The domains that may write these pages, or read them if `writes`.
    fn who(&self, number: u64, (first, end): (u64, u64), writes: bool) -> Vec<RecordId> {
        let all = self.mapped.get(&number).map(Vec::as_slice).unwrap_or_default();
        all.iter().filter(|one| one.meets(first, end) && (one.writes || writes)).map(|one| one.domain).collect()
    }
}

/// The pages of a text in a segment.
fn pages(place: Place, len: u64) -> (u64, u64) {
    (place.offset / PAGE, place.offset.saturating_add(len).div_ceil(PAGE))
}

const ALL: (u64, u64) = (0, u64::MAX);

impl Turn<'_> {
    /// A domain is let go on: what it maps is known from then on.
    pub(super) fn note_memory(&mut self, id: RecordId) -> Result<(), ExecutiveError> {
        let mappings = objects::mappings(&self.kernel.objects().table, id)?;
        let mut pages = Vec::new();
        for mapping in mappings {
            if let Some((number, first, length)) = self.resolve(&mapping.object)? {
                let (from, end) = (mapping.offset, mapping.offset.saturating_add(mapping.pages).min(length));
                let writes = mapping.object.rights().contains(Rights::WRITE);
                pages.push((number, first + from, first + end.max(from), writes));
            }
        }
        if self.state.recording.sharing.set(id, &pages) {
            self.kernel.native.tape.cut(SHARED);
        }
        Ok(())
    }

    /// Before an effect: whether it touches what a domain that runs may touch meanwhile.
    pub(super) fn note_touch(&mut self, effect: &Effect) {
        let read = |text: &Text| match *text {
            Text::Stored { place, len } => Some((place.segment, pages(place, len.into()), false)),
            _ => None,
        };
        let touched = match effect {
            Effect::Deliver { delivery, .. } => [read(&delivery.text), None],
            Effect::Answer { answer, .. } => [read(&answer.text), None],
            Effect::ConsoleWrite { text, .. } | Effect::Log { text, .. } => [read(text), None],
            Effect::Write { place, text } => {
                let len = match *text {
                    Text::Message { len, .. } | Text::Given { len } | Text::Random { len } => len,
                    Text::Stored { len, .. } => len,
                    Text::Empty | Text::Registers { .. } => crate::objects::MAX_STRING,
                };
                [Some((place.segment, pages(*place, len.into()), true)), read(text)]
            }
            Effect::Zero { place, len } => [Some((place.segment, pages(*place, *len), true)), None],
            Effect::CopySegment { from, to, .. } => [Some((*from, ALL, false)), Some((*to, ALL, true))],
            Effect::Resize { segment, .. } | Effect::DropSegment { segment } => [Some((*segment, ALL, true)), None],
            Effect::Unmap { place } => [Some((place.segment, ALL, true)), None],
            _ => [None, None],
        };
        for (number, range, writes) in touched.into_iter().flatten() {
            self.touches(number, range, writes);
        }
    }

    /// Pages are read, or written, by other means than by those who map them.
    pub(super) fn touches(&mut self, number: u64, range: (u64, u64), writes: bool) {
        let serving = self.state.recording.serving;
        let who = self.state.recording.sharing.who(number, range, writes);
        if who.into_iter().any(|id| Some(id) != serving && self.is_runnable(id)) {
            self.kernel.native.tape.cut(TOUCHED);
        }
    }

    /// Something of the memory map of a domain changes: if it runs meanwhile, what it finds depends on when.
    pub(super) fn note_remap(&mut self, id: RecordId) -> Result<(), ExecutiveError> {
        if self.state.recording.serving != Some(id) && self.was_let_go(id) {
            self.kernel.native.tape.cut(TOUCHED);
        }
        if self.state.recording.sharing.knows(id) && self.kernel.objects().table.contains(id) {
            self.note_memory(id)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u64) -> RecordId {
        RecordId::from_u64(n)
    }

    #[test]
    fn what_two_map_is_shared_if_one_of_them_writes() {
        let mut sharing = Sharing::default();
        assert!(!sharing.set(id(1), &[(7, 0, 4, false), (8, 0, 4, true)]));
        assert!(!sharing.set(id(2), &[(7, 0, 4, false), (8, 4, 8, true)]), "code, and other pages");
        assert!(!sharing.is_shared());
        assert!(sharing.set(id(3), &[(8, 3, 5, false)]));
        assert!(sharing.is_shared());
        sharing.forget(id(3));
        assert!(!sharing.is_shared());
        assert!(sharing.set(id(3), &[(7, 3, 5, true)]), "what others read");
        assert!(!sharing.set(id(3), &[(9, 0, 1, true), (9, 0, 1, true)]), "twice in one");
        assert_eq!(sharing.who(8, (4, 5), false), [id(2)]);
        assert_eq!(sharing.who(7, (0, 1), false), []);
        assert_eq!(sharing.who(7, (0, 1), true), [id(1), id(2)]);
    }
}
