//! The tree of banks, and what each of them sold.

use super::object::{id_text, parse_id};
use super::{LinuxSeen, Looking};
use crate::objects::{
    Bank, Console, Domain, Factory, Hub, Meter, NO_LINK, Node, Owned, Page, STOPPED, Segment, Timer, mappings,
};
use crate::table::{Record, RecordId, Table, TableError};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Objects of one bank that are listed; of a bank that sold more they are only counted.
pub const LISTED_PER_BANK: usize = 1000;
/// Objects and banks listed in all: what a message over the control socket can hold with room to spare.
const LISTED: usize = 8000;
/// Objects read while transactions wait.
const BATCH: usize = 1000;

/// All banks.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Tree {
    /// The prime bank; none if the store holds no objects.
    pub bank: Option<BankView>,
    /// Whether something is counted but not listed, or changed while it was read.
    pub incomplete: bool,
}

/// A bank.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BankView {
    /// Its object, `INDEX.VERSION`.
    pub object: String,
    /// The program whose bank it is.
    pub program: Option<String>,
    /// Pages that it and the banks below it have.
    pub pages_used: u64,
    /// Pages that they may have.
    pub pages_allowed: u64,
    /// Records of segment 0 that they have.
    pub records_used: u64,
    /// Records that they may have.
    pub records_allowed: u64,
    /// It is being destroyed.
    pub dying: bool,
    /// How many objects of each kind it sold itself; empty if it lies too deep to be looked into.
    pub counts: BTreeMap<String, u64>,
    /// What it sold itself, without banks, the oldest first; empty if that is more than [`LISTED_PER_BANK`].
    pub sold: Vec<SoldView>,
    /// The banks that it sold.
    pub banks: Vec<Self>,
    /// Whether something that is counted is not listed, or the bank changed while it was read.
    pub incomplete: bool,
}

/// An object that a bank sold.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SoldView {
    /// `INDEX.VERSION`.
    pub object: String,
    /// What it is.
    #[serde(flatten)]
    pub what: Sold,
}

/// What a sold object is.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Sold {
    /// A domain.
    Domain {
        /// The program whose first domain it is.
        program: Option<String>,
        /// Whether it is a Linux program.
        linux: bool,
        /// What it is doing.
        phase: String,
        /// Whether it is not executed.
        stopped: bool,
        /// CPU time used, nanoseconds.
        cpu_ns: u64,
        /// Its mappings.
        mappings: u32,
        /// The pages that they show. Of a Linux program: those that it has mapped, of a live world only.
        pages: u64,
        /// The process that caches it now.
        pid: Option<i32>,
    },
    /// A segment.
    Segment {
        /// Its number in the store.
        number: u64,
        /// Its length.
        pages: u64,
        /// Pages of it that are in memory; of a live world only.
        resident: Option<u64>,
    },
    /// A page.
    Page,
    /// A node.
    Node,
    /// A meter.
    Meter {
        /// Nanoseconds left; none: no limit.
        left_ns: Option<u64>,
        /// Nanoseconds used.
        used_ns: u64,
    },
    /// A factory.
    Factory {
        /// Whether it makes domains.
        sealed: bool,
        /// Components by which a product could send something outward.
        holes: u32,
    },
    /// A timer.
    Timer {
        /// When it goes off, nanoseconds of the world's monotonic clock; none: it is not set.
        at_ns: Option<u64>,
    },
    /// A console.
    Console {
        /// The number of the program outside.
        number: u64,
    },
}

impl Sold {
    /// What counts call it.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Domain { .. } => "domain",
            Self::Segment { .. } => "segment",
            Self::Page => "page",
            Self::Node => "node",
            Self::Meter { .. } => "meter",
            Self::Factory { .. } => "factory",
            Self::Timer { .. } => "timer",
            Self::Console { .. } => "console",
        }
    }
}

