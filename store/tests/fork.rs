//! Forks that have their pages from another store.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use semper_store::sim::SimRng;
use semper_store::{CreateOptions, Error, LOAN_FILE, OpenOptions, PAGE_SIZE, PageIndex, SegmentId, Store};
use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// Segment and page, and what it is filled with.
type World = BTreeMap<(u64, u64), u8>;

/// Puts some pages of the world, and commits.
fn commit(rng: &mut SimRng, store: &Store, world: &mut World) {
    let mut commit = store.begin().unwrap();
    for _ in 0..=rng.below(60) {
        let (segment, page, byte) = (rng.below(3), rng.below(700), rng.bits().to_le_bytes()[0]);
        commit.put(SegmentId(segment), PageIndex(page), &[byte; PAGE_SIZE]).unwrap();
        world.insert((segment, page), byte);
    }
    commit.commit().unwrap();
}

fn assert_holds(store: &Store, world: &World, seed: u64) {
    for segment in 0..3 {
        let mut all = vec![0; 700 * PAGE_SIZE];
        store.read(SegmentId(segment), PageIndex(0), &mut all).unwrap();
        for (page, bytes) in (0..).zip(all.chunks_exact(PAGE_SIZE)) {
            let byte = world.get(&(segment, page)).copied().unwrap_or(0);
            assert!(bytes.iter().all(|b| *b == byte), "seed {seed}: page {page} of segment {segment}");
        }
    }
}

fn open(dir: &Path) -> Store {
    Store::open(dir, &OpenOptions::default()).unwrap()
}

struct Made {
    place: tempfile::TempDir,
    world: World,
    tag: String,
}

impl Made {
    /// A store `old` with a fork `new` that has its pages from there.
    fn new(rng: &mut SimRng) -> Self {
        let place = tempfile::tempdir().unwrap();
        let options = CreateOptions { size_bytes: 64 << 20, ..CreateOptions::default() };
        let store = Store::create(&place.path().join("old"), &options).unwrap();
        let mut world = World::new();
        for _ in 0..=rng.below(12) {
            commit(rng, &store, &mut world);
        }
        let tag = lend(&store, &place.path().join("new"));
        Self { place, world, tag }
    }

    fn old(&self) -> PathBuf {
        self.place.path().join("old")
    }

    fn new_one(&self) -> PathBuf {
        self.place.path().join("new")
    }
}

fn lend(store: &Store, dir: &Path) -> String {
    let plan = store.plan_fork(store.generation()).unwrap().unwrap();
    store.tag(&plan.tag, store.generation()).unwrap();
    store.fork_by_loan(&plan, dir).unwrap();
    plan.tag
}

#[test]
fn a_fork_has_what_the_old_store_had_whatever_both_do_after_it() {
    for seed in 0..30 {
        let mut rng = SimRng::new(seed);
        let made = Made::new(&mut rng);
        let (mut old_world, mut new_world) = (made.world.clone(), made.world.clone());
        let (mut old, mut new) = (open(&made.old()), open(&made.new_one()));
        assert_ne!(old.id(), new.id());
        let mut repaid = false;
        for _ in 0..5 + rng.below(35) {
            match rng.below(12) {
                0..5 => commit(&mut rng, &new, &mut new_world),
                5..8 => commit(&mut rng, &old, &mut old_world),
                8 => {
                    drop(new);
                    new = open(&made.new_one());
                }
                9 => {
                    drop(old);
                    old = open(&made.old());
                }
                10 => {
                    assert_holds(&new, &new_world, seed);
                    // What lies at the end is moved, and is its own then. The old one is held to its size by the tag.
                    let size = new.space().total * PAGE_SIZE as u64 - (4 << 20);
                    new.shrink(size, &mut |_| ControlFlow::Continue(())).unwrap();
                    assert_holds(&new, &new_world, seed);
                }
                // Commits go on meanwhile.
                _ => {
                    let ended = AtomicBool::new(false);
                    std::thread::scope(|scope| {
                        scope.spawn(|| {
                            new.repay(rng.one_in(2).then_some(1 << 30)).unwrap();
                            ended.store(true, Ordering::Release);
                        });
                        let mut beside = SimRng::new(seed + 1000);
                        while !ended.load(Ordering::Acquire) {
                            commit(&mut beside, &new, &mut new_world);
                        }
                    });
                    repaid = true;
                    break;
                }
            }
        }
        if !repaid {
            new.repay(None).unwrap();
        }
        let loan = new.loan().unwrap();
        assert!(loan.repaid && loan.tag == made.tag && loan.lender == made.old(), "{loan:?}");
        new.end_loan().unwrap();
        assert_eq!(new.loan(), None);
        assert_holds(&old, &old_world, seed);
        // Nothing of the old one is needed any more, whichever generation is looked at.
        drop(old);
        fs::remove_dir_all(made.old()).unwrap();
        assert_holds(&new, &new_world, seed);
        drop(new);
        let new = open(&made.new_one());
        assert_holds(&new, &new_world, seed);
        assert!(new.check(&mut |_| ()).is_sound(), "seed {seed}");
    }
}

