//! Opening files, and reading directories.

use super::flags::{
    AT_FDCWD, O_ACCMODE, O_CLOEXEC, O_CREAT, O_DIRECTORY, O_EXCL, O_LARGEFILE, O_NOFOLLOW, O_PATH, O_RDWR, O_TMPFILE,
    O_TRUNC, O_WRONLY, R_OK, W_OK, X_OK,
};
use super::node::{Node, NodeKind, ROOT};
use super::path::Place;
use super::records::{PATH_MAX, kind, shown};
use super::{Errno, Files, devices};
use crate::linux::process::UID;
use crate::linux::{Answer, Program};

/// The most that one `getdents64` fills.
const MAX_LISTING: u64 = 256 * 1024;

impl Program {
    /// A path that the program hands over.
    pub(super) fn path(&self, address: u64) -> Result<Vec<u8>, Errno> {
        self.user.read_cstr(address, PATH_MAX)
    }

    /// Follows a path that starts at a directory descriptor.
    pub(super) fn find(&self, dirfd: u64, path: &[u8], follow: bool) -> Result<Place, Errno> {
        let base = self.base(dirfd, path)?;
        self.files.walk(&self.host, base, path, follow)
    }

    fn base(&self, dirfd: u64, path: &[u8]) -> Result<Node, Errno> {
        if path.first() == Some(&b'/') {
            return Ok(Node::Inode(ROOT));
        }
        if dirfd & 0xffff_ffff == AT_FDCWD & 0xffff_ffff {
            return self.files.cwd();
        }
        let node = self.files.open_at(dirfd)?.node()?;
        if path.is_empty() || self.files.kind_of(node)?.is_directory() { Ok(node) } else { Err(Errno::ENOTDIR) }
    }
}

impl Files {
    /// Whether the program, which owns every file, may do `wanted` (of `R_OK`, `W_OK`, `X_OK`).
    ///
    /// # Errors
    /// `EACCES`.
    pub(super) fn permitted(&self, node: Node, wanted: u32) -> Result<(), Errno> {
        let mode = match node {
            Node::Inode(number) => self.inode(number)?.mode,
            Node::Console(_) => 0o600,
            Node::Proc(p) if p.kind() == kind::REGULAR => 0o444,
            Node::Proc(_) => 0o555,
        };
        let mut granted = (mode >> 6) & 7;
        if UID == 0 && matches!(node, Node::Inode(_)) {
            let directory = self.kind_of(node)?.is_directory();
            granted |= R_OK | W_OK | if directory || mode & 0o111 != 0 { X_OK } else { 0 };
        }
        if wanted & !granted == 0 { Ok(()) } else { Err(Errno::EACCES) }
    }
}

pub(super) fn open(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    open_path(p, AT_FDCWD, a[0], a[1], a[2])
}

pub(super) fn openat(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    open_path(p, a[0], a[1], a[2], a[3])
}

pub(super) fn creat(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    open_path(p, AT_FDCWD, a[0], O_CREAT | O_WRONLY | O_TRUNC, a[1])
}

/// `openat2` with no resolve flags is `openat`.
pub(super) fn openat2(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    let [flags, mode, resolve] = p.user.read_value::<[u64; 3]>(a[2])?;
    if a[3] < 24 || a[3] > 4096 || mode & !0o7777 != 0 {
        return Err(Errno::EINVAL);
    }
    if resolve != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    open_path(p, a[0], a[1], flags, mode)
}

fn open_path(p: &mut Program, dirfd: u64, address: u64, flags: u64, mode: u64) -> Result<Answer, Errno> {
    let path = p.path(address)?;
    let mut flags = flags & 0xffff_ffff;
    if flags & O_PATH != 0 {
        flags &= O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    } else {
        flags |= O_LARGEFILE;
    }
    if flags & O_TMPFILE != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    let creates = flags & O_CREAT != 0;
    if creates && flags & O_DIRECTORY != 0 {
        return Err(Errno::EINVAL);
    }
    let exclusive = creates && flags & O_EXCL != 0;
    let follow = flags & O_NOFOLLOW == 0 && !exclusive;
    let place = p.find(dirfd, &path, follow)?;
    p.files.free_fd(0)?;
    let node = match place.node {
        Some(_) if exclusive => return Err(Errno::EEXIST),
        Some(node) => node,
        None if !creates => return Err(Errno::ENOENT),
        None => return create(p, &place, flags, mode),
    };
    let kind = p.files.kind_of(node)?;
    let writes = matches!(flags & O_ACCMODE, O_WRONLY | O_RDWR);
    let node = match kind {
        _ if flags & O_DIRECTORY != 0 && !kind.is_directory() => return Err(Errno::ENOTDIR),
        _ if kind.is_symlink() && flags & O_PATH == 0 => return Err(Errno::ELOOP),
        _ if kind.is_directory() && (writes || creates) => return Err(Errno::EISDIR),
        _ if flags & O_PATH != 0 => node,
        NodeKind::Device(device) => devices::opened(&p.host, node, device)?,
        NodeKind::Socket(_)
        | NodeKind::Unix(_)
        | NodeKind::Name(_)
        | NodeKind::Epoll(_)
        | NodeKind::Event(_)
        | NodeKind::Timer(_)
        | NodeKind::Signals(_) => return Err(Errno::ENXIO),
        _ => node,
    };
    if flags & O_PATH == 0 {
        p.files.permitted(node, access_of(flags))?;
    }
    let fd = p.files.open_node(&mut p.state, node, flags, flags & O_CLOEXEC != 0)?;
    if flags & O_TRUNC != 0
        && let NodeKind::Regular(number) = kind
    {
        p.files.set_size(&mut p.state, &p.host, number, 0)?;
    }
    Ok(Answer::Value(u64::from(fd)))
}