/// The tree to `depth` below the prime bank.
pub(super) fn tree(looking: &Looking<'_>, depth: u32) -> Result<Tree, TableError> {
    let Some((_, hub)) = looking.read(|table| table.first::<Hub>()) else { return Ok(Tree::default()) };
    let (programs, linux) = (looking.programs(), looking.linux_programs());
    let linux_banks = linux.values().map(|seen| (seen.bank.as_u64(), seen.name.clone()));
    let mut walk = Walk {
        looking,
        depth,
        left: LISTED,
        domains: programs.iter().map(|p| (p.domain.as_u64(), p.name.clone())).collect(),
        banks: programs.iter().map(|p| (p.bank.as_u64(), p.name.clone())).chain(linux_banks).collect(),
        linux,
        incomplete: false,
    };
    let bank = walk.bank(RecordId::from_u64(hub.bank))?;
    Ok(Tree { incomplete: walk.incomplete || bank.is_none(), bank })
}

struct Walk<'a> {
    looking: &'a Looking<'a>,
    depth: u32,
    /// How many may still be listed.
    left: usize,
    /// Names of programs by their first domains, and by their banks.
    domains: BTreeMap<u64, String>,
    linux: BTreeMap<u64, LinuxSeen>,
    banks: BTreeMap<u64, String>,
    incomplete: bool,
}

