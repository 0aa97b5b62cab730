//! The pause, with 2 GiB resident: under a writer at full speed, and with nothing written.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::live::{Live, Said};
use crate::memory::Beyond;
use crate::native::{Program, status};
use crate::place::Place;
use crate::programs;
use crate::report::{Line, Unit, median, micros};

/// How long a load may take to give its checkpoints.
const PATIENCE: Duration = Duration::from_secs(300);
/// The status keeps 64 checkpoints; at 100 ms this misses none.
const BETWEEN_SAMPLES: Duration = Duration::from_secs(2);

/// One checkpoint, as the status tells it: its fields that are numbers.
pub type Checkpoint = BTreeMap<String, u64>;

/// What was seen of a load.
pub struct Seen {
    checkpoints: Vec<Checkpoint>,
    /// Attempts that found nothing to commit, and how long they stopped the program altogether.
    unchanged: (u64, Duration),
    said: Vec<Said>,
}

impl Seen {
    /// A field of all checkpoints, in microseconds.
    pub fn times(&self, field: &str) -> Vec<Duration> {
        self.numbers(field).into_iter().map(Duration::from_micros).collect()
    }

    fn numbers(&self, field: &str) -> Vec<u64> {
        self.checkpoints.iter().filter_map(|checkpoint| checkpoint.get(field).copied()).collect()
    }

    /// Medians that say where the pause goes.
    pub fn parts(&self) -> String {
        let of = |field: &str| median(&self.numbers(field)).unwrap_or_default();
        format!(
            "{} checkpoints; median of: freeze {} us, check {} us, scan {} us, copy {} us of {} pages; {} pages in {} rounds, {} stops ({} throttles, the longest {} us), all stops {} us, from start to end {} ms",
            self.checkpoints.len(),
            of("freeze_us"),
            of("check_us"),
            of("scan_us"),
            of("copy_us"),
            of("remainder"),
            of("pages"),
            of("rounds"),
            of("stops"),
            of("throttles"),
            of("throttle_us"),
            of("pause_total_us"),
            of("total_us") / 1000,
        )
    }
}

/// The last ones.
pub fn checkpoints(status: &serde_json::Value) -> impl Iterator<Item = Checkpoint> {
    let last = status["checkpoints"]["last"].as_array().cloned().unwrap_or_default();
    last.into_iter().filter_map(|one| {
        let fields = one.as_object()?;
        Some(fields.iter().filter_map(|(name, value)| Some((name.clone(), value.as_u64()?))).collect())
    })
}

fn totals(status: &serde_json::Value) -> (u64, Duration) {
    let totals = &status["checkpoints"]["totals"];
    let number = |name: &str| totals[name].as_u64().unwrap_or(0);
    (number("unchanged"), Duration::from_micros(number("stopped_us")))
}

/// Runs a program with 2 GiB resident, until `wanted` checkpoints have been taken after it is ready.
fn watch(program: &Program, store: &Path, wanted: usize, beyond: &mut Beyond) -> Outcome<Seen> {
    let flags = ["--checkpoint-interval", "100ms", "--output", "immediate"];
    let mut live = program.under(store, &flags)?;
    let pid = live.pid();
    live.wait_for("ready", || beyond.sample(pid))?;
    observe(live, store, wanted, beyond)
}

/// Watches a runtime that is ready, until `wanted` checkpoints have been taken.
pub fn observe(live: Live, store: &Path, wanted: usize, beyond: &mut Beyond) -> Outcome<Seen> {
    let pid = live.pid();
    // The checkpoints that take the fill are not what is measured.
    let settled = settle(store)?;
    let before = totals(&status(store)?);
    let mut found = BTreeMap::new();
    let deadline = Instant::now() + PATIENCE;
    let unchanged = loop {
        std::thread::sleep(BETWEEN_SAMPLES);
        beyond.sample(pid);
        let now = status(store)?;
        let new = checkpoints(&now).filter_map(|one| Some((*one.get("generation")?, one)));
        found.extend(new.filter(|(generation, _)| *generation > settled));
        let (unchanged, stopped) = totals(&now);
        let unchanged = (unchanged - before.0, stopped.saturating_sub(before.1));
        if found.len() + usize::try_from(unchanged.0)? >= wanted || Instant::now() > deadline {
            break unchanged;
        }
    };
    let said = live.heard();
    live.kill()?;
    Ok(Seen { checkpoints: found.into_values().take(wanted).collect(), unchanged, said })
}

