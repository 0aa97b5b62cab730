//! Options of sockets. What servers and clients commonly set is kept and told again; what changes something here is said beside it.

use super::Errno;
use super::address::AF_INET;
use super::calls_unix::AF_UNIX;
use super::records::{SocketRecord, UnixRecord, socket as is};
use crate::linux::{Answer, PID, Program, UID};
use std::time::Duration;

const SOL_SOCKET: u32 = 1;
const IPPROTO_IP: u32 = 0;
const IPPROTO_TCP: u32 = 6;
const SO_TYPE: u32 = 3;
const SO_ERROR: u32 = 4;
const SO_SNDBUF: u32 = 7;
const SO_RCVBUF: u32 = 8;
const SO_LINGER: u32 = 13;
const SO_PEERCRED: u32 = 17;
const SO_RCVTIMEO: u32 = 20;
const SO_SNDTIMEO: u32 = 21;
const SO_ACCEPTCONN: u32 = 30;
const SO_PROTOCOL: u32 = 38;
const SO_DOMAIN: u32 = 39;
const SOCK_STREAM: u32 = 1;
/// The largest buffer that a program may ask for; Linux tells twice what it was asked for.
const MAX_BUFFER: u32 = 212_992;

/// An option that is a number: level, name, what it is at first.
struct Kept(u32, u32, u32);

/// The place of an option in a record is its place here: new ones go to the end.
const KEPT: [Kept; 23] = [
    // SO_REUSEADDR, SO_SNDBUF, SO_RCVBUF, SO_KEEPALIVE, SO_OOBINLINE, SO_BROADCAST, SO_PRIORITY, SO_REUSEPORT, SO_RCVLOWAT
    Kept(SOL_SOCKET, 2, 0),
    Kept(SOL_SOCKET, SO_SNDBUF, 87_040),
    Kept(SOL_SOCKET, SO_RCVBUF, 131_072),
    Kept(SOL_SOCKET, 9, 0),
    Kept(SOL_SOCKET, 10, 0),
    Kept(SOL_SOCKET, 6, 0),
    Kept(SOL_SOCKET, 12, 0),
    Kept(SOL_SOCKET, 15, 0),
    Kept(SOL_SOCKET, 18, 1),
    // TCP_NODELAY, TCP_CORK, TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT, TCP_SYNCNT, TCP_LINGER2, TCP_DEFER_ACCEPT, TCP_QUICKACK,
    // TCP_USER_TIMEOUT, TCP_FASTOPEN
    Kept(IPPROTO_TCP, 1, 0),
    Kept(IPPROTO_TCP, 3, 0),
    Kept(IPPROTO_TCP, 4, 7200),
    Kept(IPPROTO_TCP, 5, 75),
    Kept(IPPROTO_TCP, 6, 9),
    Kept(IPPROTO_TCP, 7, 6),
    Kept(IPPROTO_TCP, 8, 60),
    Kept(IPPROTO_TCP, 9, 0),
    Kept(IPPROTO_TCP, 12, 1),
    Kept(IPPROTO_TCP, 18, 0),
    Kept(IPPROTO_TCP, 23, 0),
    // IP_TOS, IP_TTL
    Kept(IPPROTO_IP, 1, 0),
    Kept(IPPROTO_IP, 2, 64),
    // SO_PASSCRED
    Kept(SOL_SOCKET, 16, 0),
];
/// Places in a record behind those: linger (0: off, else seconds and 1), and the timeouts in microseconds, low and high half.
const LINGER: usize = 24;
/// Of receiving, and of accepting.
pub(super) const RECEIVE_TIMEOUT: usize = 26;
/// Of sending.
pub(super) const SEND_TIMEOUT: usize = 28;
const _: () = assert!(KEPT.len() <= LINGER && SEND_TIMEOUT + 1 < is::OPTIONS);

/// The options of a new socket.
pub(super) fn defaults() -> [u32; is::OPTIONS] {
    let mut options = [0; is::OPTIONS];
    for (place, kept) in options.iter_mut().zip(&KEPT) {
        *place = kept.2;
    }
    options
}

fn low(argument: u64) -> u32 {
    (argument & 0xffff_ffff) as u32
}

impl SocketRecord {
    /// Whether closing it is a reset (`SO_LINGER` with no time).
    pub(super) const fn resets(&self) -> bool {
        self.options[LINGER] == 1
    }

    /// A timeout; none: it waits for ever.
    pub(super) fn timeout(&self, place: usize) -> Option<Duration> {
        timeout(&self.options, place)
    }
}

/// A timeout among options; none: it waits for ever.
pub(super) fn timeout(options: &[u32; is::OPTIONS], place: usize) -> Option<Duration> {
    let micros = u64::from(options[place]) | u64::from(options[place + 1]) << 32;
    (micros != 0).then(|| Duration::from_micros(micros))
}

/// A socket of either family, as far as options go.
enum Of {
    Inet(SocketRecord),
    Unix(UnixRecord),
}

impl Of {
    fn at(p: &Program, fd: u64, level: u32) -> Result<Self, Errno> {
        match p.unix_at(fd)? {
            Some(_) if level != SOL_SOCKET => Err(Errno::EOPNOTSUPP),
            Some((unix, _)) => Ok(Self::Unix(unix)),
            None => p.socket_at(fd).map(|(socket, _)| Self::Inet(socket)),
        }
    }

    fn options(&self) -> &[u32; is::OPTIONS] {
        match self {
            Self::Inet(socket) => &socket.options,
            Self::Unix(unix) => &unix.options,
        }
    }

