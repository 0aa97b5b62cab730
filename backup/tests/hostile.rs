//! Streams that are cut, spoilt or made up: refused, saying where, whatever they say.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod world;

use proptest::prelude::*;
use semper_backup::{Base, Compression, Error, Header, Manifest, Restore, StreamReader};
use std::fs;
use world::{Step, World, page, verify};

/// A full backup and an increment, with every kind of frame.
fn streams() -> (Vec<u8>, Vec<u8>) {
    let mut world = World::new();
    let put = |segment, first, count, value| Step::Put { segment, first, count, value };
    let first = world.commit(&[put(0, 0, 3, 2), put(5, 100, 2, 3), put(5, 900, 1, 4)]);
    let (full, _) = world.backup(None, Compression::Zstd(3));
    world.commit(&[Step::Remove { segment: 0, first: 1, count: 1 }, put(5, 900, 2, 6), put(9, 1, 1, 1)]);
    (full, world.backup(Some(first), Compression::Zstd(3)).0)
}

/// Where the frames begin, the trailer last.
fn frames(stream: &[u8]) -> Vec<usize> {
    let mut at = 16;
    let mut found = Vec::new();
    while stream[at..].starts_with(b"SBfr") {
        found.push(at);
        at += 80 + u32::from_le_bytes(stream[at + 40..at + 44].try_into().unwrap()) as usize;
    }
    assert_eq!(stream.len(), at + 16);
    found.push(at);
    found
}

#[test]
fn a_stream_that_is_cut_anywhere_is_refused_and_the_place_told() {
    let (full, increment) = streams();
    for stream in [full, increment] {
        assert_eq!(verify(&stream).unwrap(), 1);
        let starts = frames(&stream);
        let near = starts.iter().flat_map(|at| [at - 1, *at, at + 1, at + 47, at + 48, at + 79, at + 80]);
        for len in near.chain((8..stream.len()).step_by(61)).filter(|len| *len < stream.len()) {
            match verify(&stream[..len]).unwrap_err() {
                Error::Cut { at, frame, .. } => {
                    let expected = starts.iter().filter(|start| **start <= len).count().saturating_sub(1);
                    assert_eq!(
                        (at, frame),
                        (len as u64, (expected as u64).min(starts.len() as u64 - 2)),
                        "cut at {len}"
                    );
                }
                other => panic!("cut at {len}: {other}"),
            }
        }
        for len in 0..8 {
            assert!(matches!(verify(&stream[..len]), Err(Error::NotABackup { .. })));
        }
    }
}

#[test]
fn a_flipped_byte_anywhere_is_refused_and_the_frame_told() {
    let (full, increment) = streams();
    for stream in [full, increment] {
        let starts = frames(&stream);
        let heads = starts.iter().flat_map(|at| *at..(at + 88).min(stream.len()));
        for at in (0..16).chain(heads).chain((0..stream.len()).step_by(53)) {
            for bit in [0x01, 0x80] {
                let mut spoilt = stream.clone();
                spoilt[at] ^= bit;
                match (at, verify(&spoilt).unwrap_err()) {
                    (0..8, Error::NotABackup { at: 0, .. }) | (8..12, Error::Version { .. }) => {}
                    (_, Error::Damaged { frame, at: told, .. }) => {
                        let expected = starts.iter().filter(|start| **start <= at).count().saturating_sub(1);
                        let expected = expected.min(starts.len() - 2);
                        let begins = if at < 16 { 0 } else { starts[expected] };
                        assert_eq!((frame, told), (expected as u64, begins as u64), "byte {at}");
                    }
                    // A length that is too great reaches beyond the end.
                    (_, Error::Cut { frame, .. })
                        if starts.iter().any(|start| (40..44).contains(&(at.wrapping_sub(*start)))) =>
                    {
                        assert!(starts[usize::try_from(frame).unwrap()] <= at, "byte {at}");
                    }
                    (_, other) => panic!("byte {at}: {other}"),
                }
            }
        }
    }
}

#[test]
fn a_restore_that_fails_leaves_nothing() {
    let place = tempfile::tempdir().unwrap();
    let target = place.path().join("store");
    let (full, increment) = streams();
    let whole = [full.clone(), increment.clone()].concat();
    let starts = frames(&increment);
    let spoil = |at: usize| {
        let mut spoilt = whole.clone();
        spoilt[at] ^= 4;
        spoilt
    };
    let inside = full.len() + starts[2] + 90;
    let cases =
        [spoil(20), spoil(full.len() - 3), spoil(inside), spoil(whole.len() - 1), whole[..inside].to_vec(), vec![]];
    for (number, bytes) in cases.iter().enumerate() {
        let mut restore = Restore::begin(&target).unwrap();
        let mut reader = StreamReader::new(bytes.as_slice(), "stream");
        let applied = loop {
            match restore.apply(&mut reader, &mut |_| {}) {
                Ok(true) => {}
                other => break other,
            }
        };
        assert!(applied.is_err(), "case {number}");
        drop(restore);
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0, "case {number}");
    }
    // What a killed one leaves is removed by the next; two at once are refused.
    fs::create_dir(place.path().join(".store.restoring")).unwrap();
    fs::write(place.path().join(".store.restoring/pages.new"), b"half").unwrap();
    let mut restore = Restore::begin(&target).unwrap();
    assert!(matches!(Restore::begin(&target), Err(Error::Busy(_))));
    assert!(restore.apply(&mut StreamReader::new(whole.as_slice(), "stream"), &mut |_| {}).unwrap());
    restore.finish().unwrap();
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
    assert!(matches!(Restore::begin(&target), Err(Error::Exists(_))));
}

