//! The kernel's userfaultfd interface (`linux/userfaultfd.h`) as constants and structs.
//!
//! Stands in for the crate of the same name on crates.io, which runs bindgen and so demands libclang and the kernel
//! headers of a recent system. The interface is a stable ABI of a few dozen lines: here they are, with the layout asserted
//! at compile time. Names and types are those that the `userfaultfd` crate expects; the features only exist because it
//! names them. What newer kernels added (up to 6.18) is here too, whatever the feature.
//!
//! No `unsafe`, no function: only data.

#![allow(non_camel_case_types)]
#![forbid(unsafe_code)]
#![no_std]

use core::mem::{align_of, size_of};

/// The only version of the interface there is.
pub const UFFD_API: u64 = 0xAA;
/// The ioctl family.
pub const UFFDIO: u8 = 0xAA;
/// The ioctl family of `/dev/userfaultfd`.
pub const USERFAULTFD_IOC: u8 = 0xAA;

/// ioctl numbers within [`UFFDIO`].
pub const _UFFDIO_REGISTER: u8 = 0x00;
/// See [`_UFFDIO_REGISTER`].
pub const _UFFDIO_UNREGISTER: u8 = 0x01;
/// Wakes all faulters of a range.
pub const _UFFDIO_WAKE: u8 = 0x02;
/// Fills missing pages from a buffer.
pub const _UFFDIO_COPY: u8 = 0x03;
/// Fills missing pages with zeros.
pub const _UFFDIO_ZEROPAGE: u8 = 0x04;
/// Moves pages (6.8).
pub const _UFFDIO_MOVE: u8 = 0x05;
/// Sets or lifts write protection.
pub const _UFFDIO_WRITEPROTECT: u8 = 0x06;
/// Maps a page that is in the page cache already.
pub const _UFFDIO_CONTINUE: u8 = 0x07;
/// Makes a page raise SIGBUS (6.6).
pub const _UFFDIO_POISON: u8 = 0x08;
/// The handshake.
pub const _UFFDIO_API: u8 = 0x3F;

/// A page fault.
pub const UFFD_EVENT_PAGEFAULT: u8 = 0x12;
/// The process forked.
pub const UFFD_EVENT_FORK: u8 = 0x13;
/// A mapping moved.
pub const UFFD_EVENT_REMAP: u8 = 0x14;
/// A range was dropped.
pub const UFFD_EVENT_REMOVE: u8 = 0x15;
/// A range was unmapped.
pub const UFFD_EVENT_UNMAP: u8 = 0x16;

/// The fault was a write.
pub const UFFD_PAGEFAULT_FLAG_WRITE: u64 = 1 << 0;
/// The fault hit write protection.
pub const UFFD_PAGEFAULT_FLAG_WP: u64 = 1 << 1;
/// The page is in the page cache, only not mapped.
pub const UFFD_PAGEFAULT_FLAG_MINOR: u64 = 1 << 2;

/// Write-protect faults are reported.
pub const UFFD_FEATURE_PAGEFAULT_FLAG_WP: u64 = 1 << 0;
/// Fork events.
pub const UFFD_FEATURE_EVENT_FORK: u64 = 1 << 1;
/// Remap events.
pub const UFFD_FEATURE_EVENT_REMAP: u64 = 1 << 2;
/// Remove events.
pub const UFFD_FEATURE_EVENT_REMOVE: u64 = 1 << 3;
/// Missing faults on hugetlbfs.
pub const UFFD_FEATURE_MISSING_HUGETLBFS: u64 = 1 << 4;
/// Missing faults on shared memory.
pub const UFFD_FEATURE_MISSING_SHMEM: u64 = 1 << 5;
/// Unmap events.
pub const UFFD_FEATURE_EVENT_UNMAP: u64 = 1 << 6;
/// SIGBUS instead of events.
pub const UFFD_FEATURE_SIGBUS: u64 = 1 << 7;
/// Events name the faulting thread.
pub const UFFD_FEATURE_THREAD_ID: u64 = 1 << 8;
/// Minor faults on hugetlbfs.
pub const UFFD_FEATURE_MINOR_HUGETLBFS: u64 = 1 << 9;
/// Minor faults on shared memory (5.14).
pub const UFFD_FEATURE_MINOR_SHMEM: u64 = 1 << 10;
/// Events carry the unrounded address.
pub const UFFD_FEATURE_EXACT_ADDRESS: u64 = 1 << 11;
/// Write protection of shared memory (5.19).
pub const UFFD_FEATURE_WP_HUGETLBFS_SHMEM: u64 = 1 << 12;
/// Write protection of pages not yet there (6.4).
pub const UFFD_FEATURE_WP_UNPOPULATED: u64 = 1 << 13;
/// `UFFDIO_POISON` (6.6).
pub const UFFD_FEATURE_POISON: u64 = 1 << 14;
/// Write protection that the kernel lifts by itself (6.7).
pub const UFFD_FEATURE_WP_ASYNC: u64 = 1 << 15;

/// Register for faults on missing pages.
pub const UFFDIO_REGISTER_MODE_MISSING: u64 = 1 << 0;
/// Register for write protection.
pub const UFFDIO_REGISTER_MODE_WP: u64 = 1 << 1;
/// Register for faults on pages that are cached but not mapped.
pub const UFFDIO_REGISTER_MODE_MINOR: u64 = 1 << 2;

