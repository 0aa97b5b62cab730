//! The tree of `/proc`: its names and where its links lead.

use super::console::shown_stream;
use super::node::{Node, Proc, ROOT};
use super::records::kind;
use super::{Errno, Files, Host};
use crate::linux::process::PID;
use crate::linux::{ConsoleKind, Program};

/// Names in `/proc`, beside the program's number.
const TOP: [(&[u8], Proc); 7] = [
    (b"self", Proc::SelfLink),
    (b"cpuinfo", Proc::Cpuinfo),
    (b"loadavg", Proc::Loadavg),
    (b"meminfo", Proc::Meminfo),
    (b"stat", Proc::SystemStat),
    (b"uptime", Proc::Uptime),
    (b"version", Proc::Version),
];

/// Names in `/proc/PID`.
const OWN: [(&[u8], Proc); 12] = [
    (b"auxv", Proc::Auxv),
    (b"cmdline", Proc::Cmdline),
    (b"comm", Proc::Comm),
    (b"cwd", Proc::Cwd),
    (b"environ", Proc::Environ),
    (b"exe", Proc::Exe),
    (b"fd", Proc::FdDirectory),
    (b"maps", Proc::Maps),
    (b"root", Proc::RootLink),
    (b"stat", Proc::Stat),
    (b"statm", Proc::Statm),
    (b"status", Proc::Status),
];

fn pid_name() -> Vec<u8> {
    PID.to_string().into_bytes()
}

impl Files {
    /// The node that a name in a directory of `/proc` leads to.
    ///
    /// # Errors
    /// `ENOTDIR`.
    pub(super) fn lookup_proc(&self, directory: Proc, name: &[u8]) -> Result<Option<Node>, Errno> {
        let among = |names: &[(&[u8], Proc)]| names.iter().find(|(n, _)| *n == name).map(|&(_, p)| Node::Proc(p));
        match directory {
            Proc::Root if name == pid_name() => Ok(Some(Node::Proc(Proc::Own))),
            Proc::Root => Ok(among(&TOP)),
            Proc::Own => Ok(among(&OWN)),
            Proc::FdDirectory => {
                let fd = std::str::from_utf8(name).ok().and_then(|text| text.parse::<u32>().ok());
                Ok(fd
                    .filter(|&fd| self.descriptors.contains(fd) && fd.to_string().as_bytes() == name)
                    .map(|fd| Node::Proc(Proc::FdLink(fd))))
            }
            _ => Err(Errno::ENOTDIR),
        }
    }
}

impl Program {
    /// All names of a directory of `/proc`, `.` and `..` first.
    pub(super) fn proc_names(&self, directory: Proc) -> Vec<(Vec<u8>, Node)> {
        let above = match directory {
            Proc::Root => Node::Inode(ROOT),
            Proc::Own => Node::Proc(Proc::Root),
            _ => Node::Proc(Proc::Own),
        };
        let mut names = vec![(b".".to_vec(), Node::Proc(directory)), (b"..".to_vec(), above)];
        let listed = |list: &[(&[u8], Proc)]| -> Vec<(Vec<u8>, Node)> {
            list.iter().map(|&(name, p)| (name.to_vec(), Node::Proc(p))).collect()
        };
        match directory {
            Proc::Root => {
                names.push((pid_name(), Node::Proc(Proc::Own)));
                names.extend(listed(&TOP));
            }
            Proc::Own => names.extend(listed(&OWN)),
            _ => names.extend(
                self.files
                    .descriptors
                    .values()
                    .map(|d| (d.fd.to_string().into_bytes(), Node::Proc(Proc::FdLink(d.fd)))),
            ),
        }
        names
    }

    /// What `readlink` says of a link of `/proc`.
    pub(super) fn proc_target(&self, link: Proc) -> Result<Vec<u8>, Errno> {
        match link {
            Proc::SelfLink => Ok(pid_name()),
            Proc::Exe => match self.files.settings.get().image_path {
                0 => Err(Errno::ENOENT),
                number => self.files.target(&self.host, number),
            },
            Proc::Cwd => self.files.path_of(self.files.cwd()?),
            Proc::RootLink => Ok(b"/".to_vec()),
            Proc::FdLink(fd) => Ok(self.files.describe(&self.host, self.files.open_at(u64::from(fd))?.node()?)),
            _ => Err(Errno::EINVAL),
        }
    }
}

impl Files {
    /// A path of any node, for `/proc/self/fd`: made up if it has no name.
    pub(super) fn describe(&self, host: &Host, node: Node) -> Vec<u8> {
        let number = match node {
            Node::Inode(number) => number,
            Node::Proc(_) => return self.path_of(node).unwrap_or_default(),
            Node::Console(n) => {
                return match host.console.kind(shown_stream(host, n)) {
                    ConsoleKind::Terminal { .. } => b"/dev/tty".to_vec(),
                    ConsoleKind::Null => b"/dev/null".to_vec(),
                    ConsoleKind::Pipe => format!("pipe:[{n}]").into_bytes(),
                    ConsoleKind::File { .. } => format!("/dev/console/{n}").into_bytes(),
                };
            }
        };
        let kind = self.inodes.get(number).map_or(0, |inode| inode.kind);
        match kind {
            kind::FIFO => return format!("pipe:[{number}]").into_bytes(),
            kind::SOCKET | kind::UNIX => return format!("socket:[{number}]").into_bytes(),
            kind::EPOLL => return b"anon_inode:[eventpoll]".to_vec(),
            kind::EVENT => return b"anon_inode:[eventfd]".to_vec(),
            kind::TIMER => return b"anon_inode:[timerfd]".to_vec(),
            kind::SIGNALS => return b"anon_inode:[signalfd]".to_vec(),
            _ => {}
        }
        let path = match kind {
            kind::DIRECTORY => self.path_of(node).ok(),
            _ => self.names.all().find(|entry| entry.child == number).and_then(|entry| {
                let parent = self.path_of(Node::Inode(entry.parent)).ok()?;
                Some(join(parent, entry.name()))
            }),
        };
        path.unwrap_or_else(|| b"/ (deleted)".to_vec())
    }
}

/// A path and one more name.
pub(super) fn join(mut path: Vec<u8>, name: &[u8]) -> Vec<u8> {
    if !path.ends_with(b"/") {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}
