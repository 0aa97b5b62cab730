//! Programs that are taken out of a world, to go on in a world of their own.
//!
//! **Promise.** In a copy of the object table that lies in memory only, every other program ends by the transactions by which programs end. So what is left
//! is a world as any other: keys to what was not taken are void, banks are exact, and who waited for one of the others is told that it died.

use super::mailbox::Mailbox;
use super::records::{LinuxObject, NativeProgram, RUN_LIST, RunList};
use crate::abi::CONTROL_PAGES;
use crate::kernel::clock::WorldClock;
use crate::kernel::objects::{DomainRecord, OBJECT_PAGES, SegmentRecord};
use crate::kernel::{KernelError, Objects, random, remove_answers_but, remove_grants_but};
use crate::linux::ExitStatus;
use crate::objects::{self, Answer, Effect, Key, KeyType, Sold, Text};
use crate::platform::control::Control;
use crate::table::{RecordId, Table};
use semper_pager::{Pager, Segment};
use semper_store::{PAGE_SIZE, PageIndex, PageRange, SegmentId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Bytes of the object table that are read at once.
const PIECE: usize = 1 << 20;

/// Takes pages of a segment, from the first on.
pub type Put<'a> = dyn FnMut(SegmentId, PageIndex, &[u8]) -> Result<(), KernelError> + 'a;

/// Some programs of a world, without the others.
pub struct Extract {
    pager: Arc<Pager>,
    objects: Objects,
    /// The numbers of the programs.
    programs: BTreeSet<u64>,
    /// What they own.
    sold: Sold,
    /// The segment that the page objects lie in.
    pool: u64,
    /// Control segments of Linux programs, by the index of their domain.
    linux: BTreeMap<u32, u64>,
    /// Control segments that were written to.
    changed: BTreeMap<u64, Arc<Segment>>,
    /// Who runs.
    running: Vec<u64>,
}

impl Extract {
    /// Takes the programs of these names out of the world that `pager` shows. Nothing is written there.
    ///
    /// # Errors
    /// There is no such program, or it has ended; one of them is just being begun anew; segment 0 is damaged.
    pub fn new(pager: &Arc<Pager>, names: &[String]) -> Result<Self, KernelError> {
        let objects = Objects::open(pager, &WorldClock::default())?;
        let programs = find(&objects.table, names)?;
        let mut extract = Self {
            pager: Arc::clone(pager),
            pool: objects.table.first::<objects::Hub>().map_or(0, |(_, hub)| hub.pool),
            objects,
            programs,
            sold: Sold::default(),
            linux: BTreeMap::new(),
            changed: BTreeMap::new(),
            running: Vec::new(),
        };
        extract.count()?;
        extract.end_others()?;
        extract.note_running()?;
        extract.objects.table.check_all().map_err(crate::table::TableError::from)?;
        Ok(extract)
    }

    /// Whether a page of the store goes along as it is.
    #[must_use]
    pub fn keeps(&self, segment: SegmentId, page: PageIndex) -> bool {
        let changed = self.changed.contains_key(&segment.0) && page.0 < CONTROL_PAGES;
        if segment == SegmentId::OBJECTS || changed {
            return false;
        }
        if segment.0 == self.pool { self.sold.pages.contains(&page.0) } else { self.sold.segments.contains(&segment.0) }
    }

    /// Gives what does not go along as it is: the object table, and control pages of who was told of an end.
    ///
    /// # Errors
    /// Those of `put`; when a page cannot be read.
    pub fn changed(&self, put: &mut Put<'_>) -> Result<(), KernelError> {
        let used = self.objects.table.used_bytes().div_ceil(PAGE_SIZE as u64);
        let table = self.pager.segment(SegmentId::OBJECTS);
        let table = table.ok_or_else(|| KernelError::Refused("the object table is not open".into()))?;
        give(&table, used.min(OBJECT_PAGES), put)?;
        self.changed.values().try_for_each(|control| give(control, CONTROL_PAGES, put))
    }

    /// What goes along.
    fn count(&mut self) -> Result<(), KernelError> {
        let table = &self.objects.table;
        for (_, record) in table.iter::<SegmentRecord>() {
            if self.programs.contains(&record.domain) {
                self.sold.segments.insert(record.id);
            }
        }
        for (_, record) in table.iter::<NativeProgram>().filter(|(_, record)| self.programs.contains(&record.id)) {
            self.sold.add(table, RecordId::from_u64(record.bank))?;
        }
        let controls: BTreeMap<u64, u64> = table.iter::<DomainRecord>().map(|(_, r)| (r.id, r.control)).collect();
        for (_, record) in table.iter::<LinuxObject>().filter(|(_, record)| self.programs.contains(&record.id)) {
            self.sold.add(table, RecordId::from_u64(record.bank))?;
            let index = RecordId::from_u64(record.domain).index();
            self.linux.extend(controls.get(&record.id).map(|control| (index, *control)));
        }
        Ok(())
    }

    /// Every other program ends, and leaves nothing.
    fn end_others(&mut self) -> Result<(), KernelError> {
        let kept = |id: u64| self.programs.contains(&id);
        let table = &mut self.objects.table;
        let mut effects = Vec::new();
        let linux: Vec<_> = table.iter::<LinuxObject>().filter(|(_, record)| !kept(record.id)).collect();
        let native: Vec<_> = table.iter::<NativeProgram>().filter(|(_, record)| !kept(record.id)).collect();
        let mut gone: Vec<RecordId> = linux.iter().map(|(at, _)| *at).chain(native.iter().map(|(at, _)| *at)).collect();
        for (_, record) in &linux {
            objects::end_linux(table, &Nowhere, &record.domain(), &mut effects)?;
        }
        for (_, record) in &native {
            let bank = Key::to(KeyType::Bank, RecordId::from_u64(record.bank));
            objects::end_program(table, &Nowhere, &bank, &mut effects)?;
        }
        while objects::work(table, &Nowhere, &mut effects)? {}
        gone.extend(table.iter::<DomainRecord>().filter(|(_, record)| !kept(record.id)).map(|(at, _)| at));
        // Those of nobody are the world's: the pool.
        let of_others = |record: &SegmentRecord| record.domain != 0 && !kept(record.domain);
        gone.extend(table.iter::<SegmentRecord>().filter(|(_, record)| of_others(record)).map(|(at, _)| at));
        for at in gone {
            let mut tx = table.begin();
            tx.remove(at)?;
            tx.commit();
        }
        remove_grants_but(table, &self.programs)?;
        remove_answers_but(table, &self.programs)?;
        effects.into_iter().try_for_each(|effect| self.perform(&effect))
    }

    /// What an effect is for those who stay. What it is for the others ends with them.
    fn perform(&mut self, effect: &Effect) -> Result<(), KernelError> {
        let stays =
            |domain: RecordId| self.sold.domains.contains(&domain.index()) && self.objects.table.contains(domain);
        match *effect {
            Effect::Answer { to, answer } if stays(to) => {
                self.answer(to, &answer)?;
                self.running.push(to.as_u64());
            }
            Effect::Resume { domain } if stays(domain) => self.running.push(domain.as_u64()),
            Effect::Deliver { to: domain, .. } | Effect::Begin { domain, .. } if stays(domain) => {
                let why = format!("domain {domain:?} is just being told something there; take another generation");
                return Err(KernelError::Refused(why));
            }
            _ => {}
        }
        Ok(())
    }

    /// Puts the end of its wait into a domain's control pages.
    fn answer(&mut self, to: RecordId, answer: &Answer) -> Result<(), KernelError> {
        if answer.text != Text::Empty {
            return Err(KernelError::Refused(format!("the answer that domain {to:?} waits for is not there any more")));
        }
        let number = match self.linux.get(&to.index()) {
            Some(control) => *control,
            None => self.objects.table.get::<objects::Domain>(to)?.control,
        };
        let all = PageRange::between(0, CONTROL_PAGES);
        let segment = match self.changed.get(&number) {
            Some(segment) => Arc::clone(segment),
            None => self.pager.open_segment(SegmentId(number), CONTROL_PAGES, &[all])?,
        };
        Mailbox(&Control::new(segment.view(all)?)).put_answer(answer, 0);
        self.changed.insert(number, segment);
        Ok(())
    }

    /// Writes anew who runs: of those who ran, who stays, and who need not wait any more.
    fn note_running(&mut self) -> Result<(), KernelError> {
        let table = &mut self.objects.table;
        let lists: Vec<_> = table.iter::<RunList>().collect();
        let mut running: BTreeSet<u64> = self.running.iter().copied().collect();
        running.extend(lists.iter().flat_map(|(_, list)| list.domains));
        let stays = |id: &u64| {
            let id = RecordId::from_u64(*id);
            self.sold.domains.contains(&id.index()) && !self.linux.contains_key(&id.index()) && table.contains(id)
        };
        let running: Vec<u64> = running.iter().copied().filter(stays).collect();
        let mut tx = table.begin();
        for (at, _) in lists {
            tx.remove(at)?;
        }
        tx.commit();
        for part in running.chunks(RUN_LIST) {
            let mut list = RunList { domains: [0; RUN_LIST] };
            list.domains[..part.len()].copy_from_slice(part);
            let mut tx = table.begin();
            tx.insert(&list)?;
            tx.commit();
        }
        Ok(())
    }
}

/// The numbers of the programs of these names.
fn find(table: &Table, names: &[String]) -> Result<BTreeSet<u64>, KernelError> {
    let linux = table.iter::<DomainRecord>().map(|(_, record)| (record.name(), record.id, record.exit()));
    let native = table.iter::<NativeProgram>().map(|(_, record)| (record.name(), record.id, record.exit()));
    let all: Vec<(String, u64, Option<ExitStatus>)> = linux.chain(native).collect();
    let number = |name: &String| match all.iter().find(|(of, ..)| of == name) {
        None => Err(KernelError::NoDomain(name.clone())),
        Some((.., Some(_))) => Err(KernelError::Refused(format!("{name} has ended: there is nothing to go on with"))),
        Some((_, id, None)) => Ok(*id),
    };
    names.iter().map(number).collect()
}

/// The pages of a segment up to `pages`, without those of zeros.
fn give(segment: &Arc<Segment>, pages: u64, put: &mut Put<'_>) -> Result<(), KernelError> {
    let mut piece = vec![0; PIECE];
    let mut first = 0;
    while first < pages {
        let count = (pages - first).min((PIECE / PAGE_SIZE) as u64);
        let bytes = &mut piece[..usize::try_from(count).unwrap_or(0) * PAGE_SIZE];
        segment.read_at(first * PAGE_SIZE as u64, bytes)?;
        for (page, at) in bytes.chunks_exact(PAGE_SIZE).zip(first..) {
            if page.iter().any(|byte| *byte != 0) {
                put(segment.id(), PageIndex(at), page)?;
            }
        }
        first += count;
    }
    Ok(())
}

/// A world in which no time passes, since nobody executes.
pub(super) struct Nowhere;

impl objects::Surroundings for Nowhere {
    fn monotonic(&self) -> u64 {
        0
    }

    fn wall(&self) -> u64 {
        0
    }

    fn random(&self) -> u64 {
        let mut bytes = [0u8; 8];
        random(&mut bytes);
        u64::from_ne_bytes(bytes)
    }

    fn restarts(&self) -> u64 {
        0
    }

    fn life(&self) -> [u64; 2] {
        [0; 2]
    }

    fn resumed_from(&self) -> u64 {
        0
    }

    fn began(&self) -> u64 {
        0
    }

    fn generation(&self) -> u64 {
        0
    }
}
