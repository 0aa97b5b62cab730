//! Many native domains in one store, and what the kernel takes for one message or fault of theirs.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::live::{Live, Said};
use crate::loads::{self, observe};
use crate::memory::{Beyond, own_bytes};
use crate::native::{Program, ask, resume, semper, status};
use crate::place::Place;
use crate::programs;
use crate::report::{Line, Unit, median, micros, percentile};
use crate::revival::{self, DEAD};

/// Longer than anything takes that works.
const PATIENCE: Duration = Duration::from_secs(600);
const NATIVE: [&str; 3] = ["--native", "--output", "immediate"];

fn millis(nanos: u64) -> f64 {
    Duration::from_nanos(nanos).as_secs_f64() * 1e3
}

/// What the kernel takes for an invocation, by its own clock, while two domains call each other.
pub fn kernel(place: &mut Place) -> Outcome<Vec<Line>> {
    let pingpong = programs::domain("pingpong")?;
    let calls: u64 = place.pick(3_000_000, 20_000);
    let store = place.store();
    let program = Program::new(&pingpong, [calls.to_string(), "0".into()]);
    let live = program.under(&store, &[&NATIVE[..], &["--checkpoint-interval", "0"]].concat())?;
    let mut last = (0, 0);
    let begun = Instant::now();
    // Its end takes the figures with it: the last look before that counts.
    while begun.elapsed() < PATIENCE {
        let native = status(&store).map_or(serde_json::Value::Null, |status| status["native"].clone());
        let number = |name: &str| native[name].as_u64().unwrap_or(0);
        match (number("timed"), last.0) {
            (0, 0) => {}
            (0, _) => break,
            (timed, _) => last = (timed, number("timed_ns")),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    live.finish()?;
    fs::remove_dir_all(&store)?;
    let (timed, nanos) = last;
    if timed == 0 {
        return Err("the runtime timed no invocation".into());
    }
    let each = Duration::from_nanos(nanos).as_secs_f64() * 1e6 / f64::from(u32::try_from(timed)?);
    let line = Line::new("the kernel's part of an invocation, with its effects, without switches", Unit::Micros, each);
    Ok(vec![line.against(0.7, 0.3).note(format!("mean of {timed}, each 64th turn is timed"))])
}

/// From a fault to the instruction after it, a keeper's repair between them.
pub fn repair(place: &mut Place) -> Outcome<Vec<Line>> {
    let file = programs::domain("repair")?;
    let times: u32 = place.pick(20_000, 500);
    let mut each = Vec::new();
    for _ in 0..place.pick(5, 1) {
        let store = place.store();
        let mut command: Command = semper("run", &store);
        command.args(["--size", "4G", "--checkpoint-interval", "0"]).args(NATIVE).arg("--");
        let output = command.arg(&file).arg(times.to_string()).output()?;
        fs::remove_dir_all(&store)?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let nanos = said.trim_end().strip_suffix(" ns each").and_then(|line| line.rsplit(' ').next()?.parse().ok());
        each.push(Duration::from_nanos(nanos.ok_or_else(|| format!("repair says {said:?}"))?));
    }
    let line = Line::new("fault, a keeper domain repairs, the instruction goes on", Unit::Micros, micros(&each, 50));
    Ok(vec![line.against(40.0, 20.0).note(format!("mean of {times} in a run; {} runs", each.len()))])
}

/// Idle domains, and some that run: their making, their records, the first message, resume and pause.
pub fn many(place: &mut Place) -> Outcome<Vec<Line>> {
    let (idle, running) = place.pick((100_000, 100), (600, 20));
    let program = Program::new(programs::domain("idle")?, [idle.to_string(), running.to_string()]);
    let store = place.store();
    let measured = measure(&program, &store, place, (idle, running));
    fs::remove_dir_all(&store)?;
    measured
}

fn measure(program: &Program, store: &Path, place: &Place, (idle, running): (u32, u32)) -> Outcome<Vec<Line>> {
    let mut beyond = Beyond::new(format!("{idle} idle native domains, {running} running"));
    let mut live = program.under(store, &[&NATIVE[..], &["--checkpoint-interval", "1s"]].concat())?;
    let pid = live.pid();
    let mut said = |live: &mut Live, key: &str| -> Outcome<Said> { live.wait_for(key, || beyond.sample(pid)) };
    let made = said(&mut live, "made")?.value;
    let bytes = said(&mut live, "bytes")?.value;
    let message = said(&mut live, "message")?.value;
    said(&mut live, "ready")?;
    ask("checkpoint", store, &[])?;
    let caches = status(store)?["native"].clone();
    let memory = own_bytes(pid);
    live.kill()?;
    let (first, all) = resumes(store, place.pick(5, 1), u64::from(running))?;
    let pauses = pauses(store, place.pick(100, 5))?;
    let with = format!("{idle} idle and {running} running domains");
    let kib = f64::from(u32::try_from(bytes)?) / 1024.0;
    let per_domain = memory / u64::from(idle);
    Ok(vec![
        Line::new("first message to an idle domain, process made, answer back", Unit::Micros, millis(message) * 1e3)
            .against(400.0, 150.0)
            .note("median of 16 domains"),
        Line::new("records in segment 0 of an idle domain", Unit::Kibibytes, kib).against(2.0, 1.0).note(format!(
            "making one took {:.2} ms; the runtime has {per_domain} bytes of memory for each; {caches}",
            millis(made) / f64::from(idle)
        )),
        Line::new(format!("resume with {with}"), Unit::Millis, median(&first).unwrap_or(f64::NAN))
            .against(250.0, 100.0)
            .note(format!(
                "to the first instruction, longest {:.1} ms; until all have processes {:.1} ms",
                percentile(&first, 100).unwrap_or(f64::NAN),
                median(&all).unwrap_or(f64::NAN)
            )),
        Line::new(
            format!("pause with {with}, nothing else written: p50"),
            Unit::Millis,
            micros(&pauses.times("pause_us"), 50) / 1000.0,
        )
        .against(5.0, 2.0)
        .note(format!("p99 {:.2} ms; {}", micros(&pauses.times("pause_us"), 99) / 1000.0, pauses.parts())),
    ])
}

/// Milliseconds from the start of `resume` to the first instruction, and until all that run have processes.
fn resumes(store: &Path, times: usize, running: u64) -> Outcome<(Vec<f64>, Vec<f64>)> {
    let (mut first, mut all) = (Vec::new(), Vec::new());
    for _ in 0..times {
        std::thread::sleep(DEAD);
        revival::warm(store)?;
        let mut live = resume(store, &["--checkpoint-interval", "0", "--output", "immediate"])?;
        let has = |name: &str| status(store).map_or(0, |status| status["native"][name].as_u64().unwrap_or(0));
        while has("processes") < running {
            if live.started.elapsed()? > Duration::from_secs(60) {
                return Err("not all domains run after a resume".into());
            }
        }
        all.push(live.started.elapsed()?.as_secs_f64() * 1e3);
        let said = live.wait_for("first", || {})?;
        first.push(revival::since(live.started, said.value));
        live.kill()?;
    }
    Ok((first, all))
}

fn pauses(store: &Path, wanted: usize) -> Outcome<loads::Seen> {
    std::thread::sleep(DEAD);
    let mut live = resume(store, &["--checkpoint-interval", "100ms", "--output", "immediate"])?;
    live.wait_for("first", || {})?;
    observe(live, store, wanted, &mut Beyond::new("pauses"))
}
