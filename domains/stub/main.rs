//! The stub: the only code of ours inside a domain's process, and the zygote that such processes are forked from.
//!
//! It is one tiny static program without libc, linked at [`abi::STUB_BASE`], and started from a memfd so that nothing of the
//! runtime is in it. As zygote it forks a process for each request on descriptor 0. As stub it owns the signal
//! handlers: Linux writes the domain's registers into the control pages, the handler posts the cause and waits for the kernel's
//! answer there, and `rt_sigreturn` lets the domain go on. Nothing here is trusted by the kernel.
#![no_std]
#![no_main]
#![allow(clippy::all, dead_code)]

#[path = "abi.rs"]
mod abi;
mod child;
mod filter;
mod handler;
mod invoke;
mod mail;
mod sys;

use abi::{SpawnReply, SpawnRequest};
use core::arch::naked_asm;
use sys::{Control, Message, Slice, call};

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    sys::exit(101)
}

/// Entry of the zygote.
///
/// # Safety
/// Only Linux calls it, with the initial stack.
#[unsafe(naked)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _start() -> ! {
    naked_asm!("xor ebp, ebp", "and rsp, -16", "call {main}", "ud2", main = sym zygote)
}

/// The runtime's end of the socket is gone, or the runtime itself: the zygote ends, and with it all domains' processes.
unsafe extern "C" fn zygote() -> ! {
    // SAFETY: plain system calls on our own descriptors and stack.
    unsafe {
        call(sys::PRCTL, [sys::PR_SET_PDEATHSIG, sys::SIGKILL, 0, 0, 0, 0]);
        // Children are not waited for: the runtime watches them through pidfds.
        sys::ignore_children();
        loop {
            let request = child::request();
            let mut control = Control::EMPTY;
            let mut slice = Slice { base: request as u64, len: size_of::<SpawnRequest>() as u64 };
            let mut message = Message::new(&mut slice, &mut control);
            let got = call(sys::RECVMSG, [0, (&raw mut message) as u64, 0, 0, 0, 0]);
            if got != size_of::<SpawnRequest>() as i64 {
                sys::exit(0);
            }
            let fds = &control.fds[..control.count()];
            let me = call(sys::GETPID, [0; 6]);
            // fork: SIGCHLD as exit signal, no shared anything.
            let pid = call(sys::CLONE, [17, 0, 0, 0, 0, 0]);
            if pid == 0 {
                child::start(fds, me);
            }
            for fd in fds {
                call(sys::CLOSE, [*fd as u64, 0, 0, 0, 0, 0]);
            }
            if pid < 0 {
                let reply = SpawnReply { token: (*request).token, pid: 0, errno: (-pid) as u32, step: 1, uffd_errno: 0 };
                sys::send(&reply, &[]);
            }
        }
    }
}
