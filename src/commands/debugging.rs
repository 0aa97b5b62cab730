//! A debugger's session as the control socket serves it.

use std::time::Duration;

use semper::control::{DebugReply, DebugRequest, Debugged, MAX_MEMORY_BYTES};
use semper::runtime::{Debugger, Stood};

/// The longest wait that one request may ask for: whoever hung up is noticed after it.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// A domain that a debugger is on.
pub struct Debugging(pub Debugger);

impl Debugged for Debugging {
    fn serve(&mut self, request: DebugRequest) -> DebugReply {
        let debugger = &self.0;
        let served = match request {
            DebugRequest::Registers => debugger.registers().map(DebugReply::Bytes),
            DebugRequest::SetRegisters { state } => debugger.set_registers(&state).map(|()| DebugReply::Done(true)),
            DebugRequest::Read { address, len } => {
                let len = usize::try_from(len.min(MAX_MEMORY_BYTES)).unwrap_or(0);
                debugger.read(address, len).map(DebugReply::Bytes)
            }
            DebugRequest::Write { address, bytes } => debugger.write(address, &bytes).map(DebugReply::Done),
            DebugRequest::Breakpoint { address, on } => debugger.set_breakpoint(address, on).map(DebugReply::Done),
            DebugRequest::Go { step, pass_on } => debugger.go(step, pass_on).map(|()| DebugReply::Done(true)),
            DebugRequest::Interrupt => debugger.interrupt().map(|()| DebugReply::Done(true)),
            DebugRequest::Wait { milliseconds } => {
                let patience = Duration::from_millis(milliseconds.into()).min(LONGEST_WAIT);
                Ok(match debugger.wait(patience) {
                    Some(Stood::Signal(signal)) => DebugReply::Stood { signal, breakpoint: false },
                    Some(Stood::Breakpoint) => DebugReply::Stood { signal: 5, breakpoint: true },
                    Some(Stood::Gone) => DebugReply::Stood { signal: 0, breakpoint: false },
                    None => DebugReply::Runs,
                })
            }
            DebugRequest::Kill => debugger.kill().map(|()| DebugReply::Done(true)),
        };
        served.unwrap_or_else(|error| DebugReply::Failed(error.to_string()))
    }
}
