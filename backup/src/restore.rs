//! A store out of streams: built under another name, complete before it gets its own.

use crate::error::Error;
use crate::format::{Header, MAX_FRAMES};
use crate::read::{Frame, StreamReader};
use crate::side::SideFiles;
use semper_store::{Commit, CreateOptions, Generation, PAGE_SIZE, PageIndex, PageRange, SegmentId, Store};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

/// Pieces between the thread that reads and the one that writes.
const AHEAD: usize = 8;

/// The most pages of one commit: a commit takes some 70 bytes of memory for each.
const MOST_PAGES: u64 = 1 << 18;

/// What a restore made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The header of the last stream.
    pub header: Header,
    /// How many streams it took.
    pub streams: u64,
}

/// A store that is being made. Dropped before [`Restore::finish`] it leaves nothing.
pub struct Restore {
    target: PathBuf,
    building: Building,
    store: Option<Store>,
    last: Option<Header>,
    files: SideFiles,
    streams: u64,
}

/// The directory in which the store is made; removed when dropped, and when it is found left over by a killed restore.
struct Building {
    path: PathBuf,
    lock: Option<File>,
}

impl Building {
    fn new(target: &Path) -> Result<Self, Error> {
        let (parent, name) = parts(target)?;
        let hidden = |what: &str| parent.join(format!(".{name}.{what}"));
        let (path, lock_path) = (hidden("restoring"), hidden("restoring-lock"));
        let lock = File::create(&lock_path).map_err(Error::at("create", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(Error::Busy(target.to_owned())),
            Err(fs::TryLockError::Error(e)) => return Err(Error::at("lock", &lock_path)(e)),
        }
        let building = Self { path, lock: Some(lock) };
        building.clear().map_err(Error::at("remove what an earlier restore left in", &building.path))?;
        Ok(building)
    }

    fn clear(&self) -> std::io::Result<()> {
        match fs::remove_dir_all(&self.path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }
}

impl Drop for Building {
    fn drop(&mut self) {
        if let Err(e) = self.clear() {
            tracing::warn!("{} is left over and can be removed: {e}", self.path.display());
        }
        // Removed while it is locked, so that it is ours.
        let _ = fs::remove_file(format!("{}-lock", self.path.display()));
        self.lock = None;
    }
}

/// The directory in which `target` lies, and its name.
fn parts(target: &Path) -> Result<(PathBuf, String), Error> {
    let name = target.file_name().map(|name| name.to_string_lossy().into_owned());
    let Some(name) = name else { return Err(Error::Exists(target.to_owned())) };
    let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty());
    Ok((parent.unwrap_or(Path::new(".")).to_owned(), name))
}

/// What is to be put next.
enum Piece {
    Pages(SegmentId, PageIndex, Vec<u8>),
    Removed(SegmentId, PageRange),
    File(String, u64, Vec<u8>),
    End,
}

impl Restore {
    /// Begins to make the store `target`, a directory that is not there or is empty.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::Busy`], what the host says.
    pub fn begin(target: &Path) -> Result<Self, Error> {
        match fs::read_dir(target).map(|mut entries| entries.next().is_none()) {
            Ok(true) => {}
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && target.symlink_metadata().is_err() => {}
            _ => return Err(Error::Exists(target.to_owned())),
        }
        let building = Building::new(target)?;
        let (store, last, files) = (None, None, SideFiles::default());
        Ok(Self { target: target.to_owned(), building, store, last, files, streams: 0 })
    }

