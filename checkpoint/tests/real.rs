//! The real pager and the real store: a thread writes, checkpoints are taken, the store is opened again.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../tests/needs/mod.rs"]
mod needs;

use semper_checkpoint::{Checkpointer, FreezeError, Inconsistency, Policy, World};
use semper_pager::{Backing, BackingError, Pager, PagerConfig, Segment};
use semper_store::{CreateOptions, OpenOptions, PAGE_SIZE, PageIndex, PageRange, SegmentId, Store};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);
const PAGES: usize = 600;
const SEGMENT: SegmentId = SegmentId(3);

struct FromStore(Arc<Store>);

impl Backing for FromStore {
    fn read(&self, segment: SegmentId, first: PageIndex, out: &mut [u8]) -> Result<(), BackingError> {
        Ok(self.0.read(segment, first, out)?)
    }
}

/// A program that moves from one state to the next only where it may be stopped.
#[derive(Default)]
struct Program {
    standing: Mutex<bool>,
    changed: Condvar,
}

impl Program {
    fn step(&self, step: impl FnOnce()) {
        let mut standing = self.standing.lock().unwrap();
        while *standing {
            standing = self.changed.wait(standing).unwrap();
        }
        step();
    }
}

impl World for Program {
    fn freeze(&self) -> Result<(), FreezeError> {
        *self.standing.lock().unwrap() = true;
        Ok(())
    }

    fn check(&self) -> Result<(), Inconsistency> {
        Ok(())
    }

    fn thaw(&self) {
        *self.standing.lock().unwrap() = false;
        self.changed.notify_all();
    }
}

/// None, said by name, where memory cannot be tracked.
fn pager(store: &Arc<Store>) -> Option<Arc<Pager>> {
    match Pager::new(PagerConfig::default(), Arc::new(FromStore(Arc::clone(store)))) {
        Ok(pager) => Some(pager),
        Err(error) => {
            needs::missing(&error.to_string());
            None
        }
    }
}

fn create(dir: &Path) -> Arc<Store> {
    Arc::new(Store::create(dir, &CreateOptions { size_bytes: 256 << 20, ..CreateOptions::default() }).unwrap())
}

fn write_all(segment: &Segment, value: u64) {
    for page in 0..PAGES {
        segment.write_at((page * PAGE_SIZE) as u64, &value.to_le_bytes()).unwrap();
    }
}

/// The value of all pages, which is one and the same in every state of the program.
fn read_all(store: &Store) -> u64 {
    let mut data = vec![0; PAGES * PAGE_SIZE];
    store.read(SEGMENT, PageIndex(0), &mut data).unwrap();
    let values: Vec<u64> =
        data.chunks_exact(PAGE_SIZE).map(|page| u64::from_le_bytes(page[..8].try_into().unwrap())).collect();
    assert!(values.iter().all(|value| *value == values[0]), "a state that never existed");
    values[0]
}

#[test]
fn every_generation_is_a_state_of_the_program() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let store = create(&path);
    let Some(pager) = pager(&store) else { return };
    let segment = pager.create_segment(SEGMENT, 1024).unwrap();
    let program = Arc::new(Program::default());
    let policy = Policy { interval: Some(Duration::from_millis(10)), ..Policy::default() };
    let checkpointer =
        Checkpointer::start(Arc::clone(&store), Arc::clone(&pager), Arc::clone(&program) as _, policy).unwrap();
    let end = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut value = 0;
            while !end.load(Ordering::Relaxed) {
                value += 1;
                program.step(|| write_all(&segment, value));
            }
        });
        for _ in 0..20 {
            checkpointer.request().wait(PATIENCE).unwrap();
            read_all(&store);
        }
        end.store(true, Ordering::Relaxed);
    });
    write_all(&segment, 4711);
    let last = checkpointer.final_checkpoint().unwrap();
    drop((checkpointer, segment, pager, store));
    let store = Store::open(&path, &OpenOptions::default()).unwrap();
    assert_eq!((store.generation(), read_all(&store)), (last, 4711));
}

#[test]
fn removals_reach_the_store_and_a_full_one_forgets_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(
        Store::create(&dir.path().join("store"), &CreateOptions { size_bytes: 2 << 20, ..CreateOptions::default() })
            .unwrap(),
    );
    let Some(pager) = pager(&store) else { return };
    let segment = pager.create_segment(SEGMENT, 1024).unwrap();
    let policy = Policy { interval: None, ..Policy::default() };
    let checkpointer =
        Checkpointer::start(Arc::clone(&store), Arc::clone(&pager), Arc::new(Program::default()), policy).unwrap();
    write_all(&segment, 5);
    let error = checkpointer.request().wait(PATIENCE).unwrap_err();
    assert!(matches!(error, semper_checkpoint::CheckpointError::Full { .. }), "{error}");
    store.grow(64 << 20).unwrap();
    checkpointer.request().wait(PATIENCE).unwrap();
    assert_eq!(read_all(&store), 5);

    segment.discard(PageRange::between(0, PAGES as u64)).unwrap();
    checkpointer.request().wait(PATIENCE).unwrap();
    assert_eq!(store.next_page(SEGMENT, PageIndex(0)).unwrap(), None);

    write_all(&segment, 6);
    checkpointer.request().wait(PATIENCE).unwrap();
    drop(segment);
    pager.remove_segment(SEGMENT);
    checkpointer.request().wait(PATIENCE).unwrap();
    assert_eq!(store.segments().unwrap(), []);
}
