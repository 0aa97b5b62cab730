//! Pages come from the store when they are touched, and only then.
#![allow(clippy::unwrap_used, missing_docs)]

mod process;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use process::{MemoryStore, Op, Process, SEG, World, able, put_word, range, word};
use semper_pager::{Error, FaultError, PAGE_SIZE, PageIndex, SegmentId, TrackingChoice};

const BOTH: [TrackingChoice; 2] = [TrackingChoice::Async, TrackingChoice::Sync];

fn filled(pages: u64) -> World {
    world_with(TrackingChoice::Auto, pages)
}

fn world_with(choice: TrackingChoice, pages: u64) -> World {
    let world = World::new(choice, None);
    (0..pages).for_each(|page| world.store.put(SEG, page, page + 1000));
    world
}

#[test]
fn a_stored_page_reads_as_stored_and_a_hole_as_zeros() {
    for choice in BOTH.into_iter().filter(|choice| able(*choice)) {
        let world = world_with(choice, 100);
        let segment = world.pager.open_segment(SEG, 1 << 20, &[range(0, 200)]).unwrap();
        let (mut process, _attachment) = Process::start(&segment);
        let ops = [Op::Read(5), Op::Read(99), Op::Read(100), Op::Read(199), Op::Read(200), Op::Read(99_999)];
        assert_eq!(process.run(&ops), [1005, 1099, 0, 0, 0, 0]);
        process.run(&[Op::Write(6, 1), Op::Write(100, 2)]);
        assert_eq!(process.run(&[Op::Read(6), Op::Read(100), Op::Read(7)]), [1, 2, 1007]);
        let seen = process::pages_of(&world.checkpoint(&[&process], 0, true));
        assert!(!seen.contains(&5) && !seen.contains(&7), "pages only read are clean: {seen:?}");
    }
}

#[test]
fn reading_in_order_is_read_ahead() {
    if !able(TrackingChoice::Auto) {
        return;
    }
    let world = filled(4096);
    let segment = world.pager.open_segment(SEG, 4096, &[range(0, 4096)]).unwrap();
    let (mut process, _attachment) = Process::start(&segment);
    let (_, sum) = process.touch(0, 4096, false);
    assert_eq!(sum, (0..4096).map(|page| page + 1000).sum::<u64>());
    let usage = world.pager.usage();
    assert_eq!((usage.resident, usage.pages_brought), (4096, 4096));
    assert!(usage.missing_faults < 600, "{usage:?}");
}

#[test]
fn opening_costs_nothing_per_page() {
    if !able(TrackingChoice::Auto) {
        return;
    }
    let world = filled(10);
    let segment = world.pager.open_segment(SEG, 1 << 40, &[range(0, 1 << 40)]).unwrap();
    let before = world.pager.own_memory_bytes();
    let (mut process, _attachment) = Process::start_window(&segment, 1 << 28);
    assert_eq!(process.run(&[Op::Read(9), Op::Read((1 << 28) - 1)]), [1009, 0]);
    assert!(world.pager.own_memory_bytes() - before < 1 << 20);
}

