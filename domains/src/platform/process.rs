//! One live process of a domain: post and answer, orders, freeze, death.

use super::PlatformError;
use super::control::Control;
use super::crowd::Crowd;
use super::together::{STAY, Together};
use super::zygote::MapRequest;
use crate::abi::{CAUSE_ORDER_FAILED, FREEZE_SIGNAL, GO, MAX_ORDERS, ORDER, ORDER_ZAP, Order, POSTED};
use nix::libc;
use nix::time::{ClockId, clock_gettime};
use semper_pager::{Attachment, Segment, Space, Zap};
use semper_store::{PAGE_SIZE, PageRange};
use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long the kernel waits for a stopped stub to carry out orders, or a running domain to freeze, before it looks whether it lives.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// When a domain that was asked to stop and has not is looked at by what Linux says of it, and how often.
const LOOK_AFTER: Duration = Duration::from_millis(50);
/// Processor time, in nanoseconds, that no stub takes while it holds the freeze signal back.
const HELD_BACK_NS: u64 = 20_000_000;

/// Time slice of a domain's process: who has let it go, and lost the core to it, comes back after so long (the usual slice is 2.8 ms).
const SLICE_NS: u64 = 300_000;

/// Pauses between offers of the core to whoever is waited for.
const SPINS_A_YIELD: u32 = 100;

/// Opens a pidfd.
///
/// # Errors
/// When there is no such process.
pub fn pidfd_open(pid: i32) -> std::io::Result<OwnedFd> {
    // SAFETY: the call takes two integers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if fd < 0 {
        return Err(std::io::Error::last_os_error());
    }
    let fd = i32::try_from(fd).unwrap_or(-1);
    // SAFETY: the kernel just made this descriptor for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn pidfd_signal(pidfd: &OwnedFd, signal: i32) {
    // SAFETY: no pointers but a null one. A process that is gone is no error here: its death is noticed elsewhere.
    unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, std::ptr::null::<u8>(), 0) };
}

/// Sleeps while `word == expected`, at most `timeout`.
pub fn futex_wait(word: &AtomicU32, expected: u32, timeout: Duration) {
    let time = libc::timespec {
        tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(timeout.subsec_nanos()),
    };
    // SAFETY: `word` and `time` outlive the call.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, expected, &raw const time) };
}

/// Wakes all that sleep on `word`.
pub fn futex_wake(word: &AtomicU32) {
    // SAFETY: FUTEX_WAKE only uses the address.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, i32::MAX) };
}

/// What ended a wait for the domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Posted {
    /// It stopped and says why in its control pages.
    Cause,
    /// The time is up.
    TimedOut,
    /// Its process is dead.
    Dead,
}

/// The shared core of a process: what the server, the checkpointer and the reaper use.
pub struct Process {
    /// The process.
    pub pid: i32,
    pidfd: OwnedFd,
    control: Arc<Control>,
    dead: AtomicBool,
    /// It was asked to stop, and would not.
    refused: AtomicBool,
    /// It was sent the freeze signal and has not posted for it yet: where it posted for another reason just before, that comes when it goes
    /// on, without anybody who waits for it.
    owes_freeze: AtomicBool,
    /// Whoever waits for it is to look at something else first.
    nudged: AtomicBool,
    crowd: Crowd,
    attachments: Mutex<Vec<Attachment>>,
}

impl Process {
    /// A process that was just set up.
    #[must_use]
    pub fn new(pid: i32, pidfd: OwnedFd, control: Arc<Control>) -> Arc<Self> {
        semper_pager::set_slice(pid, SLICE_NS);
        let process = Self {
            pid,
            pidfd,
            control,
            dead: AtomicBool::new(false),
            refused: AtomicBool::new(false),
            owes_freeze: AtomicBool::new(false),
            nudged: AtomicBool::new(false),
            crowd: Crowd::default(),
            attachments: Mutex::default(),
        };
        Arc::new(process)
    }

