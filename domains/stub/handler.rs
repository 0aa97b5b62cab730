//! The signal handler: posts why the domain stopped, waits for the kernel's answer, and returns into the domain.
//!
//! It runs on the signal stack in the control pages, with every signal blocked. It uses no thread-local storage (fs_base
//! is the program's) and nothing outside the control pages and the stub's image.

use crate::abi::*;
use crate::filter::AUDIT_ARCH_X86_64;
use crate::mail;
use crate::invoke::{Freeze, freeze_point};
use crate::sys::{self, call};
use core::arch::asm;
use core::sync::atomic::{AtomicU32, Ordering::SeqCst};

/// General registers within the ucontext: 40 bytes in; rax, rdi, rsi by index.
const REGISTERS: u64 = 40;
const RDI: u64 = REGISTERS + 8 * 8;
const RSI: u64 = REGISTERS + 9 * 8;
const R9: u64 = REGISTERS + 8;
const R10: u64 = REGISTERS + 2 * 8;
const RDX: u64 = REGISTERS + 12 * 8;
const RAX: u64 = REGISTERS + 13 * 8;
const R8: u64 = REGISTERS;
const RIP: u64 = REGISTERS + 16 * 8;

/// What a call that is not served answers.
const ENOSYS: u64 = (-38_i64) as u64;
const SIGBUS: u32 = 7;
const SIGSEGV: u32 = 11;
const MSG_DONTWAIT: u64 = 0x40;
const MSG_NOSIGNAL: u64 = 0x4000;
/// Pauses between offers of the core.
const SPINS_A_YIELD: u32 = 100;

#[inline(always)]
pub fn header() -> *mut Header {
    CONTROL as *mut Header
}

#[inline(always)]
unsafe fn word(at: *mut u32) -> &'static AtomicU32 {
    // SAFETY: the control pages are mapped for the life of the process and aligned.
    unsafe { AtomicU32::from_ptr(at) }
}

/// Every signal of the process lands here.
///
/// # Safety
/// Called by Linux as a signal handler.
pub unsafe extern "C" fn on_signal(signal: u32, info: *const u32, context: u64) {
    // SAFETY: Linux passes a valid siginfo and ucontext; the header is mapped.
    unsafe {
        let h = header();
        let rip = (context + RIP) as *mut u64;
        if (signal == SIGBUS || signal == SIGSEGV) && let Some(next) = mail::after_fault(*rip) {
            *rip = next;
            return;
        }
        if signal == 31 {
            // `si_arch`: what came by `int 0x80` has other numbers and arguments, and is not served.
            if *info.add(7) != AUDIT_ARCH_X86_64 {
                *((context + RAX) as *mut u64) = ENOSYS;
                return;
            }
            if (*h).quick != 0 && quick(h, context) {
                return;
            }
        }
        if signal == FREEZE_SIGNAL
            && let Freeze::Waits = freeze_point(h, (context + REGISTERS) as *mut u64)
        {
            acknowledge(h);
            return;
        }
        (*h).cause = signal;
        (*h).code = *info.add(2);
        (*h).address = *(info.add(4) as *const u64);
        (*h).context = context;
        save_bases(h);
        word(&raw mut (*h).state).store(POSTED, SeqCst);
        if signal == FREEZE_SIGNAL {
            acknowledge(h);
        } else if word(&raw mut (*h).kernel_sleeps).load(SeqCst) != 0 {
            wake(&raw mut (*h).state);
        }
        wait_turn(h);
        load_bases(h);
    }
}

/// Tells who asked for the freeze.
unsafe fn acknowledge(h: *mut Header) {
    // SAFETY: as `on_signal`.
    unsafe {
        word(&raw mut (*h).frozen).fetch_add(1, SeqCst);
        wake(&raw mut (*h).frozen);
        if word(&raw mut (*h).kernel_sleeps).load(SeqCst) == 2 {
            wake(&raw mut (*h).state);
        }
    }
}

/// Wakes who sleeps on a word of the header.
///
/// # Safety
/// The control pages are mapped.
pub unsafe fn wake(at: *mut u32) {
    // SAFETY: FUTEX_WAKE reads nothing of ours.
    unsafe { call(sys::FUTEX, [at as u64, 1, i32::MAX as u64, 0, 0, 0]) };
}