/// A frame with whatever numbers.
struct Made(u8, u8, [u64; 3], Vec<u8>);

/// A stream of those, with hashes that match.
fn forge(header: &Header, made: &[Made], manifest: Option<Manifest>) -> Vec<u8> {
    let mut bytes = b"SEMPERBK\x01\0\0\0\0\0\0\0".to_vec();
    let mut hash: [u8; 32] = blake3::hash(&bytes).into();
    let mut add = |bytes: &mut Vec<u8>, sequence: u64, Made(kind, coding, place, payload): &Made| {
        let mut head = b"SBfr".to_vec();
        head.extend([*kind, *coding, 0, 0]);
        [sequence].iter().chain(place).for_each(|word| head.extend(word.to_le_bytes()));
        head.extend((payload.len() as u64).to_le_bytes());
        let before = hash;
        hash = blake3::Hasher::new().update(&hash).update(&head).update(payload).finalize().into();
        [head.as_slice(), &hash, payload].iter().for_each(|part| bytes.extend_from_slice(part));
        before
    };
    let record = rkyv::to_bytes::<rkyv::rancor::Error>(header).unwrap();
    add(&mut bytes, 0, &Made(1, 0, [0; 3], record.to_vec()));
    for (frame, sequence) in made.iter().zip(1..) {
        add(&mut bytes, sequence, frame);
    }
    let Some(manifest) = manifest else { return bytes };
    let at = bytes.len() as u64;
    // The hash before the manifest is not known to the caller.
    let hash = add(&mut Vec::new(), 0, &Made(0, 0, [0; 3], vec![]));
    let manifest = Manifest { frames: made.len() as u64 + 1, bytes: at, hash, ..manifest };
    let record = rkyv::to_bytes::<rkyv::rancor::Error>(&manifest).unwrap();
    let mut end = b"SBfr".to_vec();
    end.extend([5, 0, 0, 0]);
    [manifest.frames, 0, 0, 0, record.len() as u64].iter().for_each(|word| end.extend(word.to_le_bytes()));
    let last: [u8; 32] = blake3::Hasher::new().update(&hash).update(&end).update(&record).finalize().into();
    [end.as_slice(), &last, &record, &at.to_le_bytes(), b"SEMPEREN"]
        .iter()
        .for_each(|part| bytes.extend_from_slice(part));
    bytes
}

fn header(since: Option<u64>) -> Header {
    let base = |generation| Base { generation, committed_at: 1 };
    Header {
        store: [3; 16],
        since: since.map(base),
        generation: base(7),
        made_at: 1,
        pages: 1,
        store_bytes: 4 << 20,
        attributes: [0; 256],
    }
}

