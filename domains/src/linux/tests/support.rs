//! A host in which time stands still unless told, and a program that a test gives calls to.

use crate::cpu::{BadExtendedState, Cpu, ExtendedState, Registers};
use crate::guest::Message;
use crate::linux::*;
use crate::table::TableMemory;
use semper_pager::{Backing, BackingError, PageIndex, Pager, PagerConfig, Segment, SegmentId};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Pages of a program's memory: the window.
pub const MEMORY_PAGES: u64 = crate::abi::WINDOW_END >> 12;

/// A store that holds nothing.
struct Nothing;

impl Backing for Nothing {
    fn read(&self, _: SegmentId, _: PageIndex, out: &mut [u8]) -> Result<(), BackingError> {
        out.fill(0);
        Ok(())
    }
}

/// Segments by number.
pub struct TestSegments {
    pager: Arc<Pager>,
    next: AtomicU64,
}

impl TestSegments {
    pub fn new() -> Arc<Self> {
        let pager = Pager::new(PagerConfig::default(), Arc::new(Nothing)).unwrap();
        Arc::new(Self { pager, next: AtomicU64::new(10) })
    }

    pub fn make(&self, pages: u64) -> Arc<Segment> {
        self.pager.create_segment(SegmentId(self.next.fetch_add(1, Ordering::SeqCst)), pages).unwrap()
    }
}

impl Segments for TestSegments {
    fn create(&self, pages: u64) -> Result<Arc<Segment>, SegmentError> {
        Ok(self.make(pages))
    }

    fn open(&self, id: SegmentId) -> Result<Arc<Segment>, SegmentError> {
        let missing = || SegmentError { what: format!("open {id}"), reason: "there is none".into() };
        self.pager.segment(id).ok_or_else(missing)
    }

    fn remove(&self, id: SegmentId) {
        self.pager.remove_segment(id);
    }

    fn room_for(&self, _: u64) -> bool {
        true
    }
}

struct NoConsole;

impl Console for NoConsole {
    fn read(&self, _: u64, _: &mut [u8]) -> Input {
        Input::End
    }

    fn kind(&self, _: Stream) -> ConsoleKind {
        ConsoleKind::Pipe
    }

    fn is_joined(&self) -> bool {
        false
    }

    fn is_broken(&self, _: Stream) -> bool {
        false
    }

    fn wrote(&self, _: Stream, _: u64) {}
}

/// A clock that a test moves.
#[derive(Default)]
pub struct TestClock(AtomicU64);

impl TestClock {
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(u64::try_from(by.as_nanos()).unwrap(), Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn monotonic(&self) -> Duration {
        Duration::from_secs(100) + Duration::from_nanos(self.0.load(Ordering::SeqCst))
    }

    fn realtime(&self) -> Duration {
        Duration::from_secs(1_700_000_000) + self.monotonic()
    }

    fn cpu(&self) -> Duration {
        Duration::from_millis(1230)
    }
}

/// Keys that a test answers for.
#[derive(Default)]
pub struct TestKeys {
    /// What becomes of invocations; none: the program has no domain.
    pub becomes: Mutex<Option<Invoked>>,
    /// What comes back: the code, and the string.
    pub comes: Mutex<(u32, Vec<u8>)>,
    /// Whether a wait can be given up.
    pub withdraws: AtomicBool,
    /// What was invoked: order code and string.
    pub seen: Mutex<Vec<(u32, Vec<u8>)>>,
}

impl Keys for TestKeys {
    fn invoke(&self, message: &Message, string: &[u8]) -> Result<Invoked, Errno> {
        self.seen.lock().unwrap().push((message.order, string.to_vec()));
        self.state()
    }

    fn state(&self) -> Result<Invoked, Errno> {
        self.becomes.lock().unwrap().ok_or(Errno::ENOSYS)
    }

    fn received(&self) -> Received {
        let (code, string) = self.comes.lock().unwrap().clone();
        let mut half = [0; MESSAGE_BYTES - CAME_BACK];
        half[..4].copy_from_slice(&code.to_le_bytes());
        half[48..52].copy_from_slice(&u32::try_from(string.len()).unwrap().to_le_bytes());
        Received { half, string }
    }

