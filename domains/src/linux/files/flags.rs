//! Numbers of the Linux interface that several calls share.
#![allow(missing_docs)]

pub const O_ACCMODE: u64 = 3;
pub const O_WRONLY: u64 = 1;
pub const O_RDWR: u64 = 2;
pub const O_CREAT: u64 = 0o100;
pub const O_EXCL: u64 = 0o200;
pub const O_TRUNC: u64 = 0o1000;
pub const O_APPEND: u64 = 0o2000;
pub const O_NONBLOCK: u64 = 0o4000;
pub const O_DIRECTORY: u64 = 0o200_000;
pub const O_NOFOLLOW: u64 = 0o400_000;
pub const O_NOATIME: u64 = 0o1_000_000;
pub const O_CLOEXEC: u64 = 0o2_000_000;
pub const O_PATH: u64 = 0o10_000_000;
pub const O_TMPFILE: u64 = 0o20_000_000;
pub const O_ASYNC: u64 = 0o20_000;
pub const O_DIRECT: u64 = 0o40_000;
pub const O_LARGEFILE: u64 = 0o100_000;
pub const O_SYNC: u64 = 0o4_010_000;
/// What `F_SETFL` may change.
pub const SETTABLE: u64 = O_APPEND | O_NONBLOCK | O_ASYNC | O_DIRECT | O_NOATIME;
/// What an open file keeps of the flags it was opened with.
pub const KEPT: u64 = O_ACCMODE | SETTABLE | O_PATH | O_SYNC | O_LARGEFILE | O_DIRECTORY | O_NOFOLLOW;

pub const AT_FDCWD: u64 = (-100_i64).cast_unsigned();
pub const AT_SYMLINK_NOFOLLOW: u64 = 0x100;
pub const AT_EACCESS: u64 = 0x200;
pub const AT_REMOVEDIR: u64 = 0x200;
pub const AT_SYMLINK_FOLLOW: u64 = 0x400;
pub const AT_EMPTY_PATH: u64 = 0x1000;

pub const R_OK: u32 = 4;
pub const W_OK: u32 = 2;
pub const X_OK: u32 = 1;

pub const S_IFMT: u32 = 0o170_000;
