//! Programs with a fixed amount of work: under Semper against native, or against Semper without checkpoints.

use std::ffi::OsString;

use crate::Outcome;
use crate::live::{Said, number};
use crate::native::Program;
use crate::place::Place;
use crate::programs;
use crate::report::{Line, Unit, median};

const NATIVE: Option<&[&str]> = None;
const EVERY_SECOND: Option<&[&str]> = Some(&["--checkpoint-interval", "1s", "--output", "immediate"]);
const EVERY_100_MS: Option<&[&str]> = Some(&["--checkpoint-interval", "100ms", "--output", "immediate"]);
const ONLY_WHEN_ASKED: Option<&[&str]> = Some(&["--checkpoint-interval", "0", "--output", "immediate"]);

/// A program whose last argument, or whatever `make` does with it, is the amount of work.
struct Work<'a> {
    make: &'a dyn Fn(u64) -> Program,
    /// An amount that takes a moment.
    little: u64,
    elapsed: fn(&[Said]) -> Outcome<u64>,
}

/// Times of each way of running, in nanoseconds, turn about.
struct Times {
    ways: Vec<Vec<u64>>,
}

impl Times {
    fn of(&self, way: usize) -> f64 {
        median(&self.ways[way]).map_or(f64::NAN, |nanos| std::time::Duration::from_nanos(nanos).as_secs_f64())
    }

    fn ratio(&self, way: usize, floor: usize) -> f64 {
        self.of(way) / self.of(floor)
    }

    /// The best times, which other load on the machine disturbs least.
    fn best(&self, way: usize, floor: usize) -> f64 {
        let best = |way: usize| std::time::Duration::from_nanos(self.ways[way].iter().copied().min().unwrap_or(0));
        best(way).as_secs_f64() / best(floor).as_secs_f64()
    }

    fn note(&self, way: usize, floor: usize, of: &str) -> String {
        format!(
            "{:.2} s, {of} {:.2} s, medians of {}; best against best {:.2}",
            self.of(way),
            self.of(floor),
            self.ways[way].len(),
            self.best(way, floor)
        )
    }
}

impl Work<'_> {
    /// Runs it in each of the ways, turn about; results have to be the same.
    fn times(&self, place: &mut Place, seconds: u64, rounds: usize, ways: &[Option<&[&str]>]) -> Outcome<Times> {
        let little = (self.elapsed)(&(self.make)(self.little).run_native(place)?)?.max(1);
        let amount = self.little * (seconds * 1_000_000_000 / little).max(1);
        let program = (self.make)(amount);
        let mut times = Times { ways: vec![Vec::new(); ways.len()] };
        let mut result = None;
        for _ in 0..rounds {
            for (way, times) in ways.iter().zip(&mut times.ways) {
                let said = match way {
                    None => program.run_native(place)?,
                    Some(flags) => program.run_under(place, flags)?,
                };
                times.push((self.elapsed)(&said)?);
                let this = number(&said, "result")?;
                if *result.get_or_insert(this) != this {
                    return Err(format!("{program:?} {way:?}: the result is {this}, not {result:?}").into());
                }
            }
        }
        Ok(times)
    }
}

/// As the program says itself.
fn said_elapsed(said: &[Said]) -> Outcome<u64> {
    number(said, "elapsed")
}

/// Between its first and its last line, for a program that has no clock.
fn from_begin_to_result(said: &[Said]) -> Outcome<u64> {
    let at = |key: &str| said.iter().find(|line| line.key == key).map(|line| line.at).ok_or("a line is missing");
    Ok(u64::try_from(at("result")?.saturating_duration_since(at("begin")?).as_nanos())?)
}

/// Lines 3 and 4.
pub fn compute(place: &mut Place) -> Outcome<Vec<Line>> {
    let file = programs::c(place, "compute")?;
    let make = |sweeps: u64| Program::new(&file, [sweeps.to_string()]);
    let work = Work { make: &make, little: 200, elapsed: said_elapsed };
    let (seconds, rounds) = place.pick((6, 5), (2, 1));
    let times = work.times(place, seconds, rounds, &[NATIVE, EVERY_SECOND, EVERY_100_MS])?;
    let line = |way, interval| {
        Line::new(format!("CPU-bound, 16 MiB, {interval} checkpoints / native"), Unit::Ratio, times.ratio(way, 0))
            .note(times.note(way, 0, "native"))
    };
    Ok(vec![line(1, "1 s").against(1.03, 1.01), line(2, "100 ms").against(1.10, 1.03)])
}

/// Line 6.
pub fn interpreter(place: &mut Place) -> Outcome<Vec<Line>> {
    let (seconds, rounds) = place.pick((5, 3), (1, 1));
    let mut lines = Vec::new();
    let mut add = |place: &mut Place, name: &str, work: &Work| -> Outcome<()> {
        let times = work.times(place, seconds, rounds, &[NATIVE, EVERY_SECOND])?;
        let line = Line::new(format!("allocations, {name}, 1 s checkpoints / native"), Unit::Ratio, times.ratio(1, 0));
        lines.push(line.against(1.4, 1.1).note(times.note(1, 0, "native")));
        Ok(())
    };
    match programs::busybox() {
        Some(busybox) => {
            let script = programs::script("objects.awk")?;
            let make = |rounds: u64| {
                let args = ["awk", "-v", &format!("rounds={rounds}"), &script].map(OsString::from);
                Program::new(&busybox, args)
            };
            add(place, "busybox awk", &Work { make: &make, little: 4, elapsed: from_begin_to_result })?;
        }
        None => eprintln!("  skipped: busybox as a static program is missing"),
    }
    let objects = programs::rust(place, "objects")?;
    let make = |rounds: u64| Program::new(&objects, [rounds.to_string()]);
    add(place, "Rust evaluator", &Work { make: &make, little: 200, elapsed: said_elapsed })?;
    let glibc = programs::c(place, "alloc")?;
    let make = |steps: u64| Program::new(&glibc, [steps.to_string()]);
    add(place, "C under glibc", &Work { make: &make, little: 500_000, elapsed: said_elapsed })?;
    match programs::musl(place, "alloc")? {
        Some(musl) => {
            let make = |steps: u64| Program::new(&musl, [steps.to_string()]);
            add(place, "C under musl", &Work { make: &make, little: 200_000, elapsed: said_elapsed })?;
        }
        None => eprintln!("  skipped: musl-gcc is missing"),
    }
    Ok(lines)
}

/// Line 7.
pub fn scatter(place: &mut Place) -> Outcome<Vec<Line>> {
    let file = programs::c(place, "scatter")?;
    let make = |writes: u64| Program::new(&file, ["256".to_owned(), writes.to_string()]);
    let work = Work { make: &make, little: 2_000_000, elapsed: said_elapsed };
    let (seconds, rounds) = place.pick((5, 3), (2, 1));
    let times = work.times(place, seconds, rounds, &[NATIVE, ONLY_WHEN_ASKED, EVERY_SECOND])?;
    let note = format!("{}; without checkpoints / native {:.2}", times.note(2, 1, "without"), times.ratio(1, 0));
    let figure = "random writer over 256 MiB, 1 s checkpoints / none";
    Ok(vec![Line::new(figure, Unit::Ratio, times.ratio(2, 1)).against(1.5, 1.2).note(note)])
}
