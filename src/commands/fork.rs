//! `semper fork`.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::ExitCode;

use semper::runtime::{Moved, untag};
use semper_backup::Building;
use semper_store::{Change, CreateOptions, Error, Fill, Generation, PAGE_SIZE, Store};

use super::failure::code;
use super::held::{self, Held};
use super::{Failure, bar};
use crate::cli::Fork;

pub fn run(fork: &Fork) -> Result<ExitCode, Failure> {
    if let Some(Moved { to, .. }) = Moved::of(&fork.store)? {
        let told = format!("the world of {} has moved to {to}; fork it there", fork.store.display());
        return Err(Failure::new(code::NO_STORE, told));
    }
    if let (Ok(store), Ok(place)) = (fork.store.canonicalize(), parent(&fork.new_store).canonicalize())
        && place.starts_with(&store)
    {
        let told = format!("{} lies within the store", fork.new_store.display());
        return Err(Failure::new(code::USAGE, told));
    }
    let mut lent = None;
    let made = built(&fork.new_store, &fork.store, fork.at.as_deref(), |held, dir| {
        let plan = if fork.copy { None } else { held.store.plan_fork(held.generations[0])? };
        match plan {
            None => copy(&held.store, held.generations[0], dir)?,
            Some(plan) if held.store.fork_by_reflink(&plan, dir)? => {}
            Some(plan) => {
                held.tag(&fork.store, &plan.tag, held.generations[0])?;
                lent = Some(plan.tag.clone());
                held.store.fork_by_loan(&plan, dir)?;
            }
        }
        copy_lives(&fork.store, dir)
    });
    let (old, new) = (fork.store.display(), fork.new_store.display());
    match lent {
        Some(tag) if made.is_err() => {
            // Nobody will need it.
            if let Err(failure) = untag(&fork.store, &tag) {
                tracing::warn!("the tag {tag} stays in {old}: {failure}");
            }
        }
        Some(tag) => eprintln!(
            "semper: {new} has its pages from {old}, which keeps them by the tag {tag}, until they are copied while {new} runs"
        ),
        None => {}
    }
    made
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Has `build` make the store `new` in a directory that gets its name when it is complete, of a generation of `store` that is held meanwhile.
pub fn built(
    new: &Path,
    store: &Path,
    at: Option<&str>,
    build: impl FnOnce(&Held, &Path) -> Result<(), Failure>,
) -> Result<ExitCode, Failure> {
    if new.symlink_metadata().is_ok() {
        let told = format!("{} is there already; name a directory that is not", new.display());
        return Err(Failure::new(code::USAGE, told));
    }
    let held = held::open(store, &[at])?;
    if held.generations[0].0 == 0 {
        let told = format!("nothing has been committed in {} yet", store.display());
        return Err(Failure::new(code::NOT_FOUND, told));
    }
    // Built under another name, so that there is either the whole store or none.
    let building = Building::new(new)?;
    build(&held, building.path())?;
    building.finish()?;
    Ok(ExitCode::SUCCESS)
}

/// How many lives there were goes along: what belongs to one of those must not be taken for something of the new store's first.
pub fn copy_lives(from: &Path, to: &Path) -> Result<(), Failure> {
    let (from, to) = (from.join("console/life"), to.join("console"));
    if !from.exists() {
        return Ok(());
    }
    let copied = fs::create_dir(&to).and_then(|()| fs::copy(&from, to.join("life"))).map(|_| ());
    copied.map_err(|error| Failure::io(format_args!("copy {}", from.display()), &error))
}

/// Makes a store in `dir` whose newest generation is what `generation` is in `from`.
fn copy(from: &Store, generation: Generation, dir: &Path) -> Result<(), Error> {
    let size_bytes = from.space().total * PAGE_SIZE as u64;
    let to = Store::create(dir, &CreateOptions { size_bytes, ..CreateOptions::default() })?;
    let total = from.generations().iter().find(|kept| kept.generation == generation).map_or(0, |kept| kept.pages);
    let bar = bar(total);
    let mut fill = Fill::new(to);
    let (mut put, mut done) = (Ok(()), 0);
    from.changes(None, generation, &mut |change| {
        if let Change::Pages { segment, first, data } = change {
            put = fill.put(segment, first, data);
            done += (data.len() / PAGE_SIZE) as u64;
        }
        bar.set_position(done);
        if put.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    bar.finish_and_clear();
    put?;
    fill.end_world(from.attributes_of(generation)?)?;
    fill.finish().map(drop)
}
