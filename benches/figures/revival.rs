//! From `semper resume` to the first instruction, and what the pages cost that come back afterwards.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::Outcome;
use crate::loads;
use crate::memory::Beyond;
use crate::native::{Program, ask, resume as resume_store};
use crate::place::Place;
use crate::programs;
use crate::report::{Line, Unit, median, percentile};

const ASKED: [&str; 4] = ["--checkpoint-interval", "0", "--output", "immediate"];
/// More than the program takes for a jump of the clock.
pub const DEAD: Duration = Duration::from_millis(500);

/// Lines 9: the time does not depend on the size.
pub fn resume(place: &mut Place) -> Outcome<Vec<Line>> {
    let file = programs::c(place, "revive")?;
    let mut lines = Vec::new();
    for mib in place.pick([2048_u64, 8192], [128, 512]) {
        let store = place.store();
        let program = Program::new(&file, [mib.to_string()]);
        let mut beyond = Beyond::new(format!("a program of {mib} MiB filling, committed at once"));
        let measured = first_instructions(&program, &store, place.pick(7, 2), &mut beyond);
        fs::remove_dir_all(&store)?;
        place.beyond.push(beyond);
        let (first, shown) = measured?;
        let line = Line::new(
            format!("resume to the first instruction, {mib} MiB"),
            Unit::Millis,
            median(&first).unwrap_or(f64::NAN),
        );
        lines.push(line.against(100.0, 20.0).note(format!(
            "longest of {} {:.2} ms; until its first line is read {:.2} ms",
            first.len(),
            percentile(&first, 100).unwrap_or(f64::NAN),
            median(&shown).unwrap_or(f64::NAN),
        )));
    }
    Ok(lines)
}

/// Milliseconds from the start of `resume`: until the program looks at its clock, until its line is here.
fn first_instructions(
    program: &Program,
    store: &Path,
    times: usize,
    beyond: &mut Beyond,
) -> Outcome<(Vec<f64>, Vec<f64>)> {
    let live = loads::ready(program, store, &ASKED, beyond)?;
    ask("checkpoint", store, &[])?;
    beyond.sample(live.pid());
    live.kill()?;
    let (mut first, mut shown) = (Vec::new(), Vec::new());
    for _ in 0..times {
        std::thread::sleep(DEAD);
        warm(store)?;
        let mut live = resume_store(store, &ASKED)?;
        let said = live.wait_for("first", || {})?;
        let read = SystemTime::now() - said.at.elapsed();
        first.push(since(live.started, said.value));
        shown.push(read.duration_since(live.started).unwrap_or_default().as_secs_f64() * 1e3);
        live.kill()?;
    }
    Ok((first, shown))
}

/// Milliseconds from a start to a time of the wall clock in nanoseconds.
pub fn since(started: SystemTime, wall_nanos: u64) -> f64 {
    let at = UNIX_EPOCH + Duration::from_nanos(wall_nanos);
    at.duration_since(started).unwrap_or_default().as_secs_f64() * 1e3
}

/// Brings the store into the cache of the host.
pub fn warm(store: &Path) -> Outcome<()> {
    let mut pages = File::open(store.join("pages"))?;
    let mut chunk = vec![0; 1 << 20];
    let mut left = used_bytes(&pages)?;
    // The file is sparse: what lies beyond the blocks in use is holes, which cost nothing to skip.
    for (start, end) in data(&pages)? {
        std::io::Seek::seek(&mut pages, std::io::SeekFrom::Start(start))?;
        let mut at = start;
        while at < end && left > 0 {
            let wanted = usize::try_from((end - at).min(1 << 20))?;
            let got = pages.read(&mut chunk[..wanted])?;
            if got == 0 {
                break;
            }
            at += u64::try_from(got)?;
            left = left.saturating_sub(u64::try_from(got)?);
        }
    }
    Ok(())
}

fn used_bytes(file: &File) -> Outcome<u64> {
    use std::os::unix::fs::MetadataExt;
    Ok(file.metadata()?.blocks() * 512)
}

/// The parts of a sparse file that hold data.
fn data(file: &File) -> Outcome<Vec<(u64, u64)>> {
    use rustix::fs::{SeekFrom, seek};
    let mut parts = Vec::new();
    let mut at = 0;
    loop {
        match seek(file, SeekFrom::Data(at)) {
            Err(rustix::io::Errno::NXIO) => return Ok(parts),
            start => {
                let start = start?;
                at = seek(file, SeekFrom::Hole(start))?;
                parts.push((start, at));
            }
        }
    }
}

/// Lines 10.
pub fn faults(place: &mut Place) -> Outcome<Vec<Line>> {
    let file = programs::c(place, "revive")?;
    let mib: u64 = place.pick(1024, 128);
    let looks: u32 = place.pick(16_384, 4096);
    let store = place.store();
    let program = Program::new(file, [mib.to_string(), looks.to_string()]);
    let measured = touches(&program, &store, place.pick(5, 2));
    fs::remove_dir_all(&store)?;
    let (random, sequential) = measured?;
    let line = |what: &str, times: &[u64], bar, aim| {
        let each = |percent| {
            let nanos = percentile(times, percent).unwrap_or_default();
            Duration::from_nanos(nanos).as_secs_f64() * 1e6 / f64::from(looks)
        };
        Line::new(format!("page fault from the store, cache warm, {what}, a page"), Unit::Micros, each(50))
            .against(bar, aim)
            .note(format!("of {looks} pages; best of {} {:.2} us, worst {:.2} us", times.len(), each(1), each(100)))
    };
    Ok(vec![line("random", &random, 25.0, 10.0), line("sequential", &sequential, 5.0, 2.0)])
}

/// Nanoseconds of all looks at random, and one after the other.
fn touches(program: &Program, store: &Path, times: usize) -> Outcome<(Vec<u64>, Vec<u64>)> {
    let live = loads::ready(program, store, &ASKED, &mut Beyond::new("touches"))?;
    ask("checkpoint", store, &[])?;
    live.kill()?;
    let (mut random, mut sequential) = (Vec::new(), Vec::new());
    for _ in 0..times {
        std::thread::sleep(DEAD);
        warm(store)?;
        let mut live = resume_store(store, &ASKED)?;
        random.push(live.wait_for("random", || {})?.value);
        sequential.push(live.wait_for("sequential", || {})?.value);
        let wrong = live.wait_for("wrong", || {})?.value;
        live.kill()?;
        if wrong != 0 {
            return Err(format!("{wrong} pages came back with other content").into());
        }
    }
    Ok((random, sequential))
}
