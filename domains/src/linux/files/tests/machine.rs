//! A program that is not run: a test plays its processor, its store and its console.

use crate::cpu::{BadExtendedState, Cpu, ExtendedState, Registers};
use crate::linux::{
    Clock, Console, ConsoleKind, Errno, Host, Input, Network, NoNetwork, Outcome, Program, ProgramSpec, SegmentError,
    Segments, Stream, Wait,
};
use crate::table::TableMemory;
use semper_pager::{Backing, BackingError, Pager, PagerConfig, Segment};
use semper_store::{PageIndex, SegmentId};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Memory that the test's program may read and write: strings go to its start, buffers behind them.
pub const DATA: u64 = 0x40_2000;
/// A buffer, with [`BUFFER_BYTES`] bytes.
pub const BUFFER: u64 = DATA + 0x4000;
pub const BUFFER_BYTES: u64 = 1 << 20;
const DATA_BYTES: u64 = 0x4000 + BUFFER_BYTES;

struct Zeros;

impl Backing for Zeros {
    fn read(&self, _: SegmentId, _: PageIndex, out: &mut [u8]) -> Result<(), BackingError> {
        out.fill(0);
        Ok(())
    }
}

pub struct TestSegments {
    pager: Arc<Pager>,
    all: Mutex<BTreeMap<SegmentId, Arc<Segment>>>,
    next: AtomicU64,
    /// Pages that the store says it has room for.
    pub room: AtomicU64,
}

impl TestSegments {
    fn make(&self, pages: u64) -> Arc<Segment> {
        let id = SegmentId(self.next.fetch_add(1, SeqCst));
        self.pager.create_segment(id, pages).unwrap()
    }

    /// The segments that exist.
    pub fn alive(&self) -> Vec<SegmentId> {
        self.all.lock().unwrap().keys().copied().collect()
    }
}

impl Segments for TestSegments {
    fn create(&self, pages: u64) -> Result<Arc<Segment>, SegmentError> {
        let segment = self.make(pages);
        self.all.lock().unwrap().insert(segment.id(), Arc::clone(&segment));
        Ok(segment)
    }

    fn open(&self, id: SegmentId) -> Result<Arc<Segment>, SegmentError> {
        let missing = || SegmentError { what: format!("open {id}"), reason: "there is none".into() };
        self.all.lock().unwrap().get(&id).cloned().ok_or_else(missing)
    }

    fn remove(&self, id: SegmentId) {
        assert!(self.all.lock().unwrap().remove(&id).is_some(), "{id} is removed twice");
        self.pager.remove_segment(id);
    }

    fn room_for(&self, pages: u64) -> bool {
        pages <= self.room.load(SeqCst)
    }
}

pub struct TestConsole {
    pub kinds: Mutex<[ConsoleKind; 3]>,
    pub input: Mutex<Vec<u8>>,
    pub ended: AtomicBool,
    /// Standard error goes where standard output goes.
    pub joined: AtomicBool,
    /// Nobody reads standard output any more.
    pub broken: AtomicBool,
}

impl Console for TestConsole {
    fn read(&self, position: u64, out: &mut [u8]) -> Input {
        let input = self.input.lock().unwrap();
        let rest = input.get(usize::try_from(position).unwrap_or(usize::MAX)..).unwrap_or(&[]);
        let count = rest.len().min(out.len());
        out[..count].copy_from_slice(&rest[..count]);
        match count {
            0 if self.ended.load(SeqCst) => Input::End,
            0 => Input::NotYet,
            _ => Input::Bytes(count),
        }
    }

    fn kind(&self, stream: Stream) -> ConsoleKind {
        self.kinds.lock().unwrap()[match stream {
            Stream::In => 0,
            Stream::Out => 1,
            Stream::Err => 2,
        }]
    }

    fn is_joined(&self) -> bool {
        self.joined.load(SeqCst)
    }

    fn is_broken(&self, stream: Stream) -> bool {
        stream == Stream::Out && self.broken.load(SeqCst)
    }

