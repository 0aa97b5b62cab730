//! What a keeper is told.

use crate::Request;
use crate::keys::{Domain, Meter, Segment};

/// The general registers of a domain, in the order in which register states hold them.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)]
pub struct Registers {
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
    pub r11: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
    pub rdi: u64,
    pub rsi: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub rdx: u64,
    pub rax: u64,
    pub rcx: u64,
    pub rsp: u64,
    pub rip: u64,
    pub eflags: u64,
    /// cs, gs, fs, ss: sixteen bits each.
    pub selectors: u64,
    /// Page-fault error code and the like.
    pub error: u64,
    /// The processor's exception number.
    pub trap: u64,
    /// Unused.
    pub old_mask: u64,
    /// The address of a page fault.
    pub cr2: u64,
}

/// How many words [`Registers`] are.
const WORDS: usize = size_of::<Registers>() / 8;

impl Registers {
    /// Bytes of the general registers at the beginning of a register state.
    pub const BYTES: usize = WORDS * 8;

    /// The general registers of a register state; what is cut off is zero.
    #[must_use]
    pub fn from_bytes(state: &[u8]) -> Self {
        let mut words = [0_u64; WORDS];
        for (word, bytes) in words.iter_mut().zip(state.chunks_exact(8)) {
            *word = bytes.try_into().map_or(0, u64::from_le_bytes);
        }
        // SAFETY: both are plain `u64`s, as many, without padding (`repr(C)`).
        unsafe { core::mem::transmute::<[u64; WORDS], Self>(words) }
    }

    /// The beginning of a register state.
    #[must_use]
    pub fn as_bytes(&self) -> [u8; Self::BYTES] {
        // SAFETY: as above.
        let words = unsafe { core::mem::transmute::<Self, [u64; WORDS]>(*self) };
        let mut bytes = [0; Self::BYTES];
        for (part, word) in bytes.chunks_exact_mut(8).zip(words) {
            part.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }
}

/// A message to a keeper. The answer code 0 lets the domain go on at its instruction; any other leaves it standing.
///
/// Anybody who has a start key to a keeper can send it such a message; the badge tells the kernel's apart, if the start key that was
/// set as keeper has one of its own.
#[derive(Debug)]
pub enum Fault {
    /// A domain faulted.
    Domain {
        /// The signal that Linux raised: 4 (illegal instruction), 5 (trap), 7 (bus), 8 (arithmetic), 11 (memory), 31 (system call).
        signal: u64,
        /// The address that was touched.
        address: u64,
        /// What Linux says about the signal: the page-fault error code, or the system call's number.
        detail: u64,
        /// The instruction.
        instruction: u64,
        /// The domain, with all rights; if the keeper accepts one key.
        domain: Option<Domain>,
    },
    /// A fault in a mapping of a segment.
    Segment {
        /// Which page of the segment.
        page: u64,
        /// The address that was touched.
        address: u64,
        /// The page-fault error code.
        detail: u64,
        /// The instruction.
        instruction: u64,
        /// The segment; if the keeper accepts one key.
        segment: Option<Segment>,
    },
    /// A domain's meter is used up.
    Meter {
        /// CPU time used, in nanoseconds.
        used: u64,
        /// The meter, with all rights; if the keeper accepts one key.
        meter: Option<Meter>,
    },
}

impl Fault {
    /// What a request tells a keeper; `None`: it is no message to keepers.
    #[must_use]
    pub fn from_request(request: &mut Request<'_>) -> Option<Self> {
        let [first, address, detail, instruction] = request.words;
        let mut key = || request.keys[0].take();
        Some(match request.order {
            1 => Self::Domain { signal: first, address, detail, instruction, domain: key().map(Domain::from) },
            2 => Self::Segment { page: first, address, detail, instruction, segment: key().map(Segment::from) },
            3 => Self::Meter { used: first, meter: key().map(Meter::from) },
            _ => return None,
        })
    }
}
