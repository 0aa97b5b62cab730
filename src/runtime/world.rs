//! Ties the crates together: the kernel is what the checkpointer stops, the store is what the pager reads from.

use super::hand_over::Standing;
use super::room::Extent;
use super::rot::Watch;
use super::stall::{Short, Stall};
use semper_checkpoint::{CheckpointError, Checkpointer, Held, Inconsistency};
use semper_domains::kernel::{FreezeError, Kernel, Surroundings};
use semper_pager::{Backing, BackingError, Pager};
use semper_store::{Committed, PageIndex, SegmentId, Store};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

/// Checkpoints that are taken to make room for what a call writes, before it is told that there is none.
const MAX_COMMITS_FOR_ROOM: u32 = 4;
/// How long adding a program waits for the commit that contains it.
const COMMIT_PATIENCE: Duration = Duration::from_secs(120);

/// What the store and the file system below it can have, and what is taken for sure.
pub fn extent(store: &Store) -> Extent {
    let total = store.space().total.min(store.host_places());
    let stored = store.generations().first().map_or(0, |newest| newest.pages);
    Extent { total, stored, held: store.held_places() }
}

/// The store as the pager sees it.
pub struct StoreBacking {
    store: Arc<Store>,
    /// Who is told before a program is that a page cannot be had.
    watch: Arc<Watch>,
}

impl StoreBacking {
    /// Of this store.
    pub fn new(store: Arc<Store>, watch: Arc<Watch>) -> Self {
        Self { store, watch }
    }

    fn told<T>(&self, result: Result<T, semper_store::Error>) -> Result<T, BackingError> {
        result.map_err(|e| {
            self.watch.look();
            e.into()
        })
    }
}

impl Backing for StoreBacking {
    fn read(&self, segment: SegmentId, first: PageIndex, out: &mut [u8]) -> Result<(), BackingError> {
        self.told(self.store.read(segment, first, out))
    }

    fn next_present(&self, segment: SegmentId, from: PageIndex) -> Result<Option<PageIndex>, BackingError> {
        self.told(self.store.next_page(segment, from))
    }
}

/// The kernel as the checkpointer sees it.
pub struct World {
    kernel: Arc<Kernel>,
    store: Arc<Store>,
    pager: Arc<Pager>,
    watch: Arc<Watch>,
    stall: Arc<Stall>,
    standing: Arc<Standing>,
}

impl World {
    /// Of this kernel.
    pub fn new(
        kernel: Arc<Kernel>,
        store: Arc<Store>,
        pager: Arc<Pager>,
        watch: Arc<Watch>,
        stall: Arc<Stall>,
        standing: Arc<Standing>,
    ) -> Self {
        let world = Self { kernel, store, pager, watch, stall, standing };
        world.set_quota();
        world
    }

    /// Every frame may become dirty without anybody being asked, so there may be no more frames than a commit has
    /// room for: beyond that, faults wait until frames are clean and can be evicted, or the store grows.
    fn set_quota(&self) {
        self.pager.set_frame_quota(Some(extent(&self.store).frames()));
    }

    fn tell_of_stall(&self) {
        let extent = extent(&self.store);
        let frames = extent.frames();
        let short = if self.pager.memory_limit().is_some_and(|limit| limit < frames) {
            Short::Memory
        } else if extent.total < self.store.space().total {
            Short::Disk
        } else {
            Short::Store
        };
        if let Some(told) = self.stall.look(Instant::now(), self.pager.starving(), short, frames) {
            // Not a line of the log, which may be off: the program stands still until somebody acts.
            eprintln!("semper: {told}");
        }
    }
}

impl semper_checkpoint::World for World {
    fn idle(&self) -> bool {
        self.kernel.idle() && !self.standing.is_asked()
    }

    fn before_capture(&self) {
        self.kernel.before_capture();
    }

