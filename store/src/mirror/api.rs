//! What users of the store see of its mirrors.

use super::catch_up::catch_up;
use super::change::{WAITS, keep, mark, set_worth};
use super::folder::{Kept, MirroredFolder, look_after};
use super::record::{Record, Worth};
use super::set::{Mirrored, Side, State};
use super::site::{MIRRORS_FILE, Site, Sites};
use crate::directory::{self, PAGES_FILE};
use crate::disk::Disk;
use crate::error::Error;
use crate::folder::Folder;
use crate::open::{blank, place};
use crate::store::Store;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// How a side stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MirrorState {
    /// It has everything, and is written in step.
    Whole,
    /// It is being brought up to date.
    Filling {
        /// Bytes copied.
        done: u64,
        /// About how many there are to be.
        total: u64,
    },
    /// It is left out.
    Away {
        /// Why.
        why: String,
    },
}

/// A side of a store: its own directory, or a mirror.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MirrorStatus {
    /// Its number, which stays its own.
    pub number: u32,
    /// Where it lies.
    pub place: PathBuf,
    /// How it stands.
    pub state: MirrorState,
    /// Blocks that were rotten on it and were written anew, since the store was opened.
    pub mended: u64,
}

impl Mirrored {
    /// From the place of a side to the side.
    pub fn sites(&self) -> &Arc<dyn Sites> {
        &self.sites
    }

    /// Where sides lie.
    pub fn places(&self, numbers: &[u32]) -> Vec<String> {
        let set = self.set();
        numbers.iter().filter_map(|number| set.side(*number)).map(|side| side.place.clone()).collect()
    }

    /// The place of the side that comes first.
    pub fn home(&self) -> String {
        self.set().sides[0].place.clone()
    }
}

impl Store {
    /// The sides of the store, its own directory first; empty if it has no mirrors.
    #[must_use]
    pub fn mirrors(&self) -> Vec<MirrorStatus> {
        let Some(mirrored) = &self.shared.mirrored else { return Vec::new() };
        let set = mirrored.set();
        if set.sides.len() == 1 {
            return Vec::new();
        }
        set.sides.iter().map(status).collect()
    }

    /// The directories of all sides that count: what must be known wherever the world may be resumed is noted in each.
    #[must_use]
    pub fn side_dirs(&self) -> Vec<PathBuf> {
        let Some(mirrored) = &self.shared.mirrored else { return Vec::new() };
        mirrored.set().whole().filter_map(|(side, _)| side.site.dir().map(Path::to_owned)).collect()
    }

    /// The same without the directory that the store was opened by.
    #[must_use]
    pub fn mirror_dirs(&self) -> Vec<PathBuf> {
        let Some(mirrored) = &self.shared.mirrored else { return Vec::new() };
        let set = mirrored.set();
        let others = set.whole().filter(|(side, _)| side.number != set.sides[0].number);
        others.filter_map(|(side, _)| side.site.dir().map(Path::to_owned)).collect()
    }

    /// The folder `name` beside the pages, the same on all sides that count.
    ///
    /// # Errors
    /// [`Error::BadArgument`] for a store that lies in no directory.
    pub fn folder(&self, name: &str) -> Result<Arc<dyn Folder>, Error> {
        Ok(Arc::new(MirroredFolder::new(self.shared.mirrored()?, name)))
    }

