//! The runtime as the control socket serves it.

use std::ffi::{OsStr, OsString};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use semper::control::{self, Debugged, Ending, Gone, Handed, Program, Refusal, Rotten, Served};
use semper::runtime::{
    Act, ConsoleFds, ExitStatus, Grants, HandOver, Import, Listen, Moved, NewProgram, Runtime, RuntimeError, StartKey,
    TerminalOf,
};
use semper_domains::console::share_controlling_terminal;
use semper_journal::{Trimmed, Wish};
use semper_store::{Block, BlockKind};

use super::Failure;
use super::debugging::Debugging;
use super::failure::code;
use crate::cli::parse_cpu;

/// A runtime that commands and signals can stop.
pub struct Stoppable {
    runtime: Arc<Runtime>,
    /// The exit code that says who stopped it; 0 while nobody has.
    stopped_with: Arc<AtomicU8>,
    /// Held by who stops it, with what came of it once that is known.
    outcome: Arc<Mutex<Option<Result<(), Refusal>>>>,
}

impl Stoppable {
    /// Wraps a running runtime.
    pub fn new(runtime: Arc<Runtime>) -> Stoppable {
        Stoppable { runtime, stopped_with: Arc::default(), outcome: Arc::default() }
    }

    /// The runtime.
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Stops the runtime cleanly, once; `code` is the exit code of the foreground command then.
    pub fn stop_with(&self, code: u8) -> Result<(), Refusal> {
        let mut outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(outcome) = &*outcome {
            return outcome.clone();
        }
        self.stopped_with.store(code, Ordering::Release);
        let stopped = self.runtime.stop().map_err(refusal);
        outcome.insert(stopped).clone()
    }

    /// The exit code if it was stopped, and what came of the stop.
    pub fn stopped(&self) -> Option<(u8, Result<(), Refusal>)> {
        match self.stopped_with.load(Ordering::Acquire) {
            0 => None,
            code => Some((code, self.stop_with(code))),
        }
    }
}

/// A world that stands, and what is to be told when it has moved.
struct Leaving {
    world: HandOver,
    runtime: Arc<Runtime>,
    stopped_with: Arc<AtomicU8>,
    outcome: Arc<Mutex<Option<Result<(), Refusal>>>>,
}

impl Handed for Leaving {
    fn moved(self: Box<Self>, to: String, id: [u8; 16]) -> Result<(), Refusal> {
        let mut outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        if outcome.is_some() {
            let message = "the runtime was stopped meanwhile".to_owned();
            return Err(Refusal { code: code::NOT_RUNNING, message });
        }
        self.world.complete(&Moved { to, id }).map_err(refusal)?;
        self.stopped_with.store(code::STOPPED, Ordering::Release);
        *outcome = Some(Ok(()));
        drop(outcome);
        // The other end waits for the answer, and not for what becomes of the memory here.
        let runtime = Arc::clone(&self.runtime);
        if std::thread::Builder::new().name("leaving".to_owned()).spawn(move || runtime.close_moved()).is_err() {
            self.runtime.close_moved();
        }
        Ok(())
    }
}

fn refusal(error: RuntimeError) -> Refusal {
    Failure::from(error).into()
}

fn json(document: &impl serde::Serialize) -> Result<String, Refusal> {
    serde_json::to_string(document)
        .map_err(|error| Refusal { code: code::FAILED, message: format!("the answer is no JSON: {error}") })
}

/// A program as it travels over the socket.
pub fn to_message(program: &NewProgram) -> Program {
    let bytes = |text: &OsStr| text.as_bytes().to_vec();
    Program {
        name: program.name.clone(),
        path: bytes(program.program.as_os_str()),
        args: program.args.iter().map(|arg| bytes(arg)).collect(),
        env: program.env.iter().map(|(name, value)| (bytes(name), bytes(value))).collect(),
        files: program
            .files
            .iter()
            .map(|file| (bytes(file.host.as_os_str()), file.guest.clone().unwrap_or_default()))
            .collect(),
        native: program.native,
        keys: program.keys.iter().map(|key| (key.slot, key.domain.clone(), key.badge)).collect(),
        listens: program.network.listens.iter().map(|one| (packed(one.address), one.port)).collect(),
        connects: program.network.connects.iter().map(|to| packed(*to)).collect(),
        record: program.record,
        cpu: program.cpu.map(|level| level.to_string()),
    }
}

/// An address as it travels.
fn packed(address: SocketAddrV4) -> (u32, u16) {
    (address.ip().to_bits(), address.port())
}

fn unpacked((ip, port): (u32, u16)) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::from_bits(ip), port)
}

/// A block as it travels.
pub fn to_rotten(block: &Block) -> Rotten {
    let Block { place, birth, checksum, kind } = *block;
    let (page, level) = match kind {
        BlockKind::Page { segment, page } => (Some((segment, page)), 0),
        BlockKind::Node { level } => (None, level),
    };
    Rotten { place, birth, checksum, page, level }
}

fn from_rotten(block: &Rotten) -> Block {
    let Rotten { place, birth, checksum, page, level } = *block;
    let kind = page.map_or(BlockKind::Node { level }, |(segment, page)| BlockKind::Page { segment, page });
    Block { place, birth, checksum, kind }
}

