//! Generations that stay while the world runs, and a store that grows and shrinks under it.

use std::ops::ControlFlow;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use semper_store::{Generation, Hold, MIN_SIZE_BYTES, Store};

use super::room::Extent;
use super::{PAGE_BYTES, Runtime, RuntimeError, world};

/// The longest rest between two steps of making a store smaller.
const LONGEST_REST: Duration = Duration::from_millis(200);

/// Frames that programs are to find room for when a store is made smaller at rest.
const LEAST_FRAMES: u64 = 1024;

/// Whether the store in `dir`, made smaller to `size_bytes`, would leave its programs room: at rest, or with so many frames in use.
///
/// # Errors
/// [`RuntimeError::TooSmall`], with numbers. Sizes that no store can have, or larger ones, are left to [`Store::shrink`].
pub fn may_shrink(dir: &Path, store: &Store, size_bytes: u64, resident: Option<u64>) -> Result<(), RuntimeError> {
    let total = size_bytes / PAGE_BYTES;
    if size_bytes < MIN_SIZE_BYTES || total >= store.space().total {
        return Ok(());
    }
    let extent = Extent { total, ..world::extent(store) };
    let frames = resident.unwrap_or(LEAST_FRAMES);
    if extent.room_for(frames, 0) {
        return Ok(());
    }
    Err(RuntimeError::TooSmall {
        dir: dir.display().to_string(),
        bytes: size_bytes,
        stored: (extent.stored + extent.held.unwrap_or(0)) * PAGE_BYTES,
        resident: resident.map(|frames| frames * PAGE_BYTES),
        least: extent.least(frames) * PAGE_BYTES,
    })
}

impl Runtime {
    /// Holds a generation, the newest if none is named, until what is returned is dropped.
    ///
    /// # Errors
    /// It is not kept; too many are held; the store is too full for what would stay with it.
    pub fn hold(&self, generation: Option<u64>) -> Result<Hold, RuntimeError> {
        let hold = self.store.hold(generation.map_or_else(|| self.store.generation(), Generation))?;
        self.has_room()?;
        Ok(hold)
    }

    /// Names a generation, the newest if none is given, which then stays; gives its number.
    ///
    /// # Errors
    /// As [`hold`](Self::hold), and for a name that cannot be.
    pub fn tag(&self, name: &str, generation: Option<u64>) -> Result<u64, RuntimeError> {
        let hold = self.hold(generation)?;
        self.store.tag(name, hold.generation())?;
        Ok(hold.generation().0)
    }

    /// Takes a name away; gives the number of its generation.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn untag(&self, name: &str) -> Result<u64, RuntimeError> {
        Ok(self.store.untag(name)?.0)
    }

    /// Makes the store larger; programs that wait for room go on.
    ///
    /// # Errors
    /// It has that size already, or more; the host has not the space.
    pub fn grow(&self, size_bytes: u64) -> Result<(), RuntimeError> {
        self.store.grow(size_bytes)?;
        self.pager.set_frame_quota(Some(world::extent(&self.store).frames()));
        // The size is durable with the next root.
        self.checkpoint().map(|_| ())
    }

    /// Makes the store smaller beside the world, in small steps between its checkpoints. Returns when the file is as long as asked.
    ///
    /// # Errors
    /// What is in use, in the store and in memory, does not fit; a generation that is held has something beyond; the world ends meanwhile, or the
    /// store was told to grow; as [`Store::shrink`].
    pub fn shrink(&self, size_bytes: u64) -> Result<(), RuntimeError> {
        may_shrink(&self.dir, &self.store, size_bytes, Some(self.pager.resident()))?;
        let (mut refused, mut begun) = (None, None::<Instant>);
        let shrunk = self.store.shrink(size_bytes, &mut |_| {
            if begun.is_none() {
                // From now on no more frames come than the smaller store has room for; those that came last may be too many.
                self.pager.set_frame_quota(Some(world::extent(&self.store).frames()));
                refused = self.has_room().err();
            }
            if refused.is_some() || self.mirrors.is_stopped() {
                return ControlFlow::Break(());
            }
            // Half of the time the disk is the world's alone.
            if let Some(begun) = begun {
                thread::sleep(begun.elapsed().min(LONGEST_REST));
            }
            begun = Some(Instant::now());
            ControlFlow::Continue(())
        });
        self.pager.set_frame_quota(Some(world::extent(&self.store).frames()));
        match refused {
            Some(_) => Err(may_shrink(&self.dir, &self.store, size_bytes, Some(self.pager.resident()))
                .err()
                .unwrap_or_else(|| RuntimeError::Refused("programs took memory meanwhile: shrink again".to_owned()))),
            None => Ok(shrunk?),
        }
    }

    /// Whether the next commits fit, with what is held now.
    fn has_room(&self) -> Result<(), RuntimeError> {
        if world::extent(&self.store).room_for(self.pager.resident(), 0) {
            return Ok(());
        }
        let dir = self.dir.display();
        Err(RuntimeError::TooFullToHold { dir: dir.to_string() })
    }
}
