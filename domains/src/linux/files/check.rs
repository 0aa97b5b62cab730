//! Whether the records of files agree with each other.

use super::Files;
use super::node::{Node, PROC_MOUNT, ROOT};
use super::records::{Inode, Interest, MAX_DESCRIPTORS, NAME_MAX, kind};
use super::tree::FIRST_COOKIE;
use std::collections::{HashMap, HashSet};

impl Files {
    /// What is wrong, if anything.
    #[must_use]
    pub fn check(&self) -> Option<String> {
        self.check_names()
            .or_else(|| self.check_inodes())
            .or_else(|| self.check_segments())
            .or_else(|| self.check_descriptors())
            .or_else(|| self.check_streams())
            .or_else(|| self.check_sockets())
            .or_else(|| self.check_unix())
    }

    fn check_names(&self) -> Option<String> {
        for entry in self.names.all() {
            let (parent, child) = (entry.parent, entry.child);
            let name = entry.name();
            if entry.length == 0 || entry.length > NAME_MAX as u64 || name.contains(&b'/') || name.contains(&0) {
                return Some(format!("directory {parent} has a name that none can have"));
            }
            let Some(directory) = self.inodes.get(parent).filter(|i| i.kind == kind::DIRECTORY) else {
                return Some(format!("a name stands in {parent}, which is no directory"));
            };
            if !(FIRST_COOKIE..directory.cursor).contains(&entry.cookie) {
                return Some(format!("directory {parent} has a name with cookie {}", entry.cookie));
            }
            match self.inodes.get(child) {
                None => return Some(format!("directory {parent} names {child}, which does not exist")),
                Some(i) if i.kind == kind::DIRECTORY && i.parent != parent => {
                    return Some(format!("directory {child} stands in {parent} but believes to be in {}", i.parent));
                }
                Some(_) => {}
            }
        }
        None
    }

    fn check_inodes(&self) -> Option<String> {
        let mut links: HashMap<u64, u32> = HashMap::new();
        let mut names: HashMap<u64, u32> = HashMap::new();
        for entry in self.names.all() {
            *names.entry(entry.child).or_default() += 1;
            let directory = self.inodes.get(entry.child).is_some_and(|i| i.kind == kind::DIRECTORY);
            *links.entry(if directory { entry.parent } else { entry.child }).or_default() += 1;
        }
        let next = self.settings.get().next_inode;
        for i in self.inodes.values() {
            let named = names.get(&i.number).copied().unwrap_or(0);
            if let Some(wrong) = self.check_inode(i, named, links.get(&i.number).copied().unwrap_or(0)) {
                return Some(wrong);
            }
            if i.number == 0 || i.number >= next {
                return Some(format!("inode {} has a number that was never given", i.number));
            }
        }
        for number in [ROOT, PROC_MOUNT] {
            if self.inodes.get(number).is_none_or(|i| i.kind != kind::DIRECTORY) {
                return Some(format!("directory {number} is missing"));
            }
        }
        None
    }

    fn check_inode(&self, i: &Inode, named: u32, links: u32) -> Option<String> {
        let number = i.number;
        if !matches!(
            i.kind,
            kind::FIFO
                | kind::DEVICE
                | kind::DIRECTORY
                | kind::REGULAR
                | kind::SYMLINK
                | kind::SOCKET
                | kind::EPOLL
                | kind::EVENT
                | kind::UNIX
                | kind::NAME
                | kind::TIMER
                | kind::SIGNALS
        ) {
            return Some(format!("inode {number} is of kind {}", i.kind));
        }
        if i.kind == kind::DIRECTORY {
            let rooted = number == ROOT || named == 1;
            if named > 1 || number == ROOT && named > 0 {
                return Some(format!("directory {number} has {named} names"));
            }
            let expected = if rooted { links + 2 } else { 0 };
            if i.links != expected {
                return Some(format!("directory {number} counts {} links, not {expected}", i.links));
            }
            if rooted && !self.reaches_root(number) {
                return Some(format!("directory {number} is not reached from the root"));
            }
            if !rooted && self.names.from(number, 0).next().is_some() {
                return Some(format!("directory {number} was removed, but is not empty"));
            }
        } else if i.links != links {
            return Some(format!("inode {number} counts {} links, not {links}", i.links));
        }
        if i.kind == kind::FIFO && (i.cursor > i.size || i.size - i.cursor > super::pipe::CAPACITY) {
            return Some(format!("pipe {number} is at {} of {}", i.cursor, i.size));
        }
        let size_limit = if i.kind == kind::SYMLINK { super::PATH_MAX as u64 } else { super::FILE_BYTES };
        let counts = matches!(i.kind, kind::FIFO | kind::EVENT | kind::UNIX | kind::TIMER);
        if !counts && i.size > size_limit {
            return Some(format!("inode {number} has {} bytes", i.size));
        }
        (named == 0 && number != ROOT && !self.is_held(number)).then(|| format!("nothing holds inode {number}"))
    }

