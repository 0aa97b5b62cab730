//! The objects of a world, live or at rest, as documents; and what an operator does to its domains.

use super::status::{DomainStatus, linux_programs, offline_pager};
use super::{Runtime, RuntimeError};
use semper_domains::native::inspect::{ObjectView, Resting, Tree};
use semper_domains::native::{Act, Debugger};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// What `semper ls` shows.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Listing {
    /// Whether a runtime has the store open.
    pub live: bool,
    /// The banks and what they sold.
    #[serde(flatten)]
    pub tree: Tree,
    /// The Linux programs, as the status shows them.
    pub linux: Vec<DomainStatus>,
}

/// What `semper inspect` shows.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Inspected {
    /// An object.
    Object(Box<ObjectView>),
    /// A Linux program that has ended: it has no object any more.
    Linux(DomainStatus),
}

/// Nothing has the name that was asked for.
fn no_object(dir: &Path, object: &str) -> RuntimeError {
    RuntimeError::NoObject { dir: dir.to_path_buf(), object: object.to_owned() }
}

fn or_linux(
    dir: &Path,
    object: &str,
    found: Option<ObjectView>,
    linux: impl FnOnce() -> Vec<DomainStatus>,
) -> Result<Inspected, RuntimeError> {
    if let Some(found) = found {
        return Ok(Inspected::Object(Box::new(found)));
    }
    let named = linux().into_iter().rfind(|program| program.name == object);
    named.map(Inspected::Linux).ok_or_else(|| no_object(dir, object))
}

impl Runtime {
    /// The banks, to `depth` below the prime bank, and what they sold.
    ///
    /// # Errors
    /// When segment 0 is damaged.
    pub fn listing(&self, depth: u32) -> Result<Listing, RuntimeError> {
        let tree = self.kernel.object_tree(depth).map_err(|e| self.explained(e))?;
        Ok(Listing { live: true, tree, linux: self.linux_programs() })
    }

    /// The object `INDEX.VERSION`, or the first domain of a program by its name, or a Linux program that has ended.
    ///
    /// # Errors
    /// [`RuntimeError::NoObject`] if there is none; when segment 0 is damaged.
    pub fn inspect(&self, object: &str) -> Result<Inspected, RuntimeError> {
        let found = self.kernel.inspect(object).map_err(|e| self.explained(e))?;
        or_linux(&self.dir, object, found, || self.linux_programs())
    }

    /// Stops, starts or kills the domain `INDEX.VERSION`, or a program by its name; durable when this returns.
    ///
    /// # Errors
    /// [`RuntimeError::NoObject`] if there is none; when it cannot be done, or not be committed.
    pub fn operate(&self, domain: &str, act: Act) -> Result<(), RuntimeError> {
        let done = self.kernel.operate(domain, act).map_err(|e| self.explained(e))?;
        if done { Ok(()) } else { Err(no_object(&self.dir, domain)) }
    }

    /// Puts a debugger on the domain `INDEX.VERSION`, or on the first of a native program by its name. It is stopped.
    ///
    /// # Errors
    /// [`RuntimeError::NoObject`] if there is none; when it is no native domain that has begun, or has a debugger.
    pub fn debug(&self, domain: &str, leave_stopped: bool) -> Result<Debugger, RuntimeError> {
        let debugger = self.kernel.debug(domain, leave_stopped).map_err(|e| self.explained(e))?;
        debugger.ok_or_else(|| {
            if self.linux_programs().iter().any(|program| program.name == domain) {
                return RuntimeError::Refused(format!("{domain} is a Linux program; gdb is for native domains"));
            }
            no_object(&self.dir, domain)
        })
    }
}

/// As [`Runtime::listing`], of a store at rest; takes no lock and changes nothing.
///
/// # Errors
/// When there is no store, or it is damaged.
pub fn offline_listing(dir: &Path, depth: u32) -> Result<Listing, RuntimeError> {
    let Some((_, pager)) = offline_pager(dir)? else {
        return Ok(Listing { live: false, tree: Tree::default(), linux: Vec::new() });
    };
    let resting = Resting::open(&pager)?;
    let tree = resting.object_tree(depth)?;
    Ok(Listing { live: false, tree, linux: linux_programs(&resting.linux_programs()) })
}

/// As [`Runtime::inspect`], of a store at rest; takes no lock and changes nothing.
///
/// # Errors
/// As [`Runtime::inspect`], and when there is no store.
pub fn offline_inspect(dir: &Path, object: &str) -> Result<Inspected, RuntimeError> {
    let Some((_, pager)) = offline_pager(dir)? else { return Err(no_object(dir, object)) };
    let resting = Resting::open(&pager)?;
    let found = resting.inspect(object)?;
    or_linux(dir, object, found, || linux_programs(&resting.linux_programs()))
}
