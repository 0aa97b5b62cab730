//! From a path to what it leads to.

use super::flags::X_OK;
use super::node::{Node, NodeKind, Proc, ROOT};
use super::records::{NAME_MAX, PATH_MAX};
use super::{Errno, Files, Host};
use std::collections::VecDeque;

/// Symbolic links followed in one path (Linux: `MAXSYMLINKS`).
const MAX_LINKS: u32 = 40;

/// How a path ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Last {
    /// With this name.
    Name(Vec<u8>),
    /// With `.`, or it is `/`.
    Dot,
    /// With `..`.
    DotDot,
    /// With a link of `/proc` that leads to an open file.
    Magic,
}

/// Where a path leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The directory that its last name stands in.
    pub parent: Node,
    /// Its last component.
    pub last: Last,
    /// What it leads to; `None`: the last name is free.
    pub node: Option<Node>,
    /// The path ends in a slash: it must lead to a directory.
    pub slash: bool,
}

impl Place {
    /// What the path leads to.
    ///
    /// # Errors
    /// `ENOENT`.
    pub(super) fn existing(&self) -> Result<Node, Errno> {
        self.node.ok_or(Errno::ENOENT)
    }

    /// The directory inode and name to give to something new that is not a directory.
    ///
    /// # Errors
    /// `EEXIST` if there is something, `ENOENT` for a trailing slash, `EACCES` outside the tree.
    pub(super) fn free_name(&self) -> Result<(u64, &[u8]), Errno> {
        let (parent, name) = self.free_directory_name()?;
        if self.slash { Err(Errno::ENOENT) } else { Ok((parent, name)) }
    }

    /// As [`Place::free_name`], for a new directory: a trailing slash is welcome.
    pub(super) fn free_directory_name(&self) -> Result<(u64, &[u8]), Errno> {
        match (&self.last, self.node, self.parent) {
            (Last::Name(name), None, Node::Inode(parent)) => Ok((parent, name)),
            (_, Some(_), _) => Err(Errno::EEXIST),
            (_, None, _) => Err(Errno::EACCES),
        }
    }

    /// The directory inode and name of something in the tree.
    ///
    /// # Errors
    /// `ENOENT`, `other` if the path does not end in a name, `EPERM` outside the tree, `EBUSY` for `/proc`.
    pub(super) fn used_name(&self, other: Errno) -> Result<(u64, &[u8], u64), Errno> {
        match (&self.last, self.parent, self.node) {
            (Last::Name(_), _, None) => Err(Errno::ENOENT),
            (Last::Name(name), Node::Inode(parent), Some(Node::Inode(child))) => Ok((parent, name, child)),
            (Last::Name(_), Node::Inode(_), Some(_)) => Err(Errno::EBUSY),
            (Last::Name(_), _, _) => Err(Errno::EPERM),
            (_, _, _) => Err(other),
        }
    }
}

impl Files {
    /// Follows `path` from `base`; a symbolic link at its end is followed if `follow`.
    ///
    /// # Errors
    /// `ENOENT`, `ENOTDIR`, `ELOOP`, `ENAMETOOLONG`, `EACCES`.
    pub(super) fn walk(&self, host: &Host, base: Node, path: &[u8], follow: bool) -> Result<Place, Errno> {
        if path.is_empty() {
            return Err(Errno::ENOENT);
        }
        if path.len() >= PATH_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        let mut at = if path[0] == b'/' { Node::Inode(ROOT) } else { base };
        let mut rest: VecDeque<Vec<u8>> = components(path).map(<[u8]>::to_vec).collect();
        let mut slash = path.ends_with(b"/");
        let mut links = 0;
        while let Some(name) = rest.pop_front() {
            self.may_search(at)?;
            if name == b"." || name == b".." {
                let last = if name == b"." { Last::Dot } else { Last::DotDot };
                if last == Last::DotDot {
                    at = self.parent(at)?;
                }
                if rest.is_empty() {
                    return Ok(Place { parent: at, last, node: Some(at), slash });
                }
                continue;
            }
            if name.len() > NAME_MAX {
                return Err(Errno::ENAMETOOLONG);
            }
            let is_last = rest.is_empty();
            let Some(node) = self.lookup(at, &name)? else {
                let place = Place { parent: at, last: Last::Name(name), node: None, slash };
                return if is_last { Ok(place) } else { Err(Errno::ENOENT) };
            };
            let kind = self.kind_of(node)?;
            if kind.is_symlink() && (!is_last || follow || slash) {
                links += 1;
                if links > MAX_LINKS {
                    return Err(Errno::ELOOP);
                }
                match self.leads_to(host, node, kind)? {
                    Leads::Node(target) if is_last => {
                        self.must_be_directory_if(slash, target)?;
                        return Ok(Place { parent: at, last: Last::Magic, node: Some(target), slash });
                    }
                    Leads::Node(target) => at = target,
                    Leads::Path(target) => {
                        if target.is_empty() {
                            return Err(Errno::ENOENT);
                        }
                        if target[0] == b'/' {
                            at = Node::Inode(ROOT);
                        }
                        slash |= is_last && target.ends_with(b"/");
                        for (i, component) in components(&target).enumerate() {
                            rest.insert(i, component.to_vec());
                        }
                    }
                }
                continue;
            }
            if is_last {
                self.must_be_directory_if(slash, node)?;
                return Ok(Place { parent: at, last: Last::Name(name), node: Some(node), slash });
            }
            at = node;
        }
        Ok(Place { parent: at, last: Last::Dot, node: Some(at), slash })
    }

