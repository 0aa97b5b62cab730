//! A segment that is full: nothing is added to it any more.

use crate::bytes::{self, to_usize};
use crate::canary::Canary;
use crate::copies::Look;
use crate::error::{Error, Lost};
use crate::index::{self, Entries, Filter, Name, PER_PAGE, Place, Summary};
use crate::segment::{self, BadHeader, Header};
use crate::state::State;
use crate::walk::{Step, Walk};
use semper_store::{Disk, Folder, PAGE_SIZE, StoreId, by_medium};
use std::io;
use std::sync::Arc;

const PAGE: u64 = PAGE_SIZE as u64;

/// A full segment, and how its records are found.
pub(crate) struct Sealed {
    pub summary: Summary,
    filter: Filter,
    /// Where the first page of entries lies in the index; the entries themselves, if there is no such file.
    entries: Where,
}

enum Where {
    File { disk: Arc<dyn Disk>, first_page: u64 },
    Memory(Entries),
}

/// How a segment is opened.
pub(crate) struct How<'a> {
    /// Which records were given up.
    pub state: &'a State,
    /// What is lost now is given up: so all that is lost has to be found now.
    pub gives_up: bool,
    pub look: &'a Look,
    pub canary: Option<Canary>,
}

impl Sealed {
    /// Makes the index of a segment. Where the file cannot be made it is kept in memory: an index is no reason for an append to fail.
    pub fn make(folder: &dyn Folder, summary: Summary, entries: Entries, keep: bool) -> Self {
        let (bytes, filter) = index::encode(&summary, &entries);
        if !keep {
            return Self { summary, filter, entries: Where::Memory(entries) };
        }
        let name = segment::index_name(summary.first);
        let made = folder.remove(&name).or_else(|e| if e.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(e) });
        let made = made.and_then(|()| folder.create(&name, (bytes.len() as u64).next_multiple_of(PAGE)));
        let made = made.and_then(|disk| bytes::write(&*disk, 0, &bytes).and_then(|()| disk.flush()).map(|()| disk));
        match made {
            Ok(disk) => {
                let first_page = 1 + (filter.words() * 8).div_ceil(PAGE);
                Self { summary, filter, entries: Where::File { disk, first_page } }
            }
            Err(e) => {
                tracing::debug!("the index `journal/{name}` is kept in memory, since it cannot be written: {e}");
                Self { summary, filter, entries: Where::Memory(entries) }
            }
        }
    }

    /// The segment that begins with `first`, from its index; if that cannot be used, from the segment itself, of which what is lost is
    /// added to `lost`. `until`: the first record of the segment after it.
    pub fn open(
        folder: &dyn Folder,
        store: StoreId,
        first: u64,
        until: u64,
        lost: &mut Vec<Lost>,
        how: &How<'_>,
    ) -> Result<Self, Error> {
        if let Some(sealed) = Self::from_index(folder, store, first, how.look)?
            && sealed.summary.end <= until
            && (!how.gives_up || sealed.is_whole())
        {
            return Ok(sealed);
        }
        let before = lost.len();
        let (summary, entries) = scan((folder, store), first, Some(until), lost, how.look, how.canary)?;
        // What was found broken is to be found again until it is given up.
        let keep = how.gives_up || lost[before..].iter().all(|lost| how.state.gave_up(lost));
        Ok(Self::make(folder, summary, entries, keep))
    }

    /// Whether every page of the index can be read.
    fn is_whole(&self) -> bool {
        let Where::File { disk, first_page } = &self.entries else { return true };
        (0..self.pages()).all(|page| self.load(&**disk, *first_page, page).is_some())
    }

    fn from_index(folder: &dyn Folder, store: StoreId, first: u64, look: &Look) -> Result<Option<Self>, Error> {
        let name = segment::index_name(first);
        let failed = |e| Error::io(format!("read `journal/{name}`"), e);
        let disk = match folder.open(&name) {
            Ok(disk) => disk,
            Err(e) if e.kind() == io::ErrorKind::NotFound || by_medium(&e) => return Ok(None),
            Err(e) => return Err(failed(e)),
        };
        let read = |from: u64, len: u64, holds: &dyn Fn(&[u8]) -> bool| {
            let mut bytes = vec![0; to_usize(len)];
            match look.read(&*disk, from, &mut bytes, holds) {
                Ok(()) => Ok(Some(bytes)),
                Err(e) if by_medium(&e) || e.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
                Err(e) => Err(failed(e)),
            }
        };
        let len = disk.len().map_err(failed)?;
        let Some((summary, words, sum)) =
            read(0, PAGE, &|page| index::decode_head(page).is_some())?.and_then(|page| index::decode_head(&page))
        else {
            return Ok(None);
        };
        let pages = words.saturating_mul(8).div_ceil(PAGE);
        if summary.store != store || summary.first != first || pages.saturating_add(1) > len / PAGE {
            return Ok(None);
        }
        let filter = |bytes: &[u8]| index::decode_filter(&bytes[..to_usize(words * 8)], summary.salt, sum);
        let bytes = read(PAGE, pages * PAGE, &|bytes| filter(bytes).is_some())?;
        let Some(filter) = bytes.and_then(|bytes| filter(&bytes)) else { return Ok(None) };
        Ok(Some(Self { summary, filter, entries: Where::File { disk, first_page: 1 + pages } }))
    }

    /// The record of this name.
    pub fn find(&self, folder: &dyn Folder, name: Name) -> Result<Option<Place>, Error> {
        if !self.filter.may_hold(name) {
            return Ok(None);
        }
        Ok(self.at_most(folder, name)?.filter(|(found, _)| *found == name).map(|(_, place)| place))
    }

    /// The last record whose name is not after `name`.
    pub fn at_most(&self, folder: &dyn Folder, name: Name) -> Result<Option<(Name, Place)>, Error> {
        match &self.entries {
            Where::Memory(entries) => Ok(entries.range(..=name).next_back().map(|(name, place)| (*name, *place))),
            Where::File { disk, first_page } => match self.search(&**disk, *first_page, name) {
                Some(found) => Ok(found),
                // The index is damaged; the segment tells.
                None => {
                    let mut lost = Vec::new();
                    let Summary { store, first, end, .. } = self.summary;
                    let look = Look::default();
                    let (_, entries) = scan((folder, store), first, Some(end), &mut lost, &look, None)?;
                    match lost.into_iter().next() {
                        Some(lost) => Err(Error::Lost(lost)),
                        None => Ok(entries.range(..=name).next_back().map(|(name, place)| (*name, *place))),
                    }
                }
            },
        }
    }

    /// None: a page is damaged.
    fn search(&self, disk: &dyn Disk, first_page: u64, name: Name) -> Option<Option<(Name, Place)>> {
        // The last page that begins with a name which is not after `name`.
        let (mut low, mut high) = (0, self.pages());
        let mut best = None;
        while low < high {
            let middle = low + (high - low) / 2;
            let entries = self.load(disk, first_page, middle)?;
            if entries.first()?.0 <= name {
                best = entries.into_iter().take_while(|(found, _)| *found <= name).last();
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Some(best)
    }

    /// Pages of entries in the index.
    fn pages(&self) -> u64 {
        self.summary.count.div_ceil(PER_PAGE as u64)
    }

    /// Entries of one of them. None: it is damaged.
    fn load(&self, disk: &dyn Disk, first_page: u64, page: u64) -> Option<Vec<(Name, Place)>> {
        let mut bytes = [0; PAGE_SIZE];
        let number = first_page + page;
        let left = to_usize(self.summary.count - page * PER_PAGE as u64);
        let decode = |bytes: &[u8]| index::decode_page(bytes, &self.summary, number, left);
        Look::default().read(disk, number * PAGE, &mut bytes, &|bytes| decode(bytes).is_some()).ok()?;
        decode(&bytes)
    }

    /// Where its records are read from.
    pub const fn salt(&self) -> u64 {
        self.summary.salt
    }
}

/// The record after the last of a segment, by its index; none if there is no index that can be used.
pub(crate) fn end_by_index(folder: &dyn Folder, store: StoreId, first: u64, look: &Look) -> Result<Option<u64>, Error> {
    Ok(Sealed::from_index(folder, store, first, look)?.map(|sealed| sealed.summary.end))
}

/// What the first page of a segment says, or why it says nothing.
pub(crate) type FoundHeader = Result<Header, BadHeader>;

/// The header of the segment that begins with `first`; none, and a sentence, if it cannot be used.
pub(crate) fn header(
    folder: &dyn Folder,
    store: StoreId,
    first: u64,
    look: &Look,
) -> Result<(Arc<dyn Disk>, FoundHeader), Error> {
    let name = segment::name(first);
    let disk = folder.open(&name).map_err(|e| Error::io(format!("open `journal/{name}`"), e))?;
    let mut page = [0; PAGE_SIZE];
    let ours = |page: &[u8]| Header::decode(page).is_ok_and(|header| (header.store, header.first) == (store, first));
    let header = match look.read(&*disk, 0, &mut page, &ours) {
        Ok(()) => Header::decode(&page),
        Err(e) if by_medium(&e) || e.kind() == io::ErrorKind::UnexpectedEof => Err(BadHeader::Damaged),
        Err(e) => return Err(Error::io(format!("read `journal/{name}`"), e)),
    };
    match header {
        Err(BadHeader::Version(found)) => Err(Error::Version { file: name, found, expected: segment::FORMAT_VERSION }),
        Ok(header) if header.store != store => Err(Error::Foreign { found: header.store, expected: store }),
        Ok(header) if header.first != first || disk.len().is_ok_and(|len| len < header.len) => {
            Ok((disk, Err(BadHeader::Damaged)))
        }
        header => Ok((disk, header)),
    }
}

/// Reads a whole segment.
fn scan(
    (folder, store): (&dyn Folder, StoreId),
    first: u64,
    until: Option<u64>,
    lost: &mut Vec<Lost>,
    look: &Look,
    canary: Option<Canary>,
) -> Result<(Summary, Entries), Error> {
    let mut summary = Summary { store, first, end: until.unwrap_or(first), salt: 0, count: 0, last_time: 0 };
    let mut entries = Entries::new();
    let (disk, header) = header(folder, store, first, look)?;
    let Ok(header) = header else {
        let reason = "its first page is damaged".to_owned();
        let to = summary.end.saturating_sub(1).max(first);
        lost.push(Lost { from: first, to, file: segment::name(first), offset: 0, reason });
        return Ok((summary, entries));
    };
    summary.salt = header.salt;
    let mut walk = Walk::new(disk, header, until, look, canary);
    loop {
        let records = match walk.step()? {
            Step::Batch { records, .. } => records,
            Step::Broken { records, lost: more } => {
                lost.extend(more);
                records
            }
            Step::End { .. } => break,
        };
        for (offset, record) in records {
            summary.last_time = summary.last_time.max(record.time);
            let place = Place { sequence: record.sequence, offset: bytes::to_u32(to_usize(offset)) };
            entries.insert((record.writer, record.number), place);
        }
    }
    (summary.end, summary.count) = (walk.next, entries.len() as u64);
    Ok((summary, entries))
}
