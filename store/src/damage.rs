//! Damage that was met after the store was opened, and generations that are left because of it.
//!
//! Opening looks at the upper nodes of a tree only, so that it costs the same for every size. What is rotten further down shows
//! later: in the walk for free space, in a commit, in a read. Then the runtime looks for the newest older generation that is whole
//! where the damage lies, and has the file [`DAMAGE_FILE`] say that the generations since are not to be used.

use crate::cache::NodeCache;
use crate::directory::DAMAGE_FILE;
use crate::error::{Error, Fault};
use crate::ids::{Generation, PAGE_SIZE};
use crate::mirror::Mirrored;
use crate::node::BlockRef;
use crate::open::{OpenOptions, reopen};
use crate::root::Kept;
use crate::store::Store;
use crate::tree::Reader;
use std::fmt::Write as _;

/// The first line of the file.
const TITLE: &str = "semper: generations that are not used, because damage was found in them";

/// Generations that are not used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Left {
    pub first: u64,
    pub last: u64,
    pub why: String,
}

impl Left {
    pub fn contains(&self, generation: u64) -> bool {
        (self.first..=self.last).contains(&generation)
    }
}

/// What the file says. A line that is none of ours is passed over: the file only ever takes choices away, and recovery
/// does without it when it would leave none.
pub(crate) fn read(sides: &Mirrored) -> Vec<Left> {
    lines(&sides.note(DAMAGE_FILE).ok().flatten().unwrap_or_default())
}

fn lines(text: &str) -> Vec<Left> {
    text.lines().filter_map(parse).collect()
}

fn parse(line: &str) -> Option<Left> {
    let (range, why) = line.split_once(' ')?;
    let (first, last) = range.split_once('-')?;
    Some(Left { first: first.parse().ok()?, last: last.parse().ok()?, why: why.to_owned() })
}

fn text(left: &[Left]) -> String {
    let mut text = format!("{TITLE}\n");
    for Left { first, last, why } in left {
        let _ = writeln!(text, "{first}-{last} {}", why.replace('\n', " "));
    }
    text
}

/// Removes the file: no root lists any of the generations that it names.
pub(crate) fn forget(sides: &Mirrored) {
    if let Err(e) = sides.keep_note(DAMAGE_FILE, None) {
        tracing::debug!("{e}");
    }
}

impl Store {
    /// The first damage that was met in the newest generation since the store was opened.
    #[must_use]
    pub fn damage(&self) -> Option<Fault> {
        self.shared.damage()
    }

    /// The newest generation older than the current one whose whole tree holds, and in which the page of `fault` holds, if it is one. Reads every
    /// node of the trees that it looks at.
    #[must_use]
    pub fn whole_before(&self, fault: &Fault) -> Option<Generation> {
        let current = self.shared.current();
        // Generation 0 is the empty store: nothing to go on with.
        let mut older = current.root.kept.iter().skip(1).filter(|kept| kept.generation > 0);
        let whole = |kept: &&Kept| match self.holds(kept, fault) {
            Ok(()) => true,
            Err(e) => {
                tracing::info!("generation {} is not whole either: {e}", kept.generation);
                false
            }
        };
        older.find(whole).map(|kept| Generation(kept.generation))
    }

    fn holds(&self, kept: &Kept, fault: &Fault) -> Result<(), Error> {
        // Nothing from memory: what counts is what the disk has.
        let cache = NodeCache::new();
        let reader = Reader { cache: &cache, ..self.shared.reader(kept.generation) };
        if kept.tree.height > 0 {
            nodes_hold(&reader, kept.tree.root, kept.tree.height - 1)?;
        }
        let Some((segment, page)) = fault.page else { return Ok(()) };
        reader.read(kept.tree, segment, page, &mut [0; PAGE_SIZE])
    }

    /// Notes durably that no generation after `to` is used any more, up to the newest of now: whoever opens the store takes `to`,
    /// or what is committed after it. Nothing else changes.
    ///
    /// # Errors
    /// What the host says; [`Error::BadArgument`] for a store that lies in no directory, or if `to` is the newest.
    pub fn leave_newer_than(&self, to: Generation, why: &str) -> Result<(), Error> {
        let sides = self.shared.mirrored()?;
        let last = self.shared.current().root.highest;
        if to.0 >= last {
            return Err(Error::BadArgument(format!("{to} is not older than the newest generation")));
        }
        let mut left = read(sides);
        left.push(Left { first: to.0 + 1, last, why: why.to_owned() });
        sides.keep_note(DAMAGE_FILE, Some(&text(&left)))
    }

    /// Opens the store anew under the same lock, heeding what [`Store::leave_newer_than`] noted. This handle takes no more commits.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn reopen(&self) -> Result<Self, Error> {
        self.shared.retire();
        reopen(&self.shared, &OpenOptions::default())
    }
}

/// Reads and checks every node from `block` down.
fn nodes_hold(reader: &Reader<'_>, block: BlockRef, level: u8) -> Result<(), Error> {
    let node = reader.node_from_disk(block, level)?;
    if level > 0 {
        for slot in node.slots() {
            nodes_hold(reader, slot.block, level - 1)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_the_rest_is_passed_over() {
        let left = [
            Left { first: 3, last: 5, why: "corrupt: a tree node".to_owned() },
            Left { first: 9, last: 9, why: "segment 0,\npage 1".to_owned() },
        ];
        let again = lines(&text(&left));
        assert_eq!(again.len(), 2);
        assert_eq!(again[0], left[0]);
        assert_eq!(again[1].why, "segment 0, page 1");
        assert!(again[0].contains(3) && again[0].contains(5) && !again[0].contains(6));
        assert_eq!(lines("7-\nx\n-1 y\n4-6 kept\n\u{fffd}"), [Left { first: 4, last: 6, why: "kept".to_owned() }]);
    }
}