    fn withdraw(&self) -> bool {
        self.withdraws.load(Ordering::SeqCst)
    }
}

/// The state segment's bytes, which outlive a program.
#[derive(Clone)]
pub struct StateMemory(Arc<Mutex<Vec<u8>>>);

impl StateMemory {
    pub fn new(pages: usize) -> Self {
        Self(Arc::new(Mutex::new(vec![0; pages * 4096])))
    }
}

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

/// Extended state in a vector, of a size that does not change.
pub struct Vector(pub Vec<u8>);

impl Vector {
    /// As an AVX machine lays it out: 832 bytes, then the closing magic.
    pub fn avx() -> Self {
        let mut area = vec![0; 836];
        area[0..2].copy_from_slice(&0x37fu16.to_le_bytes());
        area[24..28].copy_from_slice(&0x1f80u32.to_le_bytes());
        area[28..32].copy_from_slice(&0xffffu32.to_le_bytes());
        area[464..468].copy_from_slice(&0x4650_5853u32.to_le_bytes());
        area[468..472].copy_from_slice(&836u32.to_le_bytes());
        area[472..480].copy_from_slice(&7u64.to_le_bytes());
        area[480..484].copy_from_slice(&832u32.to_le_bytes());
        area[512] = 7;
        area[832..836].copy_from_slice(&0x4650_5845u32.to_le_bytes());
        Self(area)
    }
}

impl ExtendedState for Vector {
    fn load(&self) -> Vec<u8> {
        self.0.clone()
    }

