//! What programs may reach, as segment 0 keeps it, and their sockets over their lives.

use super::bell::Bell;
use super::objects::{DomainRecord, FINISHED};
use super::{Kernel, KernelError, OutputPolicy};
use crate::native::NativeProgram;
use crate::network::{Grants, HostNetwork, Listen, NetworkEvents};
use crate::table::{Record, RecordId, Table, TableError};
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

const LISTEN: u32 = 1;
const CONNECT: u32 = 2;

/// Something that a program may reach.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct GrantRecord {
    /// Whose.
    domain: u64,
    /// 1: a port of the host leads to one of the program's; 2: it may connect.
    what: u32,
    /// IPv4 address: of the host, or of the other side.
    address: u32,
    /// Port there.
    port: u16,
    /// The port that the program binds; 0 for 2.
    guest: u16,
    zero: u32,
}

impl Record for GrantRecord {
    const KIND: u16 = 8;
    const NAME: &'static str = "network grant";
}

impl GrantRecord {
    fn new(domain: u64, what: u32, address: SocketAddrV4, guest: u16) -> Self {
        Self { domain, what, address: address.ip().to_bits(), port: address.port(), guest, zero: 0 }
    }

    fn address(&self) -> SocketAddrV4 {
        SocketAddrV4::new(Ipv4Addr::from_bits(self.address), self.port)
    }
}

fn grants_in(table: &Table, domain: u64) -> Vec<(RecordId, GrantRecord)> {
    table.iter::<GrantRecord>().filter(|(_, grant)| grant.domain == domain).collect()
}

fn grants_of(records: &[(RecordId, GrantRecord)]) -> Grants {
    let mut grants = Grants::default();
    for (_, record) in records {
        match record.what {
            LISTEN => grants.listens.push(Listen { address: record.address(), port: record.guest }),
            _ => grants.connects.push(record.address()),
        }
    }
    grants
}

fn records_of(domain: u64, grants: &Grants) -> Vec<GrantRecord> {
    let listens = grants.listens.iter().map(|one| GrantRecord::new(domain, LISTEN, one.address, one.port));
    let connects = grants.connects.iter().map(|to| GrantRecord::new(domain, CONNECT, *to, 0));
    listens.chain(connects).collect()
}

/// Takes away what others than these programs may reach.
pub(crate) fn remove_grants_but(table: &mut Table, programs: &BTreeSet<u64>) -> Result<(), TableError> {
    let others: Vec<_> = table.iter::<GrantRecord>().filter(|(_, grant)| !programs.contains(&grant.domain)).collect();
    for (at, _) in others {
        let mut tx = table.begin();
        tx.remove(at)?;
        tx.commit();
    }
    Ok(())
}

/// Makes `grants` all that a domain has.
fn replace(table: &mut Table, domain: u64, grants: &Grants) -> Result<(), TableError> {
    let known = grants_in(table, domain);
    let mut tx = table.begin();
    for (at, _) in known {
        tx.remove(at)?;
    }
    for record in records_of(domain, grants) {
        tx.insert(&record)?;
    }
    tx.commit();
    Ok(())
}

impl Kernel {
    /// Opens what a program was granted.
    pub(crate) fn open_network(
        self: &Arc<Self>,
        program: &str,
        grants: &Grants,
        bell: &Arc<Bell>,
    ) -> Result<Arc<HostNetwork>, KernelError> {
        let events = Arc::clone(self) as Arc<dyn NetworkEvents>;
        let at_once = self.output.network == OutputPolicy::Immediate;
        HostNetwork::open(grants, &self.poller, Arc::clone(bell), events, at_once).map_err(|source| {
            let port = grants.listens.iter().find(|one| one.address == source.address).map_or(0, |one| one.port);
            KernelError::Port { program: program.to_owned(), port, source }
        })
    }

    /// What a program was granted, as segment 0 says.
    pub(crate) fn grants(&self, domain: u64) -> Grants {
        grants_of(&grants_in(&self.objects().table, domain))
    }

    /// Notes what a program is granted.
    pub(crate) fn set_grants(&self, domain: u64, grants: &Grants) -> Result<(), KernelError> {
        let mut objects = self.objects();
        if grants.is_empty() && grants_in(&objects.table, domain).is_empty() {
            return Ok(());
        }
        Ok(replace(&mut objects.table, domain, grants)?)
    }

    /// Before the world is brought back: what this resume was told of grants. A port moves to another address, whichever program
    /// has it; what none has is given to the only one.
    ///
    /// # Errors
    /// A sentence: it is not clear whose they are, or they contradict what is there.
    pub fn grant_anew(&self, new: &Grants) -> Result<(), KernelError> {
        if new.is_empty() {
            return Ok(());
        }
        let mut objects = self.objects();
        let linux = objects.table.iter::<DomainRecord>().map(|(_, record)| (record.id, record.life));
        let native = objects.table.iter::<NativeProgram>().map(|(_, record)| (record.id, record.life));
        let living = linux.chain(native).filter(|(_, life)| life.state != FINISHED && life.exit().is_none());
        let programs: Vec<u64> = living.map(|(id, _)| id).collect();
        let mut all: Vec<(u64, Grants)> =
            programs.iter().map(|id| (*id, grants_of(&grants_in(&objects.table, *id)))).collect();
        let only = |what: &str| match &programs[..] {
            [_] => Ok(0),
            _ => Err(KernelError::Refused(format!(
                "{what} is of no program: there are {} programs, and none has it",
                programs.len()
            ))),
        };
        for one in &new.listens {
            let has = |grants: &Grants| grants.listens.iter().any(|known| known.port == one.port);
            let owners: Vec<usize> = (0..all.len()).filter(|i| has(&all[*i].1)).collect();
            let owner = match owners[..] {
                [owner] => owner,
                [] => only(&format!("port {}", one.port))?,
                _ => {
                    let port = one.port;
                    return Err(KernelError::Refused(format!("several programs bind port {port}; it cannot be moved")));
                }
            };
            let listens = &mut all[owner].1.listens;
            listens.retain(|known| known.port != one.port);
            listens.push(*one);
        }
        for to in &new.connects {
            let owner = only(&format!("connecting to {to}"))?;
            let connects = &mut all[owner].1.connects;
            if !connects.contains(to) {
                connects.push(*to);
            }
        }
        for (id, grants) in all {
            if let Some(wrong) = grants.wrong() {
                return Err(KernelError::Refused(wrong));
            }
            replace(&mut objects.table, id, &grants)?;
        }
        Ok(())
    }
}

impl NetworkEvents for Kernel {
    fn sent(&self, much: bool, all: bool) {
        if self.output.network == OutputPolicy::Journaled {
            self.recorder.poke();
            if (!self.native.has(None) || self.native.tape.is_on())
                && self.domains().iter().all(|domain| domain.tape.is_on())
            {
                return;
            }
        }
        if much {
            self.surroundings.hasten();
        }
        self.surroundings.reply_waits(all);
    }
}
