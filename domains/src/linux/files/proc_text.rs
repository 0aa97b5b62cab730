//! The texts of `/proc`, made up from what is true at the moment.

use super::node::{Node, Proc};
use crate::abi::WINDOW_END;
use crate::linux::mm::page_up;
use crate::linux::process::{PARENT, PID, UID};
use crate::linux::signals::{MAX_SIGNAL, bit};
use crate::linux::vma::{EXEC, Kind, PAGE, READ, Vma, WRITE};
use crate::linux::{CHUNK, Program};
use std::fmt::Write;

/// Ticks in a second, as `AT_CLKTCK` says.
const TICKS: u128 = 100;
/// Bytes of one argument or environment string that are shown.
const STRING: usize = 128 * 1024;

/// The parts of the stack on which the program began, read back from its own memory as Linux does.
#[derive(Default)]
struct Beginning {
    /// Arguments and environment, each string with its final zero.
    args: Vec<u8>,
    env: Vec<u8>,
    auxv: Vec<u8>,
}

impl Program {
    /// The content of a file of `/proc`.
    pub(super) fn proc_text(&self, file: Proc) -> Vec<u8> {
        match file {
            Proc::Maps => self.maps(),
            Proc::Cmdline => self.beginning().args,
            Proc::Environ => self.beginning().env,
            Proc::Auxv => self.beginning().auxv,
            Proc::Comm => [self.thread_name(), b"\n"].concat(),
            Proc::Status => self.status().into_bytes(),
            Proc::Stat => self.stat_line().into_bytes(),
            Proc::Statm => {
                let pages = self.user.vmas().bytes() / PAGE;
                format!("{pages} {pages} 0 0 0 {pages} 0\n").into_bytes()
            }
            Proc::Meminfo => {
                let total = self.mm.record.limit.min(WINDOW_END) / 1024;
                let free = total.saturating_sub(self.user.vmas().bytes() / 1024);
                let lines = [("MemTotal", total), ("MemFree", free), ("MemAvailable", free), ("Buffers", 0)];
                let rest = [("Cached", 0), ("SwapTotal", 0), ("SwapFree", 0)];
                let line = |(name, kb): &(&str, u64)| format!("{:<16}{kb:>8} kB\n", format!("{name}:"));
                lines.iter().chain(&rest).map(line).collect::<String>().into_bytes()
            }
            Proc::Cpuinfo => {
                b"processor\t: 0\nmodel name\t: x86-64\nsiblings\t: 1\ncore id\t\t: 0\ncpu cores\t: 1\n\n".to_vec()
            }
            Proc::Uptime => format!("{:.2} 0.00\n", self.host.clock.monotonic().as_secs_f64()).into_bytes(),
            Proc::SystemStat => {
                let used = self.host.clock.cpu().as_millis() * TICKS / 1000;
                let started = (self.host.clock.realtime().saturating_sub(self.host.clock.monotonic())).as_secs();
                format!("cpu  {used} 0 0 0 0 0 0 0 0 0\ncpu0 {used} 0 0 0 0 0 0 0 0 0\nbtime {started}\nprocesses 1\nprocs_running 1\n")
                    .into_bytes()
            }
            Proc::Loadavg => format!("0.00 0.00 0.00 1/1 {PID}\n").into_bytes(),
            Proc::Version => b"Linux version 6.1.0-semper (semper) #1 SMP Semper\n".to_vec(),
            _ => Vec::new(),
        }
    }

    fn maps(&self) -> Vec<u8> {
        let exe = self.proc_target(Proc::Exe).unwrap_or_default();
        let image = self.files.settings.get().image;
        let mut out = Vec::new();
        for area in self.user.vmas().iter().flat_map(|area| self.in_use(area)) {
            let start = out.len();
            let source = area.attributes.source;
            let (inode, name) = match area.attributes.kind {
                Kind::Image => (image, exe.clone()),
                Kind::Heap => (0, b"[heap]".to_vec()),
                Kind::Stack => (0, b"[stack]".to_vec()),
                Kind::File | Kind::Copy if source.inode == 0 => (image, exe.clone()),
                Kind::File | Kind::Copy => (source.inode, self.files.describe(&self.host, Node::Inode(source.inode))),
                Kind::Private | Kind::Shared => (0, Vec::new()),
            };
            out.extend_from_slice(area_line(&area, inode).as_bytes());
            if !name.is_empty() {
                // Names stand in the 74th column.
                out.resize(out.len().max(start + 73), b' ');
                out.extend_from_slice(&name);
            }
            out.push(b'\n');
        }
        out
    }

    /// The parts of an area that the program asked for: not what is granted ahead of the break and of its mappings.
    fn in_use(&self, area: Vma) -> impl Iterator<Item = Vma> {
        let (granted, unused) = match area.attributes.kind {
            Kind::Heap => (page_up(self.mm.record.brk), area.end),
            _ => self.pool_state(),
        };
        let first = Vma { end: area.end.min(granted), ..area };
        let second = Vma { start: area.start.max(unused), ..area };
        let whole = granted >= unused || granted >= area.end || unused <= area.start;
        let parts = if whole { [Some(area), None] } else { [Some(first), Some(second)] };
        parts.into_iter().flatten().filter(|part| part.start < part.end)
    }

