//! What holds of every place for backups: a directory, an object store in a directory, one in memory.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use semper_backup::{Bucket, Destination, Entry, Error, Folder, destination};
use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;

fn places(dir: &Path) -> Vec<Arc<dyn Destination>> {
    let (folder, local) = (dir.join("folder"), dir.join("local"));
    [&folder, &local].into_iter().for_each(|dir| std::fs::create_dir(dir).unwrap());
    let local = LocalFileSystem::new_with_prefix(local).unwrap();
    vec![
        Arc::new(Folder::new(&folder)),
        Arc::new(Bucket::new(Arc::new(local), "in/it", "local").unwrap()),
        Arc::new(Bucket::new(Arc::new(InMemory::new()), "", "memory").unwrap()),
    ]
}

fn content(len: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from(at.wrapping_mul(2_654_435_761) >> 13 & 0xFF).unwrap()).collect()
}

fn put(place: &dyn Destination, name: &str, bytes: &[u8]) {
    let mut file = place.create(name).unwrap();
    file.write_all(bytes).unwrap();
    file.publish().unwrap();
}

fn whole(place: &dyn Destination, name: &str) -> Vec<u8> {
    let mut read = Vec::new();
    place.read(name).unwrap().read_to_end(&mut read).unwrap();
    read
}

#[test]
fn a_file_is_there_when_it_is_published_and_not_before_whatever_its_size() {
    let dir = tempfile::tempdir().unwrap();
    // In one piece; in parts, the last one whole or not.
    let sizes = [0, 1, (8 << 20) - 1, 8 << 20, 20 << 20];
    for place in places(dir.path()) {
        for (size, number) in sizes.into_iter().zip(1..) {
            let (name, bytes) = (format!("{size}"), content(size));
            let mut file = place.create(&name).unwrap();
            bytes.chunks(3 << 20).for_each(|piece| file.write_all(piece).unwrap());
            assert!(place.bytes(&name).is_err(), "{} is there too soon", place.shown(&name));
            file.publish().unwrap();
            assert_eq!(place.bytes(&name).unwrap(), size as u64);
            assert_eq!(place.list().unwrap().len(), number);
            assert!(whole(&*place, &name) == bytes, "{}", place.shown(&name));
            let (from, len) = (size as u64 / 3, size / 2);
            let piece = place.piece(&name, from, len).unwrap();
            assert!(piece == bytes[size / 3..size / 3 + len], "{}", place.shown(&name));
        }
    }
}

#[test]
fn a_file_that_is_given_up_leaves_what_was_there() {
    let dir = tempfile::tempdir().unwrap();
    for place in places(dir.path()) {
        put(&*place, "kept", b"as it was");
        for name in ["kept", "new"] {
            let mut file = place.create(name).unwrap();
            file.write_all(&content(9 << 20)).unwrap();
            drop(file);
        }
        assert_eq!(place.list().unwrap(), [Entry { name: "kept".to_owned(), bytes: 9 }], "{place:?}");
        assert_eq!(whole(&*place, "kept"), b"as it was");
    }
}

#[test]
fn files_are_renamed_replaced_and_removed() {
    let dir = tempfile::tempdir().unwrap();
    for place in places(dir.path()) {
        let bytes = content(9 << 20);
        put(&*place, "a", &bytes);
        place.rename("a", "b").unwrap();
        put(&*place, "a", b"another");
        put(&*place, "a", b"new");
        let names: Vec<String> = place.list().unwrap().into_iter().map(|entry| entry.name).collect();
        assert_eq!(names, ["a", "b"]);
        assert!(whole(&*place, "b") == bytes && whole(&*place, "a") == b"new");
        place.remove("b").unwrap();
        assert!(
            matches!(place.bytes("b"), Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound)
        );
        assert!(place.read("b").is_err() && place.piece("a", 2, 5).is_err());
    }
}

#[test]
fn a_directory_is_locked_and_known_again() {
    let dir = tempfile::tempdir().unwrap();
    let place = destination(&dir.path().join("x/y")).unwrap();
    assert!(place.identity().is_err() && place.list().is_err());
    place.make().unwrap();
    let lock = place.lock().unwrap();
    assert!(matches!(place.lock(), Err(Error::Busy(_))));
    drop(lock);
    place.lock().unwrap();
    let first = place.identity().unwrap();
    std::fs::rename(dir.path().join("x/y"), dir.path().join("x/z")).unwrap();
    place.make().unwrap();
    assert_ne!(place.identity().unwrap(), first);
    let url = format!("file://{}", dir.path().join("x/z").display());
    assert_eq!(destination(Path::new(&url)).unwrap().identity().unwrap(), first);
}