/// Do not wake the faulters.
pub const UFFDIO_COPY_MODE_DONTWAKE: u64 = 1 << 0;
/// Map the page write-protected.
pub const UFFDIO_COPY_MODE_WP: u64 = 1 << 1;
/// Do not wake the faulters.
pub const UFFDIO_ZEROPAGE_MODE_DONTWAKE: u64 = 1 << 0;
/// Protect (without it: lift the protection).
pub const UFFDIO_WRITEPROTECT_MODE_WP: u64 = 1 << 0;
/// Do not wake the faulters.
pub const UFFDIO_WRITEPROTECT_MODE_DONTWAKE: u64 = 1 << 1;
/// Do not wake the faulters.
pub const UFFDIO_CONTINUE_MODE_DONTWAKE: u64 = 1 << 0;
/// Map the page write-protected (6.4).
pub const UFFDIO_CONTINUE_MODE_WP: u64 = 1 << 1;
/// Do not wake the faulters.
pub const UFFDIO_POISON_MODE_DONTWAKE: u64 = 1 << 0;

/// Handle faults of user mode only; needs no privilege.
pub const UFFD_USER_MODE_ONLY: u32 = 1;

/// The handshake: version, features asked for and granted.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct uffdio_api {
    /// Always [`UFFD_API`].
    pub api: u64,
    /// In: wanted; out: all that the kernel has.
    pub features: u64,
    /// Out: the ioctls there are.
    pub ioctls: u64,
}

/// A run of bytes in the address space, page aligned.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct uffdio_range {
    /// First address.
    pub start: u64,
    /// Bytes.
    pub len: u64,
}

/// Argument of `UFFDIO_REGISTER`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct uffdio_register {
    /// What to register.
    pub range: uffdio_range,
    /// For which faults.
    pub mode: u64,
    /// Out: the ioctls that work on the range.
    pub ioctls: u64,
}

/// Argument of `UFFDIO_COPY`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct uffdio_copy {
    /// Where to fill.
    pub dst: u64,
    /// The caller's buffer.
    pub src: u64,
    /// Bytes.
    pub len: u64,
    /// `UFFDIO_COPY_MODE_*`.
    pub mode: u64,
    /// Out: bytes done, or a negative error.
    pub copy: i64,
}

/// Argument of `UFFDIO_ZEROPAGE`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct uffdio_zeropage {
    /// What to fill.
    pub range: uffdio_range,
    /// `UFFDIO_ZEROPAGE_MODE_*`.
    pub mode: u64,
    /// Out: bytes done, or a negative error.
    pub zeropage: i64,
}

/// Argument of `UFFDIO_WRITEPROTECT`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct uffdio_writeprotect {
    /// What to protect.
    pub range: uffdio_range,
    /// `UFFDIO_WRITEPROTECT_MODE_*`.
    pub mode: u64,
}

/// Argument of `UFFDIO_CONTINUE`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct uffdio_continue {
    /// What to map.
    pub range: uffdio_range,
    /// `UFFDIO_CONTINUE_MODE_*`.
    pub mode: u64,
    /// Out: bytes done, or a negative error.
    pub mapped: i64,
}

/// Argument of `UFFDIO_POISON`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct uffdio_poison {
    /// What to poison.
    pub range: uffdio_range,
    /// `UFFDIO_POISON_MODE_*`.
    pub mode: u64,
    /// Out: bytes done, or a negative error.
    pub updated: i64,
}

/// What `read` gives: one event.
#[repr(C, packed)]
#[derive(Clone, Copy)]
pub struct uffd_msg {
    /// `UFFD_EVENT_*`.
    pub event: u8,
    /// Unused.
    pub reserved1: u8,
    /// Unused.
    pub reserved2: u16,
    /// Unused.
    pub reserved3: u32,
    /// According to the event.
    pub arg: uffd_msg_arg,
}

/// The part of [`uffd_msg`] that depends on the event.
#[repr(C)]
#[derive(Clone, Copy)]
pub union uffd_msg_arg {
    /// Of `UFFD_EVENT_PAGEFAULT`.
    pub pagefault: uffd_msg_pagefault,
    /// Of `UFFD_EVENT_FORK`.
    pub fork: uffd_msg_fork,
    /// Of `UFFD_EVENT_REMAP`.
    pub remap: uffd_msg_remap,
    /// Of `UFFD_EVENT_REMOVE` and `UFFD_EVENT_UNMAP`.
    pub remove: uffd_msg_remove,
    /// The size of it.
    pub reserved: [u64; 3],
}

/// A page fault.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct uffd_msg_pagefault {
    /// `UFFD_PAGEFAULT_FLAG_*`.
    pub flags: u64,
    /// Where.
    pub address: u64,
    /// Who, if asked for.
    pub feat: uffd_msg_feat,
}

/// Extras of a page fault.
#[repr(C)]
#[derive(Clone, Copy)]
pub union uffd_msg_feat {
    /// The thread, with `UFFD_FEATURE_THREAD_ID`.
    pub ptid: u32,
}

/// A fork.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct uffd_msg_fork {
    /// The descriptor for the child.
    pub ufd: u32,
}

/// A moved mapping.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct uffd_msg_remap {
    /// Old address.
    pub from: u64,
    /// New address.
    pub to: u64,
    /// Bytes.
    pub len: u64,
}

/// A range that went away.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct uffd_msg_remove {
    /// First address.
    pub start: u64,
    /// First address after it.
    pub end: u64,
}

const _: () = {
    assert!(size_of::<uffd_msg>() == 32 && align_of::<uffd_msg>() == 1);
    assert!(size_of::<uffdio_api>() == 24);
    assert!(size_of::<uffdio_range>() == 16);
    assert!(size_of::<uffdio_register>() == 32);
    assert!(size_of::<uffdio_copy>() == 40);
    assert!(size_of::<uffdio_zeropage>() == 32);
    assert!(size_of::<uffdio_writeprotect>() == 24);
    assert!(size_of::<uffdio_continue>() == 32);
    assert!(size_of::<uffdio_poison>() == 32);
};