    fn must_be_directory_if(&self, slash: bool, node: Node) -> Result<(), Errno> {
        if slash && !self.kind_of(node)?.is_directory() { Err(Errno::ENOTDIR) } else { Ok(()) }
    }

    fn may_search(&self, node: Node) -> Result<(), Errno> {
        if !self.kind_of(node)?.is_directory() {
            return Err(Errno::ENOTDIR);
        }
        self.permitted(node, X_OK)
    }

    fn leads_to(&self, host: &Host, node: Node, kind: NodeKind) -> Result<Leads, Errno> {
        Ok(match kind {
            NodeKind::Symlink(number) => Leads::Path(self.target(host, number)?),
            NodeKind::Proc(Proc::Exe) if self.settings.get().image != 0 => {
                Leads::Node(Node::Inode(self.settings.get().image))
            }
            NodeKind::Proc(Proc::Cwd) => Leads::Node(self.cwd()?),
            NodeKind::Proc(Proc::RootLink) => Leads::Node(Node::Inode(ROOT)),
            NodeKind::Proc(Proc::SelfLink) => Leads::Node(Node::Proc(Proc::Own)),
            NodeKind::Proc(Proc::FdLink(fd)) => Leads::Node(self.open_at(u64::from(fd))?.node()?),
            _ => Leads::Node(node),
        })
    }

    /// The current directory.
    pub(super) fn cwd(&self) -> Result<Node, Errno> {
        Node::from_word(self.settings.get().cwd).ok_or(Errno::EIO)
    }

    /// The directory above.
    fn parent(&self, node: Node) -> Result<Node, Errno> {
        Ok(match node {
            Node::Inode(number) => Node::Inode(self.inode(number)?.parent),
            Node::Proc(Proc::Root) => Node::Inode(ROOT),
            Node::Proc(Proc::FdDirectory | Proc::FdLink(_)) => Node::Proc(Proc::Own),
            Node::Proc(Proc::Own) => Node::Proc(Proc::Root),
            Node::Proc(_) | Node::Console(_) => return Err(Errno::ENOTDIR),
        })
    }

    /// The absolute path of a directory.
    ///
    /// # Errors
    /// `ENOENT` if it was removed.
    pub(super) fn path_of(&self, directory: Node) -> Result<Vec<u8>, Errno> {
        let mut parts: Vec<Vec<u8>> = Vec::new();
        let mut at = directory;
        while at != Node::Inode(ROOT) {
            let (parent, name) = match at {
                Node::Inode(number) => {
                    let parent = self.inode(number)?.parent;
                    let entry = self.names.from(parent, 0).find(|e| e.child == number).ok_or(Errno::ENOENT)?;
                    (Node::Inode(parent), entry.name().to_vec())
                }
                Node::Proc(Proc::Root) => (Node::Inode(ROOT), b"proc".to_vec()),
                Node::Proc(Proc::FdDirectory) => (Node::Proc(Proc::Own), b"fd".to_vec()),
                Node::Proc(_) => (Node::Proc(Proc::Root), b"self".to_vec()),
                Node::Console(_) => return Err(Errno::ENOTDIR),
            };
            parts.push(name);
            at = parent;
        }
        let mut path = Vec::new();
        for part in parts.iter().rev() {
            path.push(b'/');
            path.extend_from_slice(part);
        }
        if path.is_empty() {
            path.push(b'/');
        }
        Ok(path)
    }
}

/// Where a symbolic link leads.
enum Leads {
    /// On along this path.
    Path(Vec<u8>),
    /// Straight to a node.
    Node(Node),
}

fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|&b| b == b'/').filter(|name| !name.is_empty())
}