    /// Takes up `dir` as a mirror, or as one again; gives its number. It has nothing yet: [`Store::fill_mirror`] changes that.
    ///
    /// # Errors
    /// [`Error::NotEmpty`], [`Error::Occupied`], [`Error::BadMirror`], [`Error::Parted`], [`Error::InUse`], what the host says.
    pub fn add_mirror(&self, dir: &Path) -> Result<u32, Error> {
        self.shared.check_writable()?;
        let mirrored = self.shared.mirrored()?;
        let bad = |why: &str| Error::BadMirror { dir: dir.to_owned(), why: why.to_owned() };
        if dir.symlink_metadata().is_ok() && !dir.is_dir() {
            return Err(bad("it is no directory"));
        }
        if self.loan().is_some_and(|loan| !loan.repaid) {
            return Err(bad(
                "pages of the store still lie in the one that it was forked from: wait until they are copied",
            ));
        }
        let place = place(dir)?;
        let set = mirrored.set();
        if let Some(known) = set.sides.iter().find(|side| same(&side.place, &place)) {
            return match &known.state {
                State::Away(_) => {
                    mirrored.note_why(known.number, WAITS);
                    Ok(known.number)
                }
                _ => Err(bad("it is a side of this store already")),
            };
        }
        let within = |side: &Side| Path::new(&place).ancestors().any(|way| same(&way.to_string_lossy(), &side.place));
        if set.sides.iter().any(within) {
            return Err(bad("it lies within a side of this store; a mirror belongs on another disk"));
        }
        fs::create_dir_all(dir).map_err(|e| Error::io(format!("create the directory {}", dir.display()), e))?;
        let site = mirrored.sites.at(&place);
        self.examine(dir, &*site)?;
        site.lock()?;
        mirrored.add(self.shared.id(), &place, &site)
    }

    /// As [`Store::add_mirror`], of an empty place that is no directory.
    ///
    /// # Errors
    /// As that.
    #[cfg(feature = "sim")]
    pub fn add_mirror_at(&self, place: &str) -> Result<u32, Error> {
        let mirrored = self.shared.mirrored()?;
        mirrored.add(self.shared.id(), place, &mirrored.sites.at(place))
    }

    /// Whether a directory may become a mirror.
    fn examine(&self, dir: &Path, site: &dyn Site) -> Result<(), Error> {
        let bad = |why: String| Error::BadMirror { dir: dir.to_owned(), why };
        let pages = dir.join(PAGES_FILE);
        match site.note(MIRRORS_FILE) {
            Ok(Some(text)) => {
                let record =
                    Record::parse(&text).map_err(|why| bad(format!("its file `{MIRRORS_FILE}` is damaged: {why}")))?;
                if record.store != self.shared.id() {
                    return Err(bad(format!("it is a side of another store, {}", record.store)));
                }
                let nothing = pages.symlink_metadata().is_err();
                let left = record.member(record.own).is_some_and(|own| own.worth == Worth::Removed);
                let set = self.shared.mirrored()?.set();
                let past = set.record.as_ref().is_some_and(|ours| ours.follows(&record));
                if nothing || left && past {
                    return Ok(());
                }
                return Err(bad("it holds a side of this store that went its own way; empty it first".to_owned()));
            }
            Ok(None) => {}
            Err(e) => return Err(Error::io(format!("read the directory {}", dir.display()), e)),
        }
        if directory::prepare(dir)? {
            let (disk, _) = site.open()?;
            blank(&*disk, &pages)?;
            let length = |disk: &dyn Disk| disk.len().map_err(|e| Error::io("find its length", e));
            let device = !fs::metadata(&pages).is_ok_and(|pages| pages.is_file());
            if device && length(&*disk)? < length(&*self.shared.disk)? {
                return Err(bad("it is smaller than the store".to_owned()));
            }
        }
        Ok(())
    }

    /// Brings a side up to date that is away, at so many bytes in a second; returns when it is whole. Commits go on meanwhile. What
    /// it had when it went away is not copied again. `kept`: which files of its journal those are.
    ///
    /// # Errors
    /// It cannot be reached, is smaller than the store, or of another one; [`Error::Parted`]; what the host says. It is away then.
    pub fn fill_mirror(&self, number: u32, rate: Option<u64>, kept: Kept<'_>) -> Result<(), Error> {
        self.shared.check_writable()?;
        catch_up(&self.shared, number, rate, kept)
    }

    /// Leaves out sides whose pages were removed or replaced under the store: what is written there is lost. Files of the journal that one side has lost
    /// are made anew. To be called now and then.
    pub fn look_after_mirrors(&self) {
        let Some(mirrored) = self.shared.mirrored.as_ref().filter(|mirrored| mirrored.copies().len() > 1) else {
            return;
        };
        let set = mirrored.set();
        let gone = set.whole().filter_map(|(side, _)| Some((side.number, side.site.stands().err()?))).collect();
        if let Err(e) = mirrored.judge(&set, gone) {
            tracing::warn!("no side of the store is where it was: {e}");
        }
        if let Err(e) = look_after(mirrored) {
            tracing::warn!("files that a side has lost cannot be made anew: {e}");
        }
    }