    /// Has the pager serve and track a mapping of it, as long as the process lives.
    ///
    /// # Errors
    /// When the process is gone, or the pager refuses.
    pub fn serve(
        self: &Arc<Self>,
        segment: &Arc<Segment>,
        uffd: OwnedFd,
        second: Option<OwnedFd>,
        map: &MapRequest<'_>,
    ) -> Result<(), PlatformError> {
        let pagemap =
            File::open(format!("/proc/{}/pagemap", self.pid)).map_err(PlatformError::system("open pagemap"))?;
        let base = map.address.wrapping_sub(map.offset);
        let zapper = Arc::new(Zapper { process: Arc::clone(self), base });
        let window = map.address..map.address + map.length;
        let attachment = segment.attach(Space { uffd, second, pagemap, base, window, zapper })?;
        self.attachments().push(attachment);
        Ok(())
    }

    fn attachments(&self) -> MutexGuard<'_, Vec<Attachment>> {
        self.attachments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pidfd, for the reaper.
    #[must_use]
    pub fn pidfd(&self) -> &OwnedFd {
        &self.pidfd
    }

    /// Whether its death was noticed.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.dead.load(SeqCst)
    }

    /// The reaper saw it die: whoever waits for it looks again.
    pub fn set_dead(&self) {
        self.dead.store(true, SeqCst);
        futex_wake(self.control.state());
        futex_wake(self.control.frozen());
    }

    /// Ends the wait for a post, or the next one, as if its time were up.
    pub fn nudge(&self) {
        self.nudged.store(true, SeqCst);
        futex_wake(self.control.state());
    }

    /// Whether the kernel says that it is alive at all; slower than [`Self::is_dead`], never late.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        let mut poll = libc::pollfd { fd: self.pidfd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid pollfd.
        unsafe { libc::poll(&raw mut poll, 1, 0) == 1 }
    }

    /// The state word; what the kernel sleeps on.
    #[must_use]
    pub fn state(&self) -> &AtomicU32 {
        self.control.state()
    }

    /// Says whether the kernel sleeps, so that the stub wakes it.
    pub fn set_kernel_sleeps(&self, sleeps: bool) {
        self.control.kernel_sleeps().store(u32::from(sleeps), SeqCst);
    }

    /// Whether the domain is stopped with its registers in its pages.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.control.state().load(SeqCst) == POSTED
    }

    /// Waits for a post until `deadline`; spins `spins` times first. `freezes`: also wake for an acknowledged freeze.
    #[must_use]
    pub fn wait(&self, deadline: Option<Instant>, spins: u32, freezes: bool, together: &mut Together) -> Posted {
        self.wait_or_nudge(deadline, spins, freezes, Some(together))
    }

    /// As [`Self::wait`]; with nobody to be gathered, a nudge is left for who is.
    fn wait_or_nudge(
        &self,
        deadline: Option<Instant>,
        spins: u32,
        freezes: bool,
        mut together: Option<&mut Together>,
    ) -> Posted {
        let state = self.control.state();
        let nudges = together.is_some();
        let crowded = spins > 0 && self.is_crowded(spins);
        if let Some(together) = together.as_deref_mut() {
            if crowded { together.gather(self.pid) } else { together.part() }
        }
        if spins > 0 && !crowded {
            for spin in 0..spins {
                if state.load(SeqCst) == POSTED {
                    self.note_freeze();
                    return Posted::Cause;
                }
                if spin % SPINS_A_YIELD == SPINS_A_YIELD - 1 && self.offer_core() {
                    break;
                }
                std::hint::spin_loop();
            }
        }
        loop {
            // What is posted after orders wakes in any case; only the server says whether it sleeps.
            if nudges {
                let freezes = freezes || self.owes_freeze.load(SeqCst);
                self.control.kernel_sleeps().store(if freezes { 2 } else { 1 }, SeqCst);
            }
            let now = state.load(SeqCst);
            let verdict = if now == POSTED {
                self.note_freeze();
                Some(Posted::Cause)
            } else if self.is_dead() {
                Some(Posted::Dead)
            } else if nudges && self.nudged.swap(false, SeqCst) {
                Some(Posted::TimedOut)
            } else {
                let left = deadline.map_or(ANSWER_TIMEOUT, |d| d.saturating_duration_since(Instant::now()));
                match together.as_deref_mut().filter(|together| together.is_so()) {
                    _ if left.is_zero() => Some(Posted::TimedOut),
                    None => {
                        futex_wait(state, now, left);
                        None
                    }
                    Some(together) => {
                        futex_wait(state, now, left.min(STAY));
                        if state.load(SeqCst) != POSTED {
                            together.part();
                        }
                        None
                    }
                }
            };
            if let Some(verdict) = verdict {
                if nudges {
                    self.control.kernel_sleeps().store(0, SeqCst);
                }
                return verdict;
            }
        }
    }

    /// It has posted: for the freeze signal, if it was sent that.
    fn note_freeze(&self) {
        if self.control.cause() == FREEZE_SIGNAL {
            self.owes_freeze.store(false, SeqCst);
        }
    }

    /// Offers the core, which the stub may need to answer. True: others want it; neither this nor the stub looks for a while.
    fn offer_core(&self) -> bool {
        let crowded = Crowd::offer_core();
        if crowded {
            self.crowd.note();
            self.control.set_spins(0);
        }
        crowded
    }

    /// Whether neither this nor the stub should spin for now.
    fn is_crowded(&self, spins: u32) -> bool {
        let left = self.crowd.take();
        if left == 1 {
            self.control.set_spins(spins);
        }
        left > 0
    }

    /// Lets the stopped domain go on, after `orders` (at most [`MAX_ORDERS`]).
    pub fn go(&self, orders: &[Order]) {
        self.control.set_orders(orders);
        self.answer(GO);
    }

    fn answer(&self, state: u32) {
        self.control.state().store(state, SeqCst);
        if self.control.stub_sleeps() {
            futex_wake(self.control.state());
        }
    }

    /// Lets a domain go on that stands frozen, and only such a one.
    pub fn thaw(&self) {
        if self.is_stopped() && self.control.cause() == FREEZE_SIGNAL {
            self.control.set_order_count(0);
            self.answer(GO);
        }
    }

    /// Has the stopped stub carry out any number of orders now.
    ///
    /// # Errors
    /// When one fails, or the process dies.
    pub fn order(&self, orders: &[Order]) -> Result<(), PlatformError> {
        for batch in orders.chunks(MAX_ORDERS) {
            let cause = self.control.cause();
            self.control.set_orders(batch);
            self.answer(ORDER);
            match self.wait_or_nudge(Some(Instant::now() + ANSWER_TIMEOUT), 2000, false, None) {
                Posted::Cause => {}
                Posted::Dead => return Err(PlatformError::Died { pid: self.pid }),
                Posted::TimedOut => return Err(PlatformError::Silent { pid: self.pid, what: "orders" }),
            }
            let status = self.control.order_status();
            if status != 0 {
                if self.control.cause() == CAUSE_ORDER_FAILED {
                    self.control.set_cause(cause);
                }
                let source = std::io::Error::from_raw_os_error(status.cast_signed());
                return Err(PlatformError::Order { index: self.control.order_count(), source });
            }
        }
        Ok(())
    }

    /// Asks a running domain to stop; [`Self::wait_frozen`] waits until it has. Returns what to wait with.
    #[must_use]
    pub fn freeze(&self) -> Option<u32> {
        let seen = self.control.frozen().load(SeqCst);
        if self.is_stopped() {
            return None;
        }
        self.owes_freeze.store(true, SeqCst);
        pidfd_signal(&self.pidfd, FREEZE_SIGNAL.cast_signed());
        Some(seen)
    }

    /// Whether it was ended because it would not stop.
    #[must_use]
    pub fn has_refused(&self) -> bool {
        self.refused.load(SeqCst)
    }

    /// Waits until the domain is stopped: frozen, or posted for a reason of its own. One that holds the signal back, which a program can do
    /// by `rt_sigreturn` out of the stub with a frame of its own, is ended: it would keep all others from being captured.
    ///
    /// # Errors
    /// [`PlatformError::Died`]: the process is dead, or was ended.
    pub fn wait_frozen(&self, mut seen: u32) -> Result<(), PlatformError> {
        let begun = Instant::now();
        let mut spins = 2000;
        let mut first: Option<Held> = None;
        let mut look_at = LOOK_AFTER;
        loop {
            if self.is_stopped() {
                self.note_freeze();
                return Ok(());
            }
            if spins > 0 {
                spins -= 1;
                if spins % SPINS_A_YIELD == 0 {
                    // The domain may have to run on this very core to take the signal.
                    std::thread::yield_now();
                }
                std::hint::spin_loop();
                continue;
            }
            if self.is_dead() || self.is_gone() {
                return Err(PlatformError::Died { pid: self.pid });
            }
            let waited = begun.elapsed();
            if waited > look_at {
                look_at = waited + LOOK_AFTER;
                let now = Held::look(self.pid);
                let refuses = first.zip(now).is_some_and(|(first, now)| now.is_no_stub_since(first));
                if refuses || waited > ANSWER_TIMEOUT {
                    tracing::warn!(pid = self.pid, ?waited, "a domain would not stop; its process is ended");
                    self.refused.store(true, SeqCst);
                    self.kill();
                    return Err(PlatformError::Died { pid: self.pid });
                }
                first = now.map(|now| first.unwrap_or(now));
            }
            // A post for another reason does not touch `frozen`: look again soon.
            futex_wait(self.control.frozen(), seen, Duration::from_micros(500));
            seen = self.control.frozen().load(SeqCst);
        }
    }

    /// Ends the process. The domain is not harmed.
    pub fn kill(&self) {
        pidfd_signal(&self.pidfd, libc::SIGKILL);
    }

    /// As [`Self::put_away`], but does not wait until it is gone: [`Self::end`] does.
    pub fn put_away_soon(&self) {
        self.detach();
        self.kill();
    }

    /// Ends the process of a domain that stands in its pages, after it has been learned what it wrote.
    pub fn put_away(&self) {
        self.detach();
        self.end();
    }

    /// Learns what the process wrote, and serves its memory no longer.
    fn detach(&self) {
        for attachment in std::mem::take(&mut *self.attachments()) {
            if let Err(error) = attachment.detach() {
                tracing::warn!(%error, pid = self.pid, "what a process wrote cannot be told; all of it is taken as written");
            }
        }
    }

    /// Ends the process, waits until it is gone, and lets the pager forget its mappings.
    pub fn end(&self) {
        self.kill();
        let mut poll = libc::pollfd { fd: self.pidfd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid pollfd.
        unsafe { libc::poll(&raw mut poll, 1, 10_000) };
        self.set_dead();
        let attachments = std::mem::take(&mut *self.attachments());
        drop(attachments);
    }
}