#[test]
fn numbers_that_cannot_be_are_refused_even_under_a_hash_that_matches() {
    let pages =
        |segment, first, count| Made(2, 0, [segment, first, count], page(1).repeat(usize::try_from(count).unwrap()));
    let count = |pages| Some(Manifest { pages, ..Manifest::default() });
    let file = |path: &str, offset| Made(4, 0, [0, offset, path.len() as u64], path.as_bytes().to_vec());
    let full = header(None);
    assert_eq!(verify(&forge(&full, &[pages(1, 1, 2), pages(1, 3, 1)], count(3))).unwrap(), 1, "one that is good");
    let bomb = zstd::bulk::compress(&vec![0; 64 << 20], 3).unwrap();
    let bad = [
        ("behind", vec![pages(1, 5, 1), pages(1, 4, 1)]),
        ("again", vec![pages(1, 5, 2), pages(1, 6, 1)]),
        ("segment", vec![pages(1 << 48, 0, 1)]),
        ("page", vec![pages(1, 1 << 40, 1)]),
        ("end", vec![pages(1, u64::MAX, 1)]),
        ("none", vec![pages(1, 1, 0)]),
        ("many", vec![Made(2, 1, [1, 1, 1 << 39], vec![1])]),
        ("short", vec![Made(2, 0, [1, 1, 2], page(1).to_vec())]),
        ("bomb", vec![Made(2, 1, [1, 1, 256], bomb.clone())]),
        ("small bomb", vec![Made(2, 1, [1, 1, 1], bomb)]),
        ("no zstd", vec![Made(2, 1, [1, 1, 1], page(1).to_vec())]),
        ("coding", vec![Made(2, 2, [1, 1, 1], page(1).to_vec())]),
        ("kind", vec![Made(6, 0, [0; 3], vec![])]),
        ("header", vec![Made(1, 0, [0; 3], vec![])]),
        ("removal", vec![Made(3, 0, [1, 1, 1], vec![])]),
        ("up", vec![file("console/../../x", 0)]),
        ("elsewhere", vec![file("pages", 0)]),
        ("absolute", vec![file("/etc/passwd", 0)]),
        ("hidden", vec![file("console/.x", 0)]),
        ("middle", vec![file("console/x", 5)]),
        ("late file", vec![pages(1, 1, 1), file("console/x", 0)]),
        ("long path", vec![Made(4, 0, [0, 0, 1 << 60], b"console/x".to_vec())]),
        ("manifest", vec![Made(5, 0, [0; 3], vec![7; 100])]),
        ("uncounted", vec![pages(1, 1, 2)]),
    ];
    for (what, frames) in bad {
        let made = verify(&forge(&full, &frames, count(1)));
        assert!(matches!(made, Err(Error::Damaged { .. })), "{what}: {made:?}");
    }
    for since in [7, 8, u64::MAX] {
        assert!(verify(&forge(&header(Some(since)), &[], count(0))).is_err(), "since {since}");
    }
    let removal = Some(Manifest { removals: 1, ..Manifest::default() });
    assert!(verify(&forge(&header(Some(2)), &[Made(3, 0, [1, 0, 1 << 40], vec![])], removal)).is_ok());
    let long = [b"SEMPERBK\x01\0\0\0\0\0\0\0SBfr\x01\0\0\0".as_slice(), &[0; 32], &[0xff; 4], &[0; 400]].concat();
    assert!(matches!(verify(&long), Err(Error::Damaged { frame: 0, at: 16, .. })));
    let later = [b"SEMPERBK\x05\0\0\0\0\0\0\0".as_slice(), &[0; 400]].concat();
    assert!(matches!(verify(&later), Err(Error::Version { found: 5, .. })));
}

#[test]
fn a_store_of_another_size_than_the_header_says_is_not_made() {
    let place = tempfile::tempdir().unwrap();
    let made = |header: &Header| {
        let frames = [Made(2, 0, [1, 1, 1], page(1).to_vec())];
        let bytes = forge(header, &frames, Some(Manifest { pages: 1, ..Manifest::default() }));
        let mut restore = Restore::begin(&place.path().join("store")).unwrap();
        restore.apply(&mut StreamReader::new(bytes.as_slice(), "stream"), &mut |_| {})
    };
    assert!(made(&header(None)).unwrap());
    for (pages, store_bytes) in [(2, 4 << 20), (u64::MAX, 4 << 20), (1, 0), (1, u64::MAX)] {
        assert!(made(&Header { pages, store_bytes, ..header(None) }).is_err(), "{pages} {store_bytes}");
    }
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_do_any_harm(bytes in prop::collection::vec(any::<u8>(), 0..600), preamble: bool) {
        let start: &[u8] = if preamble { b"SEMPERBK\x01\0\0\0\0\0\0\0SBfr\x01\0\0\0" } else { b"" };
        prop_assert!(verify(&[start, &bytes].concat()).is_err());
    }

    #[test]
    fn no_change_of_a_stream_passes(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>(), 0..4_u8), 1..4)) {
        let (full, increment) = streams();
        let whole = [full, increment].concat();
        let mut bytes = whole.clone();
        for (a, b, value, how) in changes {
            let (a, b) = (a.index(bytes.len()), b.index(bytes.len()));
            let (a, b) = (a.min(b), a.max(b));
            match how {
                0 => bytes[a] = value,
                1 => drop(bytes.drain(a..b)),
                2 => { let piece = bytes[a..b].to_vec(); bytes.splice(b..b, piece); }
                _ => bytes[a..b].reverse(),
            }
            if bytes.is_empty() { bytes.push(value); }
        }
        // A whole stream that is doubled or left out is whole: it is the chain that does not fit then.
        let (full, increment) = streams_of(&whole);
        let wholes: [&[u8]; 2] = [full, increment];
        let mut rest = bytes.as_slice();
        while let Some(next) = wholes.iter().find(|stream| rest.starts_with(stream)) {
            rest = &rest[next.len()..];
        }
        prop_assert_eq!(verify(&bytes).is_ok(), rest.is_empty());
    }
}

/// The two streams of which `whole` consists.
fn streams_of(whole: &[u8]) -> (&[u8], &[u8]) {
    let second = whole.windows(8).skip(1).position(|window| window == b"SEMPERBK").unwrap() + 1;
    whole.split_at(second)
}
