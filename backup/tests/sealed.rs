//! Encrypted streams: what opens them, what they show to others, and what is made of them by those who cannot open them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod world;

use proptest::prelude::*;
use semper_backup::{Compression, Error, Identities, Manifest, Recipient, Restore, StreamReader};
use semper_store::{Generation, OpenOptions, Store};
use std::fs;
use std::path::Path;
use std::sync::OnceLock;
use world::{Step, World, content, page};

/// Who can open what `streams` makes, and somebody else.
struct Keys {
    mine: Identities,
    recipient: Recipient,
    other: Identities,
}

fn keys() -> &'static Keys {
    static KEYS: OnceLock<Keys> = OnceLock::new();
    KEYS.get_or_init(|| {
        let place = tempfile::tempdir().unwrap();
        let made = |name: &str| {
            let (secret, recipient) = Identities::generate();
            fs::write(place.path().join(name), secret).unwrap();
            (Identities::read(&[place.path().join(name)]).unwrap(), recipient)
        };
        let ((mine, recipient), (other, _)) = (made("mine"), made("other"));
        Keys { mine, recipient, other }
    })
}

fn put(segment: u64, first: u64, count: u64, value: u64) -> Step {
    Step::Put { segment, first, count, value }
}

/// A world, and an encrypted full backup and increment of it.
fn streams() -> (World, Generation, Vec<u8>, Vec<u8>) {
    let mut world = World::new();
    let to = [keys().recipient.clone()];
    // More than one piece of ciphertext.
    let first = world.commit(&[put(0, 0, 300, 3), put(5, 100, 2, 5)]);
    let full = world.sealed(None, &to);
    world.commit(&[Step::Remove { segment: 0, first: 1, count: 1 }, put(5, 900, 2, 7)]);
    let increment = world.sealed(Some(first), &to);
    (world, first, full, increment)
}

/// Reads all streams in `bytes`, opening them.
fn opened(bytes: &[u8], identities: &Identities) -> Result<u64, Error> {
    let mut reader = StreamReader::new(bytes, "stream").with_identities(identities);
    let mut streams = 0;
    while reader.next_stream()?.is_some() {
        reader.skip_to_end()?;
        streams += 1;
    }
    Ok(streams)
}

/// Reads all streams in `bytes` as somebody who cannot open them.
fn passed_over(bytes: &[u8]) -> Result<u64, Error> {
    let mut reader = StreamReader::new(bytes, "stream");
    let mut streams = 0;
    while reader.next_label()?.is_some() {
        reader.skip_to_end()?;
        streams += 1;
    }
    Ok(streams)
}

fn restore(place: &Path, bytes: &[u8], identities: &Identities) -> Result<Store, Error> {
    let target = place.join("restored");
    let mut restore = Restore::begin(&target)?;
    let mut reader = StreamReader::new(bytes, "stream").with_identities(identities);
    while restore.apply(&mut reader, &mut |_| {})? {}
    restore.finish()?;
    Ok(Store::open(&target, &OpenOptions::default()).unwrap())
}

#[test]
fn what_is_encrypted_is_restored_by_who_can_open_it_and_leaves_nothing_to_others() {
    let place = tempfile::tempdir().unwrap();
    let (mut world, _, full, increment) = streams();
    let second = world.store.generation();
    world.commit(&[put(7, 0, 1, 9)]);
    // In clear, behind encrypted ones.
    let (newest, _) = world.backup(Some(second), Compression::None);
    let chain = [full, increment, newest].concat();
    let none = restore(place.path(), &chain, &Identities::default()).unwrap_err();
    assert!(matches!(&none, Error::NoIdentity { name } if name == "stream"), "{none}");
    let wrong = restore(place.path(), &chain, &keys().other).unwrap_err();
    assert!(matches!(&wrong, Error::WrongIdentity { tried: 1, .. }), "{wrong}");
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
    let store = restore(place.path(), &chain, &keys().mine).unwrap();
    assert_eq!(content(&store), world.model);
}

