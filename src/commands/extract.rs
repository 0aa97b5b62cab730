//! `semper extract`.

use std::ops::ControlFlow;
use std::process::ExitCode;

use semper::runtime::{Extract, RuntimeError, extract};
use semper_domains::kernel::KernelError;
use semper_store::{Change, CreateOptions, Fill, Generation, PAGE_SIZE, PageIndex, Store};

use super::fork::{built, copy_lives};
use super::{Failure, bar, held};
use crate::cli::Extract as Command;

pub fn run(command: &Command) -> Result<ExitCode, Failure> {
    built(&command.to, &command.store, command.at.as_deref(), |held, dir| {
        let held::Held { store, generations, .. } = held;
        let extract = extract(&command.store, generations[0], &command.domains)?;
        let size_bytes = store.space().total * PAGE_SIZE as u64;
        let new = Store::create(dir, &CreateOptions { size_bytes, ..CreateOptions::default() })?;
        copy(store, generations[0], &extract, Fill::new(new))?;
        copy_lives(&command.store, dir)
    })
}

/// Puts the world that was taken out into a new store.
fn copy(from: &Store, generation: Generation, extract: &Extract, mut fill: Fill) -> Result<(), Failure> {
    let mut failed = None;
    let changed = extract.changed(&mut |segment, page, data| {
        fill.put(segment, page, data).map_err(|error| {
            let told = error.to_string();
            failed = Some(error);
            KernelError::Refused(told)
        })
    });
    if let Some(error) = failed {
        return Err(error.into());
    }
    changed.map_err(RuntimeError::from)?;
    let total = from.generations().iter().find(|kept| kept.generation == generation).map_or(0, |kept| kept.pages);
    let bar = bar(total);
    let mut put = Ok(());
    from.changes(None, generation, &mut |change| {
        if let Change::Pages { segment, first, data } = change {
            bar.inc((data.len() / PAGE_SIZE) as u64);
            for (page, at) in data.chunks_exact(PAGE_SIZE).zip(first.0..) {
                if put.is_ok() && extract.keeps(segment, PageIndex(at)) {
                    put = fill.put(segment, PageIndex(at), page);
                }
            }
        }
        if put.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    bar.finish_and_clear();
    put?;
    fill.end_world(from.attributes_of(generation)?)?;
    Ok(fill.finish().map(drop)?)
}
