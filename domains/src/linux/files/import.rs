//! Files of the host's, copied into the store when a program is started.

use super::super::state::State;
use super::flow::Flow;
use super::node::{Node, NodeKind, ROOT};
use super::proc::join;
use super::records::kind;
use super::{Errno, Files, Host};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Bytes copied at once.
const STEP: usize = 1 << 20;

/// A file of the host's could not be copied into the store.
#[derive(Debug, Error)]
pub enum ImportError {
    /// The host does not give it.
    #[error("{path} cannot be read: {reason}", path = path.display())]
    Read {
        /// The file on the host.
        path: PathBuf,
        /// Why not.
        reason: io::Error,
    },
    /// The program's files do not take it.
    #[error("{path} cannot be made among the program's files: {what}")]
    Refused {
        /// The path that the program would see.
        path: String,
        /// Why not.
        what: String,
    },
}

/// The program's files do not take what should be at `path`.
pub(super) fn refused(path: &[u8], errno: Errno) -> ImportError {
    let what = match errno {
        Errno::ENOSPC => "the store is full".into(),
        Errno::ENOMEM => "the program's state is full".into(),
        Errno::EFBIG => "it is too large".into(),
        Errno::ENOTDIR => "something on the way is not a directory".into(),
        Errno::EISDIR => "a directory is there".into(),
        Errno::EEXIST => "something else is there".into(),
        Errno::ENAMETOOLONG => "the path is too long".into(),
        Errno(number) => format!("error {number}"),
    };
    ImportError::Refused { path: String::from_utf8_lossy(path).into_owned(), what }
}

impl From<Errno> for ImportError {
    fn from(errno: Errno) -> Self {
        refused(b"the file", errno)
    }
}

fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> ImportError {
    move |reason| ImportError::Read { path: path.to_path_buf(), reason }
}

impl Files {
    /// Makes a regular file at `path` (directories on the way are made) with the content of `from`; one that is there
    /// is replaced. Answers its inode.
    ///
    /// # Errors
    /// [`ImportError`]; what was made so far is undone with the transaction.
    pub fn import(
        &mut self,
        state: &mut State,
        host: &Host,
        path: &[u8],
        mode: u32,
        from: &mut dyn Read,
    ) -> Result<u64, ImportError> {
        let number = self.make_file(state, host, path, mode).map_err(|errno| refused(path, errno))?;
        let mut buffer = vec![0; STEP];
        let mut at = 0;
        loop {
            let count = match from.read(&mut buffer) {
                Ok(0) => return Ok(number),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(reason) => {
                    let path = PathBuf::from(String::from_utf8_lossy(path).into_owned());
                    return Err(ImportError::Read { path, reason });
                }
            };
            let written = self.write_data(state, host, number, at, &buffer[..count]);
            match written.map_err(|errno| refused(path, errno))? {
                Flow::Done(written) if written < count => return Err(refused(path, Errno::EFBIG)),
                Flow::Done(written) => at += written as u64,
                Flow::Wait(_) => return Err(refused(path, Errno::ENOSPC)),
            }
        }
    }

    fn make_file(&mut self, state: &mut State, host: &Host, path: &[u8], mode: u32) -> Result<u64, Errno> {
        let (parent, name) = self.make_parents(state, host, path)?;
        let place = self.walk(host, Node::Inode(parent), name, true)?;
        if let Some(node) = place.node {
            return match self.kind_of(node)? {
                NodeKind::Regular(number) => {
                    self.set_size(state, host, number, 0)?;
                    self.inodes.update(state, number, |i| i.mode = mode & 0o7777)?;
                    Ok(number)
                }
                kind if kind.is_directory() => Err(Errno::EISDIR),
                _ => Err(Errno::EEXIST),
            };
        }
        let (parent, name) = place.free_name()?;
        let number = self.new_inode(state, host, kind::REGULAR, mode)?;
        self.add_name(state, host, parent, name, number)?;
        Ok(number)
    }

    /// Makes the directories that a path goes through; answers the last one and the path's last name.
    fn make_parents<'p>(&mut self, state: &mut State, host: &Host, path: &'p [u8]) -> Result<(u64, &'p [u8]), Errno> {
        let mut names: Vec<&[u8]> = path.split(|&b| b == b'/').filter(|name| !name.is_empty()).collect();
        let last = names.pop().ok_or(Errno::EISDIR)?;
        let mut at = ROOT;
        for name in names {
            at = self.enter(state, host, at, name, 0o755)?;
        }
        Ok((at, last))
    }

    /// The directory `name` in a directory, made if it is not there.
    fn enter(&mut self, state: &mut State, host: &Host, at: u64, name: &[u8], mode: u32) -> Result<u64, Errno> {
        let place = self.walk(host, Node::Inode(at), name, true)?;
        match place.node {
            Some(Node::Inode(number)) if self.inode(number)?.kind == kind::DIRECTORY => Ok(number),
            Some(_) => Err(Errno::ENOTDIR),
            None => {
                let (parent, name) = place.free_directory_name()?;
                self.make_directory(state, host, parent, name, mode)
            }
        }
    }

    /// Copies a file or a directory with all that is in it. Symbolic links inside are kept as they are; what is neither
    /// file, directory nor link is left out.
    ///
    /// # Errors
    /// As [`Files::import`].
    pub fn import_tree(&mut self, state: &mut State, host: &Host, from: &Path, path: &[u8]) -> Result<(), ImportError> {
        let top = std::fs::metadata(from).map_err(unreadable(from))?;
        let mut left = vec![(from.to_path_buf(), path.to_vec(), top)];
        while let Some((from, path, metadata)) = left.pop() {
            let kind = metadata.file_type();
            if kind.is_dir() {
                self.import_directory(state, host, &path, metadata.mode()).map_err(|errno| refused(&path, errno))?;
                for entry in std::fs::read_dir(&from).map_err(unreadable(&from))? {
                    let inside = entry.map_err(unreadable(&from))?.path();
                    let metadata = std::fs::symlink_metadata(&inside).map_err(unreadable(&inside))?;
                    let name = inside.file_name().map(OsStrExt::as_bytes).unwrap_or_default().to_vec();
                    left.push((inside, join(path.clone(), &name), metadata));
                }
            } else if kind.is_symlink() {
                let target = std::fs::read_link(&from).map_err(unreadable(&from))?;
                self.import_link(state, host, &path, target.as_os_str().as_bytes())
                    .map_err(|errno| refused(&path, errno))?;
            } else if kind.is_file() {
                let mut file = std::fs::File::open(&from).map_err(unreadable(&from))?;
                self.import(state, host, &path, metadata.mode(), &mut file)?;
            } else {
                tracing::warn!(path = %from.display(), "neither a file, a directory nor a link: left out");
            }
        }
        Ok(())
    }

    fn import_directory(&mut self, state: &mut State, host: &Host, path: &[u8], mode: u32) -> Result<(), Errno> {
        let (parent, name) = match self.make_parents(state, host, path) {
            // The root is there already.
            Err(Errno::EISDIR) => return Ok(()),
            other => other?,
        };
        // The program owns its files and can always look into its directories.
        self.enter(state, host, parent, name, mode & 0o7777 | 0o500).map(|_| ())
    }

    fn import_link(&mut self, state: &mut State, host: &Host, path: &[u8], target: &[u8]) -> Result<(), Errno> {
        let (parent, name) = self.make_parents(state, host, path)?;
        let number = self.new_inode(state, host, kind::SYMLINK, 0o777)?;
        self.set_target(state, host, number, target)?;
        self.add_name(state, host, parent, name, number)
    }
}
