//! How often the world was restarted, and an id of this life: beside the store, since a roll-back must not touch it.

use crc32fast::hash;
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

const MAGIC: &[u8; 8] = b"SMPRLIFE";
const VERSION: u32 = 1;
const BYTES: usize = 24;

/// One life of the runtime on a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Life {
    /// Lives before it.
    pub restarts: u64,
    /// A number that no other life has.
    pub id: [u64; 2],
}

impl Life {
    /// Begins a life: counts it in `dir/life` before anything runs in it.
    ///
    /// # Errors
    /// When the file cannot be written. One that cannot be read as what it is counts from 0 again.
    pub fn begin(dir: &Path, random: fn(&mut [u8])) -> std::io::Result<Self> {
        let path = dir.join("life");
        let restarts = read(&path).map_or(0, |lives| lives.saturating_add(1));
        let mut id = [0u8; 16];
        random(&mut id);
        write(dir, &path, restarts)?;
        let id = u128::from_le_bytes(id);
        let halves = id.to_le_bytes();
        let half = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| halves[at + i]));
        Ok(Self { restarts, id: [half(0), half(8)] })
    }
}

/// Restarts as of the newest life.
fn read(path: &Path) -> Option<u64> {
    let mut bytes = [0u8; BYTES];
    File::open(path).ok()?.read_exact(&mut bytes).ok()?;
    let (body, sum) = bytes.split_at(BYTES - 4);
    let sound = body.starts_with(MAGIC) && body[8..12] == VERSION.to_le_bytes() && sum == hash(body).to_le_bytes();
    sound.then(|| u64::from_le_bytes(std::array::from_fn(|i| body[12 + i])))
}

fn write(dir: &Path, path: &Path, restarts: u64) -> std::io::Result<()> {
    let mut bytes = Vec::with_capacity(BYTES);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&restarts.to_le_bytes());
    bytes.extend_from_slice(&hash(&bytes).to_le_bytes());
    let new = dir.join("life.new");
    let mut file = File::create(&new)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn lives_are_counted_and_damage_counts_from_the_beginning() {
        let dir = std::env::temp_dir().join(format!("semper-life-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let random = |out: &mut [u8]| out.fill(7);
        let lives: Vec<u64> = (0..3).map(|_| Life::begin(&dir, random).unwrap().restarts).collect();
        assert_eq!(lives, [0, 1, 2]);
        std::fs::write(dir.join("life"), b"nonsense").unwrap();
        assert_eq!(Life::begin(&dir, random).unwrap().restarts, 0);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
