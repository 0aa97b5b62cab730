//! A new process becomes a domain's: nothing is left in it but the window, the control pages and the stub.

use crate::abi::*;
use crate::filter::{POLICY, Program};
use crate::{handler, sys};
use core::arch::{asm, naked_asm};
use sys::{Action, call};

/// What the second half needs; it lies in the stub's data since the old stack goes away.
static mut PLAN: Plan =
    Plan { request: SpawnRequest { token: 0, want_uffd: 0, pad: 0 }, memory: -1 };

struct Plan {
    request: SpawnRequest,
    memory: i32,
}

unsafe extern "C" {
    static _end: u8;
}

const READ_WRITE: u64 = 3;
const MAP_SHARED_FIXED_NORESERVE: u64 = 0x1 | 0x10 | 0x4000;

/// First half: on the zygote's stack.
///
/// # Safety
/// Runs in a process just forked from the zygote.
pub unsafe fn start(request: SpawnRequest, memory: i32, control: i32, parent: i64) -> ! {
    // SAFETY: this process is ours alone; the addresses are fixed by the ABI and free in the zygote.
    unsafe {
        call(sys::PRCTL, [sys::PR_SET_PDEATHSIG, sys::SIGKILL, 0, 0, 0, 0]);
        if call(sys::GETPPID, [0; 6]) != parent {
            sys::exit(0);
        }
        PLAN = Plan { request, memory };
        let length = CONTROL_PAGES << 12;
        let at = call(sys::MMAP, [CONTROL, length, READ_WRITE, MAP_SHARED_FIXED_NORESERVE, control as u64, 0]);
        if at != CONTROL as i64 {
            fail(at, 2);
        }
        // The lower half of the signal stack: a saved frame lies in the upper half.
        let stack = CONTROL + SIGNAL_STACK + SIGNAL_STACK_BYTES / 2;
        asm!("mov rsp, {stack}", "xor ebp, ebp", "call {next}", "ud2", stack = in(reg) stack, next = sym finish, options(noreturn));
    }
}

unsafe fn fail(result: i64, step: u32) -> ! {
    // SAFETY: descriptor 0 is still the zygote's socket whenever this is called.
    unsafe {
        let token = (*(&raw const PLAN)).request.token;
        let pid = call(sys::GETPID, [0; 6]) as u32;
        let reply = SpawnReply { token, pid, errno: (-result) as u32, step, uffd_errno: 0 };
        sys::send(&reply, -1);
        sys::exit(1)
    }
}

/// Second half: on the control pages' stack. Unmaps the rest, maps the window, sets up signals, and waits for its turn.
unsafe extern "C" fn finish() -> ! {
    // SAFETY: as `start`; everything used from here on lies in the control pages or the stub's image.
    unsafe {
        let plan = &*(&raw const PLAN);
        let image_end = ((&raw const _end) as u64 + 0xfff) & !0xfff;
        unmap(0, CONTROL, 3);
        unmap(CONTROL + (CONTROL_PAGES << 12), STUB_BASE, 3);
        unmap(image_end, TASK_END, 3);
        let length = WINDOW_END - WINDOW_START;
        let at = call(
            sys::MMAP,
            [WINDOW_START, length, 0, MAP_SHARED_FIXED_NORESERVE, plan.memory as u64, WINDOW_START],
        );
        if at != WINDOW_START as i64 {
            fail(at, 4);
        }
        let mut uffd = -1;
        if plan.request.want_uffd != 0 {
            // O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY
            uffd = call(sys::USERFAULTFD, [0o2000000 | 0o4000 | 1, 0, 0, 0, 0, 0]);
        }
        signals();
        let none = [0u64, 0];
        // RLIMIT_CORE: a domain's memory leaves no core file.
        call(sys::PRLIMIT64, [0, 4, (&raw const none) as u64, 0, 0, 0]);
        let reply = SpawnReply {
            token: plan.request.token,
            pid: call(sys::GETPID, [0; 6]) as u32,
            errno: 0,
            step: 0,
            uffd_errno: if uffd < 0 { (-uffd) as u32 } else { 0 },
        };
        sys::send(&reply, if uffd < 0 { -1 } else { uffd as i32 });
        call(sys::CLOSE_RANGE, [0, u32::MAX as u64, 0, 0, 0, 0]);
        call(sys::PRCTL, [sys::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0]);
        let program = Program { len: POLICY.len() as u16, instructions: (&raw const POLICY) as *const _ };
        if call(sys::SECCOMP, [1, 0, (&raw const program) as u64, 0, 0, 0]) != 0 {
            sys::exit(99);
        }
        let header = handler::header();
        handler::wait_turn(header);
        handler::load_bases(header);
        revive((*header).context);
    }
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
        // SIGILL, SIGTRAP, SIGBUS, SIGFPE, SIGUSR1 (freeze), SIGSEGV, SIGSYS
        for signal in [4u64, 5, 7, 8, FREEZE_SIGNAL as u64, 11, 31] {
            call(sys::RT_SIGACTION, [signal, (&raw const action) as u64, 0, 8, 0, 0]);
        }
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
