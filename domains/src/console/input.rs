//! Standard input: a regular file by position, anything else through a log of what was consumed and not yet committed.

use super::ConsoleFds;
use super::beside::{Beside, SideFile};
use super::mark::{HEADER_BYTES, Header, Kind};
use crate::kernel::bell::Bell;
use crate::linux::Input;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io;
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};

/// How far the log reads ahead of the program.
const READ_AHEAD: u64 = 64 << 10;

/// Where input comes from.
pub struct InputSide {
    log: Arc<Log>,
    source: Source,
}

enum Source {
    Nothing,
    File { fds: Arc<ConsoleFds>, base: i64 },
    Stream { _pump: Arc<()> },
}

/// Bytes that were read from a stream: positions `base..end`, in a file beside the store.
struct Log {
    domain: u64,
    file: SideFile,
    state: Mutex<LogState>,
    wanted: Condvar,
}

#[derive(Default)]
struct LogState {
    base: u64,
    end: u64,
    /// The program reads here; the pump stays at most `READ_AHEAD` ahead.
    reader: u64,
    hungry: bool,
    ended: bool,
    /// The end was typed at a terminal (Ctrl-D): it is told once, and then input may go on.
    ended_once: bool,
}

impl InputSide {
    /// Opens the log, keeping what an earlier life left in it.
    pub fn open(beside: &Arc<Beside>, domain: u64) -> io::Result<Self> {
        let file = SideFile::open(beside, format!("{domain}.in"))?;
        let state = match Header::read(&file, Kind::Input, domain) {
            Some(header) => {
                let kept = file.len()?.saturating_sub(HEADER_BYTES as u64);
                LogState { base: header.a, end: header.a.saturating_add(kept), ..LogState::default() }
            }
            None => {
                file.set_len(0)?;
                Header { domain, a: 0, b: 0 }.write(&file, Kind::Input)?;
                LogState::default()
            }
        };
        let log = Log { domain, file, state: Mutex::new(state), wanted: Condvar::new() };
        Ok(Self { log: Arc::new(log), source: Source::Nothing })
    }

    /// Input is a regular file whose byte `base + position` is next.
    pub fn connect_file(&mut self, fds: Arc<ConsoleFds>, base: i64) {
        self.source = Source::File { fds, base };
    }

    /// Input is a stream; a thread takes from it what the program wants, into the log.
    pub fn connect_stream(&mut self, fds: Arc<ConsoleFds>, position: u64, bell: Arc<Bell>) {
        let mut state = self.log.lock();
        (state.ended, state.ended_once) = (false, false);
        if position < state.base || position > state.end {
            // The log does not reach the program's position (it was lost with the power): input goes on from here.
            state.base = position;
            state.end = position;
            let _ = self.log.restart(&state);
        }
        drop(state);
        let pump = Arc::new(());
        let (log, alive) = (Arc::clone(&self.log), Arc::downgrade(&pump));
        let run = move || log.pump(&fds, &alive, &bell);
        if std::thread::Builder::new().name("console-in".into()).spawn(run).is_err() {
            self.log.lock().ended = true;
        }
        self.source = Source::Stream { _pump: pump };
    }

    /// Nothing is read from where input came from any more; what was read stays.
    pub fn disconnect(&mut self) {
        self.source = Source::Nothing;
    }

    /// The program was told that input ends here; at a terminal it may go on.
    pub fn end_was_told(&self) {
        self.log.lock().ended_once = false;
    }

    /// See [`crate::linux::Console::read`].
    pub fn read(&self, position: u64, out: &mut [u8]) -> Input {
        match &self.source {
            Source::File { fds, base } => {
                let Ok(at) = i64::try_from(position).map(|p| p.saturating_add(*base)) else { return Input::End };
                match nix::sys::uio::pread(fds.input.as_fd(), out, at) {
                    Ok(0) | Err(_) => Input::End,
                    Ok(n) => Input::Bytes(n),
                }
            }
            Source::Nothing | Source::Stream { .. } => self.log.read(position, out),
        }
    }

