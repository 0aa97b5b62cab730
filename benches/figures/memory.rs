//! Memory: more of it than there is, and what the runtime needs for itself.

use std::fs;

use crate::Outcome;
use crate::live::number;
use crate::loads;
use crate::native::Program;
use crate::place::Place;
use crate::programs;
use crate::report::{Line, Unit};
use crate::revival;

/// What the runtime may take for itself, MiB.
const BAR_MIB: f64 = 64.0;
/// What captured pages may take on the way to the store: twice 16,384 pages of 4 KiB, MiB.
const STAGING_MIB: f64 = 128.0;

/// The most that a runtime took beyond the frames, under one load.
#[derive(Clone, Debug)]
pub struct Beyond {
    load: String,
    /// KiB: memory of its own and mapped files, without the shared memory that frames are.
    own: u64,
    /// KiB: page tables.
    tables: u64,
}

impl Beyond {
    /// Nothing was seen yet.
    pub fn new(load: impl Into<String>) -> Self {
        Self { load: load.into(), own: 0, tables: 0 }
    }

    /// Looks at the runtime's process; nothing if it is gone.
    pub fn sample(&mut self, pid: u32) {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0)
        };
        self.own = self.own.max(field("RssAnon:") + field("RssFile:"));
        self.tables = self.tables.max(field("VmPTE:"));
    }
}

/// Bytes that a runtime takes now beyond the frames.
pub fn own_bytes(pid: u32) -> u64 {
    let mut now = Beyond::new("now");
    now.sample(pid);
    now.own * 1024
}

/// Line 11.
pub fn large(place: &mut Place) -> Outcome<Vec<Line>> {
    let file = programs::c(place, "large")?;
    let (mib, limit, updates) = place.pick((2048_u32, "256M", 100_000_u32), (256, "64M", 10_000));
    let program = Program::new(file, [mib.to_string(), updates.to_string()]);
    let native = program.run_native(place)?;
    let flags = ["--memory", limit, "--output", "immediate"];
    let said = program.run_under(place, &flags)?;
    if number(&said, "wrong")? != 0 || number(&said, "result")? != number(&native, "result")? {
        return Err("the content is not what a native run gives".into());
    }
    let seconds =
        |key: &str| -> Outcome<f64> { Ok(std::time::Duration::from_nanos(number(&said, key)?).as_secs_f64()) };
    let each = seconds("update")? * 1e6 / f64::from(updates);
    let line = |what: &str, key: &str| -> Outcome<Line> {
        let figure = format!("{mib} MiB under --memory {limit}: {what}");
        Ok(Line::new(figure, Unit::Throughput, f64::from(mib) / seconds(key)?)
            .note("the result is that of a native run"))
    };
    Ok(vec![
        line("filling", "fill")?,
        line("reading in order", "read")?,
        Line::new(format!("{mib} MiB under --memory {limit}: an update of a random page"), Unit::Micros, each),
    ])
}

/// Line 12.
pub fn overhead(place: &mut Place) -> Outcome<Vec<Line>> {
    if place.beyond.is_empty() {
        // Asked for alone: the loads have to be run for it.
        loads::pause_writer(place)?;
        revival::resume(place)?;
    }
    let lines = place.beyond.iter().map(|beyond| {
        let mib = |kib: u64| f64::from(u32::try_from(kib).unwrap_or(u32::MAX)) / 1024.0;
        Line::new(format!("memory of the runtime beyond the frames: {}", beyond.load), Unit::Mebibytes, mib(beyond.own))
            .bar(BAR_MIB + STAGING_MIB)
            .note(format!(
                "{BAR_MIB:.0} MiB and {STAGING_MIB:.0} MiB of staging; page tables {:.0} MiB",
                mib(beyond.tables)
            ))
    });
    Ok(lines.collect())
}
