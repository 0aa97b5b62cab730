//! `semper demo`: two real programs, and a runtime that is killed under them again and again.

mod figures;
mod programs;
mod session;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use self::figures::{Kill, print_table};
use self::programs::{Program, install};
use self::session::Session;
use super::failure::code;
use super::{Failure, say};
use crate::cli::Demo;

pub fn run(demo: &Demo) -> Result<ExitCode, Failure> {
    let temporary;
    let place: &Path = match &demo.keep {
        Some(place) => {
            fs::create_dir_all(place).map_err(|error| Failure::io(place.display(), &error))?;
            if fs::read_dir(place).map_err(|error| Failure::io(place.display(), &error))?.next().is_some() {
                return Err(Failure::new(
                    code::USAGE,
                    format!("{} is not empty; name a new directory", place.display()),
                ));
            }
            place
        }
        None => {
            temporary = tempfile::Builder::new()
                .prefix("semper-demo-")
                .tempdir()
                .map_err(|error| Failure::io("no temporary directory can be made", &error))?;
            temporary.path()
        }
    };
    let seed = demo.seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
    play(place, seed, demo.kills)
}

fn play(place: &Path, seed: u64, kills: u32) -> Result<ExitCode, Failure> {
    let programs = install(place)?;
    let names: Vec<&str> = programs.iter().map(|program| program.name).collect();
    say(format_args!("Programs: {}. Moments of the kills: --seed {seed}.", names.join(" and ")));
    let bar = ProgressBar::new(u64::from(kills) + 2);
    bar.set_style(ProgressStyle::with_template("{bar:30} {msg}").unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.enable_steady_tick(Duration::from_millis(200));

    bar.set_message("undisturbed, without Semper");
    let native = native_runs(place, &programs)?;
    bar.inc(1);

    let mut random = fastrand::Rng::with_seed(seed);
    let mut session = Session::start(place, &programs)?;
    let mut done = Vec::new();
    let began = Instant::now();
    let mut ended = false;
    for (moment, number) in moments(native, kills, &mut random).into_iter().zip(1..) {
        bar.set_message(format!("under Semper, SIGKILL {number} of {kills}"));
        ended = session.runs_out_within(moment)?;
        if ended {
            break;
        }
        done.push(session.kill_and_resume()?);
        bar.inc(1);
    }
    bar.set_message("under Semper, to the end");
    if !ended {
        session.wait_for_the_end()?;
    }
    let took = began.elapsed();
    bar.finish_and_clear();
    let planned = usize::try_from(kills).unwrap_or(usize::MAX);
    if done.len() < planned {
        say(format_args!("Only {} of {planned} kills came: the programs ended before the others.", done.len()));
    }
    report(place, &programs, &done, native, took)
}

/// How long each life lasts before its kill: at random, but all together less than the programs take natively, so that they cannot end
/// before the last kill; and none too short to have done anything.
fn moments(native: Duration, kills: u32, random: &mut fastrand::Rng) -> Vec<Duration> {
    let parts: Vec<f64> = (0..kills).map(|_| 0.2 + 1.4 * random.f64()).collect();
    let all: f64 = parts.iter().sum();
    parts.into_iter().map(|part| native.mul_f64(0.8 * part / all)).collect()
}

/// Runs both programs beside each other without Semper; gives the time that took.
fn native_runs(place: &Path, programs: &[Program]) -> Result<Duration, Failure> {
    let began = Instant::now();
    let children = programs
        .iter()
        .map(|program| {
            let output = fs::File::create(native_output(place, program))?;
            program.command(place).stdout(output).spawn()
        })
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| Failure::io("a program of the demo cannot be started", &error))?;
    for (mut child, program) in children.into_iter().zip(programs) {
        let status = child.wait().map_err(|error| Failure::io(program.name, &error))?;
        if !status.success() {
            return Err(Failure::new(code::FAILED, format!("{} failed without Semper: {status}", program.name)));
        }
    }
    Ok(began.elapsed())
}

fn native_output(place: &Path, program: &Program) -> PathBuf {
    place.join(format!("{}.native.txt", program.name))
}

fn semper_output(place: &Path, program: &Program) -> PathBuf {
    place.join(format!("{}.semper.txt", program.name))
}

fn report(
    place: &Path,
    programs: &[Program],
    kills: &[Kill],
    native: Duration,
    took: Duration,
) -> Result<ExitCode, Failure> {
    print_table(kills);
    say("");
    let mut all_same = true;
    for program in programs {
        let read = |path: PathBuf| fs::read(&path).map_err(|error| Failure::io(path.display(), &error));
        let (expected, found) = (read(native_output(place, program))?, read(semper_output(place, program))?);
        let same = expected == found;
        all_same &= same;
        say(format_args!(
            "{:<8} {} bytes of output, {}",
            program.name,
            found.len(),
            if same { "the same as without Semper, byte for byte" } else { "NOT the same as without Semper" }
        ));
    }
    say(format_args!(
        "Without Semper {:.1} s; with Semper and {} kills {:.1} s.",
        native.as_secs_f64(),
        kills.len(),
        took.as_secs_f64()
    ));
    Ok(ExitCode::from(if all_same { 0 } else { code::FOUND }))
}