    fn wrote(&self, _: Stream, _: u64) {}
}

#[derive(Default)]
pub struct TestClock(AtomicU64);

impl TestClock {
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(u64::try_from(by.as_nanos()).unwrap(), SeqCst);
    }
}

impl Clock for TestClock {
    fn monotonic(&self) -> Duration {
        Duration::from_secs(100) + Duration::from_nanos(self.0.load(SeqCst))
    }

    fn realtime(&self) -> Duration {
        Duration::from_secs(1_700_000_000) + self.monotonic()
    }

    fn cpu(&self) -> Duration {
        Duration::from_millis(1230)
    }
}

#[derive(Clone)]
struct StateMemory(Arc<Mutex<Vec<u8>>>);

impl TableMemory for StateMemory {
    fn len_bytes(&self) -> u64 {
        self.0.lock().unwrap().len() as u64
    }

    fn read(&self, offset: u64, out: &mut [u8]) {
        let at = usize::try_from(offset).unwrap();
        out.copy_from_slice(&self.0.lock().unwrap()[at..at + out.len()]);
    }

    fn write(&self, offset: u64, data: &[u8]) {
        let at = usize::try_from(offset).unwrap();
        self.0.lock().unwrap()[at..at + data.len()].copy_from_slice(data);
    }
}

struct NoVectors;

impl ExtendedState for NoVectors {
    fn load(&self) -> Vec<u8> {
        Vec::new()
    }

    fn store(&mut self, _: &[u8]) -> Result<(), BadExtendedState> {
        Ok(())
    }
}

/// A program, and everything around it.
pub struct Machine {
    pub program: Program,
    pub segments: Arc<TestSegments>,
    pub console: Arc<TestConsole>,
    pub clock: Arc<TestClock>,
    pub regs: Registers,
    host: Host,
    memory: Arc<Segment>,
    state: StateMemory,
    strings: u64,
}

/// The smallest ELF file: a page of code, and [`DATA_BYTES`] of writable memory.
fn image() -> Vec<u8> {
    let mut out = Vec::new();
    out.extend_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    for half in [2_u16, 62] {
        out.extend_from_slice(&half.to_le_bytes());
    }
    out.extend_from_slice(&1_u32.to_le_bytes());
    for word in [0x40_0100_u64, 64, 0] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    out.extend_from_slice(&0_u32.to_le_bytes());
    for half in [64_u16, 56, 2, 64, 0, 0] {
        out.extend_from_slice(&half.to_le_bytes());
    }
    for (flags, address, in_file, in_memory) in [(5_u32, 0x40_0000_u64, 0x200_u64, 0x200_u64), (6, DATA, 0, DATA_BYTES)]
    {
        out.extend_from_slice(&1_u32.to_le_bytes());
        out.extend_from_slice(&flags.to_le_bytes());
        for word in [0, address, address, in_file, in_memory, 0x1000] {
            out.extend_from_slice(&word.to_le_bytes());
        }
    }
    out.resize(0x200, 0x90);
    out
}

impl Machine {
    pub fn new() -> Self {
        Self::with_console([ConsoleKind::Pipe; 3])
    }

    pub fn with_console(kinds: [ConsoleKind; 3]) -> Self {
        Self::build(kinds, Arc::new(NoNetwork))
    }

    pub fn with_network(network: Arc<dyn Network>) -> Self {
        Self::build([ConsoleKind::Pipe; 3], network)
    }

