//! `semper gdb`: gdb's remote protocol on one side, the control socket on the other.

mod line;
mod registers;
mod target;

use std::net::TcpListener;
use std::process::ExitCode;

use gdbstub::common::Signal;
use gdbstub::conn::ConnectionExt;
use gdbstub::stub::run_blocking::{BlockingEventLoop, Event, WaitForStopReasonError};
use gdbstub::stub::{DisconnectReason, GdbStub, SingleThreadStopReason};
use semper::control::{Connection, DebugReply, DebugRequest};

use super::Failure;
use super::failure::code;
use crate::cli::Gdb;
use line::Line;
use target::Remote;

/// How long the domain is waited for before it is looked whether gdb interrupts.
const LOOK_MILLISECONDS: u32 = 50;

pub fn run(command: &Gdb) -> Result<ExitCode, Failure> {
    let store = &command.store;
    let debugger = Connection::open(store).and_then(|c| c.debug(&command.domain, command.leave_stopped));
    let mut remote = Remote::new(debugger.map_err(|error| Failure::control(store, error))?);
    let line = match command.listen {
        None => Line::stdio().map_err(|error| Failure::io("standard input and output", &error))?,
        Some(address) => {
            let failed = |error| Failure::io(format_args!("listening on {address}"), &error);
            let listener = TcpListener::bind(address).map_err(failed)?;
            let address = listener.local_addr().map_err(failed)?;
            eprintln!("semper: the domain is stopped; in gdb: target remote {address}");
            Line::tcp(listener.accept().map_err(failed)?.0).map_err(failed)?
        }
    };
    match GdbStub::new(line).run_blocking::<Loop>(&mut remote) {
        Ok(DisconnectReason::Kill) => match remote.ask(&DebugRequest::Kill) {
            Ok(_) => Ok(ExitCode::SUCCESS),
            Err(told) => Err(Failure::new(code::FAILED, told)),
        },
        Ok(_) => Ok(ExitCode::SUCCESS),
        // gdb that goes away without a word is the end of the session like any other.
        Err(error) if error.is_connection_error() => Ok(ExitCode::SUCCESS),
        Err(error) => Err(Failure::new(code::FAILED, format!("the debugger's session ended: {error}"))),
    }
}

/// What is done while the domain runs.
enum Loop {}

type Reason = SingleThreadStopReason<u64>;

impl BlockingEventLoop for Loop {
    type Target = Remote;
    type Connection = Line;
    type StopReason = Reason;

    fn wait_for_stop_reason(
        remote: &mut Remote,
        line: &mut Line,
    ) -> Result<Event<Reason>, WaitForStopReasonError<String, std::io::Error>> {
        loop {
            if line.peek().map_err(WaitForStopReasonError::Connection)?.is_some() {
                return Ok(Event::IncomingData(line.read().map_err(WaitForStopReasonError::Connection)?));
            }
            let wait = DebugRequest::Wait { milliseconds: LOOK_MILLISECONDS };
            if let Some(reason) = reason(&remote.ask(&wait).map_err(WaitForStopReasonError::Target)?) {
                return Ok(Event::TargetStopped(reason));
            }
        }
    }

    fn on_interrupt(remote: &mut Remote) -> Result<Option<Reason>, String> {
        remote.ask(&DebugRequest::Interrupt)?;
        // It may have stopped for another reason just before.
        let stood = remote.ask(&DebugRequest::Wait { milliseconds: LOOK_MILLISECONDS })?;
        Ok(Some(reason(&stood).unwrap_or(SingleThreadStopReason::Signal(Signal::SIGINT))))
    }
}

fn reason(reply: &DebugReply) -> Option<Reason> {
    match reply {
        DebugReply::Stood { signal: 0, .. } => Some(SingleThreadStopReason::Terminated(Signal::SIGKILL)),
        DebugReply::Stood { breakpoint: true, .. } => Some(SingleThreadStopReason::SwBreak(())),
        DebugReply::Stood { signal, .. } => Some(SingleThreadStopReason::Signal(gdb_signal(*signal))),
        _ => None,
    }
}

/// gdb has numbers of its own for signals.
fn gdb_signal(signal: u32) -> Signal {
    match signal {
        2 => Signal::SIGINT,
        4 => Signal::SIGILL,
        7 => Signal::SIGBUS,
        8 => Signal::SIGFPE,
        9 => Signal::SIGKILL,
        11 => Signal::SIGSEGV,
        _ => Signal::SIGTRAP,
    }
}