    /// The program has read up to `position`, of what the log may know nothing: then what comes next lies there.
    pub fn goes_on_at(&self, position: u64) {
        let mut state = self.log.lock();
        if position > state.end {
            (state.base, state.end) = (position, position);
            if let Err(error) = self.log.restart(&state) {
                tracing::warn!(%error, domain = self.log.domain, "the input log cannot be begun anew");
            }
        }
    }

    /// Input before `position` will never be asked for again.
    pub fn forget_before(&self, position: u64) {
        self.log.forget_before(position);
    }
}

impl Log {
    fn lock(&self) -> std::sync::MutexGuard<'_, LogState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn restart(&self, state: &LogState) -> io::Result<()> {
        self.file.set_len(HEADER_BYTES as u64)?;
        Header { domain: self.domain, a: state.base, b: 0 }.write(&self.file, Kind::Input)
    }

    fn read(&self, position: u64, out: &mut [u8]) -> Input {
        let mut state = self.lock();
        state.reader = position;
        if position >= state.end {
            if state.ended || state.ended_once {
                return Input::End;
            }
            state.hungry = true;
            self.wanted.notify_all();
            return Input::NotYet;
        }
        if position < state.base {
            return Input::End;
        }
        let n = usize::try_from(state.end - position).unwrap_or(usize::MAX).min(out.len());
        let at = HEADER_BYTES as u64 + position - state.base;
        match self.file.read_exact_at(&mut out[..n], at) {
            Ok(()) if n > 0 => Input::Bytes(n),
            _ => Input::NotYet,
        }
    }

    fn forget_before(&self, position: u64) {
        let mut state = self.lock();
        // Only when all of it is consumed: the file is small, and moving bytes could be torn.
        if position == state.end && state.base < position {
            state.base = position;
            if let Err(error) = self.restart(&state) {
                tracing::warn!(%error, domain = self.domain, "the input log cannot be shortened");
            }
        }
    }

    /// Moves bytes from the stream into the log while somebody wants them.
    fn pump(&self, fds: &ConsoleFds, alive: &Weak<()>, bell: &Bell) {
        let mut buffer = vec![0u8; 16 << 10];
        loop {
            let mut state = self.lock();
            while (!state.hungry || state.end.saturating_sub(state.reader) > READ_AHEAD) && alive.strong_count() > 0 {
                let wait = self.wanted.wait_timeout(state, std::time::Duration::from_millis(500));
                state = wait.unwrap_or_else(PoisonError::into_inner).0;
            }
            drop(state);
            if alive.strong_count() == 0 {
                return;
            }
            // Not a blocking read: another console may take this one's place, and bytes read then would be lost.
            let mut ready = [PollFd::new(fds.input.as_fd(), PollFlags::POLLIN)];
            match poll(&mut ready, PollTimeout::from(500u16)) {
                Ok(0) | Err(nix::errno::Errno::EINTR) => continue,
                Ok(_) | Err(_) => {}
            }
            let hung_up =
                ready[0].revents().is_none_or(|events| events.intersects(PollFlags::POLLHUP | PollFlags::POLLERR));
            if alive.strong_count() == 0 {
                return;
            }
            match nix::unistd::read(&fds.input, &mut buffer) {
                Ok(n) if n > 0 => self.append(&buffer[..n]),
                Err(nix::errno::Errno::EINTR | nix::errno::Errno::EAGAIN) => {}
                Ok(_) if !hung_up && nix::unistd::isatty(&fds.input).unwrap_or(false) => {
                    let mut state = self.lock();
                    (state.ended_once, state.hungry) = (true, false);
                }
                Ok(_) | Err(_) => {
                    self.lock().ended = true;
                    bell.ring();
                    return;
                }
            }
            bell.ring();
        }
    }

    fn append(&self, bytes: &[u8]) {
        let mut state = self.lock();
        let at = HEADER_BYTES as u64 + state.end - state.base;
        if let Err(error) = self.file.write_all_at(bytes, at) {
            tracing::error!(%error, domain = self.domain, "input cannot be kept; it ends here");
            state.ended = true;
            return;
        }
        state.end += bytes.len() as u64;
        state.hungry = false;
    }
}
