//! How often the world was restarted, and an id of this life: beside the store, since a roll-back must not touch it.

use crc32fast::hash;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

const MAGIC: &[u8; 8] = b"SMPRLIFE";
const VERSION: u32 = 1;
const BYTES: usize = 24;
/// Lives are noted by turns in two sectors, in place: a torn write spoils the older note, and a full disk is no hindrance.
const SLOTS: [u64; 2] = [0, 512];

/// One life of the runtime on a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Life {
    /// Lives before it.
    pub restarts: u64,
    /// A number that no other life has.
    pub id: [u64; 2],
    /// The generation from which it goes on.
    pub generation: u64,
    /// When it began, nanoseconds since 1970.
    pub began: u64,
}

impl Life {
    /// Begins a life: counts it in `dir/life` before anything runs in it. If it cannot be counted there (a full disk on which the
    /// file is new), that is told, and the next life may have the same number, but not the same id.
    pub fn begin(dir: &Path, random: fn(&mut [u8])) -> Self {
        let path = dir.join("life");
        let restarts = read(&path).map_or(0, |lives| lives.saturating_add(1));
        if let Err(error) = write(&path, restarts) {
            tracing::warn!(%error, path = %path.display(), "the restart cannot be counted");
        }
        let mut bytes = [0u8; 16];
        random(&mut bytes);
        let half = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let began = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
        Self { restarts, id: [half(0), half(8)], generation: 0, began }
    }
}

/// Restarts as of the newest life.
fn read(path: &Path) -> Option<u64> {
    let file = File::open(path).ok()?;
    SLOTS.into_iter().filter_map(|offset| read_slot(&file, offset)).max()
}

fn read_slot(file: &File, offset: u64) -> Option<u64> {
    let mut bytes = [0u8; BYTES];
    file.read_exact_at(&mut bytes, offset).ok()?;
    let (body, sum) = bytes.split_at(BYTES - 4);
    let sound = body.starts_with(MAGIC) && body[8..12] == VERSION.to_le_bytes() && sum == hash(body).to_le_bytes();
    sound.then(|| u64::from_le_bytes(std::array::from_fn(|i| body[12 + i])))
}

fn write(path: &Path, restarts: u64) -> std::io::Result<()> {
    let mut bytes = Vec::with_capacity(BYTES);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&restarts.to_le_bytes());
    bytes.extend_from_slice(&hash(&bytes).to_le_bytes());
    let file = File::options().write(true).create(true).truncate(false).open(path)?;
    if file.metadata()?.len() == 0 {
        file.write_all_at(&[0; 1024], 0)?;
    }
    file.write_all_at(&bytes, SLOTS[usize::from(restarts % 2 == 1)])?;
    file.sync_data()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn lives_are_counted_and_a_torn_note_is_left_for_the_one_before() {
        let dir = std::env::temp_dir().join(format!("semper-life-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let random = |out: &mut [u8]| out.fill(7);
        let lives: Vec<u64> = (0..3).map(|_| Life::begin(&dir, random).restarts).collect();
        assert_eq!(lives, [0, 1, 2]);
        // The note of the last life is torn: the one before it counts.
        let file = File::options().write(true).open(dir.join("life")).unwrap();
        file.write_all_at(&[0; 8], SLOTS[0] + 8).unwrap();
        assert_eq!(Life::begin(&dir, random).restarts, 2);
        std::fs::write(dir.join("life"), b"nonsense").unwrap();
        assert_eq!(Life::begin(&dir, random).restarts, 0);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
