//! Where backups lie: what a directory of files and a prefix of an object store have in common.

use crate::bucket::Bucket;
use crate::error::Error;
use crate::folder::Folder;
use std::fmt;
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;

/// A file at a destination.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Its name, without that of the place.
    pub name: String,
    /// Its length.
    pub bytes: u64,
}

/// A place with files in it, each of which is there wholly or not at all.
pub trait Destination: fmt::Debug + Send + Sync {
    /// How messages call the file `name`; the place itself, if that is empty.
    fn shown(&self, name: &str) -> String;

    /// Makes the place, if places of its kind have to be made.
    ///
    /// # Errors
    /// What the host says.
    fn make(&self) -> Result<(), Error>;

    /// What tells the place from another one that came under its name; none: there is nothing that could.
    ///
    /// # Errors
    /// What the host says.
    fn identity(&self) -> Result<Option<(u64, u64)>, Error>;

    /// Keeps others from adding and removing files as long as what is returned lives, where the place can do that.
    ///
    /// # Errors
    /// [`Error::Busy`], what the host says.
    fn lock(&self) -> Result<Lock, Error>;

    /// The files, by name.
    ///
    /// # Errors
    /// What the host says.
    fn list(&self) -> Result<Vec<Entry>, Error>;

    /// The length of a file.
    ///
    /// # Errors
    /// What the host says.
    fn bytes(&self, name: &str) -> Result<u64, Error>;

    /// Bytes of a file: `len` from `from` on, all of which have to be there.
    ///
    /// # Errors
    /// What the host says.
    fn piece(&self, name: &str, from: u64, len: usize) -> Result<Vec<u8>, Error>;

    /// Reads a file from its start.
    ///
    /// # Errors
    /// What the host says.
    fn read(&self, name: &str) -> Result<Box<dyn Read + Send>, Error>;

    /// A file that will be there, whole, when it is [published](NewFile::publish), and replaces one of its name.
    ///
    /// # Errors
    /// What the host says.
    fn create(&self, name: &str) -> Result<Box<dyn NewFile>, Error>;

    /// Gives a file another name, durably.
    ///
    /// # Errors
    /// What the host says.
    fn rename(&self, from: &str, to: &str) -> Result<(), Error>;

    /// Removes a file, durably.
    ///
    /// # Errors
    /// What the host says.
    fn remove(&self, name: &str) -> Result<(), Error>;

    /// How many files are best looked at at the same time.
    fn width(&self) -> usize;
}

/// A file that gets its name when it is complete; dropped before that, it leaves nothing.
pub trait NewFile: Write {
    /// Makes it durable and gives it its name.
    ///
    /// # Errors
    /// What the host says; it is not there then.
    fn publish(self: Box<Self>) -> Result<(), Error>;
}

/// Keeps others away, as far as the place can do that.
#[derive(Debug)]
pub struct Lock {
    _file: Option<File>,
}

impl Lock {
    pub(crate) fn new(file: Option<File>) -> Self {
        Self { _file: file }
    }
}

/// Whether `place` is written as a URL, and not as a path.
#[must_use]
pub fn is_url(place: &Path) -> bool {
    place.to_str().is_some_and(|place| place.contains("://"))
}

/// The destination of that name: a directory, or `s3://BUCKET/PREFIX`, `gs://BUCKET/PREFIX`, `az://CONTAINER/PREFIX`. It is not looked at yet.
///
/// # Errors
/// [`Error::BadPlace`].
pub fn destination(place: &Path) -> Result<Arc<dyn Destination>, Error> {
    match place.to_str().filter(|_| is_url(place)) {
        None => Ok(Arc::new(Folder::new(place))),
        Some(url) => match url.strip_prefix("file://") {
            Some(path) => Ok(Arc::new(Folder::new(Path::new(path)))),
            None => Ok(Arc::new(Bucket::at(url)?)),
        },
    }
}