#[test]
fn nothing_is_borrowed_from_a_store_that_has_it_not() {
    let mut rng = SimRng::new(7);
    let made = Made::new(&mut rng);
    let dir = made.new_one();
    let refused = |why: &str| {
        let error = Store::open(&dir, &OpenOptions::default()).unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
        let error = Store::open_read_only(&dir).unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
    };
    let aside = made.place.path().join("aside");
    fs::rename(made.old(), &aside).unwrap();
    refused("holds no store");
    Store::create(&made.old(), &CreateOptions { size_bytes: 8 << 20, ..CreateOptions::default() }).unwrap();
    refused("another store lies there");
    fs::remove_dir_all(made.old()).unwrap();
    fs::rename(&aside, made.old()).unwrap();
    assert_holds(&open(&dir), &made.world, 7);

    let note = fs::read_to_string(dir.join(LOAN_FILE)).unwrap();
    fs::remove_file(dir.join(LOAN_FILE)).unwrap();
    refused("is gone");
    fs::write(dir.join(LOAN_FILE), note.replace("fork-", "pork-")).unwrap();
    refused("is damaged: its checksum");
    fs::write(dir.join(LOAN_FILE), &note[..note.len() / 2]).unwrap();
    refused("is damaged");
    fs::write(dir.join(LOAN_FILE), &note).unwrap();
    let twin = made.place.path().join("twin");
    let other_tag = lend(&open(&made.old()), &twin);
    fs::copy(twin.join(LOAN_FILE), dir.join(LOAN_FILE)).unwrap();
    refused("is of another store");
    fs::write(dir.join(LOAN_FILE), &note).unwrap();

    // As long as the tag is there the generation stays; without it, not for long.
    let (old, mut world) = (open(&made.old()), made.world.clone());
    for _ in 0..10 {
        commit(&mut rng, &old, &mut world);
    }
    assert_holds(&open(&dir), &made.world, 7);
    let mirror = made.place.path().join("mirror");
    let error = open(&dir).add_mirror(&mirror).unwrap_err();
    assert!(error.to_string().contains("wait until they are copied"), "{error}");
    assert!(matches!(open(&dir).end_loan(), Err(Error::BadArgument(_))));
    old.untag(&made.tag).unwrap();
    old.untag(&other_tag).unwrap();
    for _ in 0..10 {
        commit(&mut rng, &old, &mut world);
    }
    refused(&format!("which the tag {} kept", made.tag));
}

