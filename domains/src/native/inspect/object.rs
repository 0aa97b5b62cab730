//! One object, with all that can be said of it.

use super::Looking;
use crate::cpu::Registers;
use crate::kernel::levels_in;
use crate::native::LinuxObject;
use crate::native::program::ProgramView;
use crate::objects::{
    Bank, Components, Console, Domain, Factory, HALF, Key, KeyType, Meter, NO_LINK, Node, NodeHalf, OUTSIDE, Owned,
    Page, Pending, Phase, RESUME_SLOT, STOPPED, Segment, Timer, mappings, slots_of,
};
use crate::table::{Record, RecordId, Table, TableError};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Waiters of a domain that are listed.
const LISTED_WAITERS: usize = 1000;

/// An object.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ObjectView {
    /// `INDEX.VERSION`.
    pub object: String,
    /// The bank that sold it; none for the prime bank and the prime meter.
    pub bank: Option<String>,
    /// What it is.
    #[serde(flatten)]
    pub detail: ObjectDetail,
}

/// What an object is.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
#[allow(missing_docs)] // the fields are those of the records: `objects::records`
pub enum ObjectDetail {
    Domain(Box<DomainView>),
    Segment { number: u64, pages: u64, resident: Option<u64>, keeper: KeyView },
    Page,
    Node { slots: Vec<SlotView> },
    Meter { left_ns: Option<u64>, used_ns: u64, above: Option<String>, keeper: KeyView },
    Bank { pages_used: u64, pages_allowed: u64, records_used: u64, records_allowed: u64, dying: bool, depth: u32 },
    Factory { sealed: bool, holes: u32, image: KeyView, entry: [Hex; 3], first_page: u64, slots: Vec<SlotView> },
    Timer { at_ns: Option<u64>, fired_ns: Option<u64>, waiter: Option<String> },
    Console { number: u64 },
}

/// A domain.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DomainView {
    /// The program whose first domain it is.
    pub program: Option<String>,
    /// Whether it is a Linux program.
    pub linux: bool,
    /// What it is doing.
    pub phase: String,
    /// Whether it is not executed.
    pub stopped: bool,
    /// CPU time used, nanoseconds.
    pub cpu_ns: u64,
    /// The level of processors that its program was started for; of first domains alone.
    pub cpu_level: Option<String>,
    /// The process that caches it now.
    pub pid: Option<i32>,
    /// What its CPU time is charged to.
    pub meter: Option<String>,
    /// Who is called by its faults.
    pub keeper: KeyView,
    /// The factory that made it.
    pub factory: Option<String>,
    /// For whom or what it waits.
    pub waits: Option<WaitView>,
    /// Who waits for it to take a message, the first to be served first.
    pub callers: Vec<String>,
    /// Whose messages it took and did not answer yet.
    pub unanswered: Vec<String>,
    /// The keys that it holds; slot 16 answers the last caller.
    pub slots: Vec<SlotView>,
    /// Its memory.
    pub mappings: Vec<MappingView>,
    /// Its registers; none if it never began or is no native domain.
    pub registers: Option<RegistersView>,
}

/// For whom or what a domain waits.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WaitView {
    /// `turn` (its callee has not taken its message), `answer`, `keeper`, `input`, `checkpoint`, or `kernel`: a timer, or the end of a bank.
    pub until: String,
    /// The domain concerned.
    pub object: Option<String>,
    /// When it is given up, nanoseconds of the world's monotonic clock.
    pub deadline_ns: Option<u64>,
}

/// A key in a slot.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SlotView {
    /// The slot.
    pub slot: u8,
    /// The key.
    #[serde(flatten)]
    pub key: KeyView,
}

/// A key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KeyView {
    /// What it says it designates; `null`: there is no key.
    #[serde(rename = "type")]
    pub key_type: String,
    /// What it allows.
    pub rights: Vec<String>,
    /// The object; none if the type has none.
    pub object: Option<String>,
    /// Of a start key: what the callee is told. Of a resume key: the number of the call.
    pub badge: Option<u64>,
    /// Whether using it would be the error `Void`.
    pub void: bool,
}

/// Pages of an object in a domain's memory.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MappingView {
    /// The first address.
    pub address: Hex,
    /// Pages.
    pub pages: u64,
    /// The first page in the object.
    pub offset: u64,
    /// Whether the domain may write them.
    pub write: bool,
    /// The object, a segment or a page.
    pub object: String,
}

/// A word that is shown in hexadecimal; in JSON a string such as `"0x1000"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hex(pub u64);

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("{:#x}", self.0))
    }
}

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let digits = text.strip_prefix("0x").unwrap_or(&text);
        u64::from_str_radix(digits, 16).map(Self).map_err(serde::de::Error::custom)
    }
}

