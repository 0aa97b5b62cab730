//! `semper fork`.

use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressStyle};
use semper_store::{Change, CreateOptions, Error, Fill, Generation, PAGE_SIZE, Store};

use super::failure::code;
use super::{Failure, held};
use crate::cli::Fork;

pub fn run(fork: &Fork) -> Result<ExitCode, Failure> {
    let new = &fork.new_store;
    if new.symlink_metadata().is_ok() {
        let told = format!("{} is there already; name a directory that is not", new.display());
        return Err(Failure::new(code::USAGE, told));
    }
    let held = held::open(&fork.store, &[fork.at.as_deref()])?;
    let generation = held.generations[0];
    if generation.0 == 0 {
        let told = format!("nothing has been committed in {} yet", fork.store.display());
        return Err(Failure::new(code::NOT_FOUND, told));
    }
    // Built under another name, so that there is either the whole store or none.
    let unfinished = Unfinished::new(new)?;
    copy(&held.store, generation, &unfinished.0)?;
    copy_lives(&fork.store, &unfinished.0)?;
    fs::rename(&unfinished.0, new).map_err(|error| Failure::io(format_args!("make {}", new.display()), &error))?;
    flush_parent(new).map_err(|error| Failure::io(format_args!("make {} durable", new.display()), &error))?;
    Ok(ExitCode::SUCCESS)
}

/// A directory that goes away again unless it was renamed.
struct Unfinished(PathBuf);

impl Unfinished {
    fn new(whole: &Path) -> Result<Unfinished, Failure> {
        let Some(name) = whole.file_name() else {
            return Err(Failure::new(code::USAGE, format!("{} is no name for a directory", whole.display())));
        };
        let mut name = name.to_owned();
        name.push(format!(".unfinished-{}", std::process::id()));
        let path = whole.with_file_name(name);
        fs::create_dir(&path).map_err(|error| Failure::io(format_args!("create {}", path.display()), &error))?;
        Ok(Unfinished(path))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Gone already where it was renamed.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn flush_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::File::open(parent)?.sync_all()
}

/// How many lives there were goes along: what belongs to one of those must not be taken for something of the new store's first.
fn copy_lives(from: &Path, to: &Path) -> Result<(), Failure> {
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
    let style = ProgressStyle::with_template("{bar:30} {percent:>3} %");
    let bar = ProgressBar::new(total).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let mut fill = Fill::new(to);
    let mut put = Ok(());
    from.changes(None, generation, &mut |change| {
        if let Change::Pages { segment, first, data } = change {
            put = fill.put(segment, first, data);
        }
        bar.set_position(fill.pages());
        if put.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    bar.finish_and_clear();
    put?;
    fill.finish(from.attributes_of(generation)?).map(drop)
}
