//! A new process becomes a domain's: nothing is left in it but the window, the control pages and the stub.

use crate::abi::*;
use crate::filter::{Instruction, NATIVE_POLICY, POLICY, Program};
use crate::invoke::{self, WAIT_STACK};
use crate::{handler, sys};
use core::arch::{asm, naked_asm};
use sys::{Action, call};

/// What the process is to become; it lies in the stub's data since the old stack goes away.
static mut REQUEST: SpawnRequest = SpawnRequest {
    token: 0,
    uffds_each: 0,
    kind: LINUX,
    count: 0,
    asks: 0,
    mappings: [MappingRequest { address: 0, length: 0, offset: 0, protection: 0, fd: 0 }; MAX_MAPPINGS],
};
/// The descriptors that came with it.
static mut FDS: [i32; MAX_FDS] = [-1; MAX_FDS];
/// The userfaultfds made for it.
static mut UFFDS: [i32; MAX_MAPPINGS] = [-1; MAX_MAPPINGS];

/// Where the zygote receives the next request.
pub fn request() -> *mut SpawnRequest {
    &raw mut REQUEST
}

unsafe extern "C" {
    static _end: u8;
}

/// Limits that are 0: file size, core file, processes, descriptors, locked memory, message queues. No call that they bound can be made
/// anyway, but a core file would be written by Linux itself.
const NOTHING_OF: [u64; 6] = [1, 4, 6, 7, 8, 12];
const READ_WRITE: u64 = 3;
const MAP_SHARED_FIXED_NORESERVE: u64 = 0x1 | 0x10 | 0x4000;
const MAP_PRIVATE_FIXED_ANONYMOUS: u64 = 0x2 | 0x10 | 0x20;

/// First half: on the zygote's stack.
///
/// # Safety
/// Runs in a process just forked from the zygote.
pub unsafe fn start(fds: &[i32], parent: i64) -> ! {
    // SAFETY: this process is ours alone; the addresses are fixed by the ABI and free in the zygote.
    unsafe {
        call(sys::PRCTL, [sys::PR_SET_PDEATHSIG, sys::SIGKILL, 0, 0, 0, 0]);
        if call(sys::GETPPID, [0; 6]) != parent || fds.is_empty() {
            sys::exit(0);
        }
        (&mut *(&raw mut FDS))[..fds.len()].copy_from_slice(fds);
        let length = LINUX_CONTROL_PAGES << 12;
        let at = call(sys::MMAP, [CONTROL, length, READ_WRITE, MAP_SHARED_FIXED_NORESERVE, fds[0] as u64, 0]);
        if at != CONTROL as i64 {
            fail(at, 2);
        }
        // The lower half of the signal stack: a saved frame lies in the upper half.
        let stack = WAIT_STACK;
        asm!("mov rsp, {stack}", "xor ebp, ebp", "call {next}", "ud2", stack = in(reg) stack, next = sym finish, options(noreturn));
    }
}

unsafe fn fail(result: i64, step: u32) -> ! {
    // SAFETY: descriptor 0 is still the zygote's socket whenever this is called.
    unsafe {
        let token = (*request()).token;
        let pid = call(sys::GETPID, [0; 6]) as u32;
        let reply = SpawnReply { token, pid, errno: (-result) as u32, step, uffd_errno: 0 };
        sys::send(&reply, &[]);
        sys::exit(1)
    }
}

/// Second half: on the control pages' stack. Unmaps the rest, maps what was asked for, sets up signals, and waits for its turn.
unsafe extern "C" fn finish() -> ! {
    // SAFETY: as `start`; everything used from here on lies in the control pages or the stub's image.
    unsafe {
        let request = &*request();
        let image_end = ((&raw const _end) as u64 + 0xfff) & !0xfff;
        unmap(0, CONTROL, 3);
        unmap(CONTROL + (control_pages(request.kind) << 12), STUB_BASE, 3);
        unmap(image_end, TASK_END, 3);
        let mappings = &request.mappings[..(request.count as usize).min(MAX_MAPPINGS)];
        let uffds = &mut *(&raw mut UFFDS);
        let (mut made, mut uffd_errno) = (0, 0);
        for mapping in mappings {
            let inside = mapping.address.checked_add(mapping.length).is_some_and(|end| end <= WINDOW_END);
            if !inside || mapping.address < WINDOW_START || mapping.fd as usize >= MAX_FDS {
                fail(-22, 4);
            }
            let fd = (&*(&raw const FDS))[mapping.fd as usize] as u64;
            let how = [mapping.address, mapping.length, mapping.protection as u64, MAP_SHARED_FIXED_NORESERVE, fd, mapping.offset];
            let at = call(sys::MMAP, how);
            if at != mapping.address as i64 {
                fail(at, 4);
            }
            for _ in 0..request.uffds_each {
                // O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY
                let uffd = call(sys::USERFAULTFD, [0o2000000 | 0o4000 | 1, 0, 0, 0, 0, 0]);
                match uffds.get_mut(made) {
                    Some(place) if uffd >= 0 => *place = uffd as i32,
                    _ => uffd_errno = (-uffd) as u32,
                }
                made += 1;
            }
        }
        let native = is_native(request.kind);
        if native {
            invocation_page();
        }
        if request.kind == RECORDED || request.kind == RECORDED_NATIVE {
            call(sys::PRCTL, [sys::PR_SET_TSC, sys::PR_TSC_SIGSEGV, 0, 0, 0, 0]);
        }
        if request.asks != 0 {
            // Where it is refused, what is known of the code has to do.
            call(sys::ARCH_PRCTL, [sys::ARCH_SET_CPUID, 0, 0, 0, 0, 0]);
        }
        signals();
        let pid = call(sys::GETPID, [0; 6]) as u32;
        let reply = SpawnReply { token: request.token, pid, errno: 0, step: 0, uffd_errno };
        let made = if uffd_errno == 0 { made } else { 0 };
        sys::send(&reply, uffds.get(..made).unwrap_or_default());
        call(sys::CLOSE_RANGE, [0, u32::MAX as u64, 0, 0, 0, 0]);
        let none = [0u64, 0];
        for limit in NOTHING_OF {
            call(sys::PRLIMIT64, [0, limit, (&raw const none) as u64, 0, 0, 0]);
        }
        call(sys::PRCTL, [sys::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0]);
        let policy: &[Instruction] = if native { &NATIVE_POLICY } else { &POLICY };
        let program = Program { len: policy.len() as u16, instructions: policy.as_ptr() };
        if call(sys::SECCOMP, [1, 0, (&raw const program) as u64, 0, 0, 0]) != 0 {
            sys::exit(99);
        }
        let header = handler::header();
        handler::wait_turn(header);
        handler::load_bases(header);
        revive((*header).context);
    }
}

