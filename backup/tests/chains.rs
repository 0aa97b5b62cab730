//! Whole chains: full backups, increments, pruning, restoring, and what does not belong to a chain.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod world;

use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use proptest::prelude::*;
use semper_backup::{
    Bucket, Compression, Destination, Directory, Error, Folder, Header, Restore, Retention, SideFiles, StreamReader,
    file_name,
};
use semper_store::{Generation, OpenOptions, Store};
use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use world::{Model, Step, World, content};

fn publish(place: &dyn Destination, bytes: &[u8], header: &Header) {
    let mut file = place.create(&file_name(&header.label())).unwrap();
    file.write_all(bytes).unwrap();
    file.publish().unwrap();
}

/// Restores the streams to a new store beside `place` and opens it.
fn restore(place: &Path, streams: &[&[u8]]) -> Result<Store, Error> {
    let target = place.join("restored");
    let _ = fs::remove_dir_all(&target);
    let mut restore = Restore::begin(&target)?;
    for stream in streams {
        let mut reader = StreamReader::new(*stream, "stream");
        while restore.apply(&mut reader, &mut |_| {})? {}
    }
    restore.finish()?;
    Ok(Store::open(&target, &OpenOptions::default()).unwrap())
}

fn restore_from(dir: &Directory, place: &Path, at: Option<Generation>) -> Result<Store, Error> {
    let chain = dir.chain(at)?;
    let target = place.join("restored");
    let _ = fs::remove_dir_all(&target);
    let mut restore = Restore::begin(&target)?;
    for backup in chain {
        restore.apply(&mut backup.open()?, &mut |_| {})?;
    }
    restore.finish()?;
    Ok(Store::open(&target, &OpenOptions::default()).unwrap())
}

/// A directory; a prefix of an object store that is one; one in memory.
fn where_to(kind: usize, path: &Path) -> Arc<dyn Destination> {
    fs::create_dir(path).unwrap();
    match kind {
        0 => Arc::new(Folder::new(path)),
        1 => Arc::new(Bucket::new(Arc::new(LocalFileSystem::new_with_prefix(path).unwrap()), "a/b", "local").unwrap()),
        _ => Arc::new(Bucket::new(Arc::new(InMemory::new()), "a/b/", "memory").unwrap()),
    }
}

fn step() -> impl Strategy<Value = Step> {
    let (segment, first, count) = (0..4_u64, 0..300_u64, 1..40_u64);
    prop_oneof![
        4 => (segment.clone(), first.clone(), count.clone(), 0..1_000_000_u64)
            .prop_map(|(segment, first, count, value)| Step::Put { segment, first, count, value }),
        1 => (segment, first, count.prop_map(|count| count * 3))
            .prop_map(|(segment, first, count)| Step::Remove { segment, first, count }),
    ]
}

#[derive(Clone, Debug)]
struct Round {
    commits: Vec<Vec<Step>>,
    full: bool,
    compression: Compression,
    prune: Option<Retention>,
}

