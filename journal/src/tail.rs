//! The end of the journal: where the next batch is written.

use crate::batch;
use crate::bytes::{self, crc, now, to_u32, to_usize, u64_at};
use crate::canary::Canary;
use crate::error::Error;
use crate::record::{Identity, Record};
use crate::segment::{self, FIRST_BATCH, Header};
use crate::state::StateFile;
use semper_store::{Disk, Folder, PAGE_SIZE, StoreId, no_space};
use std::io;
use std::sync::Arc;

/// The newest segment.
pub(crate) struct Newest {
    pub disk: Arc<dyn Disk>,
    pub header: Header,
    /// Where the next batch goes.
    pub offset: u64,
}

/// What writes. Held by whoever leads, and by nobody for long otherwise.
pub(crate) struct Tail {
    pub folder: Arc<dyn Folder>,
    pub state: StateFile,
    /// None: it has to be made (after damage to the last one that was given up).
    pub newest: Option<Newest>,
    /// A segment was to be made after the newest and could not be; what is left of it may come back after a crash. So nothing is added to
    /// the newest any more, which would have the same sequence numbers.
    pub closed: bool,
    pub canary: Option<Canary>,
}

impl Tail {
    /// Whether a batch of `len` bytes fits into the newest segment.
    pub fn has_room(&self, len: usize) -> bool {
        let span = (len as u64).next_multiple_of(PAGE_SIZE as u64);
        !self.closed && self.newest.as_ref().is_some_and(|newest| newest.offset + span <= newest.header.len)
    }

    /// Makes a segment that begins with record `first` the newest. Nothing has changed if there is no room for it.
    pub fn add_segment(&mut self, first: u64) -> Result<(), Error> {
        let name = segment::name(first);
        let failed = |e| told(&format!("make `journal/{name}`"), e);
        self.closed = true;
        let newest = match self.make_segment(first, &name) {
            Ok(newest) => newest,
            Err(e) => {
                let _ = self.folder.remove(&name);
                return Err(failed(e));
            }
        };
        // From here on the state may durably tell of the file: it stays, whatever happens.
        let state = &mut self.state.state;
        let before = (state.newest, state.salt);
        (state.newest, state.salt) = (first, newest.header.salt);
        if let Err(e) = self.state.write() {
            (self.state.state.newest, self.state.state.salt) = before;
            return Err(failed(e));
        }
        (self.newest, self.closed) = (Some(newest), false);
        Ok(())
    }

    fn make_segment(&self, first: u64, name: &str) -> io::Result<Newest> {
        let state = &self.state.state;
        let header =
            Header { store: state.store, first, len: state.segment_bytes, salt: salt(state.store, first), made: now() };
        // What a crash left of an attempt.
        if self.folder.names()?.iter().any(|have| have == name) {
            self.folder.remove(name)?;
        }
        let disk = self.folder.create(name, header.len)?;
        bytes::write(&*disk, 0, &header.encode())?;
        disk.flush()?;
        if !Canary::SkipNameSync.planted(self.canary) {
            self.folder.sync()?;
        }
        Ok(Newest { disk, header, offset: FIRST_BATCH })
    }

    /// Writes a batch and flushes it; where each of its records lies.
    pub fn write(&mut self, records: &[Record]) -> Result<Vec<u32>, Error> {
        let Some(newest) = &mut self.newest else {
            return Err(Error::BadState("there is no newest segment".to_owned()));
        };
        let at = Identity { salt: newest.header.salt, offset: newest.offset };
        let written = if Canary::LoseARecord.planted(self.canary) && records.len() > 2 && records[0].sequence % 7 == 3 {
            &records[..records.len() - 1]
        } else {
            records
        };
        let bytes = batch::encode(written, at);
        let name = segment::name(newest.header.first);
        // What fails before the flush for want of space was not written: another attempt overwrites it.
        bytes::write(&*newest.disk, at.offset, &bytes).map_err(|e| told(&format!("write `journal/{name}`"), e))?;
        if !Canary::SkipFlush.planted(self.canary) {
            newest.disk.flush().map_err(|e| Error::Poisoned(format!("flush `journal/{name}`: {e}")))?;
        }
        newest.offset += (bytes.len() as u64).next_multiple_of(PAGE_SIZE as u64);
        let mut offset = at.offset + batch::BATCH_HEADER as u64;
        let mut offsets = Vec::with_capacity(records.len());
        for record in records {
            offsets.push(to_u32(to_usize(offset)));
            offset += crate::record::span(record.bytes.len()) as u64;
        }
        Ok(offsets)
    }
}

/// Whether another attempt may be made after a failure.
fn told(what: &str, e: io::Error) -> Error {
    if no_space(&e) { Error::Full(Arc::new(e)) } else { Error::Poisoned(format!("{what}: {e}")) }
}

/// A number that no program can know: from the host's randomness, or from what else differs.
fn salt(store: StoreId, first: u64) -> u64 {
    let mut random = [0; 8];
    let drawn = std::fs::File::open("/dev/urandom").and_then(|mut file| io::Read::read_exact(&mut file, &mut random));
    let drawn = if drawn.is_ok() { u64_at(&random, 0) } else { now() };
    drawn ^ u64::from(crc(&[&store.0, &first.to_le_bytes()]))
}