#[test]
fn each_recipient_opens_it_alone() {
    let mut world = World::new();
    world.commit(&[put(1, 0, 3, 3)]);
    let made: Vec<_> = (0..3).map(|_| Identities::generate()).collect();
    let to: Vec<Recipient> = made.iter().map(|(_, recipient)| recipient.clone()).collect();
    let sealed = world.sealed(None, &to);
    let place = tempfile::tempdir().unwrap();
    for (number, (secret, recipient)) in made.iter().enumerate() {
        let file = place.path().join(number.to_string());
        fs::write(&file, format!("\n# a comment\n{secret}\r\n")).unwrap();
        assert_eq!(opened(&sealed, &Identities::read(&[&file]).unwrap()).unwrap(), 1);
        assert_eq!(recipient.to_string().parse::<Recipient>().unwrap(), *recipient);
    }
}

#[test]
fn others_see_which_generation_it_is_and_whether_the_ciphertext_is_whole_and_nothing_else() {
    let (_, first, full, increment) = streams();
    let chain = [full, increment].concat();
    assert_eq!(passed_over(&chain).unwrap(), 2);
    let mut reader = StreamReader::new(chain.as_slice(), "stream");
    let label = reader.next_label().unwrap().unwrap();
    assert_eq!((label.generation(), label.since), (first, None));
    assert!(reader.is_encrypted());
    assert!(matches!(reader.next_frame(), Err(Error::NoIdentity { .. })));
    reader.skip_to_end().unwrap();
    let label = reader.next_label().unwrap().unwrap();
    assert_eq!(label.since.map(|since| since.generation()), Some(first));
    for value in [3, 4, 5, 7] {
        let secret = &page(value)[8..40];
        assert!(chain.windows(32).all(|window| window != secret), "page {value} is in clear");
    }
    let (clear, _) = streams().0.backup(None, Compression::None);
    assert!(clear.windows(32).any(|window| window == &page(5)[8..40]), "a page that would be found");
}

#[test]
fn the_sealed_frames_are_one_file_of_age_that_holds_a_whole_stream() {
    let (secret, recipient) = Identities::generate();
    let mut world = World::new();
    world.commit(&[put(1, 0, 600, 3)]);
    let sealed: Vec<u8> = frames(&world.sealed(None, &[recipient]))
        .into_iter()
        .filter(|(kind, _)| *kind == 7)
        .flat_map(|(_, payload)| payload)
        .collect();
    assert!(sealed.starts_with(b"age-encryption.org/v1\n"));
    let identity: age::x25519::Identity = secret.lines().last().unwrap().parse().unwrap();
    let plain = age::decrypt(&identity, &sealed).unwrap();
    assert!(plain.starts_with(b"SEMPERBK\x01\0\0\0"));
    assert_eq!(world::verify(&plain).unwrap(), 1);
}

/// Frames: kind and payload.
type Frames = Vec<(u8, Vec<u8>)>;

/// The frames of a stream.
fn frames(stream: &[u8]) -> Frames {
    let mut at = 16;
    let mut found = Vec::new();
    while stream[at..].starts_with(b"SBfr") {
        let length = u32::from_le_bytes(stream[at + 40..at + 44].try_into().unwrap()) as usize;
        found.push((stream[at + 4], stream[at + 80..at + 80 + length].to_vec()));
        at += 80 + length;
    }
    assert_eq!(stream.len(), at + 16);
    found
}

/// A stream of those, with hashes that match, and a manifest in the place of the last one.
fn forged(made: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = b"SEMPERBK\x02\0\0\0\0\0\0\0".to_vec();
    let mut hash: [u8; 32] = blake3::hash(&bytes).into();
    let mut end = 0;
    for ((kind, payload), sequence) in made.iter().zip(0_u64..) {
        let mut payload = payload.clone();
        if *kind == 5 {
            end = bytes.len() as u64;
            let manifest = Manifest { frames: sequence, bytes: end, hash, ..Manifest::default() };
            payload = rkyv::to_bytes::<rkyv::rancor::Error>(&manifest).unwrap().to_vec();
        }
        let mut head = [b"SBfr".as_slice(), &[*kind, 0, 0, 0]].concat();
        [sequence, 0, 0, 0, payload.len() as u64].iter().for_each(|word| head.extend(word.to_le_bytes()));
        hash = blake3::Hasher::new().update(&hash).update(&head).update(&payload).finalize().into();
        [head.as_slice(), &hash, &payload].iter().for_each(|part| bytes.extend_from_slice(part));
    }
    bytes.extend(end.to_le_bytes());
    bytes.extend(b"SEMPEREN");
    bytes
}

