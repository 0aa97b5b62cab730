//! What lies on several sides: which copy holds, and which do not.

use semper_store::Disk;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How it is looked at the copies of something.
#[derive(Clone, Debug, Default)]
pub(crate) struct Look {
    /// At all of them; else only as far as one that holds.
    pub thorough: bool,
    /// How often a copy did not hold that another could stand in for.
    rotten: Arc<AtomicU64>,
}

impl Look {
    /// At all copies.
    pub fn at_all() -> Self {
        Self { thorough: true, ..Self::default() }
    }

    /// Copies were found rotten.
    pub fn count(&self, rotten: Option<u32>) {
        self.rotten.fetch_add(rotten.unwrap_or(0).into(), Ordering::Relaxed);
    }

    /// How many were.
    pub fn rotten(&self) -> u64 {
        self.rotten.load(Ordering::Relaxed)
    }

    /// Reads what `holds`, from the first copy that has it, and has it written over those that have not; if none has it, what the first one says.
    ///
    /// # Errors
    /// The first copy cannot be read, and no other holds.
    pub fn read(&self, disk: &dyn Disk, offset: u64, out: &mut [u8], holds: &dyn Fn(&[u8]) -> bool) -> io::Result<()> {
        let copies = disk.copies();
        let first = match copies.first() {
            Some(copy) => disk.read_copy(*copy, offset, out),
            None => disk.read_at(offset, out),
        };
        let sound = first.is_ok() && holds(out);
        if copies.len() < 2 || sound && !self.thorough {
            return first;
        }
        let mut bytes = vec![0; out.len()];
        let mended = disk.mend(offset, &mut bytes, holds);
        self.count(mended);
        if mended.is_none() || sound {
            return first;
        }
        out.copy_from_slice(&bytes);
        Ok(())
    }
}
