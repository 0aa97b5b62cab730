//! Keys to the outside: `docs/network.md`.

use super::order;
use super::{Done, Key, keys};
use crate::abi::MAX_STRING;
use crate::{Call, Error};
use core::net::{Ipv4Addr, SocketAddrV4};

keys! {
    /// What the program may reach outside.
    Network: weaken;
    /// One connection to the outside. A restart of the world ends it: what is asked of it then is [`Error::Rescinded`].
    Connection: weaken;
}

impl Network {
    /// Waits for the next connection to a port that was granted, over restarts; it and whose it is.
    ///
    /// # Errors
    /// [`Error::Outside`] 13 if the port was not granted, [`Error::NoRight`] without READ, [`Error::NoFreeSlot`].
    #[allow(clippy::cast_possible_truncation)] // an IPv4 address and a port
    pub fn accept(&self, port: u16) -> Result<(Connection, SocketAddrV4), Error> {
        let call = Call::new(self.slot(), order::Network::ACCEPT).words([port.into()]);
        let mut answer = call.accept(0)?.call()?;
        let [address, port, ..] = answer.words;
        let peer = SocketAddrV4::new(Ipv4Addr::from_bits(address as u32), port as u16);
        Ok((Connection(answer.key(0)?), peer))
    }

    /// Connects to an address that was granted.
    ///
    /// # Errors
    /// [`Error::Outside`] 13 if it was not granted, else with what the host says; [`Error::NoRight`] without WRITE,
    /// [`Error::NoFreeSlot`].
    pub fn connect(&self, to: SocketAddrV4) -> Result<Connection, Error> {
        let words = [to.ip().to_bits().into(), to.port().into()];
        Call::new(self.slot(), order::Network::CONNECT).words(words).gives().map(Connection)
    }
}

impl Connection {
    /// Takes the first bytes, as many as there is room for; how many.
    ///
    /// # Errors
    /// [`Error::Rescinded`] when it is no more, [`Error::NoRight`] without WRITE.
    pub fn send(&self, bytes: &[u8]) -> Result<usize, Error> {
        let part = &bytes[..bytes.len().min(MAX_STRING)];
        let [taken, ..] = Call::new(self.slot(), order::Connection::SEND).string(part).got()?;
        Ok(usize::try_from(taken).unwrap_or(part.len()).min(part.len()))
    }

    /// Sends all of it.
    ///
    /// # Errors
    /// As [`Connection::send`].
    pub fn send_all(&self, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            bytes = &bytes[self.send(bytes)?..];
        }
        Ok(())
    }

    /// Waits for bytes, and puts them into `buffer`, [`MAX_STRING`] at most; how many. 0: the other side sends no more.
    ///
    /// # Errors
    /// [`Error::Rescinded`] when it is no more, [`Error::NoRight`] without READ, [`Error::BadWord`] for no room.
    pub fn receive(&self, buffer: &mut [u8]) -> Result<usize, Error> {
        let most = buffer.len().min(MAX_STRING);
        let call = Call::new(self.slot(), order::Connection::RECEIVE).words([most as u64]);
        call.call_into(buffer).map(|(_, came)| came.min(most))
    }

    /// Nothing more is sent: the other side is told after all that was.
    ///
    /// # Errors
    /// As [`Connection::send`].
    pub fn shut_down(&self) -> Result<(), Error> {
        Call::new(self.slot(), order::Connection::SHUT_DOWN).done()
    }

    /// Ends it after all that was sent.
    ///
    /// # Errors
    /// [`Error::NoRight`] without MANAGE.
    pub fn close(self) -> Result<(), Error> {
        Call::new(self.slot(), order::Connection::CLOSE).done()
    }
}
