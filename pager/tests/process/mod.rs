//! A real process to test with: forked, with its own mapping and userfaultfd, obeying commands in shared memory, frozen by a
//! signal like a stub. And a store in memory.

#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, clippy::cast_sign_loss, missing_docs)]

#[path = "../../../tests/needs/mod.rs"]
mod needs;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use semper_pager::{
    Attachment, Backing, BackingError, PAGE_SIZE, PageIndex, PageRange, Pager, PagerConfig, Scan, Segment, SegmentId,
    Sink, Space, Stage, Staging, TrackingChoice, Zap, probe,
};

pub const BASE: u64 = 0x1000_0000_0000;
pub const SEG: SegmentId = SegmentId(7);
const OPS: usize = 1 << 16;
const ZAPS: usize = 1 << 14;

/// False, with a word on stderr, if this kernel lacks what the test needs; a failure if all must run.
pub fn able(choice: TrackingChoice) -> bool {
    let missing: Vec<_> = probe()
        .into_iter()
        .filter(|f| !f.available && (f.required || choice == TrackingChoice::Async))
        .map(|f| format!("{} ({})", f.name, f.note))
        .collect();
    if missing.is_empty() {
        return true;
    }
    needs::missing(&missing.join(" and "));
    false
}

pub fn range(first: u64, end: u64) -> PageRange {
    PageRange::between(first, end)
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Op {
    /// Reads the first word of a page.
    Read(u64),
    /// Writes the first word of a page.
    Write(u64, u64),
}

#[repr(C)]
struct RawOp {
    kind: u32,
    page: u64,
    value: u64,
}

/// What parent and child share.
#[repr(C)]
struct Control {
    command: AtomicU32,
    done: AtomicU32,
    kind: AtomicU32,
    count: AtomicU64,
    arg: AtomicU64,
    uffd: AtomicI32,
    second: AtomicI32,
    freeze: AtomicU32,
    frozen: AtomicU32,
    zap_count: AtomicU32,
    zap_error: AtomicI32,
    stop: AtomicU32,
    sigbus: AtomicU64,
    progress: AtomicU64,
    nanos: AtomicU64,
    ops: [RawOp; OPS],
    zaps: [[u64; 2]; ZAPS],
}

static CONTROL: AtomicPtr<Control> = AtomicPtr::new(std::ptr::null_mut());

fn nanos() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

fn pause() {
    // SAFETY: no arguments that matter.
    unsafe { libc::usleep(20) };
}

/// The freeze: stays in the handler until let go, zapping on request.
extern "C" fn on_freeze(_: libc::c_int) {
    // SAFETY: set before the handler, never unmapped.
    let control = unsafe { &*CONTROL.load(Ordering::Acquire) };
    control.frozen.store(1, Ordering::Release);
    while control.freeze.load(Ordering::Acquire) != 0 {
        let count = control.zap_count.load(Ordering::Acquire);
        if count > 0 {
            let mut error = 0;
            for zap in &control.zaps[..count as usize] {
                // SAFETY: within our own mapping; the content stays in the memfd.
                let result = unsafe {
                    libc::madvise((BASE + zap[0] * 4096) as *mut _, zap[1] as usize * 4096, libc::MADV_DONTNEED)
                };
                error |= result;
            }
            control.zap_error.store(error, Ordering::Release);
            control.zap_count.store(0, Ordering::Release);
        }
        pause();
    }
    control.frozen.store(0, Ordering::Release);
}

/// A page that the store cannot give: counted, and replaced by a private one so that the instruction goes on.
extern "C" fn on_sigbus(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: as in `on_freeze`; `info` is the kernel's.
    unsafe {
        let control = &*CONTROL.load(Ordering::Acquire);
        control.sigbus.fetch_add(1, Ordering::SeqCst);
        let page = (*info).si_addr() as u64 & !4095;
        libc::mmap(
            page as *mut _,
            4096,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED,
            -1,
            0,
        );
    }
}

fn child(memfd: RawFd, pages: u64, control: &'static mut Control) -> ! {
    // SAFETY: a forked child that only makes system calls and touches its own mapping and the control memory.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        let len = (pages * 4096) as usize;
        let flags = libc::MAP_SHARED | libc::MAP_FIXED_NOREPLACE | libc::MAP_NORESERVE;
        let at = libc::mmap(BASE as *mut _, len, libc::PROT_READ | libc::PROT_WRITE, flags, memfd, 0);
        if at as u64 != BASE {
            libc::_exit(3);
        }
        CONTROL.store(control, Ordering::Release);
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_freeze as *const () as usize;
        libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut());
        action.sa_sigaction = on_sigbus as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        libc::sigaction(libc::SIGBUS, &raw const action, std::ptr::null_mut());
        let second = libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC | libc::O_NONBLOCK | 1);
        control.second.store(second as i32, Ordering::Release);
        let uffd = libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC | libc::O_NONBLOCK | 1);
        control.uffd.store(uffd as i32, Ordering::Release);
        let mut seen = 0;
        loop {
            while control.command.load(Ordering::Acquire) == seen {
                pause();
            }
            seen = control.command.load(Ordering::Acquire);
            let start = nanos();
            match control.kind.load(Ordering::Acquire) {
                0 => {
                    for op in &mut control.ops[..control.count.load(Ordering::Acquire) as usize] {
                        let word = (BASE + op.page * 4096) as *mut u64;
                        match op.kind {
                            0 => op.value = word.read_volatile(),
                            _ => word.write_volatile(op.value),
                        }
                        control.progress.fetch_add(1, Ordering::Relaxed);
                    }
                }
                // Writes random pages until stopped.
                1 => {
                    let (mut rng, span) = (88_172_645_463_325_252u64, control.count.load(Ordering::Acquire));
                    while control.stop.load(Ordering::Relaxed) == 0 {
                        rng ^= rng << 13;
                        rng ^= rng >> 7;
                        rng ^= rng << 17;
                        let word = (BASE + rng % span * 4096 + (rng >> 40 & 0xff8)) as *mut u64;
                        word.write_volatile(word.read_volatile().wrapping_add(rng | 1));
                        control.progress.fetch_add(1, Ordering::Relaxed);
                    }
                }
                // Touches a run of pages, with a stride: 2 reads, 3 writes.
                kind => {
                    let (first, count) = (control.arg.load(Ordering::Acquire), control.count.load(Ordering::Acquire));
                    let mut sum = 0u64;
                    for n in 0..count {
                        let page = if kind < 4 { first + n } else { (first + n * 7919) % count };
                        let word = (BASE + page * 4096) as *mut u64;
                        if kind & 1 == 0 {
                            sum = sum.wrapping_add(word.read_volatile())
                        } else {
                            word.write_volatile(n + 1)
                        }
                    }
                    control.arg.store(sum, Ordering::Release);
                }
            }
            control.nanos.store(nanos() - start, Ordering::Release);
            control.done.store(seen, Ordering::Release);
        }
    }
}