    fn freeze(&self) -> Result<(), semper_checkpoint::FreezeError> {
        self.watch.may_commit().map_err(semper_checkpoint::FreezeError::Refused)?;
        // A program that is told again is between two states that it had when they were captured. Without room it cannot be waited for.
        if self.kernel.is_replaying() && self.pager.starving().is_none() {
            return Err(semper_checkpoint::FreezeError::Passing(
                "programs are being told again what they were told".to_owned(),
            ));
        }
        if !self.standing.may_freeze() {
            return Err(semper_checkpoint::FreezeError::Passing("the world stands, to be moved".to_owned()));
        }
        self.kernel.freeze().map_err(|e| match e {
            FreezeError::Died(_) => semper_checkpoint::FreezeError::Passing(e.to_string()),
            FreezeError::Domain { .. } => semper_checkpoint::FreezeError::Refused(e.to_string()),
        })
    }

    fn check(&self) -> Result<(), Inconsistency> {
        // Met since the freeze was asked for: what a program made of it may be in its pages already.
        self.watch.may_commit().and_then(|()| self.kernel.check()).map_err(Inconsistency)
    }

    fn captured(&self) {
        self.kernel.captured();
        self.standing.captured();
    }

    fn thaw(&self) {
        if !self.standing.keeps() {
            self.kernel.thaw();
        }
    }

    fn committed(&self, committed: &Committed) {
        // Who still waits after this commit has been looked at before the quota lets anybody go on.
        self.tell_of_stall();
        self.set_quota();
        let oldest = self.store.generations().last().map_or(0, |oldest| oldest.generation.0);
        self.kernel.committed(committed.generation.0, oldest);
    }

    fn failed(&self, error: &CheckpointError) {
        tracing::debug!(%error, "no checkpoint was committed; the last one stands");
        self.kernel.failed();
        if self.standing.failed() {
            self.kernel.thaw();
        }
        self.watch.look();
    }
}

/// What the kernel asks of the runtime.
pub struct Around {
    store: Arc<Store>,
    pager: Arc<Pager>,
    watch: Arc<Watch>,
    checkpointer: OnceLock<Weak<Checkpointer>>,
    only_when_asked: bool,
}

impl Around {
    /// Before the checkpointer exists.
    pub fn new(store: Arc<Store>, pager: Arc<Pager>, watch: Arc<Watch>, only_when_asked: bool) -> Self {
        Self { store, pager, watch, checkpointer: OnceLock::new(), only_when_asked }
    }

    /// From now on it does.
    pub fn set_checkpointer(&self, checkpointer: &Arc<Checkpointer>) {
        let _ = self.checkpointer.set(Arc::downgrade(checkpointer));
    }

    fn checkpointer(&self) -> Option<Arc<Checkpointer>> {
        self.checkpointer.get().and_then(Weak::upgrade)
    }
}

impl Surroundings for Around {
    fn hasten(&self) {
        if let Some(checkpointer) = self.checkpointer() {
            checkpointer.hasten(Held::Output);
        }
    }

    fn output_waits(&self) {
        if !self.only_when_asked {
            self.hasten();
        }
    }

    fn reply_waits(&self, all: bool) {
        if let Some(checkpointer) = self.checkpointer().filter(|_| !self.only_when_asked) {
            checkpointer.hasten(if all { Held::AllReplies } else { Held::Reply });
        }
    }

    fn commit_now(&self) -> Result<(), String> {
        let checkpointer = self.checkpointer().ok_or("the runtime is not up yet")?;
        match checkpointer.request().wait(COMMIT_PATIENCE) {
            Ok(_) | Err(CheckpointError::Finished) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn differs(&self, why: &str) {
        self.watch.differs(why);
    }

    fn room_for(&self, pages: u64) -> bool {
        extent(&self.store).room_for(self.pager.resident(), pages)
    }

    fn is_short(&self) -> bool {
        self.pager.room() == 0
    }

    fn frames(&self) -> u64 {
        extent(&self.store).frames()
    }

    fn make_room(&self, pages: u64) -> bool {
        // What was written is clean after one commit, and the next lets it go.
        for _ in 0..MAX_COMMITS_FOR_ROOM {
            if self.room_for(pages) || self.commit_now().is_err() {
                break;
            }
        }
        self.room_for(pages)
    }
}
