//! Inputs: all that a program is told by the world outside its store, written down, and told again.
//!
//! **Promise.** A program that is recorded and that went on from generation *g* goes on, after any failure, as it did: what it is told by clocks,
//! random numbers, its console, its sockets and the journal comes from the record again, answer for answer, up to the last one whose record
//! is durable. Where it asks for something else than it did before, that is told by name and number, and nothing of it is committed.
//!
//! **Why that is all.** A program has one thread and touches the outside in its calls only, through [`Host`](crate::linux::Host). Between them its
//! instructions give the same for the same registers and memory. `rdtsc` is trapped; what is not (`cpuid`, `rdrand`, `rdseed`) is told
//! in `docs/replay.md`. A signal that comes between two instructions cannot be repeated: there the record ends, and a new one begins with the
//! next checkpoint, for which output waits.
//!
//! * A *step* is one call or fault that the kernel serves, counted from the program's beginning. A call that waits and is given again is
//!   a step each time.
//! * A *branch* is a stretch of steps that was lived in one go. Whoever goes on after a replay begins a new branch, which names
//!   the one that it continues. So a world that went back to an older generation has several futures in one journal, and none is mistaken for another.
//!
//! The native domains of a store are one such program, whose steps are the entries of the kernel that serves them.
//!
//! * `wire`: the bytes.
//! * `tape`: one program's: live it writes down, in a replay it tells again. In it `entries`: of native domains, and their order.
//! * `source`: which records are to be told again.
//! * `host`: what stands between a program and the outside.

mod host;
mod source;
mod tape;
#[cfg(test)]
mod tests;
mod wire;

pub use host::taped;
pub use source::{Limit, Source, SourceError};
pub use tape::{Advance, Entry, Position, Taken, Tape, Then};
pub use wire::{Head, Inputs, Item, Question};

/// What no other stretch of steps has.
pub type Branch = u64;
