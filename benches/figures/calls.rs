//! The round trip of one system call.

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use crate::Outcome;
use crate::live::number;
use crate::native::Program;
use crate::place::Place;
use crate::programs;
use crate::report::{Line, Unit, median};

/// Calls, and whether the stub answers them without the kernel.
const CALLS: [(&str, bool); 3] = [("lseek", false), ("getppid", true), ("clock_gettime", true)];
/// No checkpoint falls into the loop.
const QUIET: [&str; 4] = ["--checkpoint-interval", "0", "--output", "immediate"];

/// Line 5.
pub fn calls(place: &mut Place) -> Outcome<Vec<Line>> {
    let file = programs::c(place, "calls")?;
    let mut lines = Vec::new();
    for (cores, bar) in [("second core free", 3.0), ("one core", 9.0)] {
        let _on = (bar > 3.0).then(OneCore::enter).transpose()?;
        for (call, in_stub) in CALLS {
            let (semper, native) = round_trip(place, &file, call)?;
            let by = if in_stub { "answered in the stub" } else { "served by the kernel" };
            let line = Line::new(format!("system call, {cores}: {call}, {by}"), Unit::Micros, semper);
            lines.push(line.against(bar, 1.0).note(format!("native {native:.2} us")));
        }
    }
    Ok(lines)
}

/// Microseconds a call: under Semper, native.
fn round_trip(place: &mut Place, file: &std::path::Path, call: &str) -> Outcome<(f64, f64)> {
    let count: u32 = place.pick(200_000, 20_000);
    let program = Program::new(file, [call.to_owned(), count.to_string()]);
    let (mut semper, mut native) = (Vec::new(), Vec::new());
    for _ in 0..place.pick(5, 1) {
        native.push(number(&program.run_native(place)?, "elapsed")?);
        semper.push(number(&program.run_under(place, &QUIET)?, "elapsed")?);
    }
    let each = |times: &[u64]| {
        let nanos = median(times).unwrap_or_default();
        std::time::Duration::from_nanos(nanos).as_secs_f64() * 1e6 / f64::from(count)
    };
    Ok((each(&semper), each(&native)))
}

/// While it lives, what this thread starts runs on one core.
pub struct OneCore {
    before: CpuSet,
}

impl OneCore {
    /// From now on.
    pub fn enter() -> Outcome<Self> {
        let this = Pid::from_raw(0);
        let before = sched_getaffinity(this)?;
        let first = (0..CpuSet::count()).find(|&cpu| before.is_set(cpu).unwrap_or(false)).ok_or("no core")?;
        let mut one = CpuSet::new();
        one.set(first)?;
        sched_setaffinity(this, &one)?;
        Ok(Self { before })
    }
}

impl Drop for OneCore {
    fn drop(&mut self) {
        let _ = sched_setaffinity(Pid::from_raw(0), &self.before);
    }
}