    fn build(kinds: [ConsoleKind; 3], network: Arc<dyn Network>) -> Self {
        let segments = Arc::new(TestSegments {
            pager: Pager::new(PagerConfig::default(), Arc::new(Zeros)).unwrap(),
            all: Mutex::default(),
            next: AtomicU64::new(10),
            room: AtomicU64::new(1 << 30),
        });
        let console = Arc::new(TestConsole {
            kinds: Mutex::new(kinds),
            input: Mutex::default(),
            ended: AtomicBool::new(false),
            joined: AtomicBool::new(false),
            broken: AtomicBool::new(false),
        });
        let clock = Arc::new(TestClock::default());
        let host = Host {
            answers: None,
            segments: Arc::clone(&segments) as Arc<dyn Segments>,
            console: Arc::clone(&console) as Arc<dyn Console>,
            network,
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            journal: Arc::new(super::journal::TestJournal::default()),
            restart: Arc::new(|| crate::linux::Restart {
                restarts: 2,
                id: [1, 2],
                generation: 7,
                began: 3_000_000_004,
            }),
            random: Arc::new(|out: &mut [u8]| out.fill(0x5a)),
            keys: Arc::new(crate::linux::tests::support::TestKeys::default()),
            name: "test".into(),
        };
        let memory = segments.make(crate::abi::WINDOW_END >> 12);
        let state = StateMemory(Arc::new(Mutex::new(vec![0; 4096 * 4096])));
        let image = image();
        let spec = ProgramSpec {
            path: b"/bin/test",
            image: &image,
            interpreter: None,
            args: vec![b"test".to_vec(), b"one two".to_vec()],
            env: vec![b"HOME=/".to_vec()],
            hwcap2: 0,
        };
        let (mut program, start) =
            Program::create(host.clone(), Arc::clone(&memory), Box::new(state.clone()), &spec).unwrap();
        program.set_program(b"/bin/test", &image, start).unwrap();
        let regs = Registers { rip: start.rip, rsp: start.rsp, ..Registers::default() };
        Self { program, segments, console, clock, regs, host, memory, state, strings: DATA }
    }

    /// The runtime dies, and a new one opens what was there.
    pub fn restart(&mut self) {
        let (memory, state) = (Arc::clone(&self.memory), Box::new(self.state.clone()));
        self.program = Program::load(self.host.clone(), memory, state).unwrap();
    }

    /// As [`Self::restart`], in a life with another id.
    pub fn restart_in_another_life(&mut self) {
        let mut life = (self.host.restart)();
        life.id[0] += 1;
        self.host.restart = Arc::new(move || life);
        self.restart();
    }

    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Gives a call.
    pub fn step(&mut self, number: u64, arguments: &[u64]) -> Outcome {
        let mut a = [0; 6];
        a[..arguments.len()].copy_from_slice(arguments);
        let r = &mut self.regs;
        r.rax = number;
        [r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.r9] = a;
        self.strings = DATA;
        self.again()
    }

    /// Gives the same call again.
    pub fn again(&mut self) -> Outcome {
        let mut cpu = Cpu { regs: self.regs, fs_base: 0, gs_base: 0, extended: &mut NoVectors };
        let outcome = self.program.syscall(&mut cpu);
        self.regs = cpu.regs;
        assert_eq!(self.program.files.check(), None);
        outcome
    }

    /// What the last call that answered said.
    pub fn result(&self) -> Result<u64, Errno> {
        let errno = self.regs.rax.wrapping_neg();
        if (1..4096).contains(&errno) { Err(Errno(u16::try_from(errno).unwrap())) } else { Ok(self.regs.rax) }
    }

    /// Gives a call that must answer at once.
    pub fn call(&mut self, number: u64, arguments: &[u64]) -> Result<u64, Errno> {
        assert_eq!(self.step(number, arguments), Outcome::Resume, "call {number} {arguments:x?}");
        self.result()
    }

    /// Gives a call that must wait.
    pub fn wait(&mut self, number: u64, arguments: &[u64]) -> Wait {
        match self.step(number, arguments) {
            Outcome::Wait(wait) => wait,
            other => panic!("call {number} {arguments:x?} does not wait: {other:?} {:?}", self.result()),
        }
    }

    /// Puts a string into the program's memory, until the next call.
    pub fn text(&mut self, text: &str) -> u64 {
        let at = self.strings;
        self.poke(at, text.as_bytes());
        self.poke(at + text.len() as u64, &[0]);
        self.strings += text.len() as u64 + 1;
        at
    }

