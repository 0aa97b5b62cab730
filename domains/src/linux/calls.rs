//! The table of served calls.

use super::{Answer, Errno, Program, files, identity, keys, memory, process, signal_calls, time};
use crate::cpu::Cpu;
use std::sync::LazyLock;

/// What a call's code looks like: arguments were read once, an error undoes what it changed.
pub type Handler = fn(&mut Program, &mut Cpu<'_>, [u64; 6]) -> Result<Answer, Errno>;

/// One served call.
#[derive(Clone, Copy)]
pub struct Call {
    /// Its number.
    pub number: u32,
    /// Its name.
    pub name: &'static str,
    /// Its code.
    pub handler: Handler,
    /// Limits worth telling in `docs/linux.md`; empty if there are none.
    pub note: &'static str,
}

/// Numbers at or beyond it are no calls of Linux.
pub const NUMBERS: usize = 512;

/// The parts of the table.
const PARTS: [&[Call]; 7] =
    [memory::CALLS, signal_calls::CALLS, time::CALLS, process::CALLS, identity::CALLS, files::CALLS, keys::CALLS];

static BY_NUMBER: LazyLock<Vec<Option<Call>>> = LazyLock::new(|| {
    let mut by_number = vec![None; NUMBERS];
    for call in all() {
        if let Some(place) = usize::try_from(call.number).ok().and_then(|number| by_number.get_mut(number)) {
            *place = Some(*call);
        }
    }
    by_number
});

/// Every served call, part by part.
pub fn all() -> impl Iterator<Item = &'static Call> {
    PARTS.iter().flat_map(|part| part.iter())
}

/// The call of this number.
#[must_use]
pub fn find(number: u64) -> Option<&'static Call> {
    if number == crate::guest::SYSCALL {
        return keys::CALLS.first();
    }
    BY_NUMBER.get(usize::try_from(number).ok()?)?.as_ref()
}

/// Calls that C libraries only try (`rseq`): that they are not served is no news.
pub(super) fn is_probe(number: u64) -> bool {
    number == 334
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::names;

    #[test]
    fn every_call_is_served_once_under_its_own_name() {
        let mut seen = std::collections::BTreeSet::new();
        for call in all() {
            assert!(seen.insert(call.number), "{} is served twice", call.name);
            assert_eq!(names::of(u64::from(call.number)), Some(call.name));
        }
    }
}
