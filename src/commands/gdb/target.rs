//! The domain as gdbstub sees it.

use gdbstub::common::Signal;
use gdbstub::target::ext::base::BaseOps;
use gdbstub::target::ext::base::singlethread::{
    SingleThreadBase, SingleThreadResume, SingleThreadResumeOps, SingleThreadSingleStep, SingleThreadSingleStepOps,
};
use gdbstub::target::ext::breakpoints::{Breakpoints, BreakpointsOps, SwBreakpoint, SwBreakpointOps};
use gdbstub::target::{Target, TargetError, TargetResult};
use semper::control::{DebugConnection, DebugReply, DebugRequest, MAX_MEMORY_BYTES};

use super::registers::{Amd64, Packet, to_packet, to_state};

/// The domain, through the control socket.
pub struct Remote(DebugConnection);

impl Remote {
    /// Over a session that has begun.
    pub fn new(connection: DebugConnection) -> Remote {
        Remote(connection)
    }

    /// Asks the runtime; the error ends the session.
    pub fn ask(&mut self, request: &DebugRequest) -> Result<DebugReply, String> {
        match self.0.ask(request) {
            Ok(DebugReply::Failed(told)) => Err(told),
            Ok(reply) => Ok(reply),
            Err(error) => Err(format!("the runtime: {error}")),
        }
    }

    /// Asks for what may be impossible; gdb is told, and goes on.
    fn done(&mut self, request: &DebugRequest) -> TargetResult<bool, Self> {
        match self.0.ask(request) {
            Ok(DebugReply::Done(done)) => Ok(done),
            Ok(_) => Err(TargetError::NonFatal),
            Err(error) => Err(TargetError::Fatal(format!("the runtime: {error}"))),
        }
    }

    fn bytes(&mut self, request: &DebugRequest) -> TargetResult<Vec<u8>, Self> {
        match self.0.ask(request) {
            Ok(DebugReply::Bytes(bytes)) => Ok(bytes),
            Ok(_) => Err(TargetError::NonFatal),
            Err(error) => Err(TargetError::Fatal(format!("the runtime: {error}"))),
        }
    }

    fn go(&mut self, step: bool, signal: Option<Signal>) -> Result<(), String> {
        self.ask(&DebugRequest::Go { step, pass_on: signal.is_some() }).map(drop)
    }
}

fn changed(done: bool) -> TargetResult<(), Remote> {
    if done { Ok(()) } else { Err(TargetError::NonFatal) }
}

impl Target for Remote {
    type Arch = Amd64;
    type Error = String;

    fn base_ops(&mut self) -> BaseOps<'_, Amd64, String> {
        BaseOps::SingleThread(self)
    }

    fn support_breakpoints(&mut self) -> Option<BreakpointsOps<'_, Self>> {
        Some(self)
    }
}

impl SingleThreadBase for Remote {
    fn read_registers(&mut self, registers: &mut Packet) -> TargetResult<(), Self> {
        *registers = to_packet(&self.state()?);
        Ok(())
    }

    fn write_registers(&mut self, registers: &Packet) -> TargetResult<(), Self> {
        let state = to_state(&self.state()?, registers);
        let done = self.done(&DebugRequest::SetRegisters { state })?;
        changed(done)
    }

    fn read_addrs(&mut self, address: u64, data: &mut [u8]) -> TargetResult<usize, Self> {
        let len = u32::try_from(data.len()).unwrap_or(u32::MAX).min(MAX_MEMORY_BYTES);
        let bytes = self.bytes(&DebugRequest::Read { address, len })?;
        let count = bytes.len().min(data.len());
        data[..count].copy_from_slice(&bytes[..count]);
        if count == 0 && !data.is_empty() { Err(TargetError::NonFatal) } else { Ok(count) }
    }

    fn write_addrs(&mut self, address: u64, data: &[u8]) -> TargetResult<(), Self> {
        let done = self.done(&DebugRequest::Write { address, bytes: data.to_vec() })?;
        changed(done)
    }

    fn support_resume(&mut self) -> Option<SingleThreadResumeOps<'_, Self>> {
        Some(self)
    }
}

impl Remote {
    fn state(&mut self) -> TargetResult<Vec<u8>, Self> {
        let state = self.bytes(&DebugRequest::Registers)?;
        if state.len() < 25 * 8 { Err(TargetError::NonFatal) } else { Ok(state) }
    }
}

impl SingleThreadResume for Remote {
    fn resume(&mut self, signal: Option<Signal>) -> Result<(), String> {
        self.go(false, signal)
    }

    fn support_single_step(&mut self) -> Option<SingleThreadSingleStepOps<'_, Self>> {
        Some(self)
    }
}

impl SingleThreadSingleStep for Remote {
    fn step(&mut self, signal: Option<Signal>) -> Result<(), String> {
        self.go(true, signal)
    }
}

impl Breakpoints for Remote {
    fn support_sw_breakpoint(&mut self) -> Option<SwBreakpointOps<'_, Self>> {
        Some(self)
    }
}

impl SwBreakpoint for Remote {
    fn add_sw_breakpoint(&mut self, address: u64, _: usize) -> TargetResult<bool, Self> {
        self.done(&DebugRequest::Breakpoint { address, on: true })
    }

    fn remove_sw_breakpoint(&mut self, address: u64, _: usize) -> TargetResult<bool, Self> {
        self.done(&DebugRequest::Breakpoint { address, on: false })
    }
}
