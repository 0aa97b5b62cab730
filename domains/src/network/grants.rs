//! What a program may reach: ports of the host that lead to ports of its own, and addresses that it may connect to.

use std::net::SocketAddrV4;

/// Ports that one program may be given.
pub const MAX_LISTENS: usize = 64;
/// Addresses that one program may be let connect to.
pub const MAX_CONNECTS: usize = 256;

/// A port of a program's that is open to the outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen {
    /// Where the host listens.
    pub address: SocketAddrV4,
    /// The port that the program binds.
    pub port: u16,
}

/// All that a program may reach.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    /// Ports that it may bind.
    pub listens: Vec<Listen>,
    /// Addresses that it may connect to.
    pub connects: Vec<SocketAddrV4>,
}

impl Grants {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.listens.is_empty() && self.connects.is_empty()
    }

    /// What is wrong with them, as a sentence.
    #[must_use]
    pub fn wrong(&self) -> Option<String> {
        if self.listens.len() > MAX_LISTENS || self.connects.len() > MAX_CONNECTS {
            return Some(format!(
                "a program may be given {MAX_LISTENS} ports to listen at and {MAX_CONNECTS} addresses to connect to"
            ));
        }
        for (i, one) in self.listens.iter().enumerate() {
            let before = &self.listens[..i];
            if one.address.port() == 0 || one.port == 0 {
                return Some(format!("{} and port {} of the program: port 0 is none", one.address, one.port));
            }
            if before.iter().any(|other| other.address == one.address) {
                return Some(format!("{} is granted twice", one.address));
            }
            if before.iter().any(|other| other.port == one.port) {
                return Some(format!("port {} of the program is granted twice", one.port));
            }
        }
        for (i, to) in self.connects.iter().enumerate() {
            if to.port() == 0 {
                return Some(format!("{to}: port 0 is none"));
            }
            if self.connects[..i].contains(to) {
                return Some(format!("connecting to {to} is granted twice"));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_granted_twice_is_named() {
        let listen = |address: &str, port| Listen { address: address.parse().unwrap(), port };
        let mut grants = Grants {
            listens: vec![listen("127.0.0.1:80", 80), listen("127.0.0.1:81", 81)],
            connects: vec!["1.2.3.4:5".parse().unwrap()],
        };
        assert_eq!(grants.wrong(), None);
        grants.connects.push("1.2.3.4:5".parse().unwrap());
        assert_eq!(grants.wrong().as_deref(), Some("connecting to 1.2.3.4:5 is granted twice"));
        grants.listens[1].port = 80;
        assert_eq!(grants.wrong().as_deref(), Some("port 80 of the program is granted twice"));
        grants.listens[1] = listen("127.0.0.1:80", 81);
        assert_eq!(grants.wrong().as_deref(), Some("127.0.0.1:80 is granted twice"));
        grants.listens[1] = listen("127.0.0.1:0", 81);
        assert!(grants.wrong().is_some());
    }
}
