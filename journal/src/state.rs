//! The state file: which records there should be. Two slots, written by turns, so that a torn write leaves the other.

use crate::bytes::{crc, put_u32, put_u64, u32_at, u64_at};
use crate::copies::Look;
use crate::error::{Error, Lost};
use crate::segment::FORMAT_VERSION;
use semper_store::{Disk, Folder, PAGE_SIZE, StoreId};
use std::io;
use std::sync::Arc;

/// Its name.
pub(crate) const STATE: &str = "state";

const MAGIC: [u8; 8] = *b"SMPRJRNL";
/// Stretches of records that may be given up before the oldest must be trimmed.
const MAX_GIVEN_UP: usize = 200;
const LIST: usize = 128;

/// What should be there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct State {
    pub store: StoreId,
    /// Counts the writes of this file.
    pub turn: u64,
    /// The first record that was not trimmed, which begins a segment.
    pub first: u64,
    /// The first record of the newest segment.
    pub newest: u64,
    /// The salt of that segment, should its first page rot.
    pub salt: u64,
    /// Records below it are in a backup.
    pub covered: u64,
    /// Bytes of a new segment.
    pub segment_bytes: u64,
    /// Records that were given up, first and last of each stretch.
    pub given_up: Vec<(u64, u64)>,
}

enum Slot {
    Blank,
    Damaged,
    Version(u32),
    State(State),
}

impl Slot {
    /// The newest that any copy has; it is written over the others then.
    fn read(disk: &dyn Disk, slot: u64, look: &Look) -> Result<Self, Error> {
        let offset = slot * PAGE_SIZE as u64;
        let (mut found, mut refused, mut differ) = (Vec::new(), None, false);
        for copy in disk.copies() {
            let mut page = [0; PAGE_SIZE];
            match disk.read_copy(copy, offset, &mut page) {
                Ok(()) => found.push(State::decode(&page)),
                Err(e) if semper_store::by_medium(&e) => found.push(Self::Damaged),
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => found.push(Self::Blank),
                Err(e) => {
                    differ = true;
                    refused = Some(e);
                }
            }
        }
        let turn = |slot: &Self| if let Self::State(state) = slot { Some(state.turn) } else { None };
        let newest = found.iter().filter_map(turn).max();
        if let Some(newest) = newest
            && (differ || found.iter().any(|slot| turn(slot) != Some(newest)))
        {
            let holds = |page: &[u8]| turn(&State::decode(page)) == Some(newest);
            look.count(disk.mend(offset, &mut [0; PAGE_SIZE], &holds));
        }
        // What is damaged is told before what was never written.
        let worth = |slot: &Self| match slot {
            Self::State(state) => (3, state.turn),
            Self::Version(_) => (2, 0),
            Self::Damaged => (1, 0),
            Self::Blank => (0, 0),
        };
        match (found.into_iter().max_by_key(worth), refused) {
            (Some(slot), _) => Ok(slot),
            (None, Some(e)) => Err(Error::io("read `journal/state`", e)),
            (None, None) => Ok(Self::Damaged),
        }
    }
}

impl State {
    fn encode(&self) -> [u8; PAGE_SIZE] {
        let mut page = [0; PAGE_SIZE];
        page[..8].copy_from_slice(&MAGIC);
        put_u32(&mut page, 8, FORMAT_VERSION);
        page[16..32].copy_from_slice(&self.store.0);
        let words = [self.turn, self.first, self.newest, self.salt, self.covered, self.segment_bytes];
        for (i, word) in words.into_iter().enumerate() {
            put_u64(&mut page, 32 + i * 8, word);
        }
        put_u64(&mut page, 80, self.given_up.len() as u64);
        for (i, (from, to)) in self.given_up.iter().enumerate() {
            put_u64(&mut page, LIST + i * 16, *from);
            put_u64(&mut page, LIST + i * 16 + 8, *to);
        }
        let sum = crc(&[&page[..12], &page[16..]]);
        put_u32(&mut page, 12, sum);
        page
    }

    fn decode(page: &[u8]) -> Slot {
        if page.iter().all(|byte| *byte == 0) {
            return Slot::Blank;
        }
        if page[..8] != MAGIC || crc(&[&page[..12], &page[16..]]) != u32_at(page, 12) {
            return Slot::Damaged;
        }
        let version = u32_at(page, 8);
        if version != FORMAT_VERSION {
            return Slot::Version(version);
        }
        let count = usize::try_from(u64_at(page, 80)).unwrap_or(usize::MAX);
        if count > MAX_GIVEN_UP {
            return Slot::Damaged;
        }
        let given_up = (0..count).map(|i| LIST + i * 16).map(|at| (u64_at(page, at), u64_at(page, at + 8))).collect();
        let [turn, first, newest, salt, covered, segment_bytes] = [32, 40, 48, 56, 64, 72].map(|at| u64_at(page, at));
        let store = StoreId(std::array::from_fn(|i| page[16 + i]));
        Slot::State(Self { store, turn, first, newest, salt, covered, segment_bytes, given_up })
    }