fn round() -> impl Strategy<Value = Round> {
    let commits = prop::collection::vec(prop::collection::vec(step(), 0..4), 1..3);
    let compression = prop_oneof![Just(Compression::None), Just(Compression::Zstd(1)), Just(Compression::Zstd(5))];
    let keep = (0..6_usize, 0..3_usize, 0..3_usize).prop_map(|(last, hourly, monthly)| Retention {
        last,
        hourly,
        monthly,
        ..Retention::default()
    });
    let (full, prune) = (prop::bool::weighted(0.05), prop::option::weighted(0.15, keep));
    (commits, full, compression, prune).prop_map(|(commits, full, compression, prune)| Round {
        commits,
        full,
        compression,
        prune,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, max_shrink_iters: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_backed_up_is_what_is_restored_over_fifty_increments_and_any_pruning(
        rounds in prop::collection::vec(round(), 51),
        picks in prop::collection::vec(any::<prop::sample::Index>(), 3),
        kind in 0..3_usize,
    ) {
        let place = tempfile::tempdir().unwrap();
        let dir = where_to(kind, &place.path().join("backups"));
        let mut world = World::new();
        let mut models: Vec<(Generation, Model)> = Vec::new();
        for (number, round) in rounds.iter().enumerate() {
            round.commits.iter().for_each(|steps| { world.commit(steps); });
            let since = models.last().map(|(generation, _)| *generation).filter(|_| !round.full && number > 0);
            let (bytes, header) = world.backup(since, round.compression);
            publish(&*dir, &bytes, &header);
            models.push((header.generation(), world.model.clone()));
            if let Some(keep) = round.prune {
                let found = Directory::open(&dir).unwrap();
                let gone: Vec<_> = found.superfluous(&keep).unwrap().into_iter().map(|b| b.file.clone()).collect();
                gone.iter().for_each(|file| dir.remove(file).unwrap());
            }
        }
        let found = Directory::open(&dir).unwrap();
        prop_assert!(found.broken.is_empty());
        let mut there: Vec<Generation> = picks.iter().map(|pick| pick.get(&found.backups).label.generation()).collect();
        there.push(found.newest().unwrap().label.generation());
        prop_assert_eq!(there[3], models[50].0, "the newest is never pruned");
        for generation in there {
            let store = restore_from(&found, place.path(), Some(generation)).unwrap();
            let (_, model) = models.iter().find(|(number, _)| *number == generation).unwrap();
            prop_assert_eq!(&content(&store), model);
            prop_assert_eq!(store.attributes()[..8].to_vec(), generation.0.to_le_bytes().to_vec());
            let sound = store.check(&mut |_| {}).is_sound();
            prop_assert!(sound);
        }
    }
}

fn put(value: u64) -> Vec<Step> {
    vec![Step::Put { segment: 1, first: 0, count: 600, value }, Step::Put { segment: 2, first: value, count: 3, value }]
}

#[test]
fn every_generation_of_a_restored_store_is_the_whole_world() {
    let place = tempfile::tempdir().unwrap();
    let mut world = World::new();
    world.commit(&put(7));
    let store = restore(place.path(), &[&world.backup(None, Compression::None).0]).unwrap();
    let kept: Vec<Generation> = store.generations().iter().map(|info| info.generation).collect();
    assert!(kept.len() > 1, "{kept:?}");
    drop(store);
    for generation in kept {
        let options = OpenOptions { newest: Some(generation), ..OpenOptions::default() };
        let store = Store::open(&place.path().join("restored"), &options).unwrap();
        assert_eq!((store.generation(), content(&store)), (generation, world.model.clone()));
    }
}

#[test]
fn streams_that_follow_each_other_in_a_pipe_are_a_chain() {
    let place = tempfile::tempdir().unwrap();
    let mut world = World::new();
    let first = world.commit(&put(7));
    let (full, _) = world.backup(None, Compression::Zstd(3));
    world.commit(&[Step::Remove { segment: 1, first: 5, count: 500 }]);
    let (increment, _) = world.backup(Some(first), Compression::None);
    assert!(increment.len() < full.len());
    let store = restore(place.path(), &[&[full, increment].concat()]).unwrap();
    assert_eq!(content(&store), world.model);
}

#[test]
fn an_increment_goes_only_with_the_generation_that_it_was_made_since() {
    let place = tempfile::tempdir().unwrap();
    let mut world = World::new();
    let first = world.commit(&put(8));
    let (full, _) = world.backup(None, Compression::None);
    // A copy of the store that goes another way has the same numbers.
    let copied = world.disk.copy();
    let mut copy = World {
        store: Store::open_on(copied.clone(), &OpenOptions::default()).unwrap(),
        disk: copied,
        model: world.model.clone(),
    };
    let second = world.commit(&put(9));
    let (increment, _) = world.backup(Some(first), Compression::None);
    let third = world.commit(&put(11));
    let (newest, _) = world.backup(Some(second), Compression::None);
    assert_eq!(copy.commit(&put(10)), second);
    copy.commit(&put(12));
    let (foreign, _) = copy.backup(Some(second), Compression::None);
    let mut other = World::new();
    other.commit(&put(8));
    other.commit(&put(9));
    let (of_other, _) = other.backup(Some(first), Compression::None);
    let told = |streams: &[&[u8]]| restore(place.path(), streams).unwrap_err();
    assert!(matches!(told(&[&increment]), Error::MissingBase { needs, .. } if needs == first));
    assert!(matches!(told(&[&full, &newest]), Error::MissingBase { needs, .. } if needs == second));
    assert!(matches!(told(&[&full, &increment, &foreign]), Error::MissingBase { needs, .. } if needs == second));
    assert!(matches!(told(&[&full, &of_other]), Error::OtherStore { .. }));
    assert!(matches!(told(&[&full, &full]), Error::MissingBase { .. }));
    assert!(matches!(told(&[&full[..0]]), Error::NotABackup { .. }));
    let left: Vec<_> = fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.is_empty(), "{left:?}");
    let store = restore(place.path(), &[&full, &increment, &newest]).unwrap();
    assert_eq!((content(&store), third.0), (world.model, 3));
}

#[test]
fn a_directory_tells_what_is_missing_and_prunes_nothing_that_is_needed() {
    let path = tempfile::tempdir().unwrap();
    let place: Arc<dyn Destination> = Arc::new(Folder::new(path.path()));
    let mut world = World::new();
    let mut last = None;
    for value in 1..=4 {
        let generation = world.commit(&put(value));
        let (bytes, header) = world.backup(last, Compression::None);
        publish(&*place, &bytes, &header);
        last = Some(generation);
    }
    let names = |dir: &Directory| dir.backups.iter().map(|b| file_name(&b.label)).collect::<Vec<_>>();
    let dir = Directory::open(&place).unwrap();
    assert_eq!(names(&dir), ["1-full.semper", "2-since-1.semper", "3-since-2.semper", "4-since-3.semper"]);
    assert!(dir.superfluous(&Retention::last(1)).unwrap().is_empty());
    assert_eq!(dir.chain(Some(Generation(2))).unwrap().len(), 2);
    let error = dir.chain(Some(Generation(9))).unwrap_err();
    assert!(matches!(&error, Error::NoSuchBackup { found, .. } if found == "1, 2, 3, 4"), "{error}");
    // A full backup of the newest lets all others go.
    let (bytes, header) = world.backup(None, Compression::None);
    publish(&*place, &bytes, &header);
    let dir = Directory::open(&place).unwrap();
    assert_eq!(dir.chain(None).unwrap().len(), 1);
    let gone: Vec<_> = dir.superfluous(&Retention::last(1)).unwrap().iter().map(|b| file_name(&b.label)).collect();
    assert_eq!(gone, ["4-since-3.semper", "3-since-2.semper", "2-since-1.semper", "1-full.semper"]);
    assert_eq!(dir.superfluous(&Retention::last(2)).unwrap().len(), 1, "3 needs 2 and 1");
    place.remove("2-since-1.semper").unwrap();
    let dir = Directory::open(&place).unwrap();
    assert!(matches!(dir.chain(Some(Generation(3))), Err(Error::MissingBase { needs: Generation(2), .. })));
    assert!(dir.superfluous(&Retention::last(2)).is_err() && dir.superfluous(&Retention::last(1)).is_ok());
    // One of another store beside them.
    let mut other = World::new();
    other.commit(&put(1));
    other.commit(&put(1));
    let (bytes, header) = other.backup(None, Compression::None);
    publish(&*place, &bytes, &header);
    assert!(matches!(Directory::open(&place), Err(Error::OtherStore { .. })));
}

#[test]
fn the_files_beside_the_pages_come_with_the_last_backup() {
    let place = tempfile::tempdir().unwrap();
    let console = place.path().join("console");
    fs::create_dir(&console).unwrap();
    let mut world = World::new();
    let first = world.commit(&put(7));
    let read = || {
        let mut files = SideFiles::read(place.path()).unwrap();
        files.read_pinned(place.path()).unwrap();
        files
    };
    fs::write(console.join("1.mark"), b"gone later").unwrap();
    let (full, _) = world.backup_with(None, Compression::None, &read());
    fs::remove_file(console.join("1.mark")).unwrap();
    let long = vec![5; 3 << 20];
    for (name, content) in [("2.in", long.as_slice()), ("life", b"two"), ("3.mark", b"")] {
        fs::write(console.join(name), content).unwrap();
    }
    world.commit(&put(9));
    let (increment, _) = world.backup_with(Some(first), Compression::None, &read());
    drop(restore(place.path(), &[&full, &increment]).unwrap());
    let restored = place.path().join("restored/console");
    assert!(!restored.join("1.mark").exists());
    let content = |name: &str| fs::read(restored.join(name)).unwrap();
    assert_eq!((content("2.in"), content("life"), content("3.mark")), (long, b"two".to_vec(), vec![]));
}
