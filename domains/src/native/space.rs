//! The process of a native domain: made from what it maps, put away, stopped.

use super::domain::Native;
use super::turn::Turn;
use super::{ExecutiveError, SEGMENT_PAGES};
use crate::abi::POSTED;
use crate::kernel::fsgsbase;
use crate::objects::{self, Hub, Key, KeyType, Rights};
use crate::platform::PlatformError;
use crate::platform::process::Process;
use crate::platform::zygote::{MapRequest, SpawnPlan};
use crate::table::RecordId;
use nix::libc;
use semper_pager::Segment;
use semper_store::{PAGE_SIZE, PageRange, SegmentId};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

const PAGE: u64 = PAGE_SIZE as u64;

/// One mapping, resolved.
pub(super) struct Area {
    pub(super) segment: Arc<Segment>,
    pub(super) address: u64,
    pub(super) length: u64,
    pub(super) offset: u64,
    pub(super) protection: u32,
}

impl Area {
    /// Whether an address lies in it.
    pub(super) fn contains(&self, address: u64) -> bool {
        (self.address..self.address + self.length).contains(&address)
    }

    /// Whether the domain may write it.
    pub(super) fn may_write(&self) -> bool {
        self.protection & libc::PROT_WRITE.cast_unsigned() != 0
    }
}