    /// Applies the next stream of `reader`: a full backup first, then increments in order. False if there is none. `progress` is called
    /// with the pages of the stream put so far.
    ///
    /// # Errors
    /// Those of [`StreamReader`]; [`Error::OtherStore`], [`Error::MissingBase`]; what the store says. Nothing more can be applied then.
    pub fn apply<R: Read + Send>(
        &mut self,
        reader: &mut StreamReader<R>,
        progress: &mut dyn FnMut(u64),
    ) -> Result<bool, Error> {
        let Some(header) = reader.next_stream()? else { return Ok(false) };
        self.follows(reader.name(), &header)?;
        self.files = SideFiles::default();
        let store = match self.store.take() {
            Some(store) => store,
            None => {
                let options = CreateOptions { size_bytes: header.store_bytes, ..CreateOptions::default() };
                Store::create(&self.building.path, &options)?
            }
        };
        let (pieces, arriving) = sync_channel(AHEAD);
        let (spent, spare) = channel();
        let files = &mut self.files;
        let done = std::thread::scope(|scope| {
            let source = &mut *reader;
            let reading = scope.spawn(move || read(source, &pieces, &spare));
            let put = Putting::new(&store, &header, progress).and_then(|putting| putting.run(arriving, &spent, files));
            let read = reading.join().map_err(|_| panicked())?;
            // What the stream says counts more than what became of half of it.
            read.and(put)
        });
        done?;
        let found = store.generations().first().map_or(0, |newest| newest.pages);
        if found != header.pages {
            return Err(reader.damaged(format!("it makes a store of {found} pages where {} should be", header.pages)));
        }
        self.store = Some(store);
        self.last = Some(header);
        self.streams += 1;
        Ok(true)
    }

    /// The generation that was applied last.
    #[must_use]
    pub fn generation(&self) -> Option<Generation> {
        self.last.as_ref().map(Header::generation)
    }

    /// Whether a stream can be applied to what there is.
    fn follows(&self, name: &str, header: &Header) -> Result<(), Error> {
        let missing = |why: String| {
            let needs = header.since.map_or(Generation(0), |since| since.generation());
            Err(Error::MissingBase { name: name.to_owned(), needs, why })
        };
        match (&self.last, header.since) {
            (None, None) => Ok(()),
            (None, Some(_)) => missing("and it is the first one".to_owned()),
            (Some(last), _) if last.store != header.store => {
                let (found, expected) = (header.store(), last.store());
                Err(Error::OtherStore { name: name.to_owned(), found, expected })
            }
            (Some(last), Some(since)) if last.generation == since => Ok(()),
            (Some(last), Some(since)) if last.generation.generation == since.generation => {
                missing("which is of a copy of the store that went another way".to_owned())
            }
            (Some(last), _) => missing(format!("and what comes before it is {}", last.generation())),
        }
    }

    /// Gives the store its name. From then on it is there, wholly and durably.
    ///
    /// # Errors
    /// [`Error::NotABackup`] if nothing was applied; what the host says.
    pub fn finish(mut self) -> Result<Restored, Error> {
        let (Some(store), Some(header)) = (self.store.take(), self.last.take()) else {
            return Err(Error::NotABackup { name: "nothing".to_owned(), at: 0 });
        };
        complete(&store)?;
        drop(store);
        let path = &self.building.path;
        self.files.write(path).map_err(Error::at("write the files beside the pages of", path))?;
        let sync = |dir: &Path| File::open(dir).and_then(|dir| dir.sync_all()).map_err(Error::at("flush", dir));
        sync(path)?;
        fs::rename(path, &self.target).map_err(Error::at("give its name to", &self.target))?;
        sync(&parts(&self.target)?.0)?;
        Ok(Restored { header, streams: self.streams })
    }
}

fn panicked() -> Error {
    Error::io("read the backup", std::io::Error::other("the reader panicked"))
}

/// Makes every generation that the store lists, in either root, one that holds the whole world: whichever is gone back to.
fn complete(store: &Store) -> Result<(), Error> {
    let whole = store.generation();
    loop {
        store.begin()?.commit()?;
        if store.generations().iter().all(|info| info.generation >= whole) {
            // The other root lists what the one before did.
            store.begin()?.commit()?;
            return Ok(());
        }
    }
}

fn read<R: Read>(
    reader: &mut StreamReader<R>,
    pieces: &SyncSender<Piece>,
    spare: &Receiver<Vec<u8>>,
) -> Result<(), Error> {
    for _ in 0..MAX_FRAMES {
        let own = |data: &[u8]| {
            let mut buffer: Vec<u8> = spare.try_recv().unwrap_or_default();
            buffer.clear();
            buffer.extend_from_slice(data);
            buffer
        };
        let piece = match reader.next_frame()? {
            Frame::Pages { segment, first, data } => Piece::Pages(segment, first, own(data)),
            Frame::Removed { segment, range } => Piece::Removed(segment, range),
            Frame::File { path, offset, data } => Piece::File(path.to_owned(), offset, own(data)),
            Frame::End(_) => Piece::End,
        };
        let last = matches!(piece, Piece::End);
        // Who takes them has failed, and says so.
        if pieces.send(piece).is_err() || last {
            break;
        }
    }
    Ok(())
}

/// Puts pieces into commits of bounded size.
struct Putting<'a> {
    store: &'a Store,
    header: &'a Header,
    commit: Commit,
    /// Pieces' pages in the commit, and how many there may be.
    pages: u64,
    most: u64,
    done: u64,
    progress: &'a mut dyn FnMut(u64),
}

