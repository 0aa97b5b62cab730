//! Tree nodes that were used lately.

use crate::node::{BlockRef, Node};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Nodes that are kept: 4096 of 4 KiB, 16 MiB. They map the places of about 2 GiB of pages.
const CACHED_NODES: usize = 4096;
const SHARDS: usize = 16;

struct Entry {
    node: Arc<Node>,
    used: bool,
}

#[derive(Default)]
struct Shard {
    nodes: HashMap<u64, Entry>,
    /// The clock: places in the order of their last review.
    clock: std::collections::VecDeque<u64>,
}

/// A bounded cache of checked nodes. A node is found by its place, and only if it is the very one that the reference
/// means, so an entry for a place that has been reused never answers.
pub(crate) struct NodeCache {
    shards: [Mutex<Shard>; SHARDS],
}

impl NodeCache {
    pub fn new() -> Self {
        Self { shards: std::array::from_fn(|_| Mutex::default()) }
    }

    pub fn get(&self, block: BlockRef) -> Option<Arc<Node>> {
        let mut shard = self.shard(block.place).lock().unwrap_or_else(PoisonError::into_inner);
        let entry = shard.nodes.get_mut(&block.place)?;
        if entry.node.block() != block {
            return None;
        }
        entry.used = true;
        Some(Arc::clone(&entry.node))
    }

    pub fn put(&self, node: Arc<Node>) {
        let place = node.block().place;
        let mut shard = self.shard(place).lock().unwrap_or_else(PoisonError::into_inner);
        if shard.nodes.insert(place, Entry { node, used: false }).is_some() {
            return;
        }
        shard.clock.push_back(place);
        while shard.nodes.len() > CACHED_NODES / SHARDS {
            let Some(place) = shard.clock.pop_front() else { return };
            let Some(entry) = shard.nodes.get_mut(&place) else { continue };
            if std::mem::take(&mut entry.used) {
                shard.clock.push_back(place);
            } else {
                shard.nodes.remove(&place);
            }
        }
    }

    fn shard(&self, place: u64) -> &Mutex<Shard> {
        &self.shards[crate::width::to_usize(place % SHARDS as u64)]
    }
}