/// Waits until three checkpoints have been tried after the fill; the newest generation.
fn settle(store: &Path) -> Outcome<u64> {
    let tried = |status: &serde_json::Value| {
        let totals = &status["checkpoints"]["totals"];
        totals["committed"].as_u64().unwrap_or(0) + totals["unchanged"].as_u64().unwrap_or(0)
    };
    let first = tried(&status(store)?);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let now = status(store)?;
        if tried(&now) >= first + 3 {
            return Ok(now["store"]["generation"].as_u64().unwrap_or(0));
        }
        if Instant::now() > deadline {
            return Err("no checkpoints are taken".into());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn resident_mib(place: &Place) -> String {
    place.pick(2048, 256).to_string()
}

fn rate(said: &[Said]) -> u64 {
    let rates: Vec<u64> = said.iter().filter(|line| line.key == "rate").map(|line| line.value).collect();
    median(&rates).unwrap_or(0)
}

/// Line 1.
pub fn pause_writer(place: &mut Place) -> Outcome<Vec<Line>> {
    let file = programs::c(place, "writer")?;
    let mib = resident_mib(place);
    let native = rate(&Program::new(&file, [&mib, "3"]).run_native(place)?);
    let store = place.store();
    let mut beyond = Beyond::new(format!("{mib} MiB, random writes at full speed"));
    let seen = watch(&Program::new(&file, [&mib]), &store, place.pick(200, 20), &mut beyond);
    fs::remove_dir_all(&store)?;
    place.beyond.push(beyond);
    let seen = seen?;
    let pauses = seen.times("pause_us");
    let figure = |percentile: &str| format!("pause, {mib} MiB resident, random writer, 100 ms: {percentile}");
    Ok(vec![
        Line::new(figure("p50"), Unit::Millis, micros(&pauses, 50) / 1000.0).bar(1.5).note(seen.parts()),
        Line::new(figure("p99"), Unit::Millis, micros(&pauses, 99) / 1000.0).against(6.0, 1.0).note(format!(
            "longest {:.2} ms; the writer makes {} writes/s, native {native}",
            micros(&pauses, 100) / 1000.0,
            rate(&seen.said),
        )),
    ])
}

/// Line 2.
pub fn pause_idle(place: &mut Place) -> Outcome<Vec<Line>> {
    let file = programs::c(place, "spin")?;
    let mib = resident_mib(place);
    let store = place.store();
    let mut beyond = Beyond::new(format!("{mib} MiB, nothing written"));
    let seen = watch(&Program::new(&file, [&mib]), &store, place.pick(100, 10), &mut beyond);
    fs::remove_dir_all(&store)?;
    place.beyond.push(beyond);
    let seen = seen?;
    let pauses = seen.times("pause_us");
    let (count, stopped) = seen.unchanged;
    let (p50, note) = if pauses.is_empty() && count > 0 {
        let mean = stopped.as_secs_f64() * 1e3 / f64::from(u32::try_from(count)?);
        (mean, format!("the mean of {count} that found nothing to commit"))
    } else {
        let p99 = micros(&pauses, 99) / 1000.0;
        (micros(&pauses, 50) / 1000.0, format!("p99 {p99:.2} ms; {}", seen.parts()))
    };
    let figure = format!("pause, {mib} MiB resident, nothing written: p50");
    Ok(vec![Line::new(figure, Unit::Millis, p50).against(1.2, 0.2).note(note)])
}

/// Lets a program become ready under Semper and takes samples of what its runtime needs.
pub fn ready(program: &Program, store: &Path, flags: &[&str], beyond: &mut Beyond) -> Outcome<Live> {
    let mut live = program.under(store, flags)?;
    let pid = live.pid();
    live.wait_for("ready", || beyond.sample(pid))?;
    Ok(live)
}