fn from_message(program: Program) -> Result<NewProgram, Refusal> {
    let cpu = program.cpu.as_deref().map(parse_cpu).transpose();
    let cpu = cpu.map_err(|message| Refusal { code: code::USAGE, message })?;
    Ok(NewProgram {
        name: program.name,
        program: OsString::from_vec(program.path).into(),
        args: program.args.into_iter().map(OsString::from_vec).collect(),
        env: program
            .env
            .into_iter()
            .map(|(name, value)| (OsString::from_vec(name), OsString::from_vec(value)))
            .collect(),
        files: program
            .files
            .into_iter()
            .map(|(host, guest)| Import {
                host: OsString::from_vec(host).into(),
                guest: Some(guest).filter(|guest| !guest.is_empty()),
            })
            .collect(),
        native: program.native,
        keys: program.keys.into_iter().map(|(slot, domain, badge)| StartKey { slot, domain, badge }).collect(),
        network: Grants {
            listens: program
                .listens
                .into_iter()
                .map(|(address, port)| Listen { address: unpacked(address), port })
                .collect(),
            connects: program.connects.into_iter().map(unpacked).collect(),
        },
        record: program.record,
        cpu: cpu.and_then(|cpu| cpu.0),
    })
}

impl Served for Stoppable {
    fn status(&self) -> Result<String, Refusal> {
        json(&self.runtime.status())
    }

    fn list(&self, depth: u32) -> Result<String, Refusal> {
        json(&self.runtime.listing(depth).map_err(refusal)?)
    }

    fn inspect(&self, object: &str) -> Result<String, Refusal> {
        json(&self.runtime.inspect(object).map_err(refusal)?)
    }

    fn operate(&self, domain: &str, act: control::Act) -> Result<(), Refusal> {
        let act = match act {
            control::Act::Kill => Act::Kill,
            control::Act::Stop => Act::Stop,
            control::Act::Start => Act::Start,
        };
        self.runtime.operate(domain, act).map_err(refusal)
    }

    fn debug(&self, domain: &str, leave_stopped: bool) -> Result<Box<dyn Debugged>, Refusal> {
        let debugger = self.runtime.debug(domain, leave_stopped).map_err(refusal)?;
        Ok(Box::new(Debugging(debugger)))
    }

    fn hold(&self, generation: Option<u64>) -> Result<(u64, Box<dyn Send>), Refusal> {
        let hold = self.runtime.hold(generation).map_err(refusal)?;
        Ok((hold.generation().0, Box::new(hold)))
    }

    fn tag(&self, name: &str, generation: Option<u64>) -> Result<u64, Refusal> {
        self.runtime.tag(name, generation).map_err(refusal)
    }

    fn untag(&self, name: &str) -> Result<u64, Refusal> {
        self.runtime.untag(name).map_err(refusal)
    }

    fn grow(&self, size_bytes: u64) -> Result<(), Refusal> {
        self.runtime.grow(size_bytes).map_err(refusal)
    }

    fn shrink(&self, size_bytes: u64) -> Result<(), Refusal> {
        self.runtime.shrink(size_bytes).map_err(refusal)
    }

    fn add_mirror(&self, dir: &[u8], rate: u64) -> Result<(), Refusal> {
        self.runtime.add_mirror(Path::new(OsStr::from_bytes(dir)), rate).map_err(refusal)
    }

    fn remove_mirror(&self, dir: &[u8]) -> Result<(), Refusal> {
        self.runtime.remove_mirror(Path::new(OsStr::from_bytes(dir))).map_err(refusal)
    }

    fn mend(&self, blocks: &[Rotten]) -> Vec<u32> {
        let left = (0..).zip(blocks).filter(|(_, block)| self.runtime.mend(&from_rotten(block)).is_none());
        left.map(|(at, _)| at).collect()
    }

    fn mend_journal(&self) -> Result<u64, Refusal> {
        self.runtime.mend_journal().map_err(refusal)
    }

    fn trim_journal(&self, wish: &Wish) -> Result<Option<Gone>, Refusal> {
        let trimmed = self.runtime.trim_journal(wish).map_err(refusal)?;
        Ok(trimmed.map(|Trimmed { records, segments, first }| Gone { records, segments, first }))
    }

    fn cover_journal(&self, before: u64) -> Result<(), Refusal> {
        self.runtime.cover_journal(before).map_err(refusal)
    }

    fn checkpoint(&self) -> Result<u64, Refusal> {
        self.runtime.checkpoint().map_err(refusal)
    }

    fn stop(&self) -> Result<(), Refusal> {
        self.stop_with(code::STOPPED)
    }

    fn run(&self, program: Program, [input, output, error]: [OwnedFd; 3]) -> Result<u64, Refusal> {
        share_controlling_terminal(input.as_fd());
        self.runtime.add(from_message(program)?, ConsoleFds { input, output, error }).map_err(refusal)
    }

    fn wait(&self, domain: u64) -> Ending {
        match self.runtime.wait(Some(domain)) {
            Some(ExitStatus::Code(code)) => Ending::Exited(code),
            Some(ExitStatus::Signal(signal)) => Ending::Signaled(signal),
            None => Ending::Stopped,
        }
    }

    fn signal(&self, domain: u64, signal: u8) -> bool {
        self.runtime.signal_from_terminal(TerminalOf::Domain(domain), signal)
    }

    fn hand_over(&self) -> Result<(u64, Box<dyn Handed>), Refusal> {
        let world = self.runtime.hand_over().map_err(refusal)?;
        let generation = world.generation().0;
        let (runtime, stopped_with, outcome) =
            (Arc::clone(&self.runtime), Arc::clone(&self.stopped_with), Arc::clone(&self.outcome));
        Ok((generation, Box::new(Leaving { world, runtime, stopped_with, outcome })))
    }

    fn detach(&self, domain: u64) {
        self.runtime.detach(domain);
    }
}