#[test]
fn an_encrypted_stream_that_is_cut_or_spoilt_anywhere_is_refused_with_or_without_the_key() {
    let (_, _, full, increment) = streams();
    for stream in [full, increment] {
        let pieces = frames(&stream);
        let mut start = 16;
        let mut places: Vec<usize> = (0..16).collect();
        for (_, payload) in &pieces {
            places.extend([start - 1, start, start + 4, start + 41, start + 79, start + 80, start + 81]);
            places.extend([start + 96, start + 200]);
            start += 80 + payload.len();
        }
        places.extend((0..stream.len()).step_by(stream.len() / 40));
        places.extend(stream.len() - 16..stream.len());
        for at in places.into_iter().filter(|at| *at < stream.len()) {
            let both = |bytes: &[u8]| [opened(bytes, &keys().mine).unwrap_err(), passed_over(bytes).unwrap_err()];
            for error in both(&stream[..at]) {
                match error {
                    Error::Cut { at: told, .. } => assert_eq!(told, at as u64),
                    Error::NotABackup { .. } => assert!(at < 8),
                    other => panic!("cut at {at}: {other}"),
                }
            }
            let mut spoilt = stream.clone();
            spoilt[at] ^= 0x40;
            for error in both(&spoilt) {
                match error {
                    Error::Damaged { name, .. } => assert_eq!(name, "stream", "what lies outside says so"),
                    Error::NotABackup { .. } => assert!(at < 8),
                    Error::Version { .. } => assert!((8..12).contains(&at)),
                    // A length that is too great reaches beyond the end.
                    Error::Cut { .. } => assert!(stream[at - 41..].starts_with(b"SBfr")),
                    other => panic!("flipped at {at}: {other}"),
                }
            }
        }
    }
}

#[test]
fn what_was_changed_by_somebody_who_cannot_encrypt_to_itself_is_refused() {
    let (mut world, first, full, increment) = streams();
    let whole = frames(&full);
    assert_eq!(forged(&whole), full, "the forger is a good one");
    assert_eq!(whole.iter().map(|frame| frame.0).collect::<Vec<_>>(), [6, 7, 7, 7, 5]);
    let changed = |change: &dyn Fn(&mut Frames)| {
        let mut frames = whole.clone();
        change(&mut frames);
        forged(&frames)
    };
    let other = frames(&increment);
    world.commit(&[]);
    let same_label = frames(&world.sealed(Some(first), &[keys().recipient.clone()]));
    let cases: [(&str, Vec<u8>); 11] = [
        ("a flipped bit", changed(&|frames| frames[2].1[70_000] ^= 1)),
        ("a flipped bit at the end", changed(&|frames| *frames[3].1.last_mut().unwrap() ^= 1)),
        (
            "a flipped bit in what opens it",
            changed(&|frames| {
                let mac = frames[1].1.len() - 16 - 9;
                frames[1].1[mac] ^= 1;
            }),
        ),
        ("the end left out", changed(&|frames| drop(frames.remove(3)))),
        ("a chunk left out", changed(&|frames| drop(frames[2].1.drain(..64 * 1024 + 16)))),
        (
            "cut at a chunk",
            changed(&|frames| {
                frames[2].1.truncate(64 * 1024 + 16);
                frames.remove(3);
            }),
        ),
        ("more behind the end", changed(&|frames| frames.insert(4, (7, vec![0; 100])))),
        ("an empty piece", changed(&|frames| frames.insert(4, (7, vec![])))),
        ("the label of another", changed(&|frames| frames[0] = other[0].clone())),
        (
            "what is in another",
            changed(&|frames| {
                frames.truncate(1);
                frames.extend_from_slice(&other[1..]);
            }),
        ),
        ("the increment after it", {
            let mut frames = other.clone();
            frames.splice(1.., same_label[1..].iter().cloned());
            forged(&frames)
        }),
    ];
    for (what, bytes) in &cases {
        let error = opened(bytes, &keys().mine).unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "{what}: {error}");
    }
    // Who cannot open it cannot know.
    assert_eq!(passed_over(&cases[0].1).unwrap(), 1);
}

