//! A side that was away: what of the journal it has already.

use crate::copies::Look;
use crate::sealed;
use crate::segment;
use crate::state::{State, StateFile};
use crate::walk::{Step, Walk};
use semper_store::{Folder, StoreId};
use std::collections::BTreeSet;
use std::ops::Range;

/// The files of a side that need not be copied to it again from those that are whole.
///
/// A segment is followed by another when all of it is durable on every side that counts. So a side whose state file speaks of one has all before it:
/// not only in the host's cache, where it could be read, but on the medium. The state file is the last that a side gets which is brought up to date.
pub fn kept(side: &dyn Folder, whole: &dyn Folder, store: StoreId) -> Vec<String> {
    let Ok(names) = side.names() else { return Vec::new() };
    let (Some(then), Some(now)) = (state(side, store), state(whole, store)) else { return Vec::new() };
    let has = now.first..then.newest.min(now.newest);
    let ends: BTreeSet<u64> =
        whole.names().unwrap_or_default().iter().filter_map(|name| segment::first_of(name)).collect();
    let end = |first| ends.range(first + 1..).next().copied().unwrap_or(now.newest);
    let mut segments: Vec<u64> = names.iter().filter_map(|name| segment::first_of(name)).collect();
    segments.retain(|first| has.contains(first) && has_all(side, whole, store, *first..end(*first)));
    segments.sort_unstable();
    let mut kept: Vec<String> = segments.iter().map(|first| segment::name(*first)).collect();
    // An index is made when the segment after its own is there; the last one may have come too late.
    segments.pop();
    kept.extend(segments.into_iter().map(segment::index_name));
    kept
}

/// Whether a side has all the records of a segment, and it is the segment that the others have. One that they have lost is worth all the more; a file that
/// the side had lost may have been on its way there when the side went.
fn has_all(side: &dyn Folder, whole: &dyn Folder, store: StoreId, records: Range<u64>) -> bool {
    let look = Look::default();
    let Ok((disk, Ok(here))) = sealed::header(side, store, records.start, &look) else { return false };
    if let Ok((_, Ok(there))) = sealed::header(whole, store, records.start, &look)
        && there.salt != here.salt
    {
        return false;
    }
    let mut walk = Walk::new(disk, here, Some(records.end), &look, None);
    loop {
        match walk.step() {
            Ok(Step::Batch { .. }) => {}
            Ok(Step::End { .. }) => return walk.next == records.end,
            _ => return false,
        }
    }
}

fn state(folder: &dyn Folder, store: StoreId) -> Option<State> {
    let state = StateFile::open(folder, &Look::default()).ok()??.state;
    (state.store == store).then_some(state)
}
