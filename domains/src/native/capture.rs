//! What a checkpoint needs of the native domains. Called while the gate is closed, or between turns.

use super::records::{RUN_LIST, RunList};
use super::{Executive, State};
use crate::kernel::capture::FreezeError;
use crate::platform::PlatformError;
use crate::table::{RecordId, Table, TableError};
use std::sync::atomic::Ordering::SeqCst;

impl Executive {
    /// Whether nothing of a native domain changed since the last capture.
    pub(crate) fn idle(&self) -> bool {
        let state = self.state();
        !state.work
            && state.durable[0].is_empty()
            && !state.natives.values().any(|n| n.touched)
            && !state.programs.values().any(|p| p.changed())
    }

    /// A capture begins: a domain that ran has other registers even if it wrote no page.
    pub(crate) fn before_capture(&self) {
        for native in self.state().natives.values().filter(|n| n.touched) {
            native.control.mark_header_dirty();
        }
    }

    /// Stops every native domain; each stands in its pages when this returns.
    ///
    /// # Errors
    /// One died or does not stop; others may stand: thaw.
    pub(crate) fn freeze(&self) -> Result<(), FreezeError> {
        let state = self.state();
        let running = state.natives.values().filter(|n| n.executing);
        let asked: Vec<_> =
            running.filter_map(|n| n.process.as_ref().and_then(|p| Some((n.id, p, p.freeze()?)))).collect();
        let mut refused = None;
        for (id, process, seen) in asked {
            if let Err(error) = process.wait_frozen(seen) {
                if matches!(error, PlatformError::Died { .. }) {
                    process.set_dead();
                }
                refused.get_or_insert(FreezeError::of(id.to_string(), error));
            }
        }
        if let Some(refused) = refused {
            return Err(refused);
        }
        for native in state.natives.values().filter(|n| n.touched) {
            native.mark_dirty();
        }
        Ok(())
    }

    /// Lets those go on that [`Self::freeze`] stopped.
    pub(crate) fn thaw(&self) {
        for native in self.state().natives.values().filter(|n| n.executing) {
            if let Some(process) = &native.process {
                process.thaw();
            }
        }
    }

    /// Notes in the table who runs, and how far the consoles are.
    ///
    /// # Errors
    /// When segment 0 is damaged or full.
    pub(crate) fn note(&self, table: &mut Table) -> Result<(), TableError> {
        let mut state = self.state();
        for program in state.programs.values_mut() {
            program.note(table)?;
        }
        note_run_list(&mut state, table)
    }

    /// All stand still, after the last scan: what this capture contains.
    pub(crate) fn captured(&self) {
        let mut state = self.state();
        for native in state.natives.values_mut() {
            native.touched = native.executing;
        }
        let waiting = std::mem::take(&mut state.durable[0]);
        state.durable[1].extend(waiting);
        state.programs.values_mut().for_each(super::Program::captured);
    }

    /// The newest capture is durable.
    pub(crate) fn committed(&self, generation: u64) {
        self.generation.store(generation, SeqCst);
        let mut state = self.state();
        state.committed = true;
        state.programs.values_mut().for_each(super::Program::committed);
        drop(state);
        self.ring();
    }

    /// The capture came to nothing.
    pub(crate) fn failed(&self) {
        let mut state = self.state();
        let captured = std::mem::take(&mut state.durable[1]);
        state.durable[0].extend(captured);
        state.programs.values_mut().for_each(super::Program::failed);
    }
}

/// The domains that run, or are to: what a restart makes processes for.
fn note_run_list(state: &mut State, table: &mut Table) -> Result<(), TableError> {
    let running = state.natives.values().filter(|n| n.executing).map(|n| n.id.as_u64());
    let ready = state.ready.iter().map(RecordId::as_u64);
    let waiting = state.programs.values().flat_map(|p| p.waiting.iter().map(|id| id.as_u64()));
    let all = running.chain(ready).chain(waiting).chain(state.linux.waiting());
    let mut all: Vec<u64> = all.collect();
    all.sort_unstable();
    all.dedup();
    let mut tx = table.begin();
    let chunks = all.chunks(RUN_LIST).map(|chunk| {
        let mut domains = [0; RUN_LIST];
        domains[..chunk.len()].copy_from_slice(chunk);
        RunList { domains }
    });
    let wanted: Vec<RunList> = chunks.collect();
    let mut changed = false;
    for (place, list) in state.run_list.iter_mut().zip(&wanted) {
        if place.1 != *list {
            tx.update(place.0, list)?;
            (place.1, changed) = (*list, true);
        }
    }
    for list in wanted.iter().skip(state.run_list.len()) {
        state.run_list.push((tx.insert(list)?, *list));
        changed = true;
    }
    for (id, _) in state.run_list.drain(wanted.len()..) {
        tx.remove(id)?;
        changed = true;
    }
    if changed {
        tx.commit();
    }
    Ok(())
}
