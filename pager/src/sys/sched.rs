//! How soon the scheduler lets a thread run.

use nix::libc;

/// The shortest time slice that Linux accepts.
const SHORT_SLICE_NS: u64 = 100_000;

/// `struct sched_attr` of `linux/sched/types.h`, first version.
#[repr(C)]
#[derive(Default)]
struct SchedAttr {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

/// Its size: the first version's.
const SIZE: u32 = 48;
const _: () = assert!(size_of::<SchedAttr>() == SIZE as usize);

/// Has Linux give `thread` (0: the calling one) time slices of `slice_ns`, 0.1 to 100 ms (EEVDF, Linux 6.12; older kernels ignore it).
/// Of threads that want a core, the one with the shorter slice runs sooner, and whoever waits for its core waits no longer than that.
/// Takes nothing from anybody's share; needs no privilege. A thread that is gone is no error.
pub fn set_slice(thread: i32, slice_ns: u64) {
    let mut attr = SchedAttr::default();
    // SAFETY: the structure is as long as is said and outlives the call.
    if unsafe { libc::syscall(libc::SYS_sched_getattr, thread, &raw mut attr, SIZE, 0) } == 0 {
        attr.runtime = slice_ns;
        // SAFETY: as above.
        unsafe { libc::syscall(libc::SYS_sched_setattr, thread, &raw const attr, 0) };
    }
}

/// Makes the calling thread one that runs soon after it is woken, also where others compute on every core.
pub fn run_soon() {
    set_slice(0, SHORT_SLICE_NS);
    // SAFETY: two integers.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1_000) };
}
