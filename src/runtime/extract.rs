//! Programs out of a generation of a store, for a store of their own.

use super::RuntimeError;
use super::journal::past;
use semper_domains::kernel::KernelError;
use semper_domains::native::Extract;
use semper_store::{Generation, Store};
use std::path::Path;

/// Takes the programs of these names, with all that they own, out of a generation of the store in `dir`, which somebody holds.
///
/// # Errors
/// [`RuntimeError::NoObject`] if one of them is not there; when it has ended; when there is no such store or generation, or it is damaged.
pub fn extract(dir: &Path, generation: Generation, programs: &[String]) -> Result<Extract, RuntimeError> {
    let pager = past(Store::open_read_only(dir)?, generation)?;
    Extract::new(&pager, programs).map_err(|error| match error {
        KernelError::NoDomain(object) => RuntimeError::NoObject { dir: dir.to_path_buf(), object },
        other => other.into(),
    })
}
