//! Opening: which segments there are, what of them is lost, and where the journal ends.

use crate::bytes;
use crate::canary::Canary;
use crate::copies::Look;
use crate::error::{Error, Lost};
use crate::group::Group;
use crate::index::{Entries, Summary};
use crate::journal::{Inner, Journal, place};
use crate::note::Note;
use crate::retain::Retention;
use crate::sealed::{self, How, Sealed};
use crate::segment::{self, BadHeader, Header};
use crate::state::{State, StateFile};
use crate::tail::{Newest, Tail};
use crate::walk::{Step, Walk};
use semper_store::{Disk, Folder, PAGE_SIZE, StoreId};
use std::collections::HashMap;
use std::io;
use std::sync::Arc;

/// The smallest segment: the first page, and a batch of some pages.
const MIN_SEGMENT: u64 = 8 * PAGE_SIZE as u64;

/// How to open a journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Bytes of a segment, when the journal is made.
    pub segment_bytes: u64,
    /// What goes by itself.
    pub retention: Retention,
    /// Give up the records that are lost.
    pub accept_loss: bool,
    /// A planted bug; has an effect under the `sim` feature only.
    #[doc(hidden)]
    pub canary: Option<Canary>,
}

impl Default for Options {
    fn default() -> Self {
        Self { segment_bytes: 8 << 20, retention: Retention::default(), accept_loss: false, canary: None }
    }
}

/// Whether there is a journal in `folder`.
///
/// # Errors
/// What the host says.
pub fn exists(folder: &dyn Folder) -> Result<bool, Error> {
    Ok(!survey(folder, None, &Look::default())?.is_blank())
}

/// What a folder holds.
pub(crate) struct Survey {
    pub state: Option<StateFile>,
    /// The first records of the segments that were not trimmed.
    pub segments: Vec<u64>,
    /// What a trim or a crash left.
    pub stray: Vec<String>,
}

impl Survey {
    pub fn is_blank(&self) -> bool {
        self.state.is_none() && self.segments.is_empty()
    }
}

/// Looks at a folder. `store`: whose journal it should be.
pub(crate) fn survey(folder: &dyn Folder, store: Option<StoreId>, look: &Look) -> Result<Survey, Error> {
    let names = match folder.names() {
        Ok(names) => names,
        Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(e) => return Err(Error::io("read the directory `journal`", e)),
    };
    let state = StateFile::open(folder, look)?;
    if let (Some(file), Some(expected)) = (&state, store)
        && file.state.store != expected
    {
        return Err(Error::Foreign { found: file.state.store, expected });
    }
    let mut segments: Vec<u64> = names.iter().filter_map(|name| segment::first_of(name)).collect();
    segments.sort_unstable();
    let trimmed = state.as_ref().map_or(0, |file| file.state.first);
    let mut stray: Vec<String> = segments.iter().filter(|first| **first < trimmed).map(|f| segment::name(*f)).collect();
    segments.retain(|first| *first >= trimmed);
    stray.extend(names.into_iter().filter(|name| segment::indexed_by(name).is_some_and(|f| !segments.contains(&f))));
    Ok(Survey { state, segments, stray })
}

/// What opening finds out, step by step.
struct Opening<'a> {
    folder: &'a dyn Folder,
    state: &'a State,
    options: &'a Options,
    seen: u64,
    next: u64,
    sealed: Vec<Arc<Sealed>>,
    recent: Entries,
    last_time: u64,
    newest: Option<Newest>,
    /// The last batch, to be written once more.
    last_batch: Option<(u64, Vec<u8>)>,
    /// Bytes behind it of what was cut.
    torn: u64,
    lost: Vec<Lost>,
}