/// A forked process that maps the test segment.
pub struct Process {
    pid: libc::pid_t,
    control: *mut Control,
    command: u32,
}

// SAFETY: the control memory is shared between processes anyway, and accessed by atomics or while the child waits.
unsafe impl Send for Process {}

/// Zaps through the frozen process.
struct Zapper(*const Control);
// SAFETY: as for `Process`.
unsafe impl Send for Zapper {}
// SAFETY: as for `Process`.
unsafe impl Sync for Zapper {}

impl Zap for Zapper {
    fn zap(&self, ranges: &[PageRange]) -> io::Result<()> {
        // SAFETY: the control memory is never unmapped.
        let control = unsafe { &mut *self.0.cast_mut() };
        if control.frozen.load(Ordering::Acquire) == 0 {
            return Err(io::Error::other("not frozen"));
        }
        for ranges in ranges.chunks(ZAPS) {
            for (slot, range) in control.zaps.iter_mut().zip(ranges) {
                *slot = [range.first.0, range.count];
            }
            control.zap_count.store(ranges.len() as u32, Ordering::Release);
            let start = Instant::now();
            while control.zap_count.load(Ordering::Acquire) != 0 {
                if start.elapsed() > Duration::from_secs(10) {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                std::thread::yield_now();
            }
            if control.zap_error.load(Ordering::Acquire) != 0 {
                return Err(io::Error::other("madvise failed"));
            }
        }
        Ok(())
    }
}

impl Process {
    fn control(&self) -> &'static mut Control {
        // SAFETY: mapped at creation, never unmapped.
        unsafe { &mut *self.control }
    }