#[test]
fn what_is_rotten_in_the_lender_is_named_and_the_rest_copied() {
    let mut rng = SimRng::new(11);
    let made = Made::new(&mut rng);
    let dir = made.new_one();
    let pages = fs::OpenOptions::new().read(true).write(true).open(made.old().join("pages")).unwrap();
    // The last place in use is one of the newest generation.
    let length = pages.metadata().unwrap().len();
    let mut page = vec![0; PAGE_SIZE];
    let at = (0..length / PAGE_SIZE as u64).rev().map(|place| place * PAGE_SIZE as u64).find(|at| {
        pages.read_exact_at(&mut page, *at).unwrap();
        page.windows(2).all(|pair| pair[0] == pair[1]) && page[0] != 0
    });
    let at = at.expect("a page of the world");
    pages.write_all_at(&[page[0] ^ 1], at).unwrap();
    let new = open(&dir);
    let outcome = new.repay(None);
    // It may be one of a generation that nobody needs any more.
    let Err(error) = outcome else { panic!("place {} is not of the newest generation", at / PAGE_SIZE as u64) };
    assert!(matches!(error, Error::Corrupt(_)), "{error}");
    assert!(!new.loan().unwrap().repaid);
    pages.write_all_at(&[page[0]], at).unwrap();
    new.repay(None).unwrap();
    assert_holds(&new, &made.world, 11);
}

#[test]
fn a_chain_of_loans_ends_in_a_copy_and_tags_do_not_keep_a_loan_from_being_paid_back() {
    let mut rng = SimRng::new(21);
    let made = Made::new(&mut rng);
    let mut dir = made.new_one();
    for n in 0..4 {
        let next = made.place.path().join(format!("fork-{n}"));
        lend(&open(&dir), &next);
        dir = next;
    }
    let last = open(&dir);
    assert_holds(&last, &made.world, 21);
    assert!(last.plan_fork(last.generation()).unwrap().is_none());
    let mut world = made.world.clone();
    for n in 0..8 {
        commit(&mut rng, &last, &mut world);
        last.tag(&format!("tag{n}"), last.generation()).unwrap();
    }
    for _ in 0..3 {
        commit(&mut rng, &last, &mut world);
    }
    last.repay(None).unwrap();
    assert!(last.loan().unwrap().repaid);
    assert_holds(&last, &world, 21);
}

#[test]
fn a_byte_that_is_no_text_spoils_one_tag_and_no_other() {
    let mut rng = SimRng::new(22);
    let made = Made::new(&mut rng);
    let tags = made.old().join("tags");
    let mut bytes = fs::read(&tags).unwrap();
    bytes.extend(b"\xff\n");
    fs::write(&tags, bytes).unwrap();
    assert_eq!(Store::tags_in(&made.old()).len(), 1);
    let (old, mut world) = (open(&made.old()), made.world.clone());
    for _ in 0..10 {
        commit(&mut rng, &old, &mut world);
    }
    old.tag("other", old.generation()).unwrap();
    assert_eq!(Store::tags_in(&made.old()).len(), 2);
    assert_holds(&open(&made.new_one()), &made.world, 22);
}

#[test]
fn forks_of_forks_read_through_until_there_are_too_many() {
    let mut rng = SimRng::new(3);
    let made = Made::new(&mut rng);
    let mut world = made.world.clone();
    let mut dir = made.new_one();
    for n in 0..4 {
        let store = open(&dir);
        commit(&mut rng, &store, &mut world);
        dir = made.place.path().join(format!("fork-{n}"));
        lend(&store, &dir);
    }
    let last = open(&dir);
    commit(&mut rng, &last, &mut world);
    assert!(last.plan_fork(last.generation()).unwrap().is_none(), "a copy has no ancestors, and begins anew");
    assert_holds(&last, &world, 3);
    last.repay(None).unwrap();
    last.end_loan().unwrap();
    drop(last);
    for name in ["old", "new", "fork-0", "fork-1", "fork-2"] {
        fs::remove_dir_all(made.place.path().join(name)).unwrap();
    }
    assert_holds(&open(&dir), &world, 3);
}
