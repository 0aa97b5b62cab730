//! A second store that goes on from a generation of this one, without a copy of its pages.

use crate::crash::crash_point;
use crate::directory::{self, NEW_FILE, PAGES_FILE};
use crate::disk::{BufferPool, Disk};
use crate::error::Error;
use crate::file::{FileDisk, IoChoice};
use crate::ids::{Generation, PAGE_SIZE};
use crate::lineage::MAX_ANCESTORS;
use crate::loan::{LOAN_FILE, Record, tag_for};
use crate::open::{random_id, write_roots};
use crate::reflink::reflink;
use crate::root::{FIRST_PLACE, Root};
use crate::store::Store;
use std::fs::{self, File};
use std::path::Path;

/// A fork in the making.
#[derive(Debug)]
pub struct Forked {
    root: Root,
    /// The name of the tag by which the lender keeps the generation.
    pub tag: String,
}

impl Store {
    /// How many stores lie one behind the other in which pages of this one may lie.
    fn lenders(&self) -> usize {
        let lender = self.shared.loan.as_ref().and_then(|loan| loan.lender());
        lender.map_or(0, |lender| 1 + lender.lenders())
    }

    /// What a fork that goes on from `generation` is to be; none if the store is the fork of a fork so many times that only a copy will do.
    ///
    /// # Errors
    /// [`Error::NoSuchGeneration`], what the host says.
    pub fn plan_fork(&self, generation: Generation) -> Result<Option<Forked>, Error> {
        if self.lenders() >= MAX_ANCESTORS {
            return Ok(None);
        }
        let id = random_id()?;
        let current = self.shared.current();
        self.at(generation, |shared, kept| {
            let Some(lineage) = shared.lineage.child(id, generation.0) else { return Ok(None) };
            let root = Root {
                lineage,
                sequence: 0,
                highest: generation.0,
                used: FIRST_PLACE + kept.pages + kept.nodes,
                kept: vec![kept.clone()],
                borrows: false,
                unflushed: false,
                ..current.root.clone()
            };
            Ok(Some(Forked { root, tag: tag_for(id) }))
        })
    }

    /// Makes the fork in `dir`, an empty directory, sharing its pages by the file system; false if that cannot, and nothing was made. The generation has to
    /// be held meanwhile.
    ///
    /// # Errors
    /// What the host says.
    pub fn fork_by_reflink(&self, fork: &Forked, dir: &Path) -> Result<bool, Error> {
        // What this store itself has not, or what another side of it may have better, is not in its file.
        if self.lenders() > 0 || self.shared.disk.copies().len() > 1 {
            return Ok(false);
        }
        let Some(from) = self.shared.mirrored()?.home_dir() else { return Ok(false) };
        let from = directory::pages(&from)?;
        directory::prepare(dir)?;
        let new = dir.join(NEW_FILE);
        let shared = File::open(&from).and_then(|from| reflink(&from, &File::create(&new)?));
        if let Err(e) = shared {
            tracing::debug!("{} cannot share its blocks: {e}", from.display());
            fs::remove_file(&new).map_err(|e| Error::io(format!("remove {}", new.display()), e))?;
            return Ok(false);
        }
        finish(&fork.root, dir)?;
        Ok(true)
    }

    /// Makes the fork in `dir`, an empty directory, with its pages where they are. The generation has to be held from now on by the tag
    /// that [`Forked::tag`] names.
    ///
    /// # Errors
    /// [`Error::BadArgument`] if the path of this store is none that can be noted; what the host says.
    pub fn fork_by_loan(&self, fork: &Forked, dir: &Path) -> Result<(), Error> {
        let bad = || Error::BadArgument("only a store that lies in a directory with an UTF-8 path can lend".to_owned());
        let from = self.shared.mirrored()?.home_dir().ok_or_else(bad)?;
        directory::prepare(dir)?;
        // It is to be found from everywhere, and also when what leads there has changed.
        let from = fs::canonicalize(&from).map_err(|e| Error::io(format!("find {}", from.display()), e))?;
        let root = Root { borrows: true, ..fork.root.clone() };
        let kept = root.newest();
        let record = Record {
            store: root.id(),
            lender: self.id(),
            from,
            generation: kept.generation,
            root: kept.tree.root,
            tag: fork.tag.clone(),
        };
        directory::replace(dir, LOAN_FILE, &record.text().ok_or_else(bad)?)?;
        crash_point("fork-noted");
        let new = dir.join(NEW_FILE);
        File::create(&new).map_err(|e| Error::io(format!("create {}", new.display()), e))?;
        finish(&root, dir)
    }
}

/// Makes the file that lies in `dir` a store with this root.
fn finish(root: &Root, dir: &Path) -> Result<(), Error> {
    let new = dir.join(NEW_FILE);
    let failed = |e| Error::io(format!("make {}", new.display()), e);
    let disk = FileDisk::open(&new, IoChoice::Plain).map_err(failed)?;
    let len = root.places * PAGE_SIZE as u64;
    if disk.len().map_err(failed)? < len {
        disk.set_len(len).map_err(failed)?;
    }
    crash_point("fork-made");
    write_roots(&disk, root.clone(), &BufferPool::default())?;
    fs::rename(&new, dir.join(PAGES_FILE)).map_err(failed)?;
    directory::sync(dir)
}