    /// Gives up bringing sides up to date: the store is about to be closed.
    pub fn stop_filling(&self) {
        if let Some(mirrored) = &self.shared.mirrored {
            mirrored.stopping.store(true, Ordering::Relaxed);
        }
    }

    /// Has the store in `dir` go on without `other`, which went its own way or is lost, and from what `dir` has: at rest, and where [`Store::open`] refuses.
    ///
    /// # Errors
    /// [`Error::BadMirror`] if `other` is no mirror of it, or if `dir` itself is neither old nor new; [`Error::InUse`]; what the host says.
    pub fn leave_side(dir: &Path, other: &Path) -> Result<(), Error> {
        let bad = |why: &str| Error::BadMirror { dir: dir.to_owned(), why: why.to_owned() };
        let sites: Arc<dyn Sites> = super::Dirs::new(crate::IoChoice::default(), false);
        let site = sites.at(&place(dir)?);
        site.lock()?;
        let text =
            site.note(MIRRORS_FILE).map_err(|e| Error::io(format!("read {MIRRORS_FILE} in {}", dir.display()), e))?;
        let record = Record::parse(&text.ok_or_else(|| bad("it has no mirrors"))?).map_err(bad)?;
        let named = place(other).unwrap_or_else(|_| other.to_string_lossy().into_owned());
        let lost = record.members.iter().find(|member| member.worth != Worth::Removed && same(&member.place, &named));
        let lost = lost
            .filter(|member| member.number != record.own)
            .ok_or_else(|| bad(&format!("{named} is no mirror of it")))?;
        let own = record.member(record.own).map(|own| own.worth);
        if !matches!(own, Some(Worth::Whole | Worth::Away)) {
            return Err(bad("it is not all there: it was being brought up to date, or is no mirror any more"));
        }
        let next = record.next(mark()?, |members| {
            set_worth(members, lost.number, Worth::Removed);
            if !members.iter().any(|member| member.worth == Worth::Whole) {
                set_worth(members, record.own, Worth::Whole);
            }
        });
        keep(&next, record.own, &*site)
    }

    /// Makes `dir` a mirror no more: what lies there stays, and is not written any more.
    ///
    /// # Errors
    /// [`Error::BadMirror`] if it is none, or the only one that has all; what the host says.
    pub fn remove_mirror(&self, dir: &Path) -> Result<(), Error> {
        self.shared.check_writable()?;
        let mirrored = self.shared.mirrored()?;
        let bad = |why: &str| Error::BadMirror { dir: dir.to_owned(), why: why.to_owned() };
        let set = mirrored.set();
        let named = place(dir).unwrap_or_else(|_| dir.to_string_lossy().into_owned());
        let side = set
            .sides
            .iter()
            .find(|side| same(&side.place, &named))
            .ok_or_else(|| bad("it is no mirror of this store"))?;
        if side.number == set.sides[0].number {
            return Err(bad("it is the store's own directory: name a mirror of it as the store to remove this one"));
        }
        if !set.whole().any(|(other, _)| other.number != side.number) {
            return Err(bad("no other side has all that was committed"));
        }
        mirrored.remove(side.number)
    }
}

/// Whether two places are one directory.
fn same(one: &str, other: &str) -> bool {
    let node = |place: &str| fs::metadata(place).ok().map(|there| (there.dev(), there.ino()));
    one == other || node(one).is_some_and(|one| node(other) == Some(one))
}

fn status(side: &Side) -> MirrorStatus {
    let count = |of: &std::sync::atomic::AtomicU64| of.load(Ordering::Relaxed);
    let state = match &side.state {
        State::Whole(_) => MirrorState::Whole,
        State::Filling(_) => MirrorState::Filling { done: count(&side.tally.done), total: count(&side.tally.total) },
        State::Away(why) => MirrorState::Away { why: why.clone() },
    };
    let (number, place, mended) = (side.number, PathBuf::from(&side.place), count(&side.tally.mended));
    MirrorStatus { number, place, state, mended }
}
