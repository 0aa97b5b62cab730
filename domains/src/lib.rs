//! Domains: isolated programs whose memory, registers and kernel state are pages of the store.
//!
//! * [`table`]: records in pages under undo-logged transactions: the form of all kernel state.
//! * [`objects`]: what a domain can hold keys to, and what invoking them does.
//! * [`platform`]: processes as caches of domains; registers as pages.
//! * [`processor`]: what programs are told of it, so that they can go on at another one.
//! * [`kernel`]: who there is; serving, stopping and ending domains.
//! * [`native`]: native domains: processes as a cache, invocation, programs of them.
//! * [`linux`]: the personality that lets unmodified Linux programs be domains.
//! * [`console`]: their streams to the outside.
//! * [`network`]: their sockets.

pub mod console;
pub mod cpu;
pub mod inputs;
pub mod kernel;
pub mod linux;
pub mod native;
pub mod network;
pub mod objects;
pub mod platform;
pub mod processor;
pub mod table;

/// What the stub and the kernel agree on.
#[path = "../stub/abi.rs"]
pub mod abi;

/// What a native domain and the kernel agree on.
#[path = "../guest/src/abi.rs"]
pub mod guest;

#[path = "../guest/src/parcel.rs"]
pub mod parcel;

const _: () = assert!(
    guest::CONTROL == abi::CONTROL
        && guest::MESSAGE == abi::CONTROL + abi::MESSAGE_OFFSET
        && guest::STRING == guest::MESSAGE + 4096
        && guest::INVOKE == abi::INVOKE
);
