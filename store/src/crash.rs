//! Named places where a test can have the runtime killed.
//!
//! With `SEMPER_CRASH_AT=name` in the environment the process sends itself SIGKILL when it first comes to the place `name`; with
//! `SEMPER_CRASH_AT=name:3`, when it comes there the third time. They are compiled in always, so that the binary that is
//! tested is the one that is used; not armed, a place costs one load. They are here, at the bottom, for all crates above.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// The variable that arms a place.
pub const CRASH_VARIABLE: &str = "SEMPER_CRASH_AT";

/// Every place of a commit of this crate, in the order in which a commit comes to them.
pub const COMMIT_CRASH_POINTS: &[&str] = &[
    "buffer-full",
    "buffer-queued",
    "tree-made",
    "data-written",
    "data-flushed",
    "root-written",
    "root-flushed",
    "books-settled",
];

struct Armed {
    name: String,
    nth: u64,
    came: AtomicU64,
}

impl Armed {
    fn parse(text: &str) -> Option<Self> {
        let (name, nth) = match text.split_once(':') {
            Some((name, nth)) => (name, nth.parse().ok()?),
            None => (text, 1),
        };
        (!name.is_empty() && nth > 0).then(|| Self { name: name.to_owned(), nth, came: AtomicU64::new(0) })
    }

    fn is_now(&self, name: &str) -> bool {
        self.name == name && self.came.fetch_add(1, Ordering::Relaxed) + 1 == self.nth
    }
}

/// Ends the process by SIGKILL if this place is armed. Other crates have places of their own, under other names.
pub fn crash_point(name: &str) {
    static ARMED: OnceLock<Option<Armed>> = OnceLock::new();
    let armed = ARMED.get_or_init(|| std::env::var(CRASH_VARIABLE).ok().and_then(|text| Armed::parse(&text)));
    if armed.as_ref().is_some_and(|armed| armed.is_now(name)) {
        let _ = kill(Pid::this(), Signal::SIGKILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_armed_by_name_and_count() {
        let armed = Armed::parse("frozen:2").unwrap();
        assert!(!armed.is_now("frozen"));
        assert!(!armed.is_now("after-scan"));
        assert!(armed.is_now("frozen"));
        assert!(!armed.is_now("frozen"));
        assert!(Armed::parse("captured").unwrap().is_now("captured"));
    }

    #[test]
    fn nonsense_arms_nothing() {
        for text in ["", ":1", "frozen:0", "frozen:x"] {
            assert!(Armed::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn names_are_unique() {
        let mut names = COMMIT_CRASH_POINTS.to_vec();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), COMMIT_CRASH_POINTS.len());
    }
}