macro_rules! registers {
    ($($name:ident),*) => {
        /// The general registers.
        #[derive(Clone, Debug, Serialize, Deserialize)]
        #[allow(missing_docs)]
        pub struct RegistersView { $(pub $name: Hex,)* }

        impl RegistersView {
            /// With their names, in the order in which they are shown.
            #[must_use]
            pub fn named(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name.0)),*]
            }
        }

        impl From<Registers> for RegistersView {
            fn from(registers: Registers) -> Self {
                Self { $($name: Hex(registers.$name),)* }
            }
        }
    };
}
registers!(rip, rsp, rbp, eflags, rax, rbx, rcx, rdx, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15);

/// How an object is named outside.
pub(super) fn id_text(id: RecordId) -> String {
    format!("{}.{}", id.index(), id.version())
}

/// The object that a text of the form `INDEX.VERSION` names.
pub(super) fn parse_id(text: &str) -> Option<RecordId> {
    let (index, version) = text.split_once('.')?;
    let (index, version): (u32, u32) = (index.parse().ok()?, version.parse().ok()?);
    Some(RecordId::from_u64(u64::from(version) << 32 | u64::from(index)))
}

/// The object that `text` names: `INDEX.VERSION`, or the name of a program: the first domain of a native one, the domain of a live Linux one.
#[must_use]
pub fn find_object(table: &Table, text: &str) -> Option<RecordId> {
    let native = || crate::native::programs(table).into_iter().rfind(|p| p.name == text).map(|p| p.domain);
    let linux = || {
        super::linux_domains(table)
            .into_iter()
            .rfind(|(_, record)| record.name() == text)
            .map(|(object, _)| object.domain)
    };
    native().or_else(linux).or_else(|| parse_id(text)).filter(|id| table.contains(*id))
}

