//! Small worlds in simulated stores, with a model of what is in them.

#![allow(dead_code, reason = "each test file uses a part")]

use semper_backup::{Compression, Header, Options, Pinned, Recipient, SideFiles, StreamReader, write_backup};
use semper_store::sim::SimDisk;
use semper_store::{Change, CreateOptions, Generation, PAGE_SIZE, PageIndex, PageRange, SegmentId, Store};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

/// What the pages hold: a byte for each that is there.
pub type Model = BTreeMap<(u64, u64), u64>;

/// What a commit does.
#[derive(Clone, Debug)]
pub enum Step {
    Put { segment: u64, first: u64, count: u64, value: u64 },
    Remove { segment: u64, first: u64, count: u64 },
}

/// A page whose content is known by a number; 0 is a page of zeros. Half of them compress well.
pub fn page(value: u64) -> [u8; PAGE_SIZE] {
    let mut page = [0; PAGE_SIZE];
    if value == 0 {
        return page;
    }
    let mut state = value;
    for word in page.chunks_exact_mut(8) {
        if value.is_multiple_of(2) {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        }
        word.copy_from_slice(&state.to_le_bytes());
    }
    page[..8].copy_from_slice(&value.to_le_bytes());
    page
}

pub struct World {
    pub disk: Arc<SimDisk>,
    pub store: Store,
    pub model: Model,
}

impl World {
    pub fn new() -> World {
        let disk = SimDisk::new();
        let options = CreateOptions { size_bytes: 24 << 20, ..CreateOptions::default() };
        let store = Store::create_on(Arc::clone(&disk) as _, &options).unwrap();
        World { disk, store, model: Model::new() }
    }

    pub fn commit(&mut self, steps: &[Step]) -> Generation {
        let mut commit = self.store.begin().unwrap();
        for step in steps {
            match *step {
                Step::Put { segment, first, count, value } => {
                    for at in 0..count {
                        let value = value + at * u64::from(value > 0);
                        commit.put(SegmentId(segment), PageIndex(first + at), &page(value)).unwrap();
                        match value {
                            0 => self.model.remove(&(segment, first + at)),
                            value => self.model.insert((segment, first + at), value),
                        };
                    }
                }
                Step::Remove { segment, first, count } => {
                    commit.remove(SegmentId(segment), PageRange { first: PageIndex(first), count }).unwrap();
                    self.model.retain(|(s, page), _| *s != segment || !(first..first + count).contains(page));
                }
            }
        }
        let mut attributes = [0; semper_store::ATTRIBUTES_LEN];
        attributes[..8].copy_from_slice(&commit.generation().0.to_le_bytes());
        commit.set_attributes(attributes);
        commit.commit().unwrap().generation
    }

    /// A backup of the newest generation.
    pub fn backup(&self, since: Option<Generation>, compression: Compression) -> (Vec<u8>, Header) {
        self.backup_with(since, compression, &SideFiles::default())
    }

    pub fn backup_with(
        &self,
        since: Option<Generation>,
        compression: Compression,
        files: &SideFiles,
    ) -> (Vec<u8>, Header) {
        self.written(since, &Options { compression, ..Options::default() }, files)
    }

    /// An encrypted backup of the newest generation.
    pub fn sealed(&self, since: Option<Generation>, recipients: &[Recipient]) -> Vec<u8> {
        let options = Options { recipients: recipients.to_vec(), ..Options::default() };
        self.written(since, &options, &SideFiles::default()).0
    }

    fn written(&self, since: Option<Generation>, options: &Options, files: &SideFiles) -> (Vec<u8>, Header) {
        let pinned = Pinned { store: &self.store, generation: self.store.generation(), since, files, journal: None };
        let (bytes, header, _) = write_backup(&pinned, options, Vec::new(), &mut |_| {}).unwrap();
        (bytes, header)
    }
}

/// Everything in the newest generation of a store.
pub fn content(store: &Store) -> Model {
    let mut found = Model::new();
    let mut visit = |change: Change<'_>| {
        if let Change::Pages { segment, first, data } = change {
            for (bytes, at) in data.chunks_exact(PAGE_SIZE).zip(first.0..) {
                let value = u64::from_le_bytes(bytes[..8].try_into().unwrap());
                assert_eq!(bytes, page(value), "{segment}, page {at}");
                found.insert((segment.0, at), value);
            }
        }
        ControlFlow::Continue(())
    };
    store.changes(None, store.generation(), &mut visit).unwrap();
    found
}

/// Reads all streams in `bytes`.
pub fn verify(bytes: &[u8]) -> Result<u64, semper_backup::Error> {
    let mut reader = StreamReader::new(bytes, "stream");
    let mut streams = 0;
    while reader.next_stream()?.is_some() {
        reader.skip_to_end()?;
        streams += 1;
    }
    Ok(streams)
}
