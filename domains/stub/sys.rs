//! System calls without libc, and the few structures that they take.

use crate::abi::MAX_FDS;
use core::arch::{asm, naked_asm};

pub const READ: u64 = 0;
pub const WRITE: u64 = 1;
pub const CLOSE: u64 = 3;
pub const MMAP: u64 = 9;
pub const MPROTECT: u64 = 10;
pub const MUNMAP: u64 = 11;
pub const BRK: u64 = 12;
pub const RT_SIGACTION: u64 = 13;
pub const RT_SIGPROCMASK: u64 = 14;
pub const RT_SIGRETURN: u64 = 15;
pub const SCHED_YIELD: u64 = 24;
pub const MADVISE: u64 = 28;
pub const GETPID: u64 = 39;
pub const SENDTO: u64 = 44;
pub const RECVFROM: u64 = 45;
pub const SENDMSG: u64 = 46;
pub const RECVMSG: u64 = 47;
pub const CLONE: u64 = 56;
pub const GETUID: u64 = 102;
pub const GETGID: u64 = 104;
pub const GETEUID: u64 = 107;
pub const GETEGID: u64 = 108;
pub const GETPPID: u64 = 110;
pub const SIGALTSTACK: u64 = 131;
pub const PRCTL: u64 = 157;
pub const ARCH_PRCTL: u64 = 158;
pub const GETTID: u64 = 186;
pub const FUTEX: u64 = 202;
pub const CLOCK_GETTIME: u64 = 228;
pub const EXIT_GROUP: u64 = 231;
pub const PRLIMIT64: u64 = 302;
pub const SECCOMP: u64 = 317;
pub const USERFAULTFD: u64 = 323;
pub const CLOSE_RANGE: u64 = 436;

pub const PR_SET_PDEATHSIG: u64 = 1;
pub const PR_SET_NO_NEW_PRIVS: u64 = 38;
pub const PR_SET_TSC: u64 = 26;
pub const PR_TSC_SIGSEGV: u64 = 2;
pub const SIGKILL: u64 = 9;
pub const ARCH_SET_GS: u64 = 0x1001;
pub const ARCH_SET_CPUID: u64 = 0x1012;
pub const ARCH_SET_FS: u64 = 0x1002;
pub const ARCH_GET_FS: u64 = 0x1003;
pub const ARCH_GET_GS: u64 = 0x1004;

/// A raw system call; the result is negative errno on failure.
///
/// # Safety
/// As the call itself.
#[inline(always)]
pub unsafe fn call(number: u64, a: [u64; 6]) -> i64 {
    let result: i64;
    // SAFETY: the kernel keeps every register but rax, rcx, r11; the caller vouches for what the call does to memory.
    unsafe {
        asm!("syscall", inlateout("rax") number as i64 => result, in("rdi") a[0], in("rsi") a[1], in("rdx") a[2],
             in("r10") a[3], in("r8") a[4], in("r9") a[5], lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    result
}

/// Ends this process.
pub fn exit(code: u64) -> ! {
    // SAFETY: exit_group touches no memory.
    unsafe { call(EXIT_GROUP, [code, 0, 0, 0, 0, 0]) };
    loop {}
}

#[repr(C)]
pub struct Slice {
    pub base: u64,
    pub len: u64,
}

/// A control message with room for the descriptors of a request.
#[repr(C, align(8))]
pub struct Control {
    pub len: u64,
    pub level: i32,
    pub kind: i32,
    pub fds: [i32; MAX_FDS + 1],
}

impl Control {
    pub const EMPTY: Self = Self { len: 0, level: 0, kind: 0, fds: [-1; MAX_FDS + 1] };

    /// How many descriptors came.
    pub fn count(&self) -> usize {
        if self.level == 1 && self.kind == 1 { ((self.len as usize).saturating_sub(16) / 4).min(MAX_FDS) } else { 0 }
    }
}

/// `struct msghdr`.
#[repr(C)]
pub struct Message {
    pub name: u64,
    pub name_len: u64,
    pub slices: u64,
    pub slice_count: u64,
    pub control: u64,
    pub control_len: u64,
    pub flags: u64,
}

impl Message {
    pub fn new(slice: &mut Slice, control: &mut Control) -> Self {
        Self {
            name: 0,
            name_len: 0,
            slices: (&raw mut *slice) as u64,
            slice_count: 1,
            control: (&raw mut *control) as u64,
            control_len: size_of::<Control>() as u64,
            flags: 0,
        }
    }
}

/// Sends `value` on descriptor 0, with descriptors.
///
/// # Safety
/// Descriptor 0 is the zygote's socket.
pub unsafe fn send<T>(value: &T, fds: &[i32]) {
    let count = fds.len().min(MAX_FDS);
    let len = 16 + 4 * count as u64;
    let mut control = Control { len, level: 1, kind: 1, ..Control::EMPTY };
    control.fds[..count].copy_from_slice(&fds[..count]);
    let mut slice = Slice { base: (&raw const *value) as u64, len: size_of::<T>() as u64 };
    let mut message = Message::new(&mut slice, &mut control);
    message.control_len = if count == 0 { 0 } else { (len + 7) & !7 };
    // SAFETY: all structures live until the call returns. MSG_NOSIGNAL.
    unsafe { call(SENDMSG, [0, (&raw mut message) as u64, 0x4000, 0, 0, 0]) };
}

/// `struct sigaction` as the kernel takes it.
#[repr(C)]
pub struct Action {
    pub handler: u64,
    pub flags: u64,
    pub restorer: u64,
    pub mask: u64,
}

/// # Safety
/// Changes the disposition of SIGCHLD only.
pub unsafe fn ignore_children() {
    let action = Action { handler: 1, flags: 0, restorer: 0, mask: 0 };
    // SAFETY: `action` outlives the call.
    unsafe { call(RT_SIGACTION, [17, (&raw const action) as u64, 0, 8, 0, 0]) };
}

/// # Safety
/// Called by the compiler with valid, non-overlapping ranges.
#[unsafe(naked)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, n: usize) -> *mut u8 {
    naked_asm!("mov rax, rdi", "mov rcx, rdx", "rep movsb", "ret")
}

/// # Safety
/// Called by the compiler with a valid range.
#[unsafe(naked)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memset(to: *mut u8, byte: i32, n: usize) -> *mut u8 {
    naked_asm!("mov r8, rdi", "mov eax, esi", "mov rcx, rdx", "rep stosb", "mov rax, r8", "ret")
}