/// What can be said of `id`; none if it is no object.
pub(super) fn object(
    looking: &Looking<'_>,
    id: RecordId,
    registers: Option<Registers>,
) -> Result<Option<ObjectView>, TableError> {
    let programs = looking.programs();
    let found = looking.read(|table| read(table, id, &programs));
    let (owned, mut detail) = match found {
        Ok(found) => found,
        Err(TableError::Void { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    match &mut detail {
        ObjectDetail::Domain(domain) => {
            domain.pid = looking.pid(id);
            if let Some(seen) = domain.linux.then(|| looking.linux_programs().remove(&id.as_u64())).flatten() {
                (domain.program, domain.cpu_ns) = (Some(seen.name), seen.cpu_ns);
            }
            domain.registers = registers.map(RegistersView::from);
        }
        ObjectDetail::Segment { number, resident, .. } => *resident = looking.resident(*number),
        _ => {}
    }
    let bank = looking.read(|table| table.id_at(owned.bank).ok().map(id_text));
    Ok(Some(ObjectView { object: id_text(id), bank, detail }))
}

fn read(table: &Table, id: RecordId, programs: &[ProgramView]) -> Result<(Owned, ObjectDetail), TableError> {
    Ok(match table.kind_of(id)? {
        Domain::KIND => {
            let core: Domain = table.get(id)?;
            (core.owned, ObjectDetail::Domain(Box::new(domain(table, id, &core, programs)?)))
        }
        Segment::KIND => {
            let Segment { owned, number, pages, keeper } = table.get(id)?;
            (owned, ObjectDetail::Segment { number, pages, resident: None, keeper: key(table, &keeper) })
        }
        Page::KIND => (table.get::<Page>(id)?.owned, ObjectDetail::Page),
        Node::KIND => {
            let Node { owned, second, keys } = table.get(id)?;
            let half: NodeHalf = table.get(RecordId::from_u64(second))?;
            (owned, ObjectDetail::Node { slots: slots(table, &[keys, half.keys].concat()) })
        }
        Meter::KIND => {
            let Meter { owned, parent, budget, used, keeper, .. } = table.get(id)?;
            let (left_ns, above) = ((budget != u64::MAX).then_some(budget), link(parent));
            (owned, ObjectDetail::Meter { left_ns, used_ns: used, above, keeper: key(table, &keeper) })
        }
        Bank::KIND => {
            let Bank { owned, limit, used, depth, flags, .. } = table.get(id)?;
            let detail = ObjectDetail::Bank {
                pages_used: used.pages,
                pages_allowed: limit.pages,
                records_used: used.records,
                records_allowed: limit.records,
                dying: flags & 1 != 0,
                depth,
            };
            (owned, detail)
        }
        Factory::KIND => {
            let Factory { owned, components, image, entry, base, holes, sealed } = table.get(id)?;
            let mut keys = Vec::with_capacity(2 * HALF);
            for half in components {
                keys.extend(table.get::<Components>(RecordId::from_u64(half))?.keys);
            }
            let detail = ObjectDetail::Factory {
                sealed: sealed != 0,
                holes,
                image: key(table, &image),
                entry: entry.map(Hex),
                first_page: base,
                slots: slots(table, &keys),
            };
            (owned, detail)
        }
        Timer::KIND => {
            let Timer { owned, alarm, fired, waiter, .. } = table.get(id)?;
            let set = |at| (at != 0).then_some(at);
            (owned, ObjectDetail::Timer { at_ns: set(alarm.at), fired_ns: set(fired), waiter: link(waiter) })
        }
        Console::KIND => {
            let Console { owned, number, .. } = table.get(id)?;
            (owned, ObjectDetail::Console { number })
        }
        _ => return Err(TableError::Void { id }),
    })
}

fn domain(table: &Table, id: RecordId, core: &Domain, programs: &[ProgramView]) -> Result<DomainView, TableError> {
    let mut slots = slots(table, &slots_of(table, id)?);
    if !core.resume.is_null() {
        slots.push(SlotView { slot: RESUME_SLOT, key: key(table, &core.resume) });
    }
    let mapping = |mapping: crate::objects::Mapping| MappingView {
        address: Hex(mapping.at << 12),
        pages: mapping.pages,
        offset: mapping.offset,
        write: mapping.object.rights().contains(crate::objects::Rights::WRITE),
        object: id_text(mapping.object.id()),
    };
    let mut maps = mappings(table, id)?;
    maps.sort_unstable_by_key(|mapping| mapping.at);
    let first = programs.iter().find(|p| p.domain == id);
    let linux = || Some(table.find::<LinuxObject>(|record| record.domain == id.as_u64())?.1.id);
    let number = first.map(|program| program.id).or_else(linux);
    Ok(DomainView {
        program: first.map(|program| program.name.clone()),
        cpu_level: number.and_then(|number| levels_in(table).get(&number).map(ToString::to_string)),
        linux: !core.is_native(),
        phase: core.phase().name().into(),
        stopped: core.has(STOPPED),
        cpu_ns: core.cpu,
        pid: None,
        meter: link(core.meter),
        keeper: key(table, &core.keeper),
        factory: link(core.brand),
        waits: waits(table, core)?,
        callers: list(table, core.queue_head)?,
        unanswered: list(table, core.accepted)?,
        slots,
        mappings: maps.into_iter().map(mapping).collect(),
        registers: None,
    })
}

/// For whom or what a domain waits.
fn waits(table: &Table, core: &Domain) -> Result<Option<WaitView>, TableError> {
    let deadline_ns = (core.deadline.at != 0).then_some(core.deadline.at);
    let (until, object) = match (core.phase(), core.waits_on) {
        (Phase::Queued, on) => ("turn", Some(on)),
        (Phase::Waiting, NO_LINK) => ("kernel", None),
        (Phase::Waiting, OUTSIDE) => {
            let pending: Pending = table.get(RecordId::from_u64(core.pending))?;
            (if pending.order == 1 { "input" } else { "checkpoint" }, None)
        }
        (Phase::Waiting, on) if core.has(crate::objects::IN_FAULT) => ("keeper", Some(on)),
        (Phase::Waiting, on) => ("answer", Some(on)),
        _ => return Ok(None),
    };
    let object = object.map(|index| table.id_at(index).map(id_text)).transpose()?;
    Ok(Some(WaitView { until: until.into(), object, deadline_ns }))
}

/// The first of those in a list of waiters.
fn list(table: &Table, head: u32) -> Result<Vec<String>, TableError> {
    let (mut at, mut all) = (head, Vec::new());
    while at != NO_LINK && all.len() < LISTED_WAITERS {
        let (id, waiter) = table.at::<Domain>(at)?;
        all.push(id_text(id));
        at = waiter.next;
    }
    Ok(all)
}

/// The keys that are not null.
fn slots(table: &Table, keys: &[Key]) -> Vec<SlotView> {
    let held = (0u8..).zip(keys).filter(|(_, key)| !key.is_null());
    held.map(|(slot, held)| SlotView { slot, key: key(table, held) }).collect()
}

fn key(table: &Table, key: &Key) -> KeyView {
    let key_type = key.key_type();
    let rights = key.rights().to_string();
    KeyView {
        key_type: key_type.name().into(),
        rights: rights.split(", ").filter(|name| !name.is_empty()).map(String::from).collect(),
        object: key_type.has_record().then(|| id_text(key.id())),
        badge: matches!(key_type, KeyType::Start | KeyType::Resume).then(|| key.badge()),
        void: is_void(table, key),
    }
}

/// Whether using the key would be the error `Void`.
fn is_void(table: &Table, key: &Key) -> bool {
    let domain = table.get::<Domain>(key.id());
    match key.key_type() {
        KeyType::Start => domain.map_or(true, |d| d.start_epoch != key.epoch() || d.phase() == Phase::Dying),
        KeyType::Resume => domain.map_or(true, |d| d.phase() != Phase::Waiting || d.serial != key.badge()),
        other => other.has_record() && !table.contains(key.id()),
    }
}

/// An object that a record names by a word.
fn link(word: u64) -> Option<String> {
    (word != 0).then(|| id_text(RecordId::from_u64(word)))
}