    pub fn start(segment: &Arc<Segment>) -> (Self, Attachment) {
        Self::start_window(segment, segment.pages())
    }

    /// Forks a process that maps the first pages of the segment, and attaches it.
    pub fn start_window(segment: &Arc<Segment>, pages: u64) -> (Self, Attachment) {
        use std::os::fd::AsFd;
        let memfd = segment.memfd().as_fd().as_raw_fd();
        // SAFETY: a fresh shared anonymous mapping; then a fork whose child runs `child` only.
        let (control, pid) = unsafe {
            let control = libc::mmap(
                std::ptr::null_mut(),
                size_of::<Control>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
            .cast::<Control>();
            (*control).uffd.store(-1, Ordering::Release);
            let pid = libc::fork();
            if pid == 0 {
                child(memfd, pages, &mut *control);
            }
            (control, pid)
        };
        assert!(pid > 0);
        let process = Self { pid, control, command: 0 };
        let start = Instant::now();
        while process.control().uffd.load(Ordering::Acquire) < 0 {
            assert!(start.elapsed() < Duration::from_secs(10), "the child did not start");
            std::thread::sleep(Duration::from_micros(100));
        }
        // SAFETY: plain system calls; the second gives a descriptor that is ours.
        let fetch = |theirs: i32| unsafe {
            let pidfd = OwnedFd::from_raw_fd(libc::syscall(libc::SYS_pidfd_open, pid, 0) as i32);
            let fd = libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), theirs, 0) as i32;
            assert!(fd >= 0, "pidfd_getfd: {}", io::Error::last_os_error());
            OwnedFd::from_raw_fd(fd)
        };
        let space = Space {
            uffd: fetch(process.control().uffd.load(Ordering::Acquire)),
            second: Some(fetch(process.control().second.load(Ordering::Acquire))),
            pagemap: File::open(format!("/proc/{pid}/pagemap")).unwrap(),
            base: BASE,
            window: BASE..BASE + pages * 4096,
            zapper: Arc::new(Zapper(control)),
        };
        let attachment = segment.attach(space).unwrap();
        (process, attachment)
    }

    fn command(&mut self, kind: u32, arg: u64, count: u64) {
        let control = self.control();
        self.command += 1;
        control.kind.store(kind, Ordering::Release);
        control.count.store(count, Ordering::Release);
        control.arg.store(arg, Ordering::Release);
        control.command.store(self.command, Ordering::Release);
    }

    pub fn is_done(&self) -> bool {
        self.control().done.load(Ordering::Acquire) == self.command
    }

    pub fn progress(&self) -> u64 {
        self.control().progress.load(Ordering::Relaxed)
    }

    pub fn sigbus(&self) -> u64 {
        self.control().sigbus.load(Ordering::SeqCst)
    }

    /// Waits for the command, calling `meanwhile` now and then; gives the nanoseconds that it took.
    pub fn wait(&self, mut meanwhile: impl FnMut()) -> u64 {
        let start = Instant::now();
        while !self.is_done() {
            assert!(start.elapsed() < Duration::from_secs(120), "the child hangs");
            meanwhile();
            std::thread::sleep(Duration::from_micros(30));
        }
        self.control().nanos.load(Ordering::Acquire)
    }

    pub fn begin(&mut self, ops: &[Op]) {
        assert!(ops.len() <= OPS);
        for (slot, op) in self.control().ops.iter_mut().zip(ops) {
            *slot = match *op {
                Op::Read(page) => RawOp { kind: 0, page, value: 0 },
                Op::Write(page, value) => RawOp { kind: 1, page, value },
            };
        }
        self.command(0, 0, ops.len() as u64);
    }

    /// The values of the ops of `begin`.
    pub fn values(&self, count: usize) -> Vec<u64> {
        self.control().ops[..count].iter().map(|op| op.value).collect()
    }

    /// Runs ops and gives what was read or written.
    pub fn run(&mut self, ops: &[Op]) -> Vec<u64> {
        self.begin(ops);
        self.wait(|| ());
        self.values(ops.len())
    }

    pub fn start_writer(&mut self, pages: u64) {
        self.control().stop.store(0, Ordering::Release);
        self.command(1, 0, pages);
    }

    pub fn stop_writer(&mut self) {
        self.control().stop.store(1, Ordering::Release);
        self.wait(|| ());
    }

    /// Touches a run in order: nanoseconds taken, and the sum of what was read.
    pub fn touch(&mut self, first: u64, count: u64, write: bool) -> (u64, u64) {
        self.command(if write { 3 } else { 2 }, first, count);
        let nanos = self.wait(|| ());
        (nanos, self.control().arg.load(Ordering::Acquire))
    }

    /// Begins to write a run in order.
    pub fn begin_touch(&mut self, first: u64, count: u64) {
        self.command(3, first, count);
    }

    /// Touches the pages `0..count` in a scattered order.
    pub fn scatter(&mut self, count: u64, write: bool) -> u64 {
        self.command(if write { 5 } else { 4 }, 0, count);
        self.wait(|| ())
    }

    pub fn freeze(&self) {
        let control = self.control();
        control.freeze.store(1, Ordering::Release);
        // SAFETY: our own child.
        unsafe { libc::kill(self.pid, libc::SIGUSR1) };
        let start = Instant::now();
        while control.frozen.load(Ordering::Acquire) == 0 {
            assert!(start.elapsed() < Duration::from_secs(10), "the child does not freeze");
            std::thread::yield_now();
        }
    }

    pub fn thaw(&self) {
        self.control().freeze.store(0, Ordering::Release);
        while self.control().frozen.load(Ordering::Acquire) != 0 {
            std::thread::yield_now();
        }
    }

    pub fn kill(&self) {
        // SAFETY: our own child, waited for.
        unsafe {
            libc::kill(self.pid, libc::SIGKILL);
            libc::waitpid(self.pid, std::ptr::null_mut(), 0);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

type Pages = BTreeMap<(SegmentId, u64), Box<[u8]>>;

/// A store in memory that also is the sink of captures: what is taken becomes readable when committed.
#[derive(Default)]
pub struct MemoryStore {
    pub pages: Mutex<Pages>,
    pub bad: Mutex<BTreeSet<u64>>,
    pub reads: AtomicU64,
}

impl Backing for MemoryStore {
    fn read(&self, segment: SegmentId, first: PageIndex, out: &mut [u8]) -> Result<(), BackingError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let pages = self.pages.lock().unwrap();
        let bad = self.bad.lock().unwrap();
        for (n, out) in out.chunks_mut(PAGE_SIZE).enumerate() {
            let page = first.0 + n as u64;
            if bad.contains(&page) {
                return Err(format!("checksum of page {page}").into());
            }
            match pages.get(&(segment, page)) {
                Some(content) => out.copy_from_slice(content),
                None => out.fill(0),
            }
        }
        Ok(())
    }
}

impl MemoryStore {
    pub fn put(&self, segment: SegmentId, page: u64, word: u64) {
        let mut content = vec![0; PAGE_SIZE].into_boxed_slice();
        content[..8].copy_from_slice(&word.to_ne_bytes());
        self.pages.lock().unwrap().insert((segment, page), content);
    }

    pub fn word(&self, segment: SegmentId, page: u64) -> u64 {
        let pages = self.pages.lock().unwrap();
        pages.get(&(segment, page)).map_or(0, |content| u64::from_ne_bytes(content[..8].try_into().unwrap()))
    }

    pub fn stored(&self, segment: SegmentId) -> Vec<PageRange> {
        let pages = self.pages.lock().unwrap();
        pages.keys().filter(|(id, _)| *id == segment).map(|(_, page)| range(*page, page + 1)).collect()
    }
}

/// Applies a capture to pages.
pub struct Apply<'a>(pub &'a mut Pages);

