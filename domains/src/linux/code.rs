//! Code that a program is about to execute: where it asks the processor it is made to ask the kernel.
//!
//! Only what is mapped is changed, never a file. That the bytes are others is all that a program could see of it, if it reads its own code.

use super::user::CHUNK;
use super::{Errno, Program};
use crate::processor::{REPLACED, code};

/// A piece that is looked at is this much longer than what is searched in it, at both ends where there is more code.
const CONTEXT: u64 = code::CONTEXT as u64;

impl Program {
    /// Replaces each `cpuid` in `start..end`, which is code from now on, if the program has answers.
    pub(super) fn replace_questions(&mut self, start: u64, end: u64) -> Result<(), Errno> {
        if !self.has_answers() {
            return Ok(());
        }
        let step = CHUNK as u64 - 2 * CONTEXT;
        let mut from = start;
        while from < end {
            let to = end.min(from + step);
            let (first, last) = (start.max(from.saturating_sub(CONTEXT)), end.min(to + CONTEXT));
            let mut bytes = vec![0; usize::try_from(last - first).map_err(|_| Errno::ENOMEM)?];
            self.user.fetch(first, &mut bytes)?;
            for at in
                code::questions(&bytes).into_iter().map(|at| first + at as u64).filter(|at| (from..to).contains(at))
            {
                self.user.put(at, &REPLACED)?;
            }
            from = to;
        }
        Ok(())
    }
}