#[test]
fn what_opens_a_stream_is_bounded_and_an_encrypted_stream_holds_one_in_clear() {
    let (_, _, full, _) = streams();
    let whole = frames(&full);
    let header = whole[1].1.clone();
    let line = header.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    let stanzas = b"-> x\n\n".repeat(1 << 16);
    let long = [&header[..line], &stanzas, &header[line..]].concat();
    let cases = [
        // It goes on in the next frame.
        vec![whole[0].clone(), (7, header[..line + 3].to_vec()), (7, header[line + 3..].to_vec())],
        vec![whole[0].clone(), (7, long)],
        vec![whole[0].clone(), (7, b"age-encryption.org/v9\n".repeat(9))],
        vec![whole[0].clone(), (7, vec![0xff; 1 << 20])],
        vec![whole[0].clone()],
        vec![whole[0].clone(), (2, header)],
    ];
    for (case, number) in cases.into_iter().zip(0..) {
        let error = opened(&forged(&[case, vec![(5, vec![])]].concat()), &keys().mine).unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "case {number}: {error}");
    }
}

#[test]
fn what_is_no_recipient_and_no_file_of_identities_is_told_without_its_secret() {
    let place = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        fs::write(place.path().join(name), text).unwrap();
        place.path().join(name)
    };
    let (secret, recipient) = Identities::generate();
    let secret = secret.lines().last().unwrap();
    for bad in ["", "age1", "me", &recipient.to_string()[..60], "ssh-ed25519 AAAA", secret] {
        let error = bad.parse::<Recipient>().unwrap_err().to_string();
        assert!(error.contains("no recipient of age") && !error.contains("AGE-SECRET-KEY-1"), "{error}");
    }
    for (name, text) in
        [("empty", ""), ("comments", "# nothing\n"), ("other", &recipient.to_string()), ("cut", &secret[..70])]
    {
        let error = Identities::read(&[file(name, text)]).unwrap_err().to_string();
        assert!(
            error.contains(name)
                && error.contains("no file of identities")
                && !error.contains(text.trim_end()) | text.is_empty(),
            "{error}"
        );
    }
    fs::write(place.path().join("bytes"), [0xff; 100]).unwrap();
    assert!(Identities::read(&[place.path().join("bytes")]).is_err());
    assert!(Identities::read(&[place.path().join("missing")]).is_err());
    assert!(Identities::read::<&Path>(&[]).unwrap().is_empty());
}

/// What `no_change_of_an_encrypted_stream_passes` changes.
fn chain() -> &'static [Vec<u8>; 2] {
    static CHAIN: OnceLock<[Vec<u8>; 2]> = OnceLock::new();
    CHAIN.get_or_init(|| {
        let mut world = World::new();
        let to = [keys().recipient.clone()];
        let first = world.commit(&[put(0, 0, 3, 2), put(5, 100, 2, 3)]);
        let full = world.sealed(None, &to);
        world.commit(&[put(5, 900, 1, 6)]);
        [full, world.sealed(Some(first), &to)]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_change_of_an_encrypted_stream_passes(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>(), 0..4_u8), 1..4)) {
        let mut bytes = chain().concat();
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
        // Whole streams that are doubled or left out are whole.
        let mut rest = bytes.as_slice();
        while let Some(next) = chain().iter().find(|stream| rest.starts_with(stream)) {
            rest = &rest[next.len()..];
        }
        prop_assert_eq!(opened(&bytes, &keys().mine).is_ok(), rest.is_empty());
        prop_assert_eq!(passed_over(&bytes).is_ok(), rest.is_empty());
    }

    #[test]
    fn no_frames_do_any_harm(made in prop::collection::vec((1..8_u8, prop::collection::vec(any::<u8>(), 0..300)), 0..6), label: bool) {
        let first = frames(&chain()[0]);
        let kept = if label { &first[..2] } else { &first[..0] };
        let forged = forged(&[kept, &made].concat());
        prop_assert!(opened(&forged, &keys().mine).is_err());
    }
}