impl Sink for Apply<'_> {
    fn remove(&mut self, segment: SegmentId, range: PageRange) -> Result<(), BackingError> {
        self.0.retain(|(id, page), _| *id != segment || !range.contains(PageIndex(*page)));
        Ok(())
    }
    fn pages(&mut self, segment: SegmentId, first: PageIndex, data: &[u8]) -> Result<(), BackingError> {
        for (n, content) in data.chunks(PAGE_SIZE).enumerate() {
            self.0.insert((segment, first.0 + n as u64), content.into());
        }
        Ok(())
    }
    fn remove_segment(&mut self, segment: SegmentId) -> Result<(), BackingError> {
        self.0.retain(|(id, _), _| *id != segment);
        Ok(())
    }
}

pub struct World {
    pub pager: Arc<Pager>,
    pub store: Arc<MemoryStore>,
    staging: Mutex<Staging>,
}

impl World {
    pub fn new(tracking: TrackingChoice, memory_limit: Option<u64>) -> Self {
        let store = Arc::new(MemoryStore::default());
        let pager = Pager::new(PagerConfig { memory_limit, tracking, verify: true }, store.clone()).unwrap();
        Self { pager, store, staging: Mutex::new(Staging::new()) }
    }

    /// One checkpoint: live rounds, freeze, the rest, thaw, commit (or abandon). Gives the pages of all its scans.
    pub fn checkpoint(&self, processes: &[&Process], rounds: usize, commit: bool) -> Vec<Scan> {
        let mut staging = self.staging.lock().unwrap();
        staging.clear();
        let mut scans = Vec::new();
        for _ in 0..rounds {
            let scan = self.pager.scan(Stage::Live).unwrap();
            self.pager.copy(&scan, &mut staging).unwrap();
            scans.push(scan);
        }
        processes.iter().for_each(|process| process.freeze());
        let scan = self.pager.scan(Stage::Frozen).unwrap();
        self.pager.copy(&scan, &mut staging).unwrap();
        processes.iter().for_each(|process| process.thaw());
        scans.push(scan);
        if commit {
            staging.replay(&mut Apply(&mut self.store.pages.lock().unwrap())).unwrap();
            self.pager.committed();
        } else {
            self.pager.abandon();
        }
        scans
    }
}

pub fn pages_of(scans: &[Scan]) -> BTreeSet<u64> {
    scans.iter().flat_map(Scan::runs).flat_map(|(_, run)| run.first.0..run.end()).collect()
}

pub fn word(segment: &Segment, page: u64) -> u64 {
    let mut bytes = [0; 8];
    segment.read_at(page * PAGE_SIZE as u64, &mut bytes).unwrap();
    u64::from_ne_bytes(bytes)
}

pub fn put_word(segment: &Segment, page: u64, value: u64) {
    segment.write_at(page * PAGE_SIZE as u64, &value.to_ne_bytes()).unwrap();
}