#[test]
fn a_page_that_the_store_cannot_give_is_a_sigbus_and_named() {
    if !able(TrackingChoice::Auto) {
        return;
    }
    let world = filled(100);
    world.store.bad.lock().unwrap().insert(42);
    let errors: Arc<Mutex<Vec<FaultError>>> = Arc::default();
    let seen = Arc::clone(&errors);
    world.pager.on_fault_error(move |error| seen.lock().unwrap().push(error));
    let segment = world.pager.open_segment(SEG, 100, &[range(0, 100)]).unwrap();
    let (mut process, _attachment) = Process::start(&segment);
    let poison = semper_pager::probe().iter().any(|f| f.name == "page poisoning" && f.available);
    process.begin(&[Op::Read(41), Op::Read(43), Op::Read(42), Op::Read(44)]);
    if poison {
        process.wait(|| ());
        assert_eq!(process.values(4), [1041, 1043, 0, 1044]);
        assert_eq!(process.sigbus(), 1);
    } else {
        while errors.lock().unwrap().is_empty() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    let errors = errors.lock().unwrap();
    assert_eq!((errors[0].segment, errors[0].page, errors[0].delivered), (SEG, PageIndex(42), poison));
    assert!(errors[0].error.to_string().contains("42"));
    drop(errors);
    // The runtime's own access names the page too; the neighbours can be read.
    let mut bytes = [0; 8];
    let failed = segment.read_at(42 * PAGE_SIZE as u64, &mut bytes).unwrap_err();
    assert!(matches!(failed, Error::Backing { page: PageIndex(42), segment: SEG, .. }), "{failed}");
    assert_eq!(word(&segment, 43), 1043);
}

#[test]
fn the_runtime_reads_and_writes_what_is_not_in_memory() {
    if !able(TrackingChoice::Auto) {
        return;
    }
    let world = filled(300);
    let segment = world.pager.open_segment(SEG, 1000, &[range(0, 300)]).unwrap();
    let mut all = vec![0; 400 * PAGE_SIZE - 5];
    segment.read_at(3, &mut all).unwrap();
    assert_eq!(segment.resident().unwrap(), 0, "reading brings nothing into memory");
    assert_eq!(u64::from_ne_bytes(all[PAGE_SIZE - 3..PAGE_SIZE + 5].try_into().unwrap()), 1001);
    assert_eq!(&all[300 * PAGE_SIZE..300 * PAGE_SIZE + 8], [0; 8]);
    segment.write_at(7 * PAGE_SIZE as u64 + 4000, &[1; 200]).unwrap();
    assert_eq!([7, 8].map(|page| word(&segment, page) & 0xffff), [1007, 0x0101]);
    segment.move_pages(PageIndex(0), PageIndex(500), 400).unwrap();
    assert_eq!([0, 7, 500, 507, 799, 850].map(|page| word(&segment, page)), [0, 0, 1000, 1007, 1299, 0]);
    let (mut process, _attachment) = Process::start(&segment);
    assert_eq!(process.run(&[Op::Read(2), Op::Read(502), Op::Read(507)]), [0, 1002, 1007]);
    world.checkpoint(&[&process], 0, true);
    assert_eq!([2, 502].map(|page| world.store.word(SEG, page)), [0, 1002]);
    assert!(segment.read_at(1000 * PAGE_SIZE as u64, &mut [0]).is_err());
    assert!(segment.write_at(u64::MAX, &[0]).is_err());
}

#[test]
fn a_discarded_page_is_zeros_even_where_the_store_has_it() {
    for choice in BOTH.into_iter().filter(|choice| able(*choice)) {
        let world = world_with(choice, 100);
        let segment = world.pager.open_segment(SEG, 100, &[range(0, 100)]).unwrap();
        let (mut process, _attachment) = Process::start(&segment);
        assert_eq!(process.run(&[Op::Read(10)])[0], 1010);
        segment.discard(range(10, 20)).unwrap();
        assert_eq!(process.run(&[Op::Read(10), Op::Read(15), Op::Write(16, 5), Op::Read(20)]), [0, 0, 5, 1020]);
        world.checkpoint(&[&process], 0, true);
        assert_eq!([9, 10, 15, 16].map(|page| world.store.word(SEG, page)), [1009, 0, 0, 5]);
    }
}

#[test]
fn a_rollback_gives_back_what_was_committed() {
    if !able(TrackingChoice::Auto) {
        return;
    }
    let world = filled(100);
    let segment = world.pager.open_segment(SEG, 200, &[range(0, 100)]).unwrap();
    let (mut process, attachment) = Process::start(&segment);
    process.run(&[Op::Write(1, 1), Op::Write(150, 2)]);
    segment.discard(range(50, 60)).unwrap();
    assert!(matches!(world.pager.revert_segment(SEG, &[]), Err(Error::Attached(SEG))));
    process.kill();
    drop(attachment);
    let stored = world.store.stored(SEG);
    world.pager.revert_segment(SEG, &stored).unwrap();
    let (mut process, _attachment) = Process::start(&segment);
    assert_eq!(process.run(&[Op::Read(1), Op::Read(150), Op::Read(55)]), [1001, 0, 1055]);
    put_word(&segment, 1, 7);
    let _open = world.pager.scan(semper_pager::Stage::Live).unwrap();
    assert!(matches!(world.pager.revert_segment(SEG, &stored), Err(Error::CaptureOpen(SEG))));
    world.pager.abandon();
    assert!(matches!(world.pager.revert_segment(SegmentId(99), &[]), Err(Error::NotOpen(_))));
}

/// A store whose reads take a while, to let others come between.
struct Slow(MemoryStore, AtomicU64);

impl semper_pager::Backing for Slow {
    fn read(&self, segment: SegmentId, first: PageIndex, out: &mut [u8]) -> Result<(), semper_pager::BackingError> {
        self.1.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(20));
        self.0.read(segment, first, out)
    }
}

#[test]
fn the_runtime_writing_into_a_page_that_is_being_brought_loses_nothing() {
    if !able(TrackingChoice::Auto) {
        return;
    }
    let store = Arc::new(Slow(MemoryStore::default(), AtomicU64::new(0)));
    (0..100).for_each(|page| store.0.put(SEG, page, page + 1000));
    let pager = semper_pager::Pager::new(semper_pager::PagerConfig::default(), store.clone()).unwrap();
    let segment = pager.open_segment(SEG, 100, &[range(0, 100)]).unwrap();
    let (mut process, _attachment) = Process::start(&segment);
    for page in (0..80).step_by(20) {
        let reads = store.1.load(Ordering::SeqCst);
        process.begin(&[Op::Write(page, 1), Op::Read(page + 1)]);
        while store.1.load(Ordering::SeqCst) == reads {
            std::thread::yield_now();
        }
        segment.discard(range(page + 1, page + 2)).unwrap();
        segment.write_at(page * PAGE_SIZE as u64 + 8, &[9; 8]).unwrap();
        process.wait(|| ());
        assert_eq!((word(&segment, page + 1), process.run(&[Op::Read(page + 1)])[0]), (0, 0));
        let mut both = [0; 16];
        segment.read_at(page * PAGE_SIZE as u64, &mut both).unwrap();
        assert_eq!(both, [1, 0, 0, 0, 0, 0, 0, 0, 9, 9, 9, 9, 9, 9, 9, 9]);
    }
}