impl Journal {
    /// Opens the journal of `store` in `folder`, and makes it if there is none. `seen`: the sequence after the last record that the store
    /// knows to be durable; 0 or 1 if it knows of none.
    ///
    /// A journal of which records are lost opens, and takes no more until they are given up ([`Options::accept_loss`]).
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Foreign`], [`Error::Version`], [`Error::BadState`], [`Error::Full`], what the host says.
    pub fn open(folder: Arc<dyn Folder>, store: StoreId, seen: u64, options: &Options) -> Result<Arc<Self>, Error> {
        let found = survey(&*folder, Some(store), &Look::default())?;
        if found.is_blank() && seen > 1 && !options.accept_loss {
            return Err(Error::Missing { seen: seen - 1 });
        }
        let is_new = found.is_blank();
        let state = match found.state {
            Some(state) => state,
            None if is_new => new_state(&*folder, store, options)?,
            None => return Err(Error::BadState("it is not there, and segments are".to_owned())),
        };
        let mut opening = Opening {
            folder: &*folder,
            state: &state.state,
            options,
            seen,
            next: state.state.first,
            sealed: Vec::new(),
            recent: Entries::new(),
            last_time: 0,
            newest: None,
            last_batch: None,
            torn: 0,
            lost: Vec::new(),
        };
        opening.look(&found.segments)?;
        let Opening { next, sealed, recent, last_time, newest, last_batch, torn, mut lost, .. } = opening;
        let mut tail = Tail { folder: Arc::clone(&folder), state, newest, closed: false, canary: options.canary };
        lost.retain(|lost| !tail.state.state.gave_up(lost));
        let given_up = if options.accept_loss { std::mem::take(&mut lost) } else { Vec::new() };
        for lost in &given_up {
            tail.state.state.give_up(lost)?;
        }
        if let Some(newest) = &tail.newest {
            // Its making may have been cut short just before the state told of it.
            (tail.state.state.newest, tail.state.state.salt) = (newest.header.first, newest.header.salt);
        }
        settle(&mut tail, last_batch, torn)?;
        // Not before the state that tells of the trim is durable: it may be there only because the power stayed.
        for name in &found.stray {
            let _ = folder.remove(name);
        }
        let made = tail.newest.as_ref().map_or((next, 0), |newest| (newest.header.first, newest.header.salt));
        let inner = Inner {
            group: Group::default(),
            next,
            poisoned: None,
            lost,
            in_flight: HashMap::new(),
            recent,
            last_time,
            newest: made,
            sealed: Arc::new(sealed),
            tops: HashMap::new(),
            first: tail.state.state.first,
            cursors: HashMap::new(),
        };
        let journal = Self::assemble(store, options, 0, tail, inner);
        if is_new && seen <= 1 {
            journal.roll_first()?;
        }
        for lost in given_up {
            journal.note(&Note::GivenUp { from: lost.from, to: lost.to, reason: lost.to_string() })?;
        }
        Ok(journal)
    }

    /// The first segment of a new journal, so that want of room is told at once.
    fn roll_first(self: &Arc<Self>) -> Result<(), Error> {
        let mut tail = self.tail();
        let next = self.lock().next;
        self.roll(&mut tail, next)
    }
}

pub(crate) fn new_state(folder: &dyn Folder, store: StoreId, options: &Options) -> Result<StateFile, Error> {
    if options.segment_bytes < MIN_SEGMENT || !options.segment_bytes.is_multiple_of(PAGE_SIZE as u64) {
        return Err(Error::BadArgument(format!("a segment has pages, and at least {MIN_SEGMENT} bytes")));
    }
    let state = State {
        store,
        turn: 0,
        first: 1,
        newest: 1,
        salt: 0,
        covered: 0,
        segment_bytes: options.segment_bytes,
        given_up: Vec::new(),
    };
    StateFile::create(folder, state).map_err(|e| {
        if semper_store::no_space(&e) { Error::Full(Arc::new(e)) } else { Error::io("make `journal/state`", e) }
    })
}

/// What an earlier life left unflushed is flushed before anything is told of it. The last batch is written again: after a flush that
/// failed, the host may hold it as written though the medium never got it. What was cut, `torn` bytes behind it, is wiped: it had the sequence
/// numbers of what comes now, and were that lost, would be read in its place.
fn settle(tail: &mut Tail, last_batch: Option<(u64, Vec<u8>)>, torn: u64) -> Result<(), Error> {
    let failed = |e| Error::io("settle the end of the journal", e);
    if let Some(newest) = &tail.newest {
        bytes::write(&*newest.disk, 0, &newest.header.encode()).map_err(failed)?;
        if let Some((offset, bytes)) = last_batch.filter(|_| !Canary::TrustLastBatch.planted(tail.canary)) {
            bytes::write(&*newest.disk, offset, &bytes).map_err(failed)?;
        }
        bytes::write(&*newest.disk, newest.offset, &vec![0; bytes::to_usize(torn)]).map_err(failed)?;
        newest.disk.flush().map_err(failed)?;
    }
    tail.folder.sync().map_err(failed)?;
    tail.state.write().map_err(failed)
}

impl Opening<'_> {
    fn look(&mut self, segments: &[u64]) -> Result<(), Error> {
        let mut segments = segments.to_vec();
        let fresh = self.is_fresh();
        while let Some(last) = segments.last().copied().filter(|last| *last > self.state.newest || fresh) {
            // Its making was cut short, unless its first page is there; nothing was written to it before the state told of it. The state of
            // a new journal names its first segment before that is made.
            if matches!(sealed::header(self.folder, self.state.store, last, &Look::default())?, (_, Ok(_))) {
                break;
            }
            let removed = self.folder.remove(&segment::name(last));
            removed.map_err(|e| Error::io("remove a segment whose making was cut short", e))?;
            segments.pop();
        }
        for (i, first) in segments.iter().copied().enumerate() {
            if first < self.next {
                let name = segment::name(first);
                return Err(Error::BadState(format!("`{name}` begins amid the records of the segment before it")));
            }
            self.gone(first);
            // A newest segment that is gone was there after this one.
            let later = segments.get(i + 1).copied().or(Some(self.state.newest).filter(|newest| *newest > first));
            match later {
                Some(until) => self.add_sealed(first, until)?,
                None => self.add_newest(first)?,
            }
        }
        if segments.last().is_none_or(|last| *last < self.state.newest) && !self.is_fresh() {
            self.gone(self.seen.max(self.state.beyond_newest()));
        }
        Ok(())
    }

    /// Whether nothing was ever written.
    fn is_fresh(&self) -> bool {
        (self.state.first, self.state.newest, self.state.salt) == (1, 1, 0) && self.seen <= 1
    }

    /// Records up to `until` are not in any file that is there.
    fn gone(&mut self, until: u64) {
        if self.next < until {
            let (from, to, file) = (self.next, until - 1, segment::name(self.next));
            self.lost.push(Lost { from, to, file, offset: 0, reason: "its file is gone".to_owned() });
            self.next = until;
        }
    }

    fn add_sealed(&mut self, first: u64, until: u64) -> Result<(), Error> {
        let look = &Look::default();
        let how = How { state: self.state, gives_up: self.options.accept_loss, look, canary: self.options.canary };
        let sealed = Sealed::open(self.folder, self.state.store, first, until, &mut self.lost, &how)?;
        self.next = sealed.summary.end;
        self.sealed.push(Arc::new(sealed));
        Ok(())
    }

    fn add_newest(&mut self, first: u64) -> Result<(), Error> {
        // What is not the same on all sides at the end of the journal is made so before anything is added.
        let look = Look::at_all();
        let (disk, header) = sealed::header(self.folder, self.state.store, first, &look)?;
        let Some(header) = self.mended(&*disk, header, first)? else {
            let reason = "its first page is damaged".to_owned();
            let (to, file) = (self.seen.max(self.state.beyond_newest()) - 1, segment::name(first));
            self.lost.push(Lost { from: first, to, file, offset: 0, reason });
            self.next = to + 1;
            return Ok(());
        };
        // Of a time when a segment followed it whose making was cut short: it would hide what is appended now.
        match self.folder.remove(&segment::index_name(first)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(Error::io("remove the index of the newest segment", e));
            }
            _ => {}
        }
        let mut walk = Walk::new(Arc::clone(&disk), header, None, &look, self.options.canary);
        let end = loop {
            let records = match walk.step()? {
                Step::Batch { offset, bytes, records } => {
                    self.last_batch = Some((offset, bytes));
                    records
                }
                Step::Broken { records, lost } => {
                    self.lost.extend(lost);
                    records
                }
                Step::End { offset, torn } => {
                    self.torn = torn;
                    if torn > 0 {
                        tracing::info!(
                            record = walk.next,
                            "what was being written to the journal and never acknowledged is cut"
                        );
                    }
                    break offset;
                }
            };
            for (offset, record) in records {
                self.last_time = self.last_time.max(record.time);
                self.recent.insert((record.writer, record.number), place(record.sequence, offset));
            }
        };
        self.next = walk.next;
        if self.seen > self.next {
            let (from, to, file) = (self.next, self.seen - 1, segment::name(first));
            let reason = "the store has seen it, and the file ends before it".to_owned();
            self.lost.push(Lost { from, to, file, offset: end, reason });
            // What comes after them goes to a new segment. The state file will speak of that one, and no more of this one's first page.
            let settled = bytes::write(&*disk, 0, &header.encode()).and_then(|()| disk.flush());
            settled.map_err(|e| Error::io("write the first page of a segment", e))?;
            let (store, count) = (self.state.store, self.recent.len() as u64);
            let summary = Summary { store, first, end: self.next, salt: header.salt, count, last_time: self.last_time };
            let entries = std::mem::take(&mut self.recent);
            self.sealed.push(Arc::new(Sealed::make(self.folder, summary, entries, false)));
            self.next = self.seen;
            return Ok(());
        }
        self.newest = Some(Newest { disk, header, offset: end });
        Ok(())
    }

    /// The header of the newest segment; if its page is damaged, what the state file knows of it.
    fn mended(&self, disk: &dyn Disk, header: Result<Header, BadHeader>, first: u64) -> Result<Option<Header>, Error> {
        let (Err(_), true) = (&header, first == self.state.newest) else { return Ok(header.ok()) };
        let len = disk.len().map_err(|e| Error::io("find the length of the newest segment", e))?;
        let whole = len == self.state.segment_bytes;
        tracing::warn!(
            "the first page of `journal/{}` is damaged; the state file has what it said",
            segment::name(first)
        );
        Ok(whole.then_some(Header { store: self.state.store, first, len, salt: self.state.salt, made: 0 }))
    }
}
