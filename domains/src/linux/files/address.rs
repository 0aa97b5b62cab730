//! Addresses of sockets in a program's memory: `struct sockaddr_in`.

use super::Errno;
use crate::linux::Program;
use std::net::{Ipv4Addr, SocketAddrV4};

/// The family of addresses that is served.
pub(super) const AF_INET: u16 = 2;
/// Bytes of such an address.
pub(super) const ADDRESS: usize = 16;
/// Bytes of the largest address of any family.
const LONGEST: u64 = 128;

impl Program {
    /// An address that the program gives.
    ///
    /// # Errors
    /// `EFAULT`, `EINVAL` for a wrong length, `EAFNOSUPPORT`.
    pub(super) fn read_address(&self, at: u64, length: u64) -> Result<SocketAddrV4, Errno> {
        let length = length & 0xffff_ffff;
        if !(2..=LONGEST).contains(&length) {
            return Err(Errno::EINVAL);
        }
        if self.user.read_value::<u16>(at)? != AF_INET {
            return Err(Errno::EAFNOSUPPORT);
        }
        if length < ADDRESS as u64 {
            return Err(Errno::EINVAL);
        }
        let raw: [u8; ADDRESS] = self.user.read_value(at)?;
        let ip = Ipv4Addr::new(raw[4], raw[5], raw[6], raw[7]);
        Ok(SocketAddrV4::new(ip, u16::from_be_bytes([raw[2], raw[3]])))
    }

    /// Room for an address of `longest` bytes that the program is told: none, or how long it may be.
    ///
    /// # Errors
    /// `EFAULT`, `EINVAL` for a negative length.
    pub(super) fn address_room(&self, at: u64, length_at: u64, longest: usize) -> Result<Option<usize>, Errno> {
        if at == 0 {
            return Ok(None);
        }
        let room = usize::try_from(self.user.read_value::<i32>(length_at)?).map_err(|_| Errno::EINVAL)?.min(longest);
        let told = room as u64;
        if self.user.writable(length_at, 4) < 4 || self.user.writable(at, told) < told {
            return Err(Errno::EFAULT);
        }
        Ok(Some(room))
    }

    /// Tells the program an address, as far as there is room.
    pub(super) fn write_address(&self, at: u64, length_at: u64, address: SocketAddrV4) -> Result<(), Errno> {
        let mut raw = [0; ADDRESS];
        raw[..2].copy_from_slice(&AF_INET.to_le_bytes());
        raw[2..4].copy_from_slice(&address.port().to_be_bytes());
        raw[4..8].copy_from_slice(&address.ip().octets());
        self.tell_address(at, length_at, &raw)
    }

    /// The same of an address of any family, as its bytes.
    pub(super) fn tell_address(&self, at: u64, length_at: u64, raw: &[u8]) -> Result<(), Errno> {
        let Some(room) = self.address_room(at, length_at, raw.len())? else { return Ok(()) };
        self.user.write(at, &raw[..room])?;
        // Its whole length, however much of it had room.
        self.user.write_value(length_at, &u32::try_from(raw.len()).unwrap_or(0))
    }
}
