//! Going back to an older generation, and leaving the way to the future that is left.

use crate::commit::now;
use crate::crash::crash_point;
use crate::error::Error;
use crate::ids::Generation;
use crate::recover::look_at;
use crate::root::Kept;
use crate::store::Store;

impl Store {
    /// The number of the next generation, however it comes.
    #[must_use]
    pub fn next_generation(&self) -> Generation {
        Generation(self.shared.current().root.highest + 1)
    }

    /// Makes the content of `to` the newest generation, under a new number, which it gives. Nothing is written but a root, so it
    /// costs the same for every size. The generations after `to` stay readable as any older ones do: until newer
    /// ones take their place, or as long as they are held.
    ///
    /// The handle ends with it: opened anew, the store knows which places are free.
    ///
    /// # Errors
    /// [`Error::NoSuchGeneration`]; [`Error::Corrupt`] if its tree does not hold; [`Error::ReadOnly`], [`Error::Poisoned`]; what
    /// the host says.
    pub fn rewind(self, to: Generation) -> Result<Generation, Error> {
        let shared = &self.shared;
        shared.check_writable()?;
        let _writer = shared.start_writing();
        shared.settle_if_needed()?;
        let base = shared.current();
        let target = self.at(to, |_, kept| Ok(kept.clone()))?;
        look_at(&*shared.disk, &base.root, &target, base.root.places)?;
        let mut root = base.root.next();
        root.highest += 1;
        let generation = root.highest;
        root.kept.insert(0, Kept { generation, committed_at: now(), ..target });
        shared.holds().drop_superseded(&mut root);
        crash_point("rewind-root");
        shared.write_root(&root, 1 - base.slot)?;
        Ok(Generation(generation))
    }
}
