//! The control pages as the kernel sees them: shared with a domain that may write anything there at any time.
//!
//! Every field is read once by a volatile or atomic access; nothing read here is believed before it was checked.

use crate::abi::{ADVICE_RANGES, CONTROL_PAGES, Header, MAX_ORDERS, Order};
use semper_pager::View;
use semper_store::{PAGE_SIZE, PageRange};
use std::mem::offset_of;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed, Ordering::SeqCst};

/// The mapped control pages of one domain.
pub struct Control {
    view: View,
}

macro_rules! field {
    ($(#[$doc:meta])* $get:ident, $set:ident, $name:ident: $type:ty) => {
        $(#[$doc])*
        #[must_use]
        pub fn $get(&self) -> $type {
            // SAFETY: `header()` points to a live, aligned header; a volatile read of plain bytes is valid whatever they are.
            unsafe { (&raw const (*self.header()).$name).read_volatile() }
        }
        #[doc = "Sets it."]
        pub fn $set(&self, value: $type) {
            // SAFETY: as above; the view is writable.
            unsafe { (&raw mut (*self.header()).$name).write_volatile(value) }
        }
    };
}

impl Control {
    /// Wraps the view of a control segment.
    ///
    /// # Panics
    /// If the view is shorter than the control pages: a bug of the caller.
    #[must_use]
    pub fn new(view: View) -> Self {
        assert!(view.len() as u64 >= CONTROL_PAGES * PAGE_SIZE as u64, "the view covers the control pages");
        Self { view }
    }

    fn header(&self) -> *mut Header {
        self.view.as_ptr().cast()
    }

    fn word(&self, offset: usize) -> &AtomicU32 {
        self.view.atomic_u32(offset)
    }

    /// The state word; a futex shared with the stub.
    #[must_use]
    pub fn state(&self) -> &AtomicU32 {
        self.word(offset_of!(Header, state))
    }

    /// Counts freezes that the stub acknowledged; a futex.
    #[must_use]
    pub fn frozen(&self) -> &AtomicU32 {
        self.word(offset_of!(Header, frozen))
    }

    /// Says whether the kernel sleeps on the state word: 0 no, 1 yes, 2 also for freezes.
    #[must_use]
    pub fn kernel_sleeps(&self) -> &AtomicU32 {
        self.word(offset_of!(Header, kernel_sleeps))
    }

    /// Whether the stub says that it sleeps on the state word.
    #[must_use]
    pub fn stub_sleeps(&self) -> bool {
        self.word(offset_of!(Header, stub_sleeps)).load(SeqCst) != 0
    }

    field!(/// Why the domain stopped.
        cause, set_cause, cause: u32);
    field!(/// `si_code`.
        code, set_code, code: u32);
    field!(/// `si_addr`.
        address, set_address, address: u64);
    field!(/// Where Linux wrote the ucontext.
        context, set_context, context: u64);
    field!(/// fs_base.
        fs_base, set_fs_base, fs_base: u64);
    field!(/// gs_base.
        gs_base, set_gs_base, gs_base: u64);
    field!(/// Spins before the stub sleeps.
        spins, set_spins, spins: u32);
    field!(/// Orders to carry out.
        order_count, set_order_count, order_count: u32);
    field!(/// errno of a failed order.
        order_status, set_order_status, order_status: u32);
    field!(/// What the processor offers the stub.
        features, set_features, features: u32);
    field!(/// Whether the process has an inbox and an outbox.
        mail, set_mail, mail: u32);
    field!(/// Whether the stub may answer calls.
        quick, set_quick, quick: u32);
    field!(/// The program's pid.
        pid, set_pid, pid: u32);
    field!(/// The program's parent.
        parent, set_parent, parent: u32);
    field!(/// User id.
        uid, set_uid, uid: u32);
    field!(/// Group id.
        gid, set_gid, gid: u32);
    field!(/// Domain monotonic time minus the machine's, nanoseconds.
        monotonic_offset, set_monotonic_offset, monotonic_offset: i64);
    field!(/// Program break as last answered in the stub.
        brk, set_brk, brk: u64);
    field!(/// First address of the break area; 0: the kernel answers brk.
        brk_start, set_brk_start, brk_start: u64);
    field!(/// End of what the stub may grant.
        brk_granted, set_brk_granted, brk_granted: u64);
    field!(/// Start of what the stub may hand out to mappings.
        pool_start, set_pool_start, pool_start: u64);
    field!(/// End of what is left of it.
        pool_next, set_pool_next, pool_next: u64);
    field!(/// Where the stub may answer advice.
        advice, set_advice, advice: [[u64; 2]; ADVICE_RANGES]);
    field!(/// Calls answered in the stub.
        quick_calls, set_quick_calls, quick_calls: u64);

    field!(/// The registers that an invocation keeps: rbx, rbp, r12 to r15, rsp, rip.
        saved, set_saved, saved: [u64; 8]);
    field!(/// mxcsr, and the x87 control word in the upper half.
        control_words, set_control_words, control_words: u64);

    /// Puts orders into the header; at most [`MAX_ORDERS`].
    pub fn set_orders(&self, orders: &[Order]) {
        assert!(orders.len() <= MAX_ORDERS, "a batch of orders fits the header");
        for (i, order) in orders.iter().enumerate() {
            // SAFETY: `i < MAX_ORDERS`; the header is live and writable.
            unsafe { (&raw mut (*self.header()).orders[i]).write_volatile(*order) };
        }
        self.set_order_status(0);
        self.set_order_count(u32::try_from(orders.len()).unwrap_or(0));
    }

    /// An aligned word of the control pages.
    #[must_use]
    pub fn word_at(&self, offset: u64) -> u64 {
        self.view.atomic_u64(index(offset)).load(Relaxed)
    }

    /// Sets it, without marking its page dirty.
    pub fn set_word(&self, offset: u64, value: u64) {
        self.view.atomic_u64(index(offset)).store(value, Relaxed);
    }

    /// Copies bytes out of the control pages.
    pub fn read(&self, offset: u64, out: &mut [u8]) {
        self.view.read_bytes(index(offset), out);
    }

    /// Copies bytes in.
    pub fn write(&self, offset: u64, bytes: &[u8]) {
        self.view.write_bytes(index(offset), bytes);
    }

    /// The view, for the frame.
    #[must_use]
    pub fn view(&self) -> &View {
        &self.view
    }

    /// The header is not seen by the dirty tracking of the kernel's own mapping: mark it.
    pub fn mark_header_dirty(&self) {
        self.view.mark_dirty(PageRange::between(0, 1));
    }
}

/// Offsets within the control pages are far below 2^32; a wrong one is refused by the view.
fn index(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}
