//! What happens at a time: deadlines of calls and timers, each a treap through the records concerned.
//!
//! A treap is a search tree by time and a heap by a hash of the index, mixed with a secret of the world: its depth is
//! logarithmic whatever times guests choose. (Aragon and Seidel, *Randomized Search Trees*, 1989.)

use super::context::Ctx;
use super::{Alarm, Domain, Hub, NO_LINK, Timer};
use crate::table::{Table, TableError};

/// Which tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Tree {
    /// Through the cores of domains.
    Deadlines,
    /// Through timers.
    Timers,
}

/// Orders alarms of the same time.
type Time = (u64, u32);

/// The earliest deadline or timer, nanoseconds of the world's monotonic clock: when to call [`super::expire`].
///
/// # Errors
/// When segment 0 is damaged.
pub fn next_alarm(table: &Table) -> Result<Option<u64>, TableError> {
    let Some((_, hub)) = table.first::<Hub>() else { return Ok(None) };
    let mut earliest = None;
    for tree in [Tree::Deadlines, Tree::Timers] {
        let mut at = hub_root(&hub, tree);
        while at != NO_LINK {
            let alarm = match tree {
                Tree::Deadlines => table.at::<Domain>(at)?.1.deadline,
                Tree::Timers => table.at::<Timer>(at)?.1.alarm,
            };
            if alarm.left == NO_LINK {
                earliest = Some(earliest.map_or(alarm.at, |time: u64| time.min(alarm.at)));
            }
            at = alarm.left;
        }
    }
    Ok(earliest)
}

const fn hub_root(hub: &Hub, tree: Tree) -> u32 {
    match tree {
        Tree::Deadlines => hub.deadlines,
        Tree::Timers => hub.timers,
    }
}

impl Ctx<'_, '_> {
    /// Sets an alarm; one that was set before is forgotten.
    pub(super) fn set_alarm(&mut self, tree: Tree, index: u32, at: u64) -> Result<(), TableError> {
        self.clear_alarm(tree, index)?;
        let salt = self.hub().1.salt;
        self.put_alarm(tree, index, Alarm { at, left: NO_LINK, right: NO_LINK })?;
        let root = self.root(tree);
        let root = self.insert(tree, salt, root, index, (at, index))?;
        self.set_root(tree, root)
    }

    /// Forgets an alarm, if it is set.
    pub(super) fn clear_alarm(&mut self, tree: Tree, index: u32) -> Result<(), TableError> {
        let alarm = self.alarm(tree, index)?;
        if alarm.at == 0 {
            return Ok(());
        }
        let salt = self.hub().1.salt;
        let merged = self.merge(tree, salt, alarm.left, alarm.right)?;
        let root = self.root(tree);
        self.replace_child(tree, root, index, (alarm.at, index), merged)?;
        self.put_alarm(tree, index, Alarm::default())
    }

    /// Takes the earliest alarm that is due at `now`.
    pub(super) fn take_due(&mut self, tree: Tree, now: u64) -> Result<Option<u32>, TableError> {
        let mut at = self.root(tree);
        if at == NO_LINK {
            return Ok(None);
        }
        loop {
            let alarm = self.alarm(tree, at)?;
            if alarm.left == NO_LINK {
                if alarm.at > now {
                    return Ok(None);
                }
                self.clear_alarm(tree, at)?;
                return Ok(Some(at));
            }
            at = alarm.left;
        }
    }

    fn insert(&mut self, tree: Tree, salt: u64, root: u32, index: u32, time: Time) -> Result<u32, TableError> {
        if root == NO_LINK {
            return Ok(index);
        }
        if priority(salt, index) > priority(salt, root) {
            let (left, right) = self.split(tree, root, time)?;
            self.put_alarm(tree, index, Alarm { at: time.0, left, right })?;
            return Ok(index);
        }
        let mut alarm = self.alarm(tree, root)?;
        if time < (alarm.at, root) {
            alarm.left = self.insert(tree, salt, alarm.left, index, time)?;
        } else {
            alarm.right = self.insert(tree, salt, alarm.right, index, time)?;
        }
        self.put_alarm(tree, root, alarm)?;
        Ok(root)
    }

    /// Parts a tree into what is before `time` and what is after.
    fn split(&mut self, tree: Tree, root: u32, time: Time) -> Result<(u32, u32), TableError> {
        if root == NO_LINK {
            return Ok((NO_LINK, NO_LINK));
        }
        let mut alarm = self.alarm(tree, root)?;
        let parts = if (alarm.at, root) < time {
            let (left, right) = self.split(tree, alarm.right, time)?;
            alarm.right = left;
            (root, right)
        } else {
            let (left, right) = self.split(tree, alarm.left, time)?;
            alarm.left = right;
            (left, root)
        };
        self.put_alarm(tree, root, alarm)?;
        Ok(parts)
    }

    /// Joins two trees of which the first is all before the second.
    fn merge(&mut self, tree: Tree, salt: u64, left: u32, right: u32) -> Result<u32, TableError> {
        if left == NO_LINK || right == NO_LINK {
            return Ok(if left == NO_LINK { right } else { left });
        }
        if priority(salt, left) > priority(salt, right) {
            let mut alarm = self.alarm(tree, left)?;
            alarm.right = self.merge(tree, salt, alarm.right, right)?;
            self.put_alarm(tree, left, alarm)?;
            Ok(left)
        } else {
            let mut alarm = self.alarm(tree, right)?;
            alarm.left = self.merge(tree, salt, left, alarm.left)?;
            self.put_alarm(tree, right, alarm)?;
            Ok(right)
        }
    }

    /// Puts `with` where `index` is in the tree.
    fn replace_child(&mut self, tree: Tree, root: u32, index: u32, time: Time, with: u32) -> Result<(), TableError> {
        if root == index {
            return self.set_root(tree, with);
        }
        let mut at = root;
        while at != NO_LINK {
            let mut alarm = self.alarm(tree, at)?;
            let child = if time < (alarm.at, at) { &mut alarm.left } else { &mut alarm.right };
            if *child == index {
                *child = with;
                return self.put_alarm(tree, at, alarm);
            }
            at = *child;
        }
        debug_assert!(false, "an alarm that is set is in the tree");
        Ok(())
    }

    fn root(&self, tree: Tree) -> u32 {
        hub_root(&self.hub().1, tree)
    }

    fn set_root(&mut self, tree: Tree, root: u32) -> Result<(), TableError> {
        let (id, mut hub) = self.hub();
        match tree {
            Tree::Deadlines => hub.deadlines = root,
            Tree::Timers => hub.timers = root,
        }
        self.set_hub(id, &hub)
    }

    fn alarm(&mut self, tree: Tree, index: u32) -> Result<Alarm, TableError> {
        match tree {
            Tree::Deadlines => {
                let at = self.core_at(index)?;
                Ok(self.domain(at).deadline)
            }
            Tree::Timers => Ok(self.tx.at::<Timer>(index)?.1.alarm),
        }
    }

    fn put_alarm(&mut self, tree: Tree, index: u32, alarm: Alarm) -> Result<(), TableError> {
        match tree {
            Tree::Deadlines => {
                let at = self.core_at(index)?;
                self.domain_mut(at).deadline = alarm;
            }
            Tree::Timers => {
                let id = self.tx.id_at(index)?;
                self.tx.modify::<Timer>(id, |timer| timer.alarm = alarm)?;
            }
        }
        Ok(())
    }
}

/// splitmix64 of the salted index.
fn priority(salt: u64, index: u32) -> (u64, u32) {
    let mut x = salt.wrapping_add(u64::from(index).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (x ^ (x >> 31), index)
}