/// A process holds the freeze signal back.
#[derive(Clone, Copy)]
struct Held {
    sleeps: bool,
    cpu: u64,
}

impl Held {
    /// None: it does not, or Linux does not say.
    fn look(pid: i32) -> Option<Self> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let field =
            |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
        let set = |name: &str| field(name).and_then(|bits| u64::from_str_radix(bits, 16).ok()).unwrap_or(0);
        let freeze = 1 << (FREEZE_SIGNAL - 1);
        let held = set("SigBlk") & (set("SigPnd") | set("ShdPnd")) & freeze != 0;
        let sleeps = field("State").is_some_and(|state| state.starts_with('S'));
        held.then(|| Self { sleeps, cpu: cpu_time(pid).unwrap_or(0) })
    }

    /// The stub holds it back for some microseconds while it answers a call by itself, and while it waits with its post to be seen. So it has
    /// neither slept, nor computed for long.
    const fn is_no_stub_since(self, first: Self) -> bool {
        (first.sleeps && self.sleeps) || self.cpu.saturating_sub(first.cpu) > HELD_BACK_NS
    }
}

/// Processor time that a process has used, nanoseconds.
#[must_use]
pub fn cpu_time(pid: i32) -> Option<u64> {
    let clock = ClockId::pid_cpu_clock_id(nix::unistd::Pid::from_raw(pid)).ok()?;
    u64::try_from(Duration::from(clock_gettime(clock).ok()?).as_nanos()).ok()
}

/// Zaps page-table entries of a stopped domain on behalf of the pager.
pub struct Zapper {
    /// The process.
    pub process: Arc<Process>,
    /// The address of the segment's page 0, modulo 2^64.
    pub base: u64,
}

impl Zap for Zapper {
    fn zap(&self, ranges: &[PageRange]) -> std::io::Result<()> {
        let page = PAGE_SIZE as u64;
        let order = |r: &PageRange| {
            let address = self.base.wrapping_add(r.first.0 * page);
            Order { kind: ORDER_ZAP, protection: 0, address, length: r.count * page }
        };
        let orders: Vec<Order> = ranges.iter().map(order).collect();
        self.process.order(&orders).map_err(std::io::Error::other)
    }
}
