// What the stub and the kernel agree on: addresses, the control header, orders. Included by both; no_std.
// The kernel believes nothing it reads here: each field is read once, checked, then used.

/// First address a program may map.
pub const WINDOW_START: u64 = 0x1_0000;
/// End of the window that holds all of a program's memory; page index in its memory segment = address >> 12.
pub const WINDOW_END: u64 = 1 << 40;
/// Where a domain's control pages lie in its process.
pub const CONTROL: u64 = 0x6000_0000_0000;
/// Pages of the control segment: the header, the signal stack, the message and its string.
pub const CONTROL_PAGES: u64 = 19;
/// Pages of the control segment of a Linux program: those, and its mail.
pub const LINUX_CONTROL_PAGES: u64 = 33;
/// Offset of what came ahead on connections, an [`Inbox`].
pub const INBOX: u64 = 19 << 12;
/// Offset of what the stub put by to be sent, an [`Outbox`].
pub const OUTBOX: u64 = 20 << 12;
/// Offset of the bytes of the inbox.
pub const INBOX_BYTES_AT: u64 = 21 << 12;
/// How many there may be.
pub const INBOX_BYTES: u64 = 8 << 12;
/// Offset of the bytes of the outbox.
pub const OUTBOX_BYTES_AT: u64 = 29 << 12;
/// How many there may be.
pub const OUTBOX_BYTES: u64 = 4 << 12;
/// Connections that something can have come ahead on.
pub const MAX_PARCELS: usize = 64;
/// Times that something can be sent before the kernel sees to it.
pub const MAX_LETTERS: usize = 128;
/// The descriptor of a parcel that only the kernel opens.
pub const NO_DESCRIPTOR: u32 = u32::MAX;
/// Offset of the signal stack within the control segment.
pub const SIGNAL_STACK: u64 = 0x1000;
/// Bytes of the signal stack; the frame that Linux writes lies at its top.
pub const SIGNAL_STACK_BYTES: u64 = 0x1_0000;
/// Offset of the message page within the control segment; the string's page follows.
pub const MESSAGE_OFFSET: u64 = 17 << 12;
/// Where the page of code lies by which a native domain invokes keys.
pub const INVOKE: u64 = CONTROL + 0x10_0000;
/// Upper 32 bits of every address inside the stub's own image; the seccomp filter tells stub from program by it.
pub const STUB_BASE: u64 = 0x7000_0000_0000;
/// End of user addresses.
pub const TASK_END: u64 = 0x7fff_ffff_f000;

/// `state`: the program runs.
pub const RUNNING: u32 = 0;
/// `state`: the stub posted a cause and waits.
pub const POSTED: u32 = 1;
/// `state`: the kernel lets the domain go on, after the orders in the header.
pub const GO: u32 = 2;
/// `state`: the kernel wants the orders in the header carried out, then `POSTED` again.
pub const ORDER: u32 = 3;

/// `cause` of a post that no signal made: the stub is set up and waits.
pub const CAUSE_READY: u32 = 0;
/// `cause`: an order failed; `order_status` has the errno, `order_count` the index.
pub const CAUSE_ORDER_FAILED: u32 = 1000;
/// `cause`: a native domain invokes a key; its registers are in `saved`.
pub const CAUSE_INVOKE: u32 = 1001;
/// The freeze signal (SIGUSR1).
pub const FREEZE_SIGNAL: u32 = 10;

/// Order: mprotect(address, length, protection).
pub const ORDER_PROTECT: u32 = 1;
/// Order: madvise(address, length, MADV_DONTNEED).
pub const ORDER_ZAP: u32 = 2;
/// `quick`: all that the stub can answer.
pub const QUICK: u32 = 1;
/// `quick`: all but what time it is.
pub const QUICK_BUT_TIME: u32 = 2;
/// A process of a Linux program.
pub const LINUX: u32 = 0;
/// A process of a Linux program whose inputs are recorded: it may not read the time-stamp counter.
pub const RECORDED: u32 = 1;
/// A process of a native domain: it may change nothing of its memory map and asks for nothing but invocations.
pub const NATIVE: u32 = 2;
/// The same, of a native domain whose inputs are recorded: it may not read the time-stamp counter.
pub const RECORDED_NATIVE: u32 = 3;
/// Mappings and advice up to this many bytes may be answered in the stub.
pub const QUICK_BYTES: u64 = 64 << 10;
/// Areas about which the stub may answer advice.
pub const ADVICE_RANGES: usize = 4;
/// Orders that fit into the header.
pub const MAX_ORDERS: usize = 96;

/// One thing the stub does for the kernel inside the domain's process.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Order {
    /// `ORDER_*`.
    pub kind: u32,
    /// PROT_* bits of `ORDER_PROTECT`.
    pub protection: u32,
    /// First address, in bytes.
    pub address: u64,
    /// Length in bytes.
    pub length: u64,
}