/// Waits until the kernel says `GO`, carrying out its orders.
///
/// # Safety
/// The control pages are mapped.
pub unsafe fn wait_turn(h: *mut Header) {
    // SAFETY: as above.
    unsafe {
        let state = word(&raw mut (*h).state);
        let mut spins = (*h).spins;
        loop {
            match state.load(SeqCst) {
                GO => {
                    if orders(h) {
                        state.store(RUNNING, SeqCst);
                        return;
                    }
                    (*h).cause = CAUSE_ORDER_FAILED;
                    post(h);
                }
                ORDER => {
                    if !orders(h) {
                        (*h).cause = CAUSE_ORDER_FAILED;
                    }
                    post(h);
                    spins = (*h).spins;
                }
                now if spins == 0 => {
                    word(&raw mut (*h).stub_sleeps).store(1, SeqCst);
                    if state.load(SeqCst) == now {
                        call(sys::FUTEX, [(&raw mut (*h).state) as u64, 0, now as u64, 0, 0, 0]);
                    }
                    word(&raw mut (*h).stub_sleeps).store(0, SeqCst);
                    spins = (*h).spins;
                }
                _ => {
                    spins -= 1;
                    // Whoever is waited for may need this very core.
                    if spins % SPINS_A_YIELD == 0 {
                        call(sys::SCHED_YIELD, [0; 6]);
                        // The kernel, which knows how long offers take, may have found that others want the cores.
                        if core::ptr::read_volatile(&raw const (*h).spins) == 0 {
                            spins = 0;
                        }
                    }
                    core::hint::spin_loop();
                }
            }
        }
    }
}

unsafe fn post(h: *mut Header) {
    // SAFETY: as above.
    unsafe {
        word(&raw mut (*h).state).store(POSTED, SeqCst);
        wake(&raw mut (*h).state);
    }
}

/// Carries out the orders in the header; false if one failed.
unsafe fn orders(h: *mut Header) -> bool {
    // SAFETY: the filter bounds what these calls can touch to the window.
    unsafe {
        let count = ((*h).order_count as usize).min(MAX_ORDERS);
        for i in 0..count {
            let order = core::ptr::read_volatile(&raw const (*h).orders[i]);
            let result = match order.kind {
                ORDER_PROTECT => call(sys::MPROTECT, [order.address, order.length, order.protection as u64, 0, 0, 0]),
                ORDER_ZAP => call(sys::MADVISE, [order.address, order.length, 4, 0, 0, 0]),
                _ => -22,
            };
            if result != 0 {
                (*h).order_status = (-result) as u32;
                (*h).order_count = i as u32;
                return false;
            }
        }
        (*h).order_count = 0;
        (*h).order_status = 0;
        true
    }
}

unsafe fn save_bases(h: *mut Header) {
    // SAFETY: reads two registers; the fall-back writes into the header.
    unsafe {
        if (*h).features & 1 != 0 {
            let (fs, gs): (u64, u64);
            asm!("rdfsbase {}", out(reg) fs, options(nomem, nostack));
            asm!("rdgsbase {}", out(reg) gs, options(nomem, nostack));
            (*h).fs_base = fs;
            (*h).gs_base = gs;
        } else {
            call(sys::ARCH_PRCTL, [sys::ARCH_GET_FS, (&raw mut (*h).fs_base) as u64, 0, 0, 0, 0]);
            call(sys::ARCH_PRCTL, [sys::ARCH_GET_GS, (&raw mut (*h).gs_base) as u64, 0, 0, 0, 0]);
        }
    }
}

/// Loads fs and gs from the header.
///
/// # Safety
/// The next instruction that uses them is the program's.
pub unsafe fn load_bases(h: *mut Header) {
    // SAFETY: a non-canonical base would fault: arch_prctl refuses it, and the kernel checks before it writes one.
    unsafe {
        let (fs, gs) = ((*h).fs_base, (*h).gs_base);
        if (*h).features & 1 != 0 && fs < TASK_END && gs < TASK_END {
            asm!("wrfsbase {}", in(reg) fs, options(nomem, nostack));
            asm!("wrgsbase {}", in(reg) gs, options(nomem, nostack));
        } else {
            call(sys::ARCH_PRCTL, [sys::ARCH_SET_FS, fs, 0, 0, 0, 0]);
            call(sys::ARCH_PRCTL, [sys::ARCH_SET_GS, gs, 0, 0, 0, 0]);
        }
    }
}

