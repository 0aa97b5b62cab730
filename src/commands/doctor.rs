//! `semper doctor`.

use std::io::IsTerminal;
use std::process::ExitCode;

use semper::doctor::{Verdict, examine};

use super::failure::code;
use super::{Failure, say};
use crate::cli::Doctor;

pub fn run(doctor: &Doctor) -> Result<ExitCode, Failure> {
    let report = examine(&doctor.directory);
    if doctor.json {
        let text = serde_json::to_string_pretty(&report)
            .map_err(|error| Failure::new(code::FAILED, format!("the report is no JSON: {error}")))?;
        say(text);
    } else {
        let colour = std::io::stdout().is_terminal();
        for finding in &report.findings {
            let (mark, paint) = match finding.verdict {
                Verdict::Good => ("good   ", "32"),
                Verdict::Lesser => ("lesser ", "33"),
                Verdict::Missing => ("MISSING", "31"),
            };
            let mark = if colour { format!("\x1b[{paint}m{mark}\x1b[0m") } else { mark.to_owned() };
            say(format_args!("{mark}  {:<32}{}", finding.what, finding.found));
            if let Some(remedy) = &finding.remedy {
                say(format_args!("{:41}-> {remedy}", ""));
            }
        }
        say(if report.can_run {
            "Semper can run here."
        } else {
            "Semper cannot run here before what is MISSING is there."
        });
    }
    Ok(ExitCode::from(if report.can_run { 0 } else { code::FOUND }))
}
