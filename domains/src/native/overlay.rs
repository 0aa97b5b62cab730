//! Pages with breakpoints: private copies that a debugged domain's process maps instead of the pages themselves.

use super::ExecutiveError;
use super::space::Area;
use super::turn::Turn;
use crate::platform::PlatformError;
use crate::platform::zygote::MapRequest;
use crate::table::RecordId;
use nix::libc;
use nix::sys::memfd::{MFdFlags, memfd_create};
use semper_store::PAGE_SIZE;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;

const PAGE: u64 = PAGE_SIZE as u64;
/// The breakpoint instruction.
const INT3: u8 = 0xcc;

/// The copy of one page.
pub(super) struct Overlay {
    memory: File,
    address: u64,
}

impl Overlay {
    /// How it is mapped: without the right to write, so that no write is lost in it.
    pub fn map(&self) -> MapRequest<'_> {
        MapRequest {
            memory: self.memory.as_fd(),
            address: self.address,
            length: PAGE,
            offset: 0,
            protection: (libc::PROT_READ | libc::PROT_EXEC).cast_unsigned(),
        }
    }
}

impl Turn<'_> {
    /// The copies of the pages of a domain that have breakpoints; `areas` have holes there then.
    pub(super) fn overlays(&self, id: RecordId, areas: &mut Vec<Area>) -> Result<Vec<Overlay>, ExecutiveError> {
        let session = self.state.debugged.get(&id.index()).filter(|session| session.id == id && !session.bare);
        let mut pages: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for address in session.iter().flat_map(|session| &session.breakpoints) {
            pages.entry(address / PAGE).or_default().push(*address);
        }
        let mut overlays = Vec::new();
        for (page, breakpoints) in pages {
            let address = page * PAGE;
            // What was mapped when the breakpoint was set may be gone.
            let Some(at) = areas.iter().position(|area| area.contains(address)) else { continue };
            let area = areas.swap_remove(at);
            let mut bytes = [0u8; PAGE_SIZE];
            area.segment.read_at(area.offset + (address - area.address), &mut bytes)?;
            for breakpoint in breakpoints {
                bytes[usize::try_from(breakpoint % PAGE).unwrap_or(0)] = INT3;
            }
            let memory = memfd_create("breakpoints", MFdFlags::MFD_CLOEXEC);
            let mut memory = File::from(memory.map_err(PlatformError::errno("memfd_create"))?);
            memory.write_all(&bytes).map_err(PlatformError::system("fill a memfd"))?;
            overlays.push(Overlay { memory, address });
            areas.extend(area.around(address));
        }
        Ok(overlays)
    }
}

impl Area {
    /// What is left of it beside the page at `address`.
    fn around(self, address: u64) -> impl Iterator<Item = Self> {
        let before = address - self.address;
        let after = before + PAGE;
        let part = |from: u64, length: u64| Self {
            segment: std::sync::Arc::clone(&self.segment),
            address: self.address + from,
            length,
            offset: self.offset + from,
            protection: self.protection,
        };
        let parts = [part(0, before), part(after, self.length - after)];
        parts.into_iter().filter(|part| part.length > 0)
    }
}
