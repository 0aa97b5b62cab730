//! The bytes to and from gdb: standard input and output, or one TCP connection.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, OwnedFd};

use gdbstub::conn::{Connection, ConnectionExt};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// A line to gdb.
pub struct Line {
    input: File,
    output: File,
    read: VecDeque<u8>,
    unsent: Vec<u8>,
}

impl Line {
    /// Standard input and output.
    pub fn stdio() -> io::Result<Line> {
        let (input, output) = (io::stdin().as_fd().try_clone_to_owned()?, io::stdout().as_fd().try_clone_to_owned()?);
        Ok(Line::new(input, output))
    }

    /// A TCP connection.
    pub fn tcp(stream: TcpStream) -> io::Result<Line> {
        stream.set_nodelay(true)?;
        let output = OwnedFd::from(stream.try_clone()?);
        Ok(Line::new(stream.into(), output))
    }

    fn new(input: OwnedFd, output: OwnedFd) -> Line {
        Line { input: input.into(), output: output.into(), read: VecDeque::new(), unsent: Vec::new() }
    }

    fn fill(&mut self) -> io::Result<()> {
        let mut bytes = [0; 4096];
        let count = self.input.read(&mut bytes)?;
        if count == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.read.extend(&bytes[..count]);
        Ok(())
    }
}

impl Connection for Line {
    type Error = io::Error;

    fn write(&mut self, byte: u8) -> io::Result<()> {
        self.unsent.push(byte);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.write_all(&std::mem::take(&mut self.unsent))
    }
}

impl ConnectionExt for Line {
    fn read(&mut self) -> io::Result<u8> {
        loop {
            match self.read.pop_front() {
                Some(byte) => return Ok(byte),
                None => self.fill()?,
            }
        }
    }

    fn peek(&mut self) -> io::Result<Option<u8>> {
        if self.read.is_empty() {
            let mut polled = [PollFd::new(&self.input, PollFlags::IN)];
            if poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))? == 0 {
                return Ok(None);
            }
            self.fill()?;
        }
        Ok(self.read.front().copied())
    }
}