    fn store(&mut self, area: &[u8]) -> Result<(), BadExtendedState> {
        if area.len() != self.0.len() {
            return Err(BadExtendedState(area.len()));
        }
        self.0.copy_from_slice(area);
        Ok(())
    }
}

/// A program and the processor that a test plays.
pub struct Machine {
    pub program: Program,
    pub regs: Registers,
    pub fs_base: u64,
    pub gs_base: u64,
    pub vector: Vector,
    pub clock: Arc<TestClock>,
    pub keys: Arc<TestKeys>,
    pub start: Start,
    host: Host,
    memory: Arc<Segment>,
    state: StateMemory,
}

fn random(out: &mut [u8]) {
    static STATE: AtomicU64 = AtomicU64::new(0x9e37_79b9_7f4a_7c15);
    for byte in out {
        let x = STATE.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        *byte = (x ^ (x >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9).to_le_bytes()[7];
    }
}

/// Makes a program of `image`, or tells why not.
pub fn try_create(image: &[u8], args: &[&str], env: &[&str]) -> Result<Machine, LoadError> {
    try_create_with(image, None, args, env)
}

/// The same of one that may have an interpreter.
pub fn try_create_with(
    image: &[u8],
    interpreter: Option<&[u8]>,
    args: &[&str],
    env: &[&str],
) -> Result<Machine, LoadError> {
    let segments = TestSegments::new();
    let clock = Arc::new(TestClock::default());
    let keys = Arc::new(TestKeys::default());
    let memory = segments.make(MEMORY_PAGES);
    let state = StateMemory::new(4096);
    let host = Host {
        answers: None,
        segments,
        console: Arc::new(NoConsole),
        network: Arc::new(NoNetwork),
        clock: Arc::clone(&clock) as Arc<dyn Clock>,
        journal: Arc::new(crate::linux::files::TestJournal::default()),
        restart: Arc::new(crate::linux::Restart::default),
        random: Arc::new(random),
        keys: Arc::clone(&keys) as Arc<dyn Keys>,
        name: "test".into(),
    };
    let owned = |list: &[&str]| list.iter().map(|s| s.as_bytes().to_vec()).collect();
    let spec = ProgramSpec { path: b"/bin/test", image, interpreter, args: owned(args), env: owned(env), hwcap2: 2 };
    let (program, start) = Program::create(host.clone(), Arc::clone(&memory), Box::new(state.clone()), &spec)?;
    let regs = Registers {
        rip: start.rip,
        rsp: start.rsp,
        eflags: 0x202,
        selectors: 0x2b_0000_0000_0033,
        ..Registers::default()
    };
    let vector = Vector::avx();
    Ok(Machine { program, regs, fs_base: 0, gs_base: 0, vector, clock, keys, start, host, memory, state })
}

impl Machine {
    /// A program with one page of code at 0x400000 and one page of data at 0x402000.
    pub fn new() -> Self {
        try_create(&super::loading::tiny(), &["test"], &[]).unwrap()
    }

    fn with<T>(&mut self, act: impl FnOnce(&mut Program, &mut Cpu<'_>) -> T) -> T {
        let mut cpu = Cpu { regs: self.regs, fs_base: self.fs_base, gs_base: self.gs_base, extended: &mut self.vector };
        let result = act(&mut self.program, &mut cpu);
        (self.regs, self.fs_base, self.gs_base) = (cpu.regs, cpu.fs_base, cpu.gs_base);
        result
    }

    /// Gives a call; what the registers say after it is in `regs`.
    pub fn step(&mut self, number: u64, arguments: &[u64]) -> Outcome {
        let mut a = [0; 6];
        a[..arguments.len()].copy_from_slice(arguments);
        let r = &mut self.regs;
        r.rax = number;
        [r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.r9] = a;
        self.again()
    }

    /// Gives the call that stands in the registers (again).
    pub fn again(&mut self) -> Outcome {
        self.with(|p, cpu| p.syscall(cpu))
    }

    pub fn fault(&mut self, signal: u32, address: u64) -> Outcome {
        self.with(|p, cpu| p.fault(cpu, Fault { signal, code: 1, address }))
    }

    /// Whether the program faulted by asking what the processor is; its registers have the answer then.
    pub fn asks(&mut self) -> bool {
        self.with(|p, cpu| p.asks_processor(cpu))
    }

    pub fn interrupted(&mut self) -> Outcome {
        self.with(|p, cpu| p.interrupted(cpu))
    }

    /// Gives a call that must answer at once.
    pub fn call(&mut self, number: u64, arguments: &[u64]) -> Result<u64, Errno> {
        assert_eq!(self.step(number, arguments), Outcome::Resume, "call {number} {arguments:x?}");
        assert_eq!(self.program.check(), None, "after call {number} {arguments:x?}");
        result(self.regs.rax)
    }

    /// The runtime dies and a new one opens the same segments.
    pub fn restart(&mut self) {
        self.program.before_capture();
        self.program =
            Program::load(self.host.clone(), Arc::clone(&self.memory), Box::new(self.state.clone())).unwrap();
    }

    /// As [`Machine::restart`], and what was cached must be what the records say.
    pub fn restart_compared(&mut self) {
        let (maps, brk) = (self.maps(), self.program.mm.record.brk);
        let orders =
            |p: &Program| p.protection_orders().iter().map(|o| (o.address, o.length, o.protection)).collect::<Vec<_>>();
        let before = orders(&self.program);
        self.restart();
        assert_eq!(self.maps(), maps);
        assert_eq!(self.program.mm.record.brk, brk);
        assert_eq!(orders(&self.program), before);
    }

    pub fn maps(&self) -> Vec<vma::Vma> {
        self.program.user.vmas().iter().collect()
    }

    pub fn peek(&self, address: u64) -> u64 {
        let mut bytes = [0; 8];
        self.memory.read_at(address, &mut bytes).unwrap();
        u64::from_le_bytes(bytes)
    }

    pub fn peek32(&self, address: u64) -> u32 {
        u32::try_from(self.peek(address) & 0xffff_ffff).unwrap()
    }

    pub fn poke(&self, address: u64, value: u64) {
        self.memory.write_at(address, &value.to_le_bytes()).unwrap();
    }
}

/// A call's result out of `rax`.
pub fn result(rax: u64) -> Result<u64, Errno> {
    let errno = rax.wrapping_neg();
    if (1..4096).contains(&errno) { Err(Errno(u16::try_from(errno).unwrap())) } else { Ok(rax) }
}