impl Walk<'_> {
    /// A bank; none if it is gone.
    fn bank(&mut self, id: RecordId) -> Result<Option<BankView>, TableError> {
        let bank = match self.looking.read(|table| table.get::<Bank>(id)) {
            Ok(bank) => bank,
            Err(TableError::Void { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut view = BankView {
            object: id_text(id),
            program: self.banks.get(&id.as_u64()).cloned(),
            pages_used: bank.used.pages,
            pages_allowed: bank.limit.pages,
            records_used: bank.used.records,
            records_allowed: bank.limit.records,
            dying: bank.flags & 1 != 0,
            counts: BTreeMap::new(),
            sold: Vec::new(),
            banks: Vec::new(),
            incomplete: false,
        };
        if bank.depth > self.depth {
            return Ok(Some(view));
        }
        let below = self.list(id, &bank, &mut view);
        for id in below {
            if self.left == 0 {
                view.incomplete = true;
                break;
            }
            self.left -= 1;
            view.banks.extend(self.bank(id)?);
        }
        self.incomplete |= view.incomplete;
        Ok(Some(view))
    }

    /// What a bank sold; returns the banks among it.
    fn list(&mut self, seller: RecordId, bank: &Bank, view: &mut BankView) -> Vec<RecordId> {
        let most = LISTED_PER_BANK.min(self.left);
        let (mut at, mut below, mut count) = (bank.sold, Vec::new(), 0u64);
        let mut too_many = false;
        while at != NO_LINK && !view.incomplete {
            let batch = self.looking.read(|table| {
                let mut batch = Vec::new();
                while at != NO_LINK && batch.len() < BATCH {
                    // The list changes between two batches: what is no object of this bank any more leads elsewhere.
                    let Ok((id, owned, sold)) = sold_at(table, at) else { break };
                    if owned.bank != seller.index() {
                        break;
                    }
                    at = owned.next;
                    batch.push((id, sold));
                }
                batch
            });
            // An object that went and came again is first in the list: without a limit that could go on for ever.
            count += batch.len() as u64;
            view.incomplete = batch.is_empty() || count > bank.used.records;
            for (id, sold) in batch {
                let Some(sold) = sold else {
                    *view.counts.entry("bank".into()).or_default() += 1;
                    if below.len() < LISTED_PER_BANK {
                        below.push(id)
                    } else {
                        too_many = true
                    }
                    continue;
                };
                *view.counts.entry(sold.kind().into()).or_default() += 1;
                too_many |= view.sold.len() >= most;
                if !too_many {
                    view.sold.push(SoldView { object: id_text(id), what: sold });
                }
            }
        }
        if too_many {
            view.sold = Vec::new();
            view.incomplete = true;
        }
        self.left -= view.sold.len();
        view.sold.reverse();
        below.reverse();
        for sold in &mut view.sold {
            self.complete(sold);
        }
        below
    }

    /// Adds what the table does not tell.
    fn complete(&self, sold: &mut SoldView) {
        match &mut sold.what {
            Sold::Domain { program, pid, cpu_ns, mappings, pages, .. } => {
                let Some(id) = parse_id(&sold.object) else { return };
                *program = self.domains.get(&id.as_u64()).cloned();
                *pid = self.looking.pid(id);
                if let Some(seen) = self.linux.get(&id.as_u64()) {
                    *program = Some(seen.name.clone());
                    (*cpu_ns, *mappings, *pages) = (seen.cpu_ns, seen.mappings, seen.pages);
                }
            }
            Sold::Segment { number, resident, .. } => *resident = self.looking.resident(*number),
            _ => {}
        }
    }
}

/// The object at `index`: its place in its bank's list, and what it is; none: a bank.
fn sold_at(table: &Table, index: u32) -> Result<(RecordId, Owned, Option<Sold>), TableError> {
    let id = table.id_at(index)?;
    let (owned, sold) = match table.kind_of(id)? {
        Bank::KIND => return Ok((id, table.get::<Bank>(id)?.owned, None)),
        Domain::KIND => {
            let domain: Domain = table.get(id)?;
            let pages = mappings(table, id)?.iter().map(|mapping| mapping.pages).sum();
            let sold = Sold::Domain {
                program: None,
                linux: !domain.is_native(),
                phase: domain.phase().name().into(),
                stopped: domain.has(STOPPED),
                cpu_ns: domain.cpu,
                mappings: domain.mapping_count,
                pages,
                pid: None,
            };
            (domain.owned, sold)
        }
        Segment::KIND => {
            let Segment { owned, number, pages, .. } = table.get(id)?;
            (owned, Sold::Segment { number, pages, resident: None })
        }
        Page::KIND => (table.get::<Page>(id)?.owned, Sold::Page),
        Node::KIND => (table.get::<Node>(id)?.owned, Sold::Node),
        Meter::KIND => {
            let Meter { owned, budget, used, .. } = table.get(id)?;
            (owned, Sold::Meter { left_ns: (budget != u64::MAX).then_some(budget), used_ns: used })
        }
        Factory::KIND => {
            let Factory { owned, sealed, holes, .. } = table.get(id)?;
            (owned, Sold::Factory { sealed: sealed != 0, holes })
        }
        Timer::KIND => {
            let Timer { owned, alarm, .. } = table.get(id)?;
            (owned, Sold::Timer { at_ns: (alarm.at != 0).then_some(alarm.at) })
        }
        Console::KIND => {
            let Console { owned, number, .. } = table.get(id)?;
            (owned, Sold::Console { number })
        }
        _ => return Err(TableError::Void { id }),
    };
    Ok((id, owned, Some(sold)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::native::extract::Nowhere;
    use crate::objects::{Storage, create, make_console};
    use crate::table::VecMemory;

    /// The prime bank of a world, after it sold so many consoles.
    fn bank(consoles: u64) -> (Tree, BankView) {
        let mut table = Table::format(VecMemory::zeroed(1200), crate::kernel::objects::RECORD_BYTES).unwrap();
        let genesis = create(&mut table, &Nowhere, 1, Storage { pages: 100, records: 10_000 }).unwrap();
        for number in 0..consoles {
            make_console(&mut table, &Nowhere, &genesis.bank, number, 0).unwrap().unwrap();
        }
        let tree = tree(&Looking::Rest(&table), 16).unwrap();
        let bank = tree.bank.clone().unwrap();
        (tree, bank)
    }

    #[test]
    fn a_bank_that_sold_much_is_counted_and_not_listed() {
        let (tree, view) = bank(LISTED_PER_BANK as u64);
        assert!(!tree.incomplete && view.sold.len() == LISTED_PER_BANK);
        let numbers = view.sold.iter().map(|sold| if let Sold::Console { number } = sold.what { number } else { 0 });
        assert!(numbers.eq(0..LISTED_PER_BANK as u64), "the oldest comes first");
        for more in [1, 2500] {
            let (tree, view) = bank(LISTED_PER_BANK as u64 + more);
            assert!(tree.incomplete && view.sold.is_empty());
            assert_eq!(view.counts["console"], LISTED_PER_BANK as u64 + more);
        }
    }

    #[test]
    fn a_world_without_objects_has_no_banks() {
        let table = Table::format(VecMemory::zeroed(128), crate::kernel::objects::RECORD_BYTES).unwrap();
        let tree = tree(&Looking::Rest(&table), 16).unwrap();
        assert!(tree.bank.is_none() && !tree.incomplete);
    }
}