    /// Words from the first stack pointer on: argc, arguments, 0, environment, 0, auxiliary vector.
    fn beginning(&self) -> Beginning {
        let mut found = Beginning::default();
        let stack = self.files.settings.get().stack;
        if stack == 0 {
            return found;
        }
        let word = |n: u64| self.user.read_value::<u64>(stack.saturating_add(n.saturating_mul(8))).ok();
        let mut at = 1;
        for list in [&mut found.args, &mut found.env] {
            while let Some(address) = word(at).filter(|&address| address != 0 && list.len() < CHUNK) {
                list.extend(self.user.read_cstr(address, STRING).unwrap_or_default());
                list.push(0);
                at += 1;
            }
            at += 1;
        }
        while let (Some(key), Some(value)) = (word(at), word(at + 1)) {
            found.auxv.extend([key.to_le_bytes(), value.to_le_bytes()].concat());
            at += 2;
            if key == 0 || found.auxv.len() as u64 >= PAGE {
                break;
            }
        }
        found
    }

    fn kilobytes(&self, kinds: &[Kind]) -> u64 {
        self.user.vmas().iter().filter(|v| kinds.contains(&v.attributes.kind)).map(|v| v.len()).sum::<u64>() / 1024
    }

    fn status(&self) -> String {
        let mut out = String::new();
        let name = String::from_utf8_lossy(self.thread_name());
        let size = self.user.vmas().bytes() / 1024;
        let mut line = |key: &str, value: String| {
            // Writing to a string does not fail.
            let _ = writeln!(out, "{key}:\t{value}");
        };
        line("Name", name.into_owned());
        line("Umask", format!("{:04o}", self.files.settings.get().umask));
        line("State", "R (running)".into());
        for (key, value) in [("Tgid", PID), ("Pid", PID), ("PPid", PARENT), ("TracerPid", 0)] {
            line(key, value.to_string());
        }
        for key in ["Uid", "Gid"] {
            line(key, format!("{UID}\t{UID}\t{UID}\t{UID}"));
        }
        line("FDSize", "256".into());
        line("Groups", String::new());
        let data = self.kilobytes(&[Kind::Heap, Kind::Private, Kind::File, Kind::Copy]);
        let (stack, image) = (self.kilobytes(&[Kind::Stack]), self.kilobytes(&[Kind::Image]));
        for (key, kb) in [
            ("VmPeak", size),
            ("VmSize", size),
            ("VmHWM", size),
            ("VmRSS", size),
            ("VmData", data),
            ("VmStk", stack),
            ("VmExe", image),
        ] {
            line(key, format!("{kb:>8} kB"));
        }
        line("Threads", "1".into());
        let (pending, blocked, ignored, caught) = self.signal_sets();
        for (key, set) in
            [("SigPnd", pending), ("ShdPnd", 0), ("SigBlk", blocked), ("SigIgn", ignored), ("SigCgt", caught)]
        {
            line(key, format!("{set:016x}"));
        }
        line("Cpus_allowed", "1".into());
        line("Cpus_allowed_list", "0".into());
        out
    }

    /// Pending, blocked, ignored and caught signals.
    fn signal_sets(&self) -> (u64, u64, u64, u64) {
        let (mut ignored, mut caught) = (0, 0);
        for signal in 1..=MAX_SIGNAL {
            match self.signals.action(signal).handler {
                0 => {}
                1 => ignored |= bit(signal),
                _ => caught |= bit(signal),
            }
        }
        (self.signals.pending_set(), self.signals.record.mask, ignored, caught)
    }

    /// The 52 fields of `/proc/PID/stat`.
    fn stat_line(&self) -> String {
        let name = String::from_utf8_lossy(self.thread_name()).into_owned();
        let ticks = self.host.clock.cpu().as_millis() * TICKS / 1000;
        let bytes = self.user.vmas().bytes();
        let (pages, m) = (bytes / PAGE, &self.mm.record);
        let (pending, blocked, ignored, caught) = self.signal_sets();
        let stack = self.files.settings.get().stack;
        format!(
            "{PID} ({name}) R {PARENT} {PID} {PID} 0 -1 0 0 0 0 0 {ticks} 0 0 0 20 0 1 0 0 {bytes} {pages} {limit} 0 0 \
             {stack} 0 0 {pending} {blocked} {ignored} {caught} 0 0 0 17 0 0 0 0 0 0 0 0 {brk} 0 0 0 0 0\n",
            limit = u64::MAX,
            brk = m.brk_start,
        )
    }
}

fn area_line(area: &Vma, inode: u64) -> String {
    let p = area.attributes.protection;
    let letter = |bit: u32, letter: char| if p & bit == 0 { '-' } else { letter };
    let (device, offset) = match inode {
        0 => ("00:00", 0),
        _ => ("00:1d", area.attributes.source.offset(area.start)),
    };
    format!(
        "{:08x}-{:08x} {}{}{}{} {offset:08x} {device} {inode} ",
        area.start,
        area.end,
        letter(READ, 'r'),
        letter(WRITE, 'w'),
        letter(EXEC, 'x'),
        if area.attributes.kind == Kind::Shared { 's' } else { 'p' },
    )
}
