//! The files against a plain model, under random calls, refused calls and restarts.

use super::machine::Machine;
use crate::linux::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering::SeqCst;

/// A small generator whose seed is in every message.
pub struct Dice(pub u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, n: u64) -> u64 {
        (self.roll() >> 11) % n
    }

    pub fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[usize::try_from(self.below(from.len() as u64)).unwrap()].clone()
    }
}

/// Directories and files by path. (Hard links share content, so files are numbers.)
#[derive(Default)]
struct Model {
    directories: BTreeSet<String>,
    files: BTreeMap<String, usize>,
    contents: Vec<Vec<u8>>,
}

fn parent(path: &str) -> &str {
    &path[..path.rfind('/').unwrap()]
}

impl Model {
    fn exists(&self, path: &str) -> bool {
        self.directories.contains(path) || self.files.contains_key(path)
    }

    /// Why the way to `path` is barred.
    fn way(&self, path: &str) -> Result<(), Errno> {
        let parts: Vec<usize> = path.match_indices('/').map(|(i, _)| i).skip(1).collect();
        for i in parts {
            let prefix = &path[..i];
            if self.files.contains_key(prefix) {
                return Err(Errno::ENOTDIR);
            }
            if !self.directories.contains(prefix) {
                return Err(Errno::ENOENT);
            }
        }
        Ok(())
    }

    fn below(&self, path: &str) -> Vec<String> {
        let prefix = format!("{path}/");
        let all = self.directories.iter().chain(self.files.keys());
        all.filter(|p| p.starts_with(&prefix)).cloned().collect()
    }

    fn file(&mut self, path: &str) -> Result<&mut Vec<u8>, Errno> {
        self.way(path)?;
        if self.directories.contains(path) {
            return Err(Errno::EISDIR);
        }
        let &number = self.files.get(path).ok_or(Errno::ENOENT)?;
        Ok(&mut self.contents[number])
    }

    fn create(&mut self, path: &str) -> Result<(), Errno> {
        match self.file(path) {
            Err(Errno::ENOENT) => {
                self.way(path)?;
                self.files.insert(path.into(), self.contents.len());
                self.contents.push(Vec::new());
                Ok(())
            }
            other => other.map(|_| ()),
        }
    }

    fn mkdir(&mut self, path: &str) -> Result<(), Errno> {
        self.way(path)?;
        if self.exists(path) {
            return Err(Errno::EEXIST);
        }
        self.directories.insert(path.into());
        Ok(())
    }

    fn unlink(&mut self, path: &str) -> Result<(), Errno> {
        self.file(path)?;
        self.files.remove(path);
        Ok(())
    }

    fn rmdir(&mut self, path: &str) -> Result<(), Errno> {
        self.way(path)?;
        match () {
            () if self.files.contains_key(path) => Err(Errno::ENOTDIR),
            () if !self.directories.contains(path) => Err(Errno::ENOENT),
            () if !self.below(path).is_empty() => Err(Errno::ENOTEMPTY),
            () => {
                self.directories.remove(path);
                Ok(())
            }
        }
    }

    fn link(&mut self, from: &str, to: &str) -> Result<(), Errno> {
        self.way(from)?;
        if !self.exists(from) {
            return Err(Errno::ENOENT);
        }
        self.way(to)?;
        if self.exists(to) {
            return Err(Errno::EEXIST);
        }
        let &number = self.files.get(from).ok_or(Errno::EPERM)?;
        self.files.insert(to.into(), number);
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), Errno> {
        self.way(from)?;
        self.way(to)?;
        if !self.exists(from) {
            return Err(Errno::ENOENT);
        }
        if from == to {
            return Ok(());
        }
        if from.starts_with(&format!("{to}/")) {
            return Err(Errno::ENOTEMPTY);
        }
        if let Some(&number) = self.files.get(from) {
            if self.directories.contains(to) {
                return Err(Errno::EISDIR);
            }
            if self.files.get(to) == Some(&number) {
                return Ok(());
            }
            self.files.remove(from);
            self.files.insert(to.into(), number);
            return Ok(());
        }
        if to.starts_with(&format!("{from}/")) {
            return Err(Errno::EINVAL);
        }
        if self.files.contains_key(to) {
            return Err(Errno::ENOTDIR);
        }
        if !self.below(to).is_empty() {
            return Err(Errno::ENOTEMPTY);
        }
        self.directories.insert(to.into());
        self.directories.remove(from);
        for old in self.below(from) {
            let new = format!("{to}{}", &old[from.len()..]);
            if self.directories.remove(&old) {
                self.directories.insert(new);
            } else if let Some(number) = self.files.remove(&old) {
                self.files.insert(new, number);
            }
        }
        Ok(())
    }
}

