//! Opening: which sides there are, and which of them are whole.

use super::change::{keep, mark, set_worth};
use super::record::{Record, Worth};
use super::set::{Mirrored, Set, Side, State, Tally};
use super::site::{MIRRORS_FILE, Site, Sites};
use crate::canary::Canary;
use crate::disk::{BufferPool, Disk};
use crate::error::Error;
use crate::file::IoKind;
use crate::ids::{PAGE_SIZE, StoreId};
use crate::recover::read_root;
use crate::root::{Root, SLOT_PLACES};
use std::sync::Arc;

/// The sides of a store that is being opened.
pub(crate) struct Gathered {
    pub disk: Arc<Mirrored>,
    /// How the first side is written.
    pub io_kind: IoKind,
    /// What was not as it should be, each a sentence.
    pub notes: Vec<String>,
}

/// A side that could be reached.
struct Found {
    number: u32,
    place: String,
    site: Arc<dyn Site>,
    record: Record,
}

/// Gathers the sides of the store that has one at `home`. For writing, sides that can be reached are locked, and what they have to know of
/// each other is durable when this returns.
///
/// # Errors
/// What is wrong with `home`; [`Error::Parted`] if sides went on without each other; [`Error::NotWhole`] if none that can be reached is whole;
/// [`Error::InUse`].
pub(crate) fn gather(
    sites: &Arc<dyn Sites>,
    home: &str,
    read_only: bool,
    canary: Option<Canary>,
) -> Result<Gathered, Error> {
    let site = sites.at(home);
    if !read_only {
        site.lock()?;
    }
    let bad = |why: String| Error::BadMirror { dir: home.into(), why };
    let own = match site.note(MIRRORS_FILE) {
        Ok(None) => return alone(sites, home, &site, (read_only, canary)),
        Ok(Some(text)) => Record::parse(&text).map_err(|why| {
            bad(format!("its file `{MIRRORS_FILE}` is damaged: {why}; name another side, or remove the file to go on without the others"))
        })?,
        Err(e) => return Err(Error::io(format!("read {MIRRORS_FILE} in {home}"), e)),
    };
    let mut found = vec![Found { number: own.own, place: home.to_owned(), site, record: own }];
    let mut lost = reach(sites, &mut found, read_only)?;
    let newest = found.iter().map(|side| &side.record).max_by_key(|record| record.epoch().number);
    let mut record = newest.expect("home was found").clone();
    found.retain(|side| {
        let kept = record.follows(&side.record) || !record.forgot(&side.record) || side.place == home;
        if !kept {
            lost.push((side.number, "it was away for too long: empty it, and add it again".to_owned()));
        }
        kept
    });
    apart(&record, &found)?;
    if record.member(found[0].number).is_none_or(|member| member.worth == Worth::Removed) {
        return Err(bad(
            "it is no mirror any more, and holds an old state of the store; add it again, or name another side"
                .to_owned(),
        ));
    }
    for side in &found {
        if let Some(member) = record.members.iter_mut().find(|member| member.number == side.number) {
            member.place.clone_from(&side.place);
        }
    }
    let mut opened = open(sites, &record, &found, &lost);
    // Home is read first, if it is whole.
    opened.sides.sort_by_key(|side| side.number != found[0].number);
    if !opened.sides.iter().any(|side| matches!(side.state, State::Whole(_))) {
        return Err(not_whole(home, &record, &opened.sides));
    }
    let disk = opened.record(&record, &found, sites, (read_only, canary))?;
    if !read_only {
        disk.even_roots()?;
    }
    Ok(Gathered { disk, io_kind: opened.io_kind, notes: opened.notes })
}

/// A store without mirrors.
fn alone(
    sites: &Arc<dyn Sites>,
    home: &str,
    site: &Arc<dyn Site>,
    (read_only, canary): (bool, Option<Canary>),
) -> Result<Gathered, Error> {
    let (disk, io_kind) = site.open()?;
    let (place, site, state, tally) = (home.to_owned(), Arc::clone(site), State::Whole(disk), Arc::default());
    let sides = vec![Side { number: 0, place, site, state, turn: 0, tally }];
    let disk = Mirrored::new(Arc::clone(sites), read_only, Set { record: None, sides }, canary);
    Ok(Gathered { disk, io_kind, notes: Vec::new() })
}