impl<'a> Putting<'a> {
    fn new(store: &'a Store, header: &'a Header, progress: &'a mut dyn FnMut(u64)) -> Result<Self, Error> {
        // Pages that are replaced stay taken for some commits: with small commits they are a small part of the store.
        let most = (store.space().total / 32).clamp(16, MOST_PAGES);
        Ok(Self { store, header, commit: begin(store, most)?, pages: 0, most, done: 0, progress })
    }

    fn run(mut self, arriving: Receiver<Piece>, spent: &Sender<Vec<u8>>, files: &mut SideFiles) -> Result<(), Error> {
        for piece in arriving {
            match piece {
                Piece::Pages(segment, first, data) => {
                    let mut first = first;
                    // A small store takes less than a piece at once.
                    for part in data.chunks(usize::try_from(self.most).unwrap_or(usize::MAX).saturating_mul(PAGE_SIZE))
                    {
                        let pages = (part.len() / PAGE_SIZE) as u64;
                        self = self.room_for(pages)?;
                        self.commit.put(segment, first, part)?;
                        first = PageIndex(first.0 + pages);
                        self.done += pages;
                    }
                    (self.progress)(self.done);
                    let _ = spent.send(data);
                }
                Piece::Removed(segment, range) => {
                    self = self.room_for(1)?;
                    self.commit.remove(segment, range)?;
                }
                Piece::File(path, offset, data) => {
                    if !files.add(&path, offset, &data) {
                        return Err(Error::io(
                            "restore",
                            std::io::Error::other("its files are larger than any store has"),
                        ));
                    }
                }
                Piece::End => {
                    self.commit.set_attributes(self.header.attributes);
                    self.commit.commit()?;
                    return Ok(());
                }
            }
        }
        // The stream ended early; its reader says why.
        Ok(())
    }

    /// Commits what there is, if `pages` more are too many for one commit.
    fn room_for(mut self, pages: u64) -> Result<Self, Error> {
        if self.pages + pages > self.most {
            self.commit.commit()?;
            self.commit = begin(self.store, self.most)?;
            self.pages = 0;
        }
        self.pages += pages;
        Ok(self)
    }
}

/// Begins a commit of up to `pages` pages. A store that was nearly full gets larger: it holds what increments replace for a while.
fn begin(store: &Store, pages: u64) -> Result<Commit, Error> {
    let space = store.space();
    let needed = pages + pages / 32 + 256;
    if space.free < needed {
        store.grow((space.total + 2 * needed) * PAGE_SIZE as u64)?;
    }
    Ok(store.begin()?)
}
