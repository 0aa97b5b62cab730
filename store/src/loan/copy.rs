//! Copying what still lies in the lender, while commits go on.

use super::disk::Borrowing;
use crate::crash::crash_point;
use crate::disk::BUFFER_LEN;
use crate::error::Error;
use crate::freemap::FreeMap;
use crate::hold::Hold;
use crate::ids::PAGE_SIZE;
use crate::node::{BlockRef, Node, Slot};
use crate::pace::Pace;
use crate::root::Kept;
use crate::shared::Shared;
use crate::store::Store;
use crate::tree::{Reader, adjacent, read_place};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Bytes after which what was copied is flushed: not all at the end, when a commit waits for it.
const FLUSH_EVERY: u64 = 64 << 20;

/// Pages that are copied at once.
const MOST: usize = BUFFER_LEN / PAGE_SIZE;

/// Copies every block that a kept generation has from the lender.
pub(super) fn copy(store: &Store, loan: &Borrowing, rate: Option<u64>) -> Result<(), Error> {
    let Some(lender) = loan.lender() else { return Ok(()) };
    let shared = &store.shared;
    // What is committed from now on is made of this one and of the store's own, so it has to stay until it is copied.
    let _newest = {
        let _writer = shared.start_writing();
        Hold::of_newest(shared)?
    };
    let root = shared.current().root.clone();
    loan.done.store(0, Ordering::Relaxed);
    // Later generations share nearly all with the one that the store began as.
    let most = root.kept.last().map_or(0, |kept| kept.pages + kept.nodes);
    loan.total.store(most * PAGE_SIZE as u64, Ordering::Relaxed);
    let mut copy = Copy {
        shared,
        loan,
        lender: &lender,
        until: shared.lineage.inherited().unwrap_or(0),
        seen: FreeMap::new(root.places),
        pace: Pace::new(rate),
        unflushed: 0,
    };
    for kept in &root.kept {
        match Hold::of_kept(shared, kept.generation) {
            Ok(_hold) => copy.generation(kept)?,
            // What only it had nobody needs any more.
            Err(Error::NoSuchGeneration { .. }) => {}
            Err(e) => return Err(e),
        }
    }
    crash_point("loan-copied");
    shared.flush()?;
    crash_point("loan-flushed");
    let _writer = shared.start_writing();
    shared.check_writable()?;
    // Both roots list now what was copied, and nothing older.
    shared.settle(|root| root.borrows = false)?;
    crash_point("loan-repaid");
    loan.let_go();
    Ok(())
}

struct Copy<'a> {
    shared: &'a Arc<Shared>,
    loan: &'a Borrowing,
    lender: &'a Store,
    /// The last generation whose blocks may lie in the lender.
    until: u64,
    seen: FreeMap,
    pace: Pace,
    unflushed: u64,
}

impl Copy<'_> {
    fn generation(&mut self, kept: &Kept) -> Result<(), Error> {
        let shared = Arc::clone(self.shared);
        let reader = shared.reader(kept.generation);
        if kept.tree.height > 0 && self.claim(kept.tree.root) {
            self.node(&reader, kept.tree.root, kept.tree.height - 1)?;
        }
        Ok(())
    }

    /// Whether a block was not met yet.
    fn claim(&mut self, block: BlockRef) -> bool {
        self.seen.meet(self.shared.current().root.places, block.place) == Some(true)
    }

    fn node(&mut self, reader: &Reader<'_>, block: BlockRef, level: u8) -> Result<(), Error> {
        let node = reader.node_from_disk(block, level)?;
        if level == 0 {
            self.pages(reader, &node)?;
        } else {
            for slot in node.slots() {
                if self.claim(slot.block) {
                    self.node(reader, slot.block, level - 1)?;
                }
            }
        }
        if block.birth > self.until {
            return Ok(());
        }
        let mut own = [0; PAGE_SIZE];
        read_place(self.loan, block.place, &mut own)?;
        if !reader.node_holds(&own, block, level) {
            self.write(block.place, node.bytes())?;
        }
        self.copied(1)
    }

    fn pages(&mut self, reader: &Reader<'_>, node: &Node) -> Result<(), Error> {
        let lent: Vec<Slot> =
            node.slots().filter(|slot| slot.block.birth <= self.until && self.claim(slot.block)).collect();
        for run in lent.chunk_by(adjacent).flat_map(|run| run.chunks(MOST)) {
            let mut bytes = vec![0; run.len() * PAGE_SIZE];
            read_place(self.loan, run[0].block.place, &mut bytes)?;
            let holds = |bytes: &[u8]| {
                run.iter().zip(bytes.chunks_exact(PAGE_SIZE)).all(|(slot, page)| reader.page_holds(page, slot))
            };
            if !holds(&bytes) {
                let read = read_place(&*self.lender.shared.disk, run[0].block.place, &mut bytes);
                if read.is_err() || !holds(&bytes) {
                    // One by one, from wherever it holds.
                    reader.pages(run, &mut bytes)?;
                }
                self.write(run[0].block.place, &bytes)?;
            }
            self.copied(run.len())?;
        }
        Ok(())
    }

    fn write(&mut self, place: u64, bytes: &[u8]) -> Result<(), Error> {
        let mut buffer = self.shared.pool.take().map_err(|e| Error::io("get a write buffer", e))?;
        buffer.extend(bytes);
        self.shared.write(place, buffer)?;
        self.unflushed += bytes.len() as u64;
        if self.unflushed >= FLUSH_EVERY {
            self.unflushed = 0;
            self.shared.flush()?;
        }
        Ok(())
    }

    fn copied(&mut self, blocks: usize) -> Result<(), Error> {
        let bytes = (blocks * PAGE_SIZE) as u64;
        let done = self.loan.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.pace.wait(done, || self.shared.go_on())
    }
}