fn compare(m: &mut Machine, model: &Model, context: &str) {
    for directory in &model.directories {
        let expected: Vec<String> = model
            .directories
            .iter()
            .chain(model.files.keys())
            .filter(|path| parent(path) == directory)
            .map(|path| path[directory.len() + 1..].to_string())
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect();
        assert_eq!(m.list(directory), expected, "{context}: {directory}");
    }
    for (path, &number) in &model.files {
        assert!(m.get(path).unwrap() == model.contents[number], "{context}: {path}");
        let names = model.files.values().filter(|&&n| n == number).count() as u64;
        assert_eq!(m.stat(path).unwrap().2, names, "{context}: {path}");
    }
}

fn path(dice: &mut Dice) -> String {
    let names = ["a", "b", "c"];
    let mut path = String::from("/w");
    for _ in 0..=dice.below(3) {
        path.push('/');
        path.push_str(dice.pick(&names));
    }
    path
}

fn run(seed: u64, steps: u64) {
    let mut dice = Dice::new(seed);
    let mut m = Machine::new();
    let mut model = Model::default();
    m.at(83, "/w", &[0o755]).unwrap();
    model.directories.insert("/w".into());
    for step in 0..steps {
        let (one, two) = (path(&mut dice), path(&mut dice));
        let context = format!("seed {seed} step {step}: {one} {two}");
        let unit = |result: Result<u64, Errno>| result.map(|_| ());
        match dice.below(12) {
            0..=2 => {
                let opened = m.open(&one, 0o102);
                assert_eq!(unit(opened), model.create(&one), "{context}");
                let Ok(fd) = opened else { continue };
                let (at, byte) = (dice.below(20_000), dice.roll().to_le_bytes()[7]);
                let bytes = vec![byte; usize::try_from(dice.below(9_000) + 1).unwrap()];
                let full = dice.below(6) == 0;
                m.segments.room.store(if full { 1 } else { 1 << 30 }, SeqCst);
                m.call(8, &[fd, at, 0]).unwrap();
                let written = m.write(fd, &bytes);
                m.segments.room.store(1 << 30, SeqCst);
                if full {
                    assert_eq!(written, Err(Errno::ENOSPC), "{context}");
                } else {
                    assert_eq!(written, Ok(bytes.len() as u64), "{context}");
                    let content = model.file(&one).unwrap();
                    let at = usize::try_from(at).unwrap();
                    content.resize(content.len().max(at + bytes.len()), 0);
                    content[at..at + bytes.len()].copy_from_slice(&bytes);
                }
                m.close(fd);
            }
            3 => {
                let size = dice.below(25_000);
                let expected = model.file(&one).map(|content| content.resize(usize::try_from(size).unwrap(), 0));
                assert_eq!(unit(m.at(76, &one, &[size])), expected, "{context}");
            }
            4 | 5 => assert_eq!(unit(m.at(83, &one, &[0o755])), model.mkdir(&one), "{context}"),
            6 => assert_eq!(unit(m.at(87, &one, &[])), model.unlink(&one), "{context}"),
            7 => assert_eq!(unit(m.at(84, &one, &[])), model.rmdir(&one), "{context}"),
            8 => assert_eq!(unit(m.two(86, &one, &two)), model.link(&one, &two), "{context}"),
            9 | 10 => assert_eq!(unit(m.two(82, &one, &two)), model.rename(&one, &two), "{context}"),
            _ => m.restart(),
        }
        if step % 25 == 0 {
            compare(&mut m, &model, &context);
        }
    }
    compare(&mut m, &model, "at the end");
    let mut kept = m.program.segments();
    kept.sort();
    assert_eq!(m.segments.alive(), kept, "seed {seed}: segments that no file has");
}

#[test]
fn the_tree_does_what_a_plain_model_does() {
    for seed in 1..=20 {
        run(seed, 300);
    }
}
