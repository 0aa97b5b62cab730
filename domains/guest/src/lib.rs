//! What a domain of Semper is written with.
//!
//! A domain holds keys, in 16 slots, and can do one thing: invoke them. This crate has a type for each kind of key with a method for
//! each of its orders ([`keys`]), servers and typed stubs from one definition ([`serve`], [`interface!`]), children ([`Spawn`]),
//! and what a program without an operating system below it needs: an entry, a heap, `println!`, a panic that its keeper can read.
//!
//! ```ignore
//! #![no_std]
//! #![no_main]
//! use semper_domain::{args, entry, println};
//!
//! entry!(main);
//! fn main() -> i32 {
//!     println!("hello from {}", args().next().unwrap_or_default());
//!     0
//! }
//! ```
//!
//! `docs/native.md` says how such a program is built and run. What the orders mean is in `docs/objects.md`, generated from the kernel.
//!
//! **Beside std.** A Linux program that Semper runs may use this crate too: where [`entry!`] did not start the program, keys are
//! invoked by the reserved system call [`abi::SYSCALL`]. Outside Semper that call is refused, which is [`Error::NoKernel`].
//!
//! **Invariants.** A [`Slot`] that was taken belongs to one value until that is dropped; the drop empties it. Strings are copied
//! out of the message pages before anything else is invoked. Nothing here keeps state that a restart would invalidate.
//!
//! **Not here.** Threads: a domain is one. Memory protection within a domain: its memory is one segment that may be read, written
//! and executed, and a stack that grows too far runs into the heap.

#![cfg_attr(not(test), no_std)]

extern crate alloc;

pub mod abi;
mod console;
mod elf;
mod error;
mod fault;
mod heap;
mod interface;
pub mod keys;
mod kind;
mod lock;
#[doc(hidden)]
pub mod memory;
mod one_call;
mod panic;
pub mod parcel;
pub mod raw;
mod server;
mod slot;
mod spawn;
mod start;
#[cfg(test)]
mod tests;
pub mod wire;

#[doc(hidden)]
pub use console::{print, print_log};
pub use error::{Error, Resource, State, Which};
pub use fault::{Fault, Registers};
pub use heap::Heap;
pub use interface::{CallError, Caller, Failure, Unexpected};
#[doc(hidden)]
pub use interface::{answer, call, incoming, keys_of, no_such_order};
pub use kind::{KeyType, Rights};
pub use one_call::{Answer, Call};
#[doc(hidden)]
pub use panic::panicked;
pub use server::{Reply, Request, Server, serve};
pub use slot::{Slot, give_up};
pub use spawn::{Child, Spawn, Template, spawn};
#[doc(hidden)]
pub use start::begin;
pub use start::{Outcome, args, argument, end, is_native, memory_end, memory_start};