/// The first control page.
#[repr(C)]
pub struct Header {
    /// `RUNNING`, `POSTED`, `GO` or `ORDER`; a futex.
    pub state: u32,
    /// Counts freezes acknowledged; a futex that only the checkpointer waits on.
    pub frozen: u32,
    /// Signal number, or `CAUSE_*`.
    pub cause: u32,
    /// `si_code` of that signal.
    pub code: u32,
    /// Address of the ucontext that Linux wrote.
    pub context: u64,
    /// `si_addr`.
    pub address: u64,
    /// fs_base at the post; loaded before the domain goes on.
    pub fs_base: u64,
    /// gs_base likewise.
    pub gs_base: u64,
    /// Non-zero: the kernel sleeps on `state` and wants a futex wake.
    pub kernel_sleeps: u32,
    /// Non-zero: the stub sleeps on `state`.
    pub stub_sleeps: u32,
    /// How many pauses the stub spins before it sleeps.
    pub spins: u32,
    /// Orders below.
    pub order_count: u32,
    /// errno of the first failed order.
    pub order_status: u32,
    /// Bit 0: rdfsbase and friends work.
    pub features: u32,
    /// Whether the stub may answer the calls below by itself: no (0), [`QUICK`], [`QUICK_BUT_TIME`].
    pub quick: u32,
    /// Process id that the program sees.
    pub pid: u32,
    /// Parent process id that the program sees.
    pub parent: u32,
    /// User and group id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Whether the process has an inbox and an outbox.
    pub mail: u32,
    /// Added to the machine's CLOCK_MONOTONIC, nanoseconds.
    pub monotonic_offset: i64,
    /// Current program break, as last answered in the stub.
    pub brk: u64,
    /// The stub may answer brk within `[brk_start, brk_granted]`; 0: not.
    pub brk_start: u64,
    /// End of the range that is writable already.
    pub brk_granted: u64,
    /// Calls answered in the stub.
    pub quick_calls: u64,
    /// The stub may hand out `pool_start..pool_next` to small mappings, from its end down.
    pub pool_start: u64,
    /// End of what is left.
    pub pool_next: u64,
    /// Where the stub may answer small MADV_FREE by itself: first address and end.
    pub advice: [[u64; 2]; ADVICE_RANGES],
    /// The registers that an invocation keeps: rbx, rbp, r12, r13, r14, r15, rsp and rip after it.
    pub saved: [u64; 8],
    /// mxcsr, and the x87 control word in the upper half.
    pub control_words: u64,
    /// Where the stub waits for the answer; it writes it when it starts.
    pub wait_entry: u64,
    /// What to do before going on.
    pub orders: [Order; MAX_ORDERS],
}

const _: () = assert!(core::mem::size_of::<Header>() <= 4096);

/// What came ahead on one connection.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Parcel {
    /// Its number.
    pub connection: u64,
    /// The descriptor on which the stub may answer, or [`NO_DESCRIPTOR`].
    pub fd: u32,
    /// The first byte that was not received, within the bytes of the inbox.
    pub start: u32,
    /// The end of them.
    pub end: u32,
    /// Bytes that the connection takes.
    pub room: u32,
    /// Not 0: who receives does not wait, and is told once that there is nothing.
    pub dry: u32,
    /// Not 0: behind these bytes there was nothing more.
    pub whole: u32,
}

/// What came ahead: the kernel writes it when it tells of several connections that are ready.
#[repr(C)]
pub struct Inbox {
    /// Parcels below.
    pub count: u32,
    /// Pads to eight bytes.
    pub pad: u32,
    /// In which life of the world they came; of another one they are void, and so are letters.
    pub life: [u64; 2],
    /// In the order in which they were told of.
    pub parcels: [Parcel; MAX_PARCELS],
}

/// Something that was sent.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Letter {
    /// On which connection.
    pub connection: u64,
    /// The first byte, within the bytes of the outbox.
    pub start: u32,
    /// The end.
    pub end: u32,
}

/// What the stub put by to be sent: the kernel empties it at the next stop.
#[repr(C)]
pub struct Outbox {
    /// Letters below.
    pub count: u32,
    /// Bytes of them.
    pub used: u32,
    /// In the order in which they were sent.
    pub letters: [Letter; MAX_LETTERS],
}

const _: () = assert!(core::mem::size_of::<Inbox>() <= 4096 && core::mem::size_of::<Outbox>() <= 4096);

/// Mappings of one process.
pub const MAX_MAPPINGS: usize = 64;
/// Descriptors that come with a request: the control pages' first, then those of segments.
pub const MAX_FDS: usize = 1 + MAX_MAPPINGS;
/// Descriptors of segments are shared by mappings: `MappingRequest::fd` counts from the control pages' on.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct MappingRequest {
    /// First address.
    pub address: u64,
    /// Bytes.
    pub length: u64,
    /// First byte within the segment.
    pub offset: u64,
    /// PROT_* bits.
    pub protection: u32,
    /// Which of the descriptors.
    pub fd: u32,
}

/// What the runtime asks of the zygote: one process.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct SpawnRequest {
    /// Chosen by the runtime; comes back in the reply.
    pub token: u64,
    /// Userfaultfds that the new process makes for each mapping: none, one, or two.
    pub uffds_each: u32,
    /// What it is to be: one of [`LINUX`], [`RECORDED`], [`NATIVE`], [`RECORDED_NATIVE`].
    pub kind: u32,
    /// Mappings below.
    pub count: u32,
    /// Not 0: the instruction `cpuid` is to fault, where that can be had.
    pub asks: u32,
    /// What to map.
    pub mappings: [MappingRequest; MAX_MAPPINGS],
}

/// What a new process answers; its userfaultfds come with it if they were wanted and could be had.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct SpawnReply {
    /// From the request.
    pub token: u64,
    /// The process.
    pub pid: u32,
    /// 0, or the errno of what failed.
    pub errno: u32,
    /// Which step failed.
    pub step: u32,
    /// errno of userfaultfd(2), 0 if it worked.
    pub uffd_errno: u32,
}
