//! Invocation: a call with its answer between two native domains, against two processes and a Unix socket.

use std::process::Command;
use std::time::Duration;

use crate::Outcome;
use crate::calls::OneCore;
use crate::live::number;
use crate::native::{Program, semper};
use crate::place::Place;
use crate::programs;
use crate::report::{Line, Unit, median};

/// The lines of `invoke`.
pub fn invoke(place: &mut Place) -> Outcome<Vec<Line>> {
    let pingpong = programs::domain("pingpong")?;
    let sockets = programs::c(place, "sockets")?;
    let mut lines = Vec::new();
    for bytes in [0, 4096] {
        let socket = socket(place, &sockets, bytes)?;
        for (cores, one) in [("as the system likes", false), ("all on one core", true)] {
            let nanos = call(place, &pingpong, bytes, one)?;
            let what = if bytes == 0 { "8 words" } else { "4 KiB strings" };
            let figure = format!("call and answer of two domains, {what}, {cores} / a Unix socket on one core");
            let note = format!("{:.2} us; the socket {:.2} us", micros(nanos), micros(socket));
            lines.push(Line::new(figure, Unit::Ratio, micros(nanos) / micros(socket)).against(1.2, 0.6).note(note));
        }
    }
    Ok(lines)
}

fn micros(nanos: u64) -> f64 {
    Duration::from_nanos(nanos).as_secs_f64() * 1e6
}

/// Nanoseconds of a round trip between two processes on one core.
fn socket(place: &mut Place, file: &std::path::Path, bytes: u32) -> Outcome<u64> {
    let calls: u64 = place.pick(100_000, 10_000);
    let _on = OneCore::enter()?;
    let program = Program::new(file, [calls.to_string(), bytes.to_string()]);
    let mut times = Vec::new();
    for _ in 0..place.pick(5, 1) {
        times.push(number(&program.run_native(place)?, "elapsed")? / calls);
    }
    median(&times).ok_or_else(|| "no run".into())
}

/// Nanoseconds of a call and its answer.
fn call(place: &mut Place, file: &std::path::Path, bytes: u32, one: bool) -> Outcome<u64> {
    let calls: u32 = place.pick(100_000, 5_000);
    let _on = one.then(OneCore::enter).transpose()?;
    let mut times = Vec::new();
    for _ in 0..place.pick(5, 1) {
        let store = place.store();
        let mut command: Command = semper("run", &store);
        command.args(["--size", "4G", "--native", "--checkpoint-interval", "0", "--output", "immediate", "--"]);
        let output = command.arg(file).args([calls.to_string(), bytes.to_string()]).output()?;
        std::fs::remove_dir_all(&store)?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let nanos = said.trim_end().strip_suffix(" ns each").and_then(|line| line.rsplit(' ').next()?.parse().ok());
        times.push(nanos.ok_or_else(|| format!("pingpong says {said:?}"))?);
    }
    median(&times).ok_or_else(|| "no run".into())
}
