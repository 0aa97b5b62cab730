//! The places of a checkpoint where a test can have the runtime killed: [`semper_store::crash_point`] says how.

/// Every place of a checkpoint, in the order in which a checkpoint comes to them; the commit within it has
/// [its own](semper_store::COMMIT_CRASH_POINTS).
///
/// `staged`, `unloaded`, `streamed`, `after-round`, `throttled`, `short-frozen` and `short-thawed` are reached only if what was written
/// makes them necessary; all others are in every checkpoint that commits something.
pub const CRASH_POINTS: &[&str] = &[
    "before-first-round",
    "after-first-scan",
    "before-round",
    "staged",
    "unloaded",
    "streamed",
    "after-first-round",
    "after-round",
    "throttled",
    "short-frozen",
    "short-thawed",
    "before-stop",
    "frozen",
    "after-check",
    "after-scan",
    "after-copy",
    "captured",
    "after-thaw",
    "before-data",
    "before-commit",
    "after-commit",
    "after-announce",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_places_of_a_checkpoint_have_one_name() {
        let mut names = [CRASH_POINTS, semper_store::COMMIT_CRASH_POINTS].concat();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
