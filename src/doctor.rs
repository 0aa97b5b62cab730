//! What this machine offers, what is missing, and what to do about it.

mod probes;

use std::path::Path;

use serde::Serialize;

/// How good the answer is.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// All is there.
    Good,
    /// Semper runs, but slower or with less.
    Lesser,
    /// Semper cannot run without it.
    Missing,
}

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub what: &'static str,
    /// How it stands.
    pub verdict: Verdict,
    /// What was found, in a sentence.
    pub found: String,
    /// What to do, where something can be done.
    pub remedy: Option<String>,
}

/// All that was looked at.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Whether Semper can run here.
    pub can_run: bool,
    /// The findings, the most fundamental first.
    pub findings: Vec<Finding>,
}

impl Finding {
    fn good(what: &'static str, found: impl Into<String>) -> Finding {
        Finding { what, verdict: Verdict::Good, found: found.into(), remedy: None }
    }

    fn lesser(what: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding { what, verdict: Verdict::Lesser, found: found.into(), remedy: Some(remedy.into()) }
    }

    fn missing(what: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding { what, verdict: Verdict::Missing, found: found.into(), remedy: Some(remedy.into()) }
    }
}

/// Looks at the machine, and at `directory` as the place of a store.
#[must_use]
pub fn examine(directory: &Path) -> Report {
    let mut findings = vec![probes::processor(), probes::kernel()];
    findings.extend(probes::memory_tracking());
    findings.extend([
        probes::seccomp(),
        probes::no_new_privs(),
        probes::fsgsbase(),
        probes::cpuid(),
        probes::memfd(),
        probes::io_uring(),
        probes::direct_io(directory),
        probes::free_space(directory),
        probes::descriptors(),
        probes::memory(),
        probes::cores(),
    ]);
    let can_run = findings.iter().all(|finding| finding.verdict != Verdict::Missing);
    Report { can_run, findings }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shortcoming_says_what_to_do() {
        let report = examine(&std::env::temp_dir());
        for finding in &report.findings {
            assert_eq!(finding.remedy.is_none(), finding.verdict == Verdict::Good, "{finding:?}");
            assert!(!finding.found.is_empty(), "{finding:?}");
        }
    }

    #[test]
    fn a_directory_that_is_not_there_is_a_finding_not_a_crash() {
        let report = examine(Path::new("/nonexistent/place"));
        assert!(!report.can_run);
    }
}
