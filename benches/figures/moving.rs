//! Moving a running world to another store over loopback.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::native::{Program, resume, semper};
use crate::place::Place;
use crate::programs;
use crate::report::{Line, Unit, median, percentile};

/// What the program writes, MiB in a second.
const RATE: u64 = 50;
/// Longer than the other end takes to listen.
const PATIENCE: Duration = Duration::from_secs(10);

/// One move.
struct Stop {
    /// For how long the world stood, as `move` tells: from the request to stand until it lives there.
    stood: f64,
    /// For how long the program was away, until its first instruction after `receive && resume`.
    away: f64,
    /// All of the move, seconds.
    took: f64,
}

/// Line 16.
pub fn moving(place: &mut Place) -> Outcome<Vec<Line>> {
    let mib: u64 = place.pick(4096, 128);
    let program = Program::new(programs::c(place, "paced")?, [mib.to_string(), RATE.to_string()]);
    let mut stops = Vec::new();
    for _ in 0..place.pick(3, 1) {
        let (store, there) = (place.store(), place.store());
        let stop = once(&program, &store, &there, place.path());
        let _ = (fs::remove_dir_all(&store), fs::remove_dir_all(&there));
        stops.push(stop?);
    }
    let of = |what: fn(&Stop) -> f64| stops.iter().map(what).collect::<Vec<f64>>();
    let (stood, away) = (of(|stop| stop.stood), of(|stop| stop.away));
    let middle = |all: &[f64]| median(all).unwrap_or(f64::NAN);
    let figure = format!("stop time of move over loopback, {mib} MiB, a writer of {RATE} MiB/s");
    Ok(vec![Line::new(figure, Unit::Millis, middle(&stood)).against(300.0, 50.0).note(format!(
        "longest of {} {:.0} ms; with `receive && resume` the program was away for {:.0} ms; all of it took {:.1} s",
        stood.len(),
        percentile(&stood, 100).unwrap_or(f64::NAN),
        middle(&away),
        middle(&of(|stop| stop.took)),
    ))])
}

fn once(program: &Program, store: &Path, there: &Path, place: &Path) -> Outcome<Stop> {
    let token = place.join("token");
    let _ = fs::remove_file(&token);
    let mut live = program.under(store, &["--output", "immediate"])?;
    live.wait_for("ready", || {})?;
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    let mut receive = semper("receive", there);
    receive.args(["--listen", &address, "--token-file"]).arg(&token);
    let mut receiving = receive.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(&address).is_err() {
        if Instant::now() > deadline {
            receiving.kill()?;
            return Err(format!("{receive:?} does not listen").into());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let begun = Instant::now();
    let moved = semper("move", store).args(["--to", &address, "--token-file"]).arg(&token).output()?;
    let took = begun.elapsed().as_secs_f64();
    let said = String::from_utf8_lossy(&moved.stderr).into_owned();
    if !moved.status.success() {
        receiving.kill()?;
        return Err(format!("the move fails: {said}").into());
    }
    let stood = said.split("at most ").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok());
    if !receiving.wait()?.success() {
        return Err("the other end fails".into());
    }
    let mut there = resume(there, &["--output", "immediate"])?;
    // The second in which it left ends here.
    let away = there.wait_for("away", || {})?.value;
    there.kill()?;
    drop(live);
    let away = Duration::from_nanos(away).as_secs_f64() * 1e3;
    Ok(Stop { stood: stood.ok_or_else(|| format!("it does not say how long the world stood: {said}"))?, away, took })
}