/// Puts the code that native domains invoke keys by at its fixed address.
unsafe fn invocation_page() {
    // SAFETY: the page is free; the code between the two labels depends on no address of its own.
    unsafe {
        let at = call(sys::MMAP, [INVOKE, 4096, READ_WRITE, MAP_PRIVATE_FIXED_ANONYMOUS, u64::MAX, 0]);
        if at != INVOKE as i64 {
            fail(at, 5);
        }
        let (code, length) = invoke::code();
        core::ptr::copy_nonoverlapping(code, INVOKE as *mut u8, length);
        let result = call(sys::MPROTECT, [INVOKE, 4096, 1 | 4, 0, 0, 0]);
        if result != 0 {
            fail(result, 5);
        }
        (*handler::header()).wait_entry = invoke::wait as *const () as u64;
    }
}

const fn is_native(kind: u32) -> bool {
    kind == NATIVE || kind == RECORDED_NATIVE
}

const fn control_pages(kind: u32) -> u64 {
    if is_native(kind) { CONTROL_PAGES } else { LINUX_CONTROL_PAGES }
}

unsafe fn unmap(from: u64, to: u64, step: u32) {
    // SAFETY: nothing in the range is used any more.
    let result = unsafe { call(sys::MUNMAP, [from, to - from, 0, 0, 0, 0]) };
    if result != 0 {
        // SAFETY: the socket is still open.
        unsafe { fail(result, step) }
    }
}

unsafe fn signals() {
    let stack = [CONTROL + SIGNAL_STACK, 0, SIGNAL_STACK_BYTES];
    let action = Action {
        handler: handler::on_signal as *const () as u64,
        // SA_SIGINFO | SA_ONSTACK | SA_RESTORER
        flags: 0x4 | 0x0800_0000 | 0x0400_0000,
        restorer: restore as *const () as u64,
        mask: u64::MAX,
    };
    // SAFETY: the structures outlive the calls; the handler is async-signal-safe by construction.
    unsafe {
        call(sys::SIGALTSTACK, [(&raw const stack) as u64, 0, 0, 0, 0, 0]);
        // SIGILL, SIGTRAP, SIGBUS, SIGFPE, SIGUSR1 (freeze), SIGSEGV
        for signal in [4u64, 5, 7, 8, FREEZE_SIGNAL as u64, 11] {
            call(sys::RT_SIGACTION, [signal, (&raw const action) as u64, 0, 8, 0, 0]);
        }
        // While a call is answered a copy may meet an address that cannot be used.
        let calls = Action { mask: !(1 << (7 - 1) | 1 << (11 - 1)), ..action }; // all but SIGBUS and SIGSEGV
        call(sys::RT_SIGACTION, [31, (&raw const calls) as u64, 0, 8, 0, 0]);
        // Blocked until the domain goes on: its frame carries an empty mask.
        let all = u64::MAX;
        call(sys::RT_SIGPROCMASK, [2, (&raw const all) as u64, 0, 8, 0, 0]);
    }
}

#[unsafe(naked)]
unsafe extern "C" fn restore() {
    naked_asm!("mov eax, 15", "syscall", "ud2")
}

/// Lets the domain go on from the frame whose ucontext is at `context`.
#[unsafe(naked)]
unsafe extern "C" fn revive(context: u64) -> ! {
    naked_asm!("mov rsp, rdi", "mov eax, 15", "syscall", "ud2")
}