/// Follows what the sides say of each other; gives those that cannot be reached, with the reason.
fn reach(sites: &Arc<dyn Sites>, found: &mut Vec<Found>, read_only: bool) -> Result<Vec<(u32, String)>, Error> {
    let mut lost: Vec<(u32, String)> = Vec::new();
    let mut at = 0;
    while at < found.len() {
        let (store, members) = (found[at].record.store, found[at].record.members.clone());
        for member in members.iter().filter(|member| member.worth != Worth::Removed) {
            let known = found.iter().any(|side| side.number == member.number || side.place == member.place);
            if known || lost.iter().any(|(number, _)| *number == member.number) {
                continue;
            }
            let site = sites.at(&member.place);
            match side(&*site, store, member.number, read_only)? {
                Ok(record) => found.push(Found { number: member.number, place: member.place.clone(), site, record }),
                Err(why) => lost.push((member.number, why)),
            }
        }
        at += 1;
    }
    Ok(lost)
}

/// The record of a side that others speak of, or why there is none.
fn side(site: &dyn Site, store: StoreId, number: u32, read_only: bool) -> Result<Result<Record, String>, Error> {
    let read = || match site.note(MIRRORS_FILE) {
        Err(e) => Err(format!("it cannot be reached: {e}")),
        Ok(None) => Err("there is no mirror there any more".to_owned()),
        Ok(Some(text)) => match Record::parse(&text) {
            Err(why) => Err(format!("its file `{MIRRORS_FILE}` is damaged: {why}")),
            Ok(record) if record.store != store || record.own != number => {
                Err("a side of another store lies there".to_owned())
            }
            Ok(record) => Ok(record),
        },
    };
    let record = read();
    if read_only || record.is_err() {
        return Ok(record);
    }
    match site.lock() {
        Ok(()) => Ok(read()),
        Err(e @ Error::InUse { .. }) => Err(e),
        Err(e) => Ok(Err(format!("it cannot be locked: {e}"))),
    }
}

/// Refuses sides that went on without each other.
fn apart(record: &Record, found: &[Found]) -> Result<(), Error> {
    let Some(other) = found.iter().find(|side| !record.follows(&side.record)) else { return Ok(()) };
    let one = found.iter().find(|side| side.record.epoch() == record.epoch());
    let place = |side: Option<&Found>| side.map_or_else(Default::default, |side| side.place.clone().into());
    Err(Error::Parted { one: place(one), other: place(Some(other)) })
}

fn not_whole(home: &str, record: &Record, sides: &[Side]) -> Error {
    let why = sides.iter().map(|side| match &side.state {
        State::Away(why) => format!("{}: {why}", side.place),
        _ => side.place.clone(),
    });
    let whole = record.members.iter().filter(|member| member.worth == Worth::Whole).map(|member| &*member.place);
    let (why, whole): (Vec<String>, Vec<&str>) = (why.collect(), whole.collect());
    Error::NotWhole { dir: home.into(), whole: whole.join(", "), why: why.join("; ") }
}

/// Sides as they were found, and what is to be noted of it.
struct Opened {
    sides: Vec<Side>,
    io_kind: IoKind,
    notes: Vec<String>,
    /// Sides that are whole by the record and cannot be taken for it.
    away: Vec<u32>,
}

fn open(sites: &Arc<dyn Sites>, record: &Record, found: &[Found], lost: &[(u32, String)]) -> Opened {
    let mut looked: Vec<(u32, Result<Looked, String>)> = Vec::new();
    for side in found {
        looked.push((side.number, look(record, side)));
    }
    let newest = looked.iter().filter_map(|(_, disk)| disk.as_ref().ok()).map(|(_, _, root)| root.sequence).max();
    let mut opened = Opened { sides: Vec::new(), io_kind: IoKind::Plain, notes: Vec::new(), away: Vec::new() };
    for member in record.members.iter().filter(|member| member.worth != Worth::Removed) {
        let at = looked.iter().position(|(number, _)| *number == member.number);
        let state = match at.map(|at| looked.swap_remove(at).1) {
            Some(Ok((disk, io_kind, root))) => {
                // A commit that was cut off may have left one root behind the other, and no more.
                if newest.is_none_or(|newest| root.sequence + 1 >= newest) {
                    // The side that was named comes first among those found.
                    if opened.sides.iter().all(|side| !matches!(side.state, State::Whole(_)))
                        || member.number == found[0].number
                    {
                        opened.io_kind = io_kind;
                    }
                    State::Whole(disk)
                } else {
                    State::Away(format!("it stayed behind, at generation {}", root.newest().generation))
                }
            }
            Some(Err(why)) => State::Away(why),
            None => {
                let why = lost.iter().find(|(number, _)| *number == member.number).map(|(_, why)| why.clone());
                State::Away(why.unwrap_or_else(|| "it cannot be reached".to_owned()))
            }
        };
        if let (State::Away(why), Worth::Whole) = (&state, member.worth) {
            opened.away.push(member.number);
            opened.notes.push(format!("the side {} is left out: {why}", member.place));
        }
        let (number, place, site) = (member.number, member.place.clone(), sites.at(&member.place));
        opened.sides.push(Side { number, place, site, state, turn: 0, tally: Arc::new(Tally::default()) });
    }
    opened
}