    /// Type, family and protocol.
    fn is(&self) -> [u32; 3] {
        match self {
            Self::Inet(_) => [SOCK_STREAM, AF_INET.into(), IPPROTO_TCP],
            Self::Unix(unix) => [unix.kind, AF_UNIX.into(), 0],
        }
    }

    fn listens(&self) -> bool {
        is::LISTENING
            == match self {
                Self::Inet(socket) => socket.state,
                Self::Unix(unix) => unix.state,
            }
    }

    fn take_error(&self, p: &mut Program) -> Result<u32, Errno> {
        let error = match self {
            Self::Inet(socket) => p.socket_error(socket),
            Self::Unix(unix) => p.take_unix_error(unix.inode)?,
        };
        Ok(error.map_or(0, |errno| errno.0.into()))
    }
}

pub(super) fn setsockopt(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    let (level, name, at, length) = (low(a[1]), low(a[2]), a[3], low(a[4]));
    let socket = Of::at(p, a[0], level)?;
    let mut options = *socket.options();
    match (level, name) {
        (SOL_SOCKET, SO_RCVTIMEO | SO_SNDTIMEO) => {
            if length < 16 {
                return Err(Errno::EINVAL);
            }
            let [seconds, micros] = p.user.read_value::<[i64; 2]>(at)?;
            let micros = u64::try_from(micros).ok().filter(|m| *m < 1_000_000).ok_or(Errno::EDOM)?;
            // A negative time is none; what is longer than a century is for ever.
            let seconds = u64::try_from(seconds).unwrap_or(0);
            let total = if seconds > 1 << 32 { 0 } else { seconds * 1_000_000 + micros };
            let place = if name == SO_RCVTIMEO { RECEIVE_TIMEOUT } else { SEND_TIMEOUT };
            (options[place], options[place + 1]) = (low(total), low(total >> 32));
        }
        (SOL_SOCKET, SO_LINGER) => {
            if length < 8 {
                return Err(Errno::EINVAL);
            }
            let [on, seconds] = p.user.read_value::<[u32; 2]>(at)?;
            options[LINGER] = if on == 0 { 0 } else { seconds.min(0x7fff).saturating_add(1) };
        }
        _ => {
            let place = KEPT.iter().position(|kept| (kept.0, kept.1) == (level, name)).ok_or(Errno::ENOPROTOOPT)?;
            if length < 4 && !(level == IPPROTO_IP && length > 0) {
                return Err(Errno::EINVAL);
            }
            let value =
                if length < 4 { u32::from(p.user.read_value::<u8>(at)?) } else { p.user.read_value::<u32>(at)? };
            options[place] = match (level, name) {
                (SOL_SOCKET, SO_SNDBUF | SO_RCVBUF) => (value.min(MAX_BUFFER) * 2).max(4608),
                _ => value,
            };
        }
    }
    match socket {
        Of::Inet(socket) => p.change_socket(socket.inode, |s| s.options = options)?,
        Of::Unix(unix) => p.change_unix(unix.inode, |s| s.options = options)?,
    }
    Ok(Answer::Value(0))
}

pub(super) fn getsockopt(p: &mut Program, a: [u64; 6]) -> Result<Answer, Errno> {
    let (level, name) = (low(a[1]), low(a[2]));
    let socket = Of::at(p, a[0], level)?;
    let [kind, family, protocol] = socket.is();
    let room = usize::try_from(p.user.read_value::<i32>(a[4])?).map_err(|_| Errno::EINVAL)?;
    let number = |value: u32| value.to_le_bytes().to_vec();
    let value = match (level, name) {
        (SOL_SOCKET, SO_TYPE) => number(kind),
        (SOL_SOCKET, SO_DOMAIN) => number(family),
        (SOL_SOCKET, SO_PROTOCOL) => number(protocol),
        (SOL_SOCKET, SO_ACCEPTCONN) => number(u32::from(socket.listens())),
        (SOL_SOCKET, SO_PEERCRED) if matches!(socket, Of::Unix(_)) => [PID, UID, UID].map(u32::to_le_bytes).concat(),
        (SOL_SOCKET, SO_ERROR) => {
            let room = room.min(4) as u64;
            if p.user.writable(a[3], room) < room || p.user.writable(a[4], 4) < 4 {
                return Err(Errno::EFAULT);
            }
            number(socket.take_error(p)?)
        }
        (SOL_SOCKET, SO_LINGER) => {
            let linger = socket.options()[LINGER];
            [number(u32::from(linger != 0)), number(linger.saturating_sub(1))].concat()
        }
        (SOL_SOCKET, SO_RCVTIMEO | SO_SNDTIMEO) => {
            let place = if name == SO_RCVTIMEO { RECEIVE_TIMEOUT } else { SEND_TIMEOUT };
            let time = timeout(socket.options(), place).unwrap_or_default();
            [time.as_secs().to_le_bytes(), u64::from(time.subsec_micros()).to_le_bytes()].concat()
        }
        _ => {
            let place = KEPT.iter().position(|kept| (kept.0, kept.1) == (level, name)).ok_or(Errno::ENOPROTOOPT)?;
            number(socket.options()[place])
        }
    };
    let told = &value[..value.len().min(room)];
    p.user.write(a[3], told)?;
    p.user.write_value(a[4], &u32::try_from(told.len()).unwrap_or(0))?;
    Ok(Answer::Value(0))
}
