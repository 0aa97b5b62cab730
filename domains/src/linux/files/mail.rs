//! What comes ahead on a program's connections, and what was put by to be sent.

use super::calls_poll::{READABLE, WRITABLE};
use super::node::NodeKind;
use super::records::socket as is;
use super::{Files, Host, OpenFile};
use crate::abi::{INBOX_BYTES, MAX_PARCELS};
use crate::linux::Program;
use crate::linux::mail::{Mail, PARCEL_BYTES, Parcel, ROOM};

/// What a call tells of a descriptor.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told {
    pub fd: u32,
    pub open: OpenFile,
    /// All that it is ready for, asked for or not.
    pub ready: u16,
}

/// The connection on which a descriptor can be received and sent: one that stands, and of which nothing was shut.
fn connection(files: &Files, host: &Host, open: &OpenFile) -> Option<u64> {
    let NodeKind::Socket(number) = files.kind_of(open.node().ok()?).ok()? else { return None };
    let socket = files.socket(number).ok()?;
    let usable = socket.state == is::CONNECTED && socket.shut == 0 && socket.progress == 0;
    if usable && open.readable() && open.writable() { socket.live(host) } else { None }
}

impl Program {
    /// The program has stopped: what it put by is sent, and what is left of what came ahead is the front of what was received.
    pub fn open_mail(&mut self, mail: Mail) {
        // Connections of another life are gone, and their numbers mean others.
        if mail.life != (self.host.restart)().id {
            return;
        }
        mail.letters.iter().for_each(|letter| self.ahead.send_all(letter));
        for mut parcel in mail.parcels {
            self.ahead.put_back(parcel.connection, std::mem::take(&mut parcel.bytes));
            self.parcels.push(parcel);
        }
    }

    /// The program goes on: what lies in its pages from now on; none, if that is nothing.
    pub fn close_mail(&mut self) -> Option<Mail> {
        if self.parcels.is_empty() {
            return None;
        }
        let mut parcels = std::mem::take(&mut self.parcels);
        for parcel in &mut parcels {
            parcel.bytes = self.ahead.take_front(parcel.connection);
            let stands = parcel.fd.is_some_and(|fd| {
                let open = self.files.usable(u64::from(fd)).ok();
                open.and_then(|open| connection(&self.files, &self.host, &open)) == Some(parcel.connection)
            });
            if !stands {
                parcel.fd = None;
            }
            // What was seen at one stop need not be so after the next.
            if !std::mem::take(&mut parcel.fresh) {
                (parcel.room, parcel.dry, parcel.whole) = (0, false, false);
            }
        }
        parcels.retain(|parcel| !parcel.bytes.is_empty() || parcel.fd.is_some());
        // What was in front of a connection that is gone.
        self.ahead.clear();
        // Without anything to be received nothing is put by either.
        let any = parcels.iter().any(|parcel| !parcel.bytes.is_empty());
        any.then(|| Mail { life: (self.host.restart)().id, parcels, letters: Vec::new() })
    }

    /// A call tells of these descriptors: if they are several, what came on them is received ahead.
    pub(super) fn fetch_ahead(&mut self, told: &[Told]) {
        let simple = |told: &&Told| told.ready & READABLE != 0 && told.ready & !(READABLE | WRITABLE) == 0;
        if !self.has_mail || told.iter().filter(simple).take(2).count() < 2 {
            return;
        }
        let mut left = usize::try_from(INBOX_BYTES).unwrap_or(0);
        left = left.saturating_sub(self.ahead.bytes());
        for told in told.iter().filter(simple) {
            let Some(connection) = connection(&self.files, &self.host, &told.open) else { continue };
            let known = self.parcels.iter().position(|parcel| parcel.connection == connection);
            if known.is_none() && self.parcels.len() >= MAX_PARCELS || left == 0 {
                break;
            }
            let (came, whole) = self.ahead.fetch(connection, left.min(PARCEL_BYTES));
            left -= came;
            let parcel = Parcel {
                connection,
                fd: Some(told.fd),
                bytes: Vec::new(),
                room: if told.ready & WRITABLE != 0 { ROOM } else { 0 },
                dry: whole && told.open.nonblocking(),
                whole,
                fresh: true,
            };
            match known {
                Some(at) => self.parcels[at] = parcel,
                None => self.parcels.push(parcel),
            }
        }
    }
}