impl Turn<'_> {
    /// A segment object's pages, opened if they are not.
    pub fn segment(&mut self, number: u64) -> Result<Arc<Segment>, ExecutiveError> {
        self.state.open.note(number, self.state.turn);
        let (id, pager) = (SegmentId(number), &self.kernel.pager);
        match pager.segment(id) {
            Some(segment) => Ok(segment),
            None => Ok(pager.open_segment(id, SEGMENT_PAGES, &[PageRange::between(0, SEGMENT_PAGES)])?),
        }
    }

    /// A domain, loaded if it is not.
    pub fn native(&mut self, id: RecordId) -> Result<&mut Native, ExecutiveError> {
        if !self.state.natives.contains_key(&id.index()) {
            let core: objects::Domain = self.kernel.objects().table.get(id)?;
            if !core.is_native() {
                return Err(PlatformError::BadFrame("a Linux program that is no more has no control pages").into());
            }
            let number = core.control;
            self.state.recording.note_number(number, id);
            let native = Native::load(id, self.segment(number)?)?;
            self.state.natives.insert(id.index(), native);
        }
        let turn = self.state.turn;
        let native = self.state.natives.get_mut(&id.index()).expect("just loaded");
        native.used = turn;
        Ok(native)
    }

    /// A domain if it is loaded.
    pub fn loaded(&mut self, id: RecordId) -> Option<&mut Native> {
        self.state.natives.get_mut(&id.index()).filter(|native| native.id == id)
    }

    pub(super) fn resolve(&self, key: &Key) -> Result<Option<(u64, u64, u64)>, ExecutiveError> {
        let objects = self.kernel.objects();
        Ok(match key.key_type() {
            KeyType::Page => {
                let pool = objects.table.first::<Hub>().map_or(0, |(_, hub)| hub.pool);
                Some((pool, u64::from(key.id().index()), 1))
            }
            KeyType::Segment => {
                let segment: objects::Segment = objects.table.get(key.id())?;
                Some((segment.number, 0, segment.pages))
            }
            _ => None,
        })
    }

    /// What a domain maps and its objects have: a mapping beyond the end of a segment faults there.
    pub(super) fn areas(&mut self, id: RecordId) -> Result<(Vec<Area>, Vec<u64>), ExecutiveError> {
        let mappings = objects::mappings(&self.kernel.objects().table, id)?;
        let (mut areas, mut numbers) = (Vec::new(), Vec::new());
        for mapping in mappings {
            let Some((number, first, pages)) = self.resolve(&mapping.object)? else { continue };
            numbers.push(number);
            let count = mapping.pages.min(pages.saturating_sub(mapping.offset));
            if count == 0 {
                continue;
            }
            let write = mapping.object.rights().contains(Rights::WRITE);
            let protection = libc::PROT_READ | libc::PROT_EXEC | if write { libc::PROT_WRITE } else { 0 };
            areas.push(Area {
                segment: self.segment(number)?,
                address: mapping.at * PAGE,
                length: count * PAGE,
                offset: (first + mapping.offset) * PAGE,
                protection: protection.cast_unsigned(),
            });
        }
        Ok((areas, numbers))
    }

    /// Makes a process for a domain that stands in its pages.
    pub fn spawn(&mut self, id: RecordId) -> Result<Arc<Process>, ExecutiveError> {
        let (mut areas, numbers) = self.areas(id)?;
        let overlays = self.overlays(id, &mut areas)?;
        let (spins, kernel) = (self.kernel.native_spins(), self.kernel);
        let asks = self.answers(id)?.is_some();
        let native = self.native(id)?;
        if let Some(process) = native.ending.take() {
            process.end();
        }
        native.frame()?.fit()?;
        let control = &native.control;
        control.state().store(POSTED, SeqCst);
        control.kernel_sleeps().store(0, SeqCst);
        control.set_order_count(0);
        control.set_spins(spins);
        control.set_features(u32::from(fsgsbase()));
        control.set_quick(0);
        let maps: Vec<MapRequest<'_>> = areas
            .iter()
            .map(|area| MapRequest {
                memory: area.segment.memfd(),
                address: area.address,
                length: area.length,
                offset: area.offset,
                protection: area.protection,
            })
            .chain(overlays.iter().map(super::overlay::Overlay::map))
            .collect();
        let plan = SpawnPlan {
            control: native.segment.memfd(),
            mappings: &maps,
            native: true,
            recorded: kernel.native.tape.is_on(),
            asks,
        };
        let spawned = kernel.zygote.spawn(&plan)?;
        let uffds = spawned.uffds.map_err(PlatformError::errno("userfaultfd"))?;
        let process = Process::new(spawned.pid, spawned.pidfd, Arc::clone(control));
        let mut served = areas.iter().zip(&maps).zip(uffds);
        let served = served.try_for_each(|((area, map), uffd)| process.serve(&area.segment, uffd, None, map));
        if let Err(error) = served.and_then(|()| kernel.native.watch(kernel, &process)) {
            process.end();
            return Err(error.into());
        }
        native.mapped = numbers;
        native.charged = 0;
        native.process = Some(Arc::clone(&process));
        Ok(process)
    }

    /// Stops a domain that runs: it stands in its pages when this returns, and is not executing. False: its process died first.
    pub fn halt(&mut self, id: RecordId) -> Result<bool, ExecutiveError> {
        let Some(native) = self.loaded(id).filter(|native| native.executing) else { return Ok(true) };
        native.executing = false;
        let Some(process) = native.process.clone() else { return Ok(true) };
        if let Some(seen) = process.freeze() {
            match process.wait_frozen(seen) {
                Ok(()) => {}
                Err(PlatformError::Died { .. }) => {
                    process.end();
                    return Ok(false);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }

    /// Drops a domain's process; it stands in its pages, and what it wrote is known.
    pub fn put_away(&mut self, id: RecordId) -> Result<(), ExecutiveError> {
        self.put_away_soon(id)?;
        let Some(native) = self.loaded(id) else { return Ok(()) };
        if let Some(process) = native.ending.take() {
            process.end();
        }
        Ok(())
    }

    /// As [`Self::put_away`], of a domain that waits: its process need not be gone before it gets another.
    pub fn put_away_soon(&mut self, id: RecordId) -> Result<(), ExecutiveError> {
        self.charge(id)?;
        let Some(native) = self.loaded(id) else { return Ok(()) };
        if let Some(process) = native.process.take() {
            process.put_away_soon();
            native.ending = Some(process);
            native.charged = 0;
            let mapped = std::mem::take(&mut native.mapped);
            let turn = self.state.turn;
            mapped.into_iter().for_each(|number| self.state.open.note(number, turn));
        }
        Ok(())
    }

    /// Something of a domain's memory map changed: its process is made anew.
    pub fn remap(&mut self, id: RecordId) -> Result<(), ExecutiveError> {
        if self.kernel.native.tape.is_on() {
            self.note_remap(id)?;
        }
        let Some(native) = self.loaded(id).filter(|native| native.process.is_some()) else { return Ok(()) };
        let ran = native.executing;
        if !self.halt(id)? {
            return self.lost(id);
        }
        self.put_away(id)?;
        if ran { self.execute(id) } else { Ok(()) }
    }

    /// As [`Self::remap`] for every domain that maps a segment.
    pub fn remap_all(&mut self, number: u64) -> Result<(), ExecutiveError> {
        let natives = self.state.natives.values();
        let all: Vec<RecordId> = natives.filter(|n| n.mapped.contains(&number)).map(|n| n.id).collect();
        all.into_iter().try_for_each(|id| self.remap(id))
    }
}
