//! Who is whole, from now on. Each change is a new epoch.

use super::record::{MAX_SIDES, Member, Record, Worth};
use super::set::{Failed, Mirrored, Set, Side, State, Tally};
use super::site::{MIRRORS_FILE, Site};
use crate::canary::Canary;
use crate::directory::{DAMAGE_FILE, TAGS_FILE};
use crate::disk::Disk;
use crate::error::Error;
use crate::ids::{PAGE_SIZE, StoreId};
use crate::open::random_id;
use crate::root::SLOT_PLACES;
use std::io;
use std::sync::{Arc, PoisonError};

/// Files that lie beside the pages on each side.
const NOTES: [&str; 2] = [TAGS_FILE, DAMAGE_FILE];

/// Why a side is away that was just taken up.
pub const WAITS: &str = "it waits to be brought up to date";

/// A mark for a new epoch.
pub(super) fn mark() -> Result<u64, Error> {
    Ok(random_id()?.0.iter().fold(0, |mark, byte| mark << 8 | u64::from(*byte)))
}

/// Writes a record into a side.
pub(super) fn keep(record: &Record, number: u32, site: &dyn Site) -> Result<(), Error> {
    site.keep(MIRRORS_FILE, Some(&record.text(number)))
}

fn keep_all<'s>(record: &Record, sides: impl Iterator<Item = &'s Side>) -> Result<(), Error> {
    sides.into_iter().try_for_each(|side| keep(record, side.number, &*side.site))
}

pub(super) fn set_worth(members: &mut [Member], number: u32, worth: Worth) {
    if let Some(member) = members.iter_mut().find(|member| member.number == number) {
        member.worth = worth;
    }
}

fn as_io(e: Error) -> io::Error {
    match e {
        Error::Io { source, .. } => {
            source.raw_os_error().map_or_else(|| io::Error::other(source.to_string()), io::Error::from_raw_os_error)
        }
        other => io::Error::other(other.to_string()),
    }
}

impl Mirrored {
    /// Sides that failed go away: durably so on those that are left, before this returns.
    pub(super) fn drop_sides(&self, mut failed: Vec<Failed>) -> io::Result<()> {
        if self.read_only {
            return Ok(());
        }
        let _change = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        let set = self.set();
        let Some(record) = &set.record else { return failed.pop().map_or(Ok(()), |(_, e)| Err(e)) };
        // Somebody else may have met the same failure.
        failed.retain(|(number, _)| set.side(*number).is_some_and(|side| !matches!(side.state, State::Away(_))));
        if failed.is_empty() {
            return Ok(());
        }
        let mut next = record.clone();
        loop {
            let gone = |number: u32| failed.iter().any(|(other, _)| *other == number);
            next = next.next(mark().map_err(as_io)?, |members| {
                failed.iter().for_each(|(number, _)| set_worth(members, *number, Worth::Away));
            });
            let left: Vec<&Side> = set.whole().map(|(side, _)| side).filter(|side| !gone(side.number)).collect();
            if left.is_empty() {
                self.publish(Set { record: Some(record.after(next)), sides: set.sides.clone() });
                return Err(failed.pop().map_or_else(|| io::Error::other("no side is left"), |(_, e)| e));
            }
            if Canary::ForgetAway.planted(self.canary) {
                next = record.clone();
                break;
            }
            let refused: Vec<Failed> = left
                .iter()
                .filter_map(|side| Some((side.number, as_io(keep(&next, side.number, &*side.site).err()?))))
                .collect();
            if refused.is_empty() {
                break;
            }
            failed.extend(refused);
        }
        let mut sides = set.sides.clone();
        for (number, e) in &failed {
            if let Some(side) = sides.iter_mut().find(|side| side.number == *number) {
                tracing::error!("{} fails and is left out from now on: {e}", side.place);
                side.state = State::Away(e.to_string());
                // It should know, if it still can: whoever finds it alone then does not take it for whole.
                let _ = keep(&next, *number, &*side.site);
            }
        }
        self.publish(Set { record: Some(next), sides });
        Ok(())
    }

    /// A new epoch in which `number` has another worth; durable on all that are whole, and in the side itself.
    fn turn(&self, number: u32, worth: Worth, state: State) -> Result<(), Error> {
        let _change = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        let set = self.set();
        let (Some(record), Some(side)) = (&set.record, set.side(number)) else {
            return Err(Error::BadArgument("it is no mirror of this store".to_owned()));
        };
        let next = record.next(mark()?, |members| set_worth(members, number, worth));
        let mut kept = keep_all(&next, set.whole().map(|(side, _)| side));
        if kept.is_ok() {
            kept = keep(&next, number, &*side.site);
        }
        let mut sides = set.sides.clone();
        if kept.is_ok() {
            for side in sides.iter_mut().filter(|side| side.number == number) {
                side.state = state.clone();
                side.turn += u64::from(worth == Worth::Filling);
            }
        }
        // Who has the epoch already must find it in the past of the next.
        let next = if kept.is_ok() { next } else { record.after(next) };
        self.publish(Set { record: Some(next), sides });
        kept
    }