    pub fn poke(&self, address: u64, bytes: &[u8]) {
        self.memory.write_at(address, bytes).unwrap();
    }

    pub fn peek(&self, address: u64, length: u64) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(length).unwrap()];
        self.memory.read_at(address, &mut bytes).unwrap();
        bytes
    }

    pub fn peek_u64(&self, address: u64) -> u64 {
        u64::from_le_bytes(self.peek(address, 8).try_into().unwrap())
    }

    pub fn open(&mut self, path: &str, flags: u64) -> Result<u64, Errno> {
        let path = self.text(path);
        self.call(2, &[path, flags, 0o644])
    }

    pub fn write(&mut self, fd: u64, bytes: &[u8]) -> Result<u64, Errno> {
        self.poke(BUFFER, bytes);
        self.call(1, &[fd, BUFFER, bytes.len() as u64])
    }

    pub fn read(&mut self, fd: u64, length: u64) -> Result<Vec<u8>, Errno> {
        let count = self.call(0, &[fd, BUFFER, length])?;
        Ok(self.peek(BUFFER, count))
    }

    /// Makes a file with this content.
    pub fn put(&mut self, path: &str, bytes: &[u8]) {
        let fd = self.open(path, 0o1101).unwrap();
        assert_eq!(self.write(fd, bytes), Ok(bytes.len() as u64));
        self.close(fd);
    }

    /// The content of a file.
    pub fn get(&mut self, path: &str) -> Result<Vec<u8>, Errno> {
        let fd = self.open(path, 0)?;
        let mut all = Vec::new();
        loop {
            match self.read(fd, BUFFER_BYTES)? {
                more if more.is_empty() => break,
                more => all.extend(more),
            }
        }
        self.close(fd);
        Ok(all)
    }

    pub fn close(&mut self, fd: u64) {
        assert_eq!(self.call(3, &[fd]), Ok(0));
    }

    /// A call with one path.
    pub fn at(&mut self, number: u64, path: &str, rest: &[u64]) -> Result<u64, Errno> {
        let path = self.text(path);
        self.call(number, &[&[path], rest].concat())
    }

    /// A call with two paths.
    pub fn two(&mut self, number: u64, from: &str, to: &str) -> Result<u64, Errno> {
        let paths = [self.text(from), self.text(to)];
        self.call(number, &paths)
    }

    /// Mode and size, by `stat`.
    pub fn stat(&mut self, path: &str) -> Result<(u32, u64, u64), Errno> {
        self.at(4, path, &[BUFFER])?;
        let mode = u32::from_le_bytes(self.peek(BUFFER + 24, 4).try_into().unwrap());
        Ok((mode, self.peek_u64(BUFFER + 48), self.peek_u64(BUFFER + 16)))
    }

    /// The names in a directory, `.` and `..` left out, sorted.
    pub fn list(&mut self, path: &str) -> Vec<String> {
        let fd = self.open(path, 0o200_000).unwrap();
        let mut names = Vec::new();
        loop {
            // Little room, so that it takes several calls.
            let count = self.call(217, &[fd, BUFFER, 64]).unwrap();
            if count == 0 {
                break;
            }
            names.extend(self.entries(count));
        }
        self.close(fd);
        names.retain(|name| name != "." && name != "..");
        names.sort();
        names
    }

    /// The names that `getdents64` put into the buffer.
    pub fn entries(&self, count: u64) -> Vec<String> {
        let bytes = self.peek(BUFFER, count);
        let (mut at, mut names) = (0, Vec::new());
        while at < bytes.len() {
            let length = usize::from(u16::from_le_bytes([bytes[at + 16], bytes[at + 17]]));
            let name = &bytes[at + 19..at + length];
            let end = name.iter().position(|&b| b == 0).unwrap();
            names.push(String::from_utf8(name[..end].to_vec()).unwrap());
            at += length;
        }
        names
    }
}
