//! Generations that stay while the world runs, and a store that grows under it.

use semper_store::{Generation, Hold};

use super::{Runtime, RuntimeError, world};

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

    /// Whether the next commits fit, with what is held now.
    fn has_room(&self) -> Result<(), RuntimeError> {
        if world::extent(&self.store).room_for(self.pager.resident(), 0) {
            return Ok(());
        }
        let dir = self.dir.display();
        Err(RuntimeError::TooFullToHold { dir: dir.to_string() })
    }
}
