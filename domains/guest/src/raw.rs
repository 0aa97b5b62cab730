//! The one thing that a domain can do, as the kernel takes it.

use crate::Error;
use crate::abi::{self, MAX_STRING, Message};
#[cfg(not(test))]
use crate::is_native;
use core::arch::asm;

/// As [`MAX_STRING`], as messages carry it.
#[allow(clippy::cast_possible_truncation)] // 4096
const LIMIT: u32 = MAX_STRING as u32;

/// The system call's result when a signal ended the wait: `-EINTR`.
const INTERRUPTED: i64 = -4;

/// Invokes what `message` says with `string`, and waits as it says. The answer is in the second half of `message`; its string is shown
/// to `take` before anything else can be invoked. The rest of the message is not changed but for the length of the string.
///
/// A refusal of the kernel's is an answer as well: `message.code` is then [`abi::FIRST_ERROR`] or above.
///
/// # Errors
/// [`Error::StringTooLong`], and nothing was invoked; in a Linux program [`Error::Interrupted`], and [`Error::NoKernel`] if it does not
/// run in Semper.
pub fn invoke<R>(message: &mut Message, string: &[u8], take: impl FnOnce(&[u8]) -> R) -> Result<R, Error> {
    message.string_len = u32::try_from(string.len()).unwrap_or(u32::MAX);
    if string.len() > MAX_STRING {
        return Err(Error::StringTooLong { len: message.string_len, limit: LIMIT });
    }
    #[cfg(test)]
    return crate::tests::fake::invoke(message, string, take);
    #[cfg(not(test))]
    if is_native() { by_trampoline(message, string, take) } else { by_system_call(message, string, take) }
}

#[cfg_attr(test, expect(dead_code))]
fn by_trampoline<R>(message: &mut Message, string: &[u8], take: impl FnOnce(&[u8]) -> R) -> Result<R, Error> {
    let page = abi::MESSAGE as *mut Message;
    let text = abi::STRING as *mut u8;
    // SAFETY: in a domain (`is_native`) both pages are mapped, readable and writable, and nothing of Rust's lies in them. A
    // domain is one thread, and no reference to them outlives this function, so they are ours.
    unsafe {
        page.write(*message);
        text.copy_from_nonoverlapping(string.as_ptr(), string.len());
        // The call saves what the C convention saves, as `abi::INVOKE` promises; the kernel writes the two pages.
        asm!("call {invoke}", invoke = in(reg) abi::INVOKE, clobber_abi("C"));
        *message = page.read();
        Ok(take(core::slice::from_raw_parts(text, received(message))))
    }
}

#[cfg_attr(test, expect(dead_code))]
fn by_system_call<R>(message: &mut Message, string: &[u8], take: impl FnOnce(&[u8]) -> R) -> Result<R, Error> {
    let mut text = [0_u8; MAX_STRING];
    text[..string.len()].copy_from_slice(string);
    let result: i64;
    // SAFETY: the kernel reads and writes the message and the whole of `text`, which live until it returns; Linux proper
    // knows no such call and answers ENOSYS.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") abi::SYSCALL => result,
            in("rdi") core::ptr::from_mut(message),
            in("rsi") text.as_mut_ptr(),
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    match result {
        0 => Ok(take(&text[..received(message)])),
        INTERRUPTED => Err(Error::Interrupted),
        _ => Err(Error::NoKernel),
    }
}

/// Bytes of the string that came back, within the page whatever the kernel says.
pub(crate) fn received(message: &Message) -> usize {
    usize::try_from(message.got_string_len).map_or(MAX_STRING, |len| len.min(MAX_STRING))
}