/// Answers calls that need no authority and no kernel state. False: the kernel must.
unsafe fn quick(h: *mut Header, context: u64) -> bool {
    // SAFETY: `context` is the ucontext that Linux wrote.
    unsafe {
        let rax = (context + RAX) as *mut u64;
        let (rdi, rsi) = (*((context + RDI) as *const u64), *((context + RSI) as *const u64));
        let value = match *rax {
            sys::GETPID | sys::GETTID => (*h).pid as u64,
            sys::GETPPID => (*h).parent as u64,
            sys::GETUID | sys::GETEUID => (*h).uid as u64,
            sys::GETGID | sys::GETEGID => (*h).gid as u64,
            sys::BRK if (*h).brk_start != 0 && rdi >= (*h).brk && rdi <= (*h).brk_granted => {
                (*h).brk = rdi;
                rdi
            }
            sys::MMAP if rdi == 0 => match mapping(h, context, rsi) {
                Some(address) => address,
                None => return false,
            },
            sys::MADVISE if advice(h, context, rdi, rsi) => 0,
            sys::READ | sys::WRITE | sys::RECVFROM | sys::SENDTO if (*h).mail != 0 => match connection(context, *rax) {
                Some(count) => count,
                None => return false,
            },
            // Linux itself writes the answer and finds a bad address; then the kernel answers.
            sys::CLOCK_GETTIME if (*h).quick == QUICK && rsi < WINDOW_END && (rdi == 0 || (rdi == 1 && (*h).monotonic_offset == 0)) => {
                match call(sys::CLOCK_GETTIME, [rdi, rsi, 0, 0, 0, 0]) {
                    0 => 0,
                    _ => return false,
                }
            }
            _ => return false,
        };
        (*h).quick_calls += 1;
        *rax = value;
        true
    }
}

/// A call on a connection, whose number and arguments are in `context`.
unsafe fn connection(context: u64, number: u64) -> Option<u64> {
    // SAFETY: as `quick`.
    unsafe {
        let argument = |at: u64| *((context + at) as *const u64);
        let (fd, address, count) = (argument(RDI) & 0xffff_ffff, argument(RSI), argument(RDX));
        let (flags, peer) = (argument(R10) & 0xffff_ffff, argument(R8));
        match number {
            sys::READ => mail::receive(fd, address, count),
            sys::RECVFROM if flags & !MSG_DONTWAIT == 0 && peer == 0 => mail::receive(fd, address, count),
            sys::WRITE => mail::send(fd, address, count),
            sys::SENDTO if flags & !(MSG_DONTWAIT | MSG_NOSIGNAL) == 0 && peer == 0 => mail::send(fd, address, count),
            _ => None,
        }
    }
}

/// A small private mapping out of the pool; none: the kernel must make it.
unsafe fn mapping(h: *mut Header, context: u64, length: u64) -> Option<u64> {
    // SAFETY: as `quick`.
    unsafe {
        let argument = |at: u64| *((context + at) as *const u64);
        // PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS
        if argument(RDX) != 3 || argument(R10) != 0x22 || argument(R9) != 0 || length == 0 || length > QUICK_BYTES {
            return None;
        }
        let length = (length + 0xfff) & !0xfff;
        let (start, next) = ((*h).pool_start, (*h).pool_next);
        if next < start || next - start < length {
            return None;
        }
        (*h).pool_next = next - length;
        Some(next - length)
    }
}

/// Whether this is advice that a few pages of ordinary memory may be freed, which may be ignored.
unsafe fn advice(h: *mut Header, context: u64, start: u64, length: u64) -> bool {
    // SAFETY: as `quick`.
    unsafe {
        let free = *((context + RDX) as *const u64) == 8;
        let small = start & 0xfff == 0 && start < WINDOW_END && length != 0 && length <= QUICK_BYTES;
        free && small && (*h).advice.iter().any(|range| start >= range[0] && start + length <= range[1])
    }
}