const fn access_of(flags: u64) -> u32 {
    let wanted = match flags & O_ACCMODE {
        0 => R_OK,
        O_WRONLY => W_OK,
        _ => R_OK | W_OK,
    };
    if flags & O_TRUNC != 0 { wanted | W_OK } else { wanted }
}

fn create(p: &mut Program, place: &Place, flags: u64, mode: u64) -> Result<Answer, Errno> {
    if place.slash {
        return Err(Errno::EISDIR);
    }
    let (parent, name) = place.free_name()?;
    p.files.permitted(Node::Inode(parent), W_OK)?;
    let mode = mode_of(p, mode);
    let number = p.files.new_inode(&mut p.state, &p.host, kind::REGULAR, mode)?;
    p.files.add_name(&mut p.state, &p.host, parent, name, number)?;
    let fd = p.files.open_node(&mut p.state, Node::Inode(number), flags, flags & O_CLOEXEC != 0)?;
    Ok(Answer::Value(u64::from(fd)))
}

/// The mode that a new file gets.
pub(super) fn mode_of(p: &Program, mode: u64) -> u32 {
    u32::try_from(mode & 0o7777).unwrap_or(0) & !p.files.settings.get().umask
}

/// `getdents64`: the offset is the cookie after the last name given, so it stays right while names come and go.
pub(super) fn getdents(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    let open = p.files.usable(a[0])?;
    let mut list = Listing { bytes: Vec::new(), room: a[2].min(MAX_LISTING), next: open.offset };
    match p.files.kind_of(open.node()?)? {
        NodeKind::Directory(number) => list_directory(&p.files, number, open.offset, &mut list)?,
        NodeKind::Proc(proc) if NodeKind::Proc(proc).is_directory() => {
            let names = p.proc_names(proc);
            let skip = usize::try_from(open.offset).unwrap_or(usize::MAX);
            for (i, (name, node)) in names.iter().enumerate().skip(skip) {
                let kind = if let Node::Proc(q) = node { q.kind() } else { kind::DIRECTORY };
                if !list.add(node.word(), i as u64 + 1, kind, name)? {
                    break;
                }
            }
        }
        _ => return Err(Errno::ENOTDIR),
    }
    p.user.write(a[1], &list.bytes)?;
    p.files.set_offset(&mut p.state, open.number, list.next)?;
    Ok(Answer::Value(list.bytes.len() as u64))
}

fn list_directory(files: &Files, number: u64, offset: u64, list: &mut Listing) -> Result<(), Errno> {
    let inode = files.inode(number)?;
    if inode.links == 0 {
        return Err(Errno::ENOENT);
    }
    if offset == 0 && !list.add(number, 1, kind::DIRECTORY, b".")? {
        return Ok(());
    }
    if offset <= 1 && !list.add(inode.parent, 2, kind::DIRECTORY, b"..")? {
        return Ok(());
    }
    for entry in files.names.from(number, offset.max(2)) {
        let kind = files.inode(entry.child)?.kind;
        if !list.add(entry.child, entry.cookie + 1, shown(kind), entry.name())? {
            break;
        }
    }
    Ok(())
}

/// `struct linux_dirent64`, one after the other.
struct Listing {
    bytes: Vec<u8>,
    room: u64,
    next: u64,
}

impl Listing {
    /// Adds an entry if there is room; tells whether there was.
    ///
    /// # Errors
    /// `EINVAL` when there is not even room for the first.
    fn add(&mut self, inode: u64, next: u64, kind: u32, name: &[u8]) -> Result<bool, Errno> {
        let length = (19 + name.len() + 1).next_multiple_of(8);
        if (self.bytes.len() + length) as u64 > self.room {
            return if self.bytes.is_empty() { Err(Errno::EINVAL) } else { Ok(false) };
        }
        let end = self.bytes.len() + length;
        self.bytes.extend_from_slice(&inode.to_le_bytes());
        self.bytes.extend_from_slice(&next.to_le_bytes());
        self.bytes.extend_from_slice(&u16::try_from(length).map_err(|_| Errno::EINVAL)?.to_le_bytes());
        self.bytes.push(u8::try_from(kind).unwrap_or(0));
        self.bytes.extend_from_slice(name);
        self.bytes.resize(end, 0);
        self.next = next;
        Ok(true)
    }
}
