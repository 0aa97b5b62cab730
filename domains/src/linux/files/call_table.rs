//! The served calls of this part.

use super::{
    calls_fd, calls_io, calls_ioctl, calls_meta, calls_open, calls_poll, calls_socket, calls_space, calls_tree,
    calls_unix, epoll, eventfd, options, signalfd, timerfd,
};
use crate::linux::Call;

macro_rules! calls {
    ($($number:literal $name:literal $module:ident :: $function:ident $note:literal;)*) => {
        /// The served calls.
        pub const CALLS: &[Call] = &[
            $(Call { number: $number, name: $name, handler: |p, _, a| $module::$function(p, a), note: $note }),*
        ];
    };
}

calls! {
    0 "read" calls_io::read "";
    1 "write" calls_io::write "";
    2 "open" calls_open::open "O_TMPFILE: EOPNOTSUPP";
    3 "close" calls_fd::close "";
    4 "stat" calls_meta::stat "st_blocks counts holes";
    5 "fstat" calls_meta::fstat "st_blocks counts holes";
    6 "lstat" calls_meta::lstat "st_blocks counts holes";
    7 "poll" calls_poll::poll "";
    8 "lseek" calls_fd::lseek "the whole file counts as data";
    16 "ioctl" calls_ioctl::ioctl "the host's terminal follows the program's terminal modes; a read there always waits for a byte (VMIN and VTIME are taken as 1 and 0), and speeds are not set";
    17 "pread64" calls_io::pread "";
    18 "pwrite64" calls_io::pwrite "";
    19 "readv" calls_io::readv "";
    20 "writev" calls_io::writev "";
    21 "access" calls_meta::access "the program owns every file";
    22 "pipe" calls_fd::pipe "within the program";
    23 "select" calls_poll::select "";
    32 "dup" calls_fd::dup "";
    33 "dup2" calls_fd::dup2 "";
    40 "sendfile" calls_io::sendfile "";
    41 "socket" calls_socket::socket "TCP over IPv4; Unix sockets within the program: streams and messages (SOCK_SEQPACKET)";
    42 "connect" calls_socket::connect "to what `--connect` granted, else EACCES";
    43 "accept" calls_socket::accept "";
    44 "sendto" calls_socket::sendto "leaves with the checkpoint that contains it; no MSG_OOB";
    45 "recvfrom" calls_socket::recvfrom "no MSG_OOB, MSG_TRUNC";
    46 "sendmsg" calls_socket::sendmsg "leaves with the checkpoint that contains it; no control messages, and so no descriptors";
    47 "recvmsg" calls_socket::recvmsg "no MSG_OOB, MSG_TRUNC; no control messages come";
    48 "shutdown" calls_socket::shutdown "takes effect after what was sent before";
    49 "bind" calls_socket::bind "ports that `--listen` granted, else EACCES";
    50 "listen" calls_socket::listen "";
    51 "getsockname" calls_socket::getsockname "";
    52 "getpeername" calls_socket::getpeername "";
    53 "socketpair" calls_unix::socketpair "Unix sockets within the program, which a restart leaves as they are";
    54 "setsockopt" options::setsockopt "most are kept and told again, and change nothing";
    55 "getsockopt" options::getsockopt "";
    72 "fcntl" calls_fd::fcntl "locks are always granted; no owners, leases, seals";
    73 "flock" calls_fd::flock "always granted";
    74 "fsync" calls_fd::fsync "durability follows the checkpoints";
    75 "fdatasync" calls_fd::fsync "durability follows the checkpoints";
    76 "truncate" calls_space::truncate "";
    77 "ftruncate" calls_space::ftruncate "";
    79 "getcwd" calls_tree::getcwd "";
    80 "chdir" calls_tree::chdir "";
    81 "fchdir" calls_tree::fchdir "";
    82 "rename" calls_tree::rename "";
    83 "mkdir" calls_tree::mkdir "";
    84 "rmdir" calls_tree::rmdir "";
    85 "creat" calls_open::creat "";
    86 "link" calls_tree::link "";
    87 "unlink" calls_tree::unlink "";
    88 "symlink" calls_tree::symlink "";
    89 "readlink" calls_tree::readlink "";
    90 "chmod" calls_meta::chmod "";
    91 "fchmod" calls_meta::fchmod "";
    92 "chown" calls_meta::chown "to itself only";
    93 "fchown" calls_meta::fchown "to itself only";
    94 "lchown" calls_meta::lchown "to itself only";
    95 "umask" calls_tree::umask "";
    132 "utime" calls_meta::utime "";
    137 "statfs" calls_meta::statfs "free space is rounded down to a power of two";
    138 "fstatfs" calls_meta::fstatfs "free space is rounded down to a power of two";
    162 "sync" calls_fd::sync "durability follows the checkpoints";
    188 "setxattr" calls_meta::xattr "EOPNOTSUPP";
    189 "lsetxattr" calls_meta::lxattr "EOPNOTSUPP";
    190 "fsetxattr" calls_meta::fxattr "EOPNOTSUPP";
    191 "getxattr" calls_meta::xattr "EOPNOTSUPP";
    192 "lgetxattr" calls_meta::lxattr "EOPNOTSUPP";
    193 "fgetxattr" calls_meta::fxattr "EOPNOTSUPP";
    194 "listxattr" calls_meta::xattr "EOPNOTSUPP";
    195 "llistxattr" calls_meta::lxattr "EOPNOTSUPP";
    196 "flistxattr" calls_meta::fxattr "EOPNOTSUPP";
    197 "removexattr" calls_meta::xattr "EOPNOTSUPP";
    198 "lremovexattr" calls_meta::lxattr "EOPNOTSUPP";
    199 "fremovexattr" calls_meta::fxattr "EOPNOTSUPP";
    213 "epoll_create" epoll::epoll_create "";
    217 "getdents64" calls_open::getdents "";
    221 "fadvise64" calls_fd::fadvise "accepted";
    232 "epoll_wait" epoll::epoll_wait "";
    233 "epoll_ctl" epoll::epoll_ctl "sockets, pipes, timers, signals, the console and devices; no instances in instances";
    235 "utimes" calls_meta::utimes "";
    257 "openat" calls_open::openat "O_TMPFILE: EOPNOTSUPP";
    258 "mkdirat" calls_tree::mkdirat "";
    260 "fchownat" calls_meta::fchownat "to itself only";
    261 "futimesat" calls_meta::futimesat "";
    262 "newfstatat" calls_meta::newfstatat "st_blocks counts holes";
    263 "unlinkat" calls_tree::unlinkat "";
    264 "renameat" calls_tree::renameat "";
    265 "linkat" calls_tree::linkat "";
    266 "symlinkat" calls_tree::symlinkat "";
    267 "readlinkat" calls_tree::readlinkat "";
    268 "fchmodat" calls_meta::fchmodat "";
    269 "faccessat" calls_meta::faccessat "the program owns every file";
    270 "pselect6" calls_poll::pselect6 "";
    271 "ppoll" calls_poll::ppoll "";
    280 "utimensat" calls_meta::utimensat "";
    281 "epoll_pwait" epoll::epoll_pwait "";
    282 "signalfd" signalfd::signalfd "";
    283 "timerfd_create" timerfd::timerfd_create "CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME and their alarms";
    284 "eventfd" eventfd::eventfd "";
    285 "fallocate" calls_space::fallocate "room is asked for, not set aside; no collapse, insert, unshare";
    286 "timerfd_settime" timerfd::timerfd_settime "a timer goes on across restarts; TFD_TIMER_CANCEL_ON_SET has no effect";
    287 "timerfd_gettime" timerfd::timerfd_gettime "";
    288 "accept4" calls_socket::accept4 "";
    289 "signalfd4" signalfd::signalfd4 "";
    290 "eventfd2" eventfd::eventfd2 "";
    291 "epoll_create1" epoll::epoll_create1 "";
    292 "dup3" calls_fd::dup3 "";
    293 "pipe2" calls_fd::pipe2 "within the program";
    295 "preadv" calls_io::preadv "";
    296 "pwritev" calls_io::pwritev "";
    306 "syncfs" calls_fd::fsync "durability follows the checkpoints";
    316 "renameat2" calls_tree::renameat2 "RENAME_NOREPLACE only";
    326 "copy_file_range" calls_io::copy_file_range "copies";
    327 "preadv2" calls_io::preadv2 "hints only";
    328 "pwritev2" calls_io::pwritev2 "hints only";
    332 "statx" calls_meta::statx "stx_blocks counts holes";
    436 "close_range" calls_fd::close_range "";
    437 "openat2" calls_open::openat2 "no resolve flags";
    439 "faccessat2" calls_meta::faccessat2 "the program owns every file";
    441 "epoll_pwait2" epoll::epoll_pwait2 "";
    452 "fchmodat2" calls_meta::fchmodat2 "";
}