    fn reaches_root(&self, number: u64) -> bool {
        let mut at = number;
        for _ in 0..=self.inodes.len() {
            match self.inodes.get(at) {
                _ if at == ROOT => return true,
                Some(inode) => at = inode.parent,
                None => return false,
            }
        }
        false
    }

    fn check_segments(&self) -> Option<String> {
        let mut seen = HashSet::new();
        self.segments().into_iter().find(|id| !seen.insert(*id)).map(|id| format!("{id} belongs to two files"))
    }

    fn check_descriptors(&self) -> Option<String> {
        let used: HashSet<u64> = self.descriptors.values().map(|d| d.open).collect();
        for d in self.descriptors.values() {
            if d.fd >= MAX_DESCRIPTORS || d.close_on_exec > 1 || !self.opens.contains(d.open) {
                return Some(format!("descriptor {} has no open file", d.fd));
            }
        }
        for open in self.opens.values() {
            let number = open.number;
            if !used.contains(&number) {
                return Some(format!("open file {number} has no descriptor"));
            }
            if number >= self.settings.get().next_open {
                return Some(format!("open file {number} has a number that was never given"));
            }
            match Node::from_word(open.node) {
                Some(Node::Inode(inode)) if !self.inodes.contains(inode) => {
                    return Some(format!("open file {number} is of inode {inode}, which does not exist"));
                }
                None => return Some(format!("open file {number} is of nothing")),
                Some(_) => {}
            }
        }
        match self.cwd() {
            Ok(cwd) if self.kind_of(cwd).is_ok_and(super::node::NodeKind::is_directory) => None,
            _ => Some("the current directory does not exist".into()),
        }
    }

    fn check_sockets(&self) -> Option<String> {
        let of_kind = |number, kind| self.inodes.get(number).is_some_and(|i: &Inode| i.kind == kind);
        for socket in self.sockets.values() {
            if !of_kind(socket.inode, kind::SOCKET) || socket.state > super::records::socket::CONNECTED {
                return Some(format!("socket {} is in state {} and of no inode", socket.inode, socket.state));
            }
        }
        let inodes = self.inodes.values().filter(|i| i.kind == kind::SOCKET).count();
        if inodes != self.sockets.len() {
            return Some(format!("there are {} sockets and {inodes} inodes of them", self.sockets.len()));
        }
        let lost = |i: &&Interest| !of_kind(i.epoll, kind::EPOLL) || !self.opens.contains(i.open);
        self.interests
            .values()
            .find(lost)
            .map(|i| format!("inode {} is to watch open file {}, which cannot be", i.epoll, i.open))
    }

    fn check_streams(&self) -> Option<String> {
        if self.streams.len() != 3 || self.streams.values().any(|s| s.stream > 2) {
            return Some("there are not three console streams".into());
        }
        self.streams
            .values()
            .find(|s| s.released > s.written || (s.stream == 0) != (s.segment == 0))
            .map(|s| format!("console stream {} is at {} of {}", s.stream, s.released, s.written))
    }
}
