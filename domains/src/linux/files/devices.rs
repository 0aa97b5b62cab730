//! The devices of `/dev`.

use super::super::state::State;
use super::node::{Node, ROOT};
use super::records::kind;
use super::{Errno, Files, Host, console};
use crate::linux::Program;

const NULL: u64 = 0x103;
const ZERO: u64 = 0x105;
const FULL: u64 = 0x107;
const RANDOM: u64 = 0x108;
const URANDOM: u64 = 0x109;
const TTY: u64 = 0x500;
/// `/dev/semper/journal` and `/dev/semper/restart`, of a major number that Linux leaves to local use.
pub(super) const JOURNAL: u64 = 0xf000;
pub(super) const RESTART: u64 = 0xf001;

impl Files {
    /// Makes `/dev`.
    pub(super) fn make_devices(&mut self, state: &mut State, host: &Host) -> Result<(), Errno> {
        let dev = self.make_directory(state, host, ROOT, b"dev", 0o755)?;
        let devices: [(&[u8], u64); 6] = [
            (b"null", NULL),
            (b"zero", ZERO),
            (b"full", FULL),
            (b"random", RANDOM),
            (b"urandom", URANDOM),
            (b"tty", TTY),
        ];
        for (name, device) in devices {
            self.make_device(state, host, dev, name, device)?;
        }
        let semper = self.make_directory(state, host, dev, b"semper", 0o755)?;
        self.make_device(state, host, semper, b"journal", JOURNAL)?;
        self.make_device(state, host, semper, b"restart", RESTART)?;
        let links: [(&[u8], &[u8]); 4] = [
            (b"fd", b"/proc/self/fd"),
            (b"stdin", b"/proc/self/fd/0"),
            (b"stdout", b"/proc/self/fd/1"),
            (b"stderr", b"/proc/self/fd/2"),
        ];
        for (name, target) in links {
            let number = self.new_inode(state, host, kind::SYMLINK, 0o777)?;
            self.set_target(state, host, number, target)?;
            self.add_name(state, host, dev, name, number)?;
        }
        Ok(())
    }

    fn make_device(
        &mut self,
        state: &mut State,
        host: &Host,
        directory: u64,
        name: &[u8],
        device: u64,
    ) -> Result<(), Errno> {
        let number = self.new_inode(state, host, kind::DEVICE, 0o666)?;
        self.inodes.update(state, number, |i| i.device = device)?;
        self.add_name(state, host, directory, name, number)
    }
}

/// What opening a device gives: itself, or for `/dev/tty` the console.
///
/// # Errors
/// `ENXIO` when there is no terminal.
pub(super) fn opened(host: &Host, node: Node, device: u64) -> Result<Node, Errno> {
    match device {
        TTY if console::terminal_stream(host).is_some() => Ok(Node::TERMINAL),
        TTY => Err(Errno::ENXIO),
        _ => Ok(node),
    }
}

impl Program {
    pub(super) fn read_device(&self, device: u64, position: u64, out: &mut [u8]) -> Result<usize, Errno> {
        match device {
            NULL => return Ok(0),
            RESTART => return Ok(super::flow::part_of(self.restart_text().as_bytes(), position, out)),
            ZERO | FULL => out.fill(0),
            RANDOM | URANDOM => (self.host.random)(out),
            _ => return Err(Errno::ENXIO),
        }
        Ok(out.len())
    }

    pub(super) fn write_device(&self, device: u64, data: &[u8]) -> Result<usize, Errno> {
        match device {
            NULL | ZERO | RANDOM | URANDOM => Ok(data.len()),
            FULL => Err(Errno::ENOSPC),
            _ => Err(Errno::ENXIO),
        }
    }
}
