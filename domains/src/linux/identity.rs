//! Calls that would change who the program is, or ask for children: it is always the same user and has none.

use super::{Answer, Call, Errno, Program, UID};
use crate::cpu::Cpu;

/// The served calls.
pub const CALLS: &[Call] = &[
    Call { number: 61, name: "wait4", handler: no_child, note: "ECHILD: there are no children" },
    Call { number: 105, name: "setuid", handler: set_one, note: "to 1000; others are EPERM" },
    Call { number: 106, name: "setgid", handler: set_one, note: "to 1000; others are EPERM" },
    Call { number: 112, name: "setsid", handler: refused, note: "EPERM: it leads its group" },
    Call { number: 113, name: "setreuid", handler: set_two, note: "to 1000; others are EPERM" },
    Call { number: 114, name: "setregid", handler: set_two, note: "to 1000; others are EPERM" },
    Call { number: 116, name: "setgroups", handler: refused, note: "EPERM" },
    Call { number: 117, name: "setresuid", handler: set_three, note: "to 1000; others are EPERM" },
    Call { number: 119, name: "setresgid", handler: set_three, note: "to 1000; others are EPERM" },
    Call { number: 247, name: "waitid", handler: no_child, note: "ECHILD: there are no children" },
];

/// "Leave it as it is".
const KEEP: u32 = u32::MAX;

/// Whether an argument (its lower half counts) is the user and group that the program has.
fn is_own(id: u64) -> bool {
    id & u64::from(u32::MAX) == u64::from(UID)
}

fn set(ids: &[u64]) -> Result<Answer, Errno> {
    let kept = |id: u64| id & u64::from(u32::MAX) == u64::from(KEEP);
    if ids.iter().all(|&id| is_own(id) || kept(id)) { Ok(Answer::Value(0)) } else { Err(Errno::EPERM) }
}

fn set_one(_: &mut Program, _: &mut Cpu<'_>, [id, ..]: [u64; 6]) -> Result<Answer, Errno> {
    match id & u64::from(u32::MAX) {
        id if id == u64::from(KEEP) => Err(Errno::EINVAL),
        id => set(&[id]),
    }
}

fn set_two(_: &mut Program, _: &mut Cpu<'_>, [a, b, ..]: [u64; 6]) -> Result<Answer, Errno> {
    set(&[a, b])
}

fn set_three(_: &mut Program, _: &mut Cpu<'_>, [a, b, c, ..]: [u64; 6]) -> Result<Answer, Errno> {
    set(&[a, b, c])
}

fn refused(_: &mut Program, _: &mut Cpu<'_>, _: [u64; 6]) -> Result<Answer, Errno> {
    Err(Errno::EPERM)
}

fn no_child(_: &mut Program, _: &mut Cpu<'_>, _: [u64; 6]) -> Result<Answer, Errno> {
    Err(Errno::ECHILD)
}