/// A side's disk, how it is written, and its newest root.
type Looked = (Arc<dyn Disk>, IoKind, Root);

/// Whether a side can be taken for whole: its disk and its newest root, or why not.
fn look(record: &Record, side: &Found) -> Result<Looked, String> {
    match record.member(side.number).map(|member| member.worth) {
        Some(Worth::Whole) => {}
        Some(Worth::Filling) => return Err("it was being brought up to date".to_owned()),
        _ => return Err("it was away".to_owned()),
    }
    let (disk, io_kind) = side.site.open().map_err(|e| e.to_string())?;
    // Beside a runtime: it may get another size between the one look and the other.
    for _ in 0..2 {
        let root = newest_root(&*disk).ok_or("both of its roots are destroyed")?;
        if root.id() != record.store {
            return Err("it holds the pages of another store".to_owned());
        }
        if disk.len().map_err(|e| e.to_string())? >= root.places * PAGE_SIZE as u64 {
            return Ok((disk, io_kind, root));
        }
    }
    Err("its pages are cut short".to_owned())
}

/// The newest root of one side's disk that holds.
pub(crate) fn newest_root(disk: &dyn Disk) -> Option<Root> {
    let roots = [0, 1].map(|slot| read_root(disk, slot).ok().and_then(Result::ok));
    roots.into_iter().flatten().max_by_key(|root| root.sequence)
}

impl Opened {
    /// Makes the disk, and notes durably who is left out.
    fn record(
        &mut self,
        record: &Record,
        found: &[Found],
        sites: &Arc<dyn Sites>,
        (read_only, canary): (bool, Option<Canary>),
    ) -> Result<Arc<Mirrored>, Error> {
        let moved =
            found.iter().any(|side| side.record.members != record.members || side.record.epoch() != record.epoch());
        let mut record = record.clone();
        if !read_only && (moved || !self.away.is_empty()) {
            record = record.next(mark()?, |members| {
                self.away.iter().for_each(|number| set_worth(members, *number, Worth::Away));
            });
            for side in &self.sides {
                match &side.state {
                    State::Whole(_) => keep(&record, side.number, &*side.site)?,
                    // It should know, if it can be told.
                    _ if found.iter().any(|found| found.number == side.number) => {
                        let _ = keep(&record, side.number, &*side.site);
                    }
                    _ => {}
                }
            }
        }
        let set = Set { record: Some(record), sides: std::mem::take(&mut self.sides) };
        Ok(Mirrored::new(Arc::clone(sites), read_only, set, canary))
    }
}

impl Mirrored {
    /// Writes the newest root of each slot to all sides: a commit that was cut off may have reached some of them.
    fn even_roots(&self) -> Result<(), Error> {
        let failed = |e| Error::io("write the roots of the mirrors", e);
        if self.set().whole().count() < 2 {
            return Ok(());
        }
        let pool = BufferPool::default();
        for (slot, place) in SLOT_PLACES.into_iter().enumerate() {
            let Ok(root) = read_root(self, slot)? else { continue };
            let mut buffer = pool.take().map_err(failed)?;
            buffer.extend(&root.encode(slot)[..]);
            self.write_at(place * PAGE_SIZE as u64, buffer).map_err(failed)?;
            self.flush().map_err(failed)?;
        }
        Ok(())
    }
}