    /// From now on what is written goes to a side too that is to be filled.
    pub(super) fn join(&self, number: u32, disk: &Arc<dyn Disk>) -> Result<(), Error> {
        self.turn(number, Worth::Filling, State::Filling(Arc::clone(disk)))
    }

    /// A side goes away that was being filled.
    pub(super) fn give_up(&self, number: u32, why: &str) {
        let failed = vec![(number, io::Error::other(why.to_owned()))];
        if let Err(e) = self.drop_sides(failed) {
            tracing::warn!("that a mirror is given up cannot be noted: {e}");
        }
    }

    /// Notes, for who asks, why a side is away.
    pub(super) fn note_why(&self, number: u32, why: &str) {
        let _change = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        let set = self.set();
        let mut sides = set.sides.clone();
        for side in sides.iter_mut().filter(|side| side.number == number) {
            if let State::Away(old) = &mut side.state {
                why.clone_into(old);
            }
        }
        self.publish(Set { record: set.record.clone(), sides });
    }

    /// A side that was filled is whole from now on. No commit may be under way.
    pub(super) fn admit(&self, number: u32) -> Result<(), Error> {
        let failed = |e| Error::io("bring the mirror up to date", e);
        let set = self.set();
        let Some(Side { state: State::Filling(disk), site, .. }) = set.side(number) else {
            return Err(failed(io::Error::other("it went away again")));
        };
        disk.flush().map_err(failed)?;
        // The roots last: only then is it a store.
        for place in SLOT_PLACES {
            self.copy_to(number, place * PAGE_SIZE as u64, PAGE_SIZE).map_err(failed)?;
        }
        disk.flush().map_err(failed)?;
        for name in NOTES {
            site.keep(name, self.note(name).ok().flatten().as_deref())?;
        }
        let disk = Arc::clone(disk);
        self.turn(number, Worth::Whole, State::Whole(disk))
    }

    /// Replaces the small file `name`, or removes it, on all sides that are whole.
    pub fn keep_note(&self, name: &str, text: Option<&str>) -> Result<(), Error> {
        let set = self.set();
        let mut failed = Vec::new();
        for (side, _) in set.whole() {
            match side.site.keep(name, text) {
                Ok(()) => {}
                Err(e) if set.whole().count() == 1 => return Err(e),
                Err(e) => failed.push((side.number, as_io(e))),
            }
        }
        self.judge(&set, failed).map_err(|e| Error::io(format!("write the file {name}"), e))
    }

    /// Takes up a new side, which has nothing yet; gives its number.
    pub(super) fn add(&self, id: StoreId, place: &str, site: &Arc<dyn Site>) -> Result<u32, Error> {
        let bad = |why: &str| Error::BadMirror { dir: place.into(), why: why.to_owned() };
        let _change = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        let set = self.set();
        if set.sides.iter().any(|side| side.place == place) {
            return Err(bad("it is a side of this store already"));
        }
        if set.sides.len() >= MAX_SIDES {
            return Err(bad(&format!("a store has at most {MAX_SIDES} sides, with its own directory")));
        }
        let record = match &set.record {
            Some(record) => record.clone(),
            None => Record::new(id, &set.sides[0].place, mark()?),
        };
        let number = record.members.iter().map(|member| member.number).max().unwrap_or(0) + 1;
        let member = Member { number, worth: Worth::Away, place: place.to_owned() };
        let next = record.next(mark()?, |members| members.push(member));
        // In the new side first: left over alone, it says of itself that it is nothing yet.
        keep(&next, number, &**site)?;
        if let Err(e) = keep_all(&next, set.whole().map(|(side, _)| side)) {
            self.publish(Set { record: Some(record.after(next)), sides: set.sides.clone() });
            return Err(e);
        }
        let mut sides = set.sides.clone();
        let state = State::Away(WAITS.to_owned());
        let (place, tally) = (place.to_owned(), Arc::new(Tally::default()));
        sides.push(Side { number, place, site: Arc::clone(site), state, turn: 0, tally });
        self.publish(Set { record: Some(next), sides });
        Ok(number)
    }

    /// A side is none any more.
    pub(super) fn remove(&self, number: u32) -> Result<(), Error> {
        let _change = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        let set = self.set();
        let (Some(record), Some(side)) = (&set.record, set.side(number)) else {
            return Err(Error::BadArgument("it is no mirror of this store".to_owned()));
        };
        let next = record.next(mark()?, |members| set_worth(members, number, Worth::Removed));
        let kept = keep_all(&next, set.whole().map(|(side, _)| side).filter(|other| other.number != number));
        if let Err(e) = kept {
            self.publish(Set { record: Some(record.after(next)), sides: set.sides.clone() });
            return Err(e);
        }
        if let Err(e) = keep(&next, number, &*side.site) {
            tracing::warn!("{} cannot be told that it is no mirror any more: {e}", side.place);
        }
        let mut sides = set.sides.clone();
        sides.retain(|side| side.number != number);
        self.publish(Set { record: Some(next), sides });
        Ok(())
    }
}
