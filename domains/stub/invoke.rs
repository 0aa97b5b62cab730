//! How a native domain invokes keys without a signal: one page of code at a fixed address, and the wait for the answer.
//!
//! The page only saves what a function call keeps and posts. Everything saved lies in the header, so that the kernel can make a frame
//! of it, and so that a freeze finds the domain's registers wherever in here it strikes: see [`freeze_point`].

use crate::abi::*;
use crate::handler::{self, header};
use core::arch::{asm, global_asm};
use core::mem::offset_of;
use core::sync::atomic::{AtomicU32, Ordering::SeqCst};

/// Top of the stack of the wait: the lower half of the signal stack.
pub const WAIT_STACK: u64 = CONTROL + SIGNAL_STACK + SIGNAL_STACK_BYTES / 2;

// Until `state` is POSTED no register that a function keeps is changed, nor rsp: a freeze before that starts the invocation anew.
global_asm!(
    ".globl semper_invoke_begin",
    "semper_invoke_begin:",
    "movabs rax, {header}",
    "mov [rax + {saved}], rbx",
    "mov [rax + {saved} + 8], rbp",
    "mov [rax + {saved} + 16], r12",
    "mov [rax + {saved} + 24], r13",
    "mov [rax + {saved} + 32], r14",
    "mov [rax + {saved} + 40], r15",
    "lea rcx, [rsp + 8]",
    "mov [rax + {saved} + 48], rcx",
    "mov rcx, [rsp]",
    "mov [rax + {saved} + 56], rcx",
    "stmxcsr [rax + {words}]",
    "mov dword ptr [rax + {words} + 4], 0",
    "fnstcw [rax + {words} + 4]",
    "test dword ptr [rax + {features}], 1",
    "jz 2f",
    "rdfsbase rcx",
    "mov [rax + {fs}], rcx",
    "rdgsbase rcx",
    "mov [rax + {gs}], rcx",
    "2:",
    "mov qword ptr [rax + {context}], 0",
    "mov dword ptr [rax + {cause}], {invoke}",
    "mov ecx, {posted}",
    "xchg [rax + {state}], ecx",
    "movabs rsp, {stack}",
    "jmp [rax + {entry}]",
    ".globl semper_invoke_end",
    "semper_invoke_end:",
    header = const CONTROL,
    saved = const offset_of!(Header, saved),
    words = const offset_of!(Header, control_words),
    features = const offset_of!(Header, features),
    fs = const offset_of!(Header, fs_base),
    gs = const offset_of!(Header, gs_base),
    context = const offset_of!(Header, context),
    cause = const offset_of!(Header, cause),
    state = const offset_of!(Header, state),
    entry = const offset_of!(Header, wait_entry),
    invoke = const CAUSE_INVOKE,
    posted = const POSTED,
    stack = const WAIT_STACK - 8,
);

unsafe extern "C" {
    static semper_invoke_begin: u8;
    static semper_invoke_end: u8;
}

/// The page's code: first byte and length.
pub fn code() -> (*const u8, usize) {
    let (begin, end) = (&raw const semper_invoke_begin, &raw const semper_invoke_end);
    (begin, end as usize - begin as usize)
}

/// Waits for the answer and goes back to the domain.
pub unsafe extern "C" fn wait() -> ! {
    // SAFETY: the control pages are mapped; what is loaded is the domain's own.
    unsafe {
        let h = header();
        if AtomicU32::from_ptr(&raw mut (*h).kernel_sleeps).load(SeqCst) != 0 {
            handler::wake(&raw mut (*h).state);
        }
        handler::wait_turn(h);
        asm!(
            "mov rbx, [rax]",
            "mov rbp, [rax + 8]",
            "mov r12, [rax + 16]",
            "mov r13, [rax + 24]",
            "mov r14, [rax + 32]",
            "mov r15, [rax + 40]",
            "mov rsp, [rax + 48]",
            "jmp [rax + 56]",
            in("rax") &raw const (*h).saved,
            options(noreturn),
        )
    }
}

/// What a freeze does with a domain.
pub enum Freeze {
    /// The frame is the domain's: post it.
    Post,
    /// It waits in its pages already: say so and go back to the wait.
    Waits,
}

/// Looks where the freeze signal struck, and makes the frame say where the domain is.
///
/// # Safety
/// `registers` points to the general registers of the ucontext that Linux wrote.
pub unsafe fn freeze_point(h: *mut Header, registers: *mut u64) -> Freeze {
    // SAFETY: the indices are those of `struct sigcontext`.
    unsafe {
        const RIP: usize = 16;
        let rip = *registers.add(RIP);
        let in_page = rip & !0xfff == INVOKE;
        let in_stub = rip >> 32 == STUB_BASE >> 32;
        if !in_page && !in_stub {
            return Freeze::Post;
        }
        match AtomicU32::from_ptr(&raw mut (*h).state).load(SeqCst) {
            POSTED | ORDER => return Freeze::Waits,
            // Not posted yet: the invocation begins anew.
            RUNNING if in_page => *registers.add(RIP) = INVOKE,
            // Answered: where the domain goes on is known.
            _ => {
                // rbx, rbp, r12, r13, r14, r15, rsp, rip
                for (place, value) in [11, 10, 4, 5, 6, 7, 15, RIP].into_iter().zip((*h).saved) {
                    *registers.add(place) = value;
                }
            }
        }
        Freeze::Post
    }
}