    /// The first sequence that no record of the newest segment can have: where that is gone, what comes after it begins there.
    pub const fn beyond_newest(&self) -> u64 {
        self.newest + self.segment_bytes / crate::record::HEADER as u64
    }

    /// Whether a stretch was given up.
    pub fn gave_up(&self, lost: &Lost) -> bool {
        // What was given up at once may be found in pieces later.
        let mut from = lost.from;
        while from <= lost.to {
            let Some((_, to)) = self.given_up.iter().find(|(a, b)| (*a..=*b).contains(&from)) else { return false };
            from = to + 1;
        }
        true
    }

    /// Gives a stretch up.
    pub fn give_up(&mut self, lost: &Lost) -> Result<(), Error> {
        if self.gave_up(lost) {
            return Ok(());
        }
        if self.given_up.len() == MAX_GIVEN_UP {
            return Err(Error::BadArgument(format!(
                "{MAX_GIVEN_UP} stretches of records were given up already; trim the journal beyond the first of them"
            )));
        }
        self.given_up.push((lost.from, lost.to));
        Ok(())
    }
}

/// The file, and what is in it.
pub(crate) struct StateFile {
    disk: Arc<dyn Disk>,
    pub state: State,
}

impl StateFile {
    /// Reads it. None: there is none, or its making was cut short.
    pub fn open(folder: &dyn Folder, look: &Look) -> Result<Option<Self>, Error> {
        let disk = match folder.open(STATE) {
            Ok(disk) => disk,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::io("open `journal/state`", e)),
        };
        let mut best: Option<State> = None;
        let (mut blank, mut version) = (0, None);
        for slot in 0..2 {
            match Slot::read(&*disk, slot, look)? {
                Slot::Blank => blank += 1,
                Slot::Damaged => {}
                Slot::Version(found) => version = Some(found),
                Slot::State(state) if best.as_ref().is_none_or(|best| best.turn < state.turn) => best = Some(state),
                Slot::State(_) => {}
            }
        }
        match (best, version) {
            (Some(state), _) => Ok(Some(Self { disk, state })),
            (None, Some(found)) => Err(Error::Version { file: STATE.to_owned(), found, expected: FORMAT_VERSION }),
            (None, None) if blank == 2 => Ok(None),
            (None, None) => Err(Error::BadState("both of its halves are damaged".to_owned())),
        }
    }

    /// Makes it.
    pub fn create(folder: &dyn Folder, state: State) -> io::Result<Self> {
        if folder.names().is_ok_and(|names| names.iter().any(|name| name == STATE)) {
            folder.remove(STATE)?;
        }
        let disk = folder.create(STATE, 2 * PAGE_SIZE as u64)?;
        let mut file = Self { disk, state };
        file.write()?;
        folder.sync()?;
        Ok(file)
    }

    /// Makes what is in [`StateFile::state`] durable.
    pub fn write(&mut self) -> io::Result<()> {
        self.state.turn += 1;
        let slot = self.state.turn % 2;
        crate::bytes::write(&*self.disk, slot * PAGE_SIZE as u64, &self.state.encode())?;
        self.disk.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(from: u64, to: u64) -> Lost {
        Lost { from, to, file: String::new(), offset: 0, reason: String::new() }
    }

    #[test]
    fn every_byte_of_a_slot_is_guarded() {
        let given_up = vec![(3, 4), (9, 9)];
        let state = State {
            store: StoreId([1; 16]),
            turn: 2,
            first: 3,
            newest: 4,
            salt: 5,
            covered: 6,
            segment_bytes: 7,
            given_up,
        };
        let mut page = state.encode();
        assert!(matches!(State::decode(&page), Slot::State(read) if read == state));
        for at in 0..PAGE_SIZE {
            page[at] ^= 1;
            assert!(!matches!(State::decode(&page), Slot::State(_)), "byte {at}");
            page[at] ^= 1;
        }
        assert!(state.gave_up(&lost(3, 4)) && state.gave_up(&lost(4, 4)) && state.gave_up(&lost(9, 9)));
        assert!(!state.gave_up(&lost(3, 5)) && !state.gave_up(&lost(2, 3)));
    }
}
