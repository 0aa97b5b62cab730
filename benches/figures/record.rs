//! What it costs to record what a service is told, what answers by the journal gain, and how fast a replay is.

use std::fs;
use std::process::Command;
use std::time::Duration;

use crate::Outcome;
use crate::clients::{self, Seen};
use crate::kv::{CLIENTS, FLAGS, INTERVAL_MILLIS, REDIS, beside_redis, free_address, latency, redis_version};
use crate::native::{Program, semper_binary};
use crate::place::Place;
use crate::programs;
use crate::report::{Line, Unit, median};

/// Answers leave when the journal has what led to them; checkpoints are rare.
const JOURNALED: [&str; 4] = ["--checkpoint-interval", "1s", "--output", "journaled"];
/// No checkpoint but the first: a replay tells all again.
const NEVER: [&str; 5] = ["--checkpoint-interval", "0", "--output", "journaled", "--record"];

pub fn record(place: &mut Place) -> Outcome<Vec<Line>> {
    let program = programs::linux("kv-service")?;
    let redis = redis_version();
    let time = Duration::from_secs(place.pick(10, 1));
    let (mut plain, mut recorded, mut journaled, mut theirs) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut speeds = Vec::new();
    for _ in 0..place.pick(3, 1) {
        for (seen, flags, more) in [
            (&mut plain, &FLAGS, &[][..]),
            (&mut recorded, &FLAGS, &["--record"][..]),
            (&mut journaled, &JOURNALED, &["--record"][..]),
        ] {
            seen.push(served(place, &program, &[&flags[..], more].concat(), time)?.0);
        }
        if redis.is_some() {
            theirs.push(beside_redis(place.path(), time)?);
        }
        speeds.push(served(place, &program, &NEVER, time)?.1);
    }
    let rate = |seen: &[Seen]| median(&seen.iter().map(Seen::rate).collect::<Vec<_>>()).unwrap_or(f64::NAN);
    let each = |seen: &[Seen]| seen.iter().map(|seen| format!("{:.0}", seen.rate())).collect::<Vec<_>>().join(" ");
    let what = format!("key-value service, held, 10 ms checkpoints, {CLIENTS} clients");
    let slower = (rate(&plain) / rate(&recorded) - 1.0) * 100.0;
    let mut lines = vec![
        Line::new(format!("{what}, recorded / not, percent slower"), Unit::Ratio, slower)
            .against(15.0, 5.0)
            .note(format!("rounds: {} / {} a second", each(&recorded), each(&plain))),
        Line::new("the same, answered by the journal, SET a second", Unit::PerSecond, rate(&journaled)).note(format!(
            "p50 {:.2} ms, p99 {:.2} ms ({:.2} intervals of 10 ms)",
            latency(&journaled, 50),
            latency(&journaled, 99),
            latency(&journaled, 99) / INTERVAL_MILLIS
        )),
    ];
    if let Some(version) = redis {
        lines.push(
            Line::new(format!("that / {REDIS}, appendfsync always"), Unit::Ratio, rate(&journaled) / rate(&theirs))
                .at_least(0.5, 1.5)
                .note(format!("{version}; rounds: {} / {}", each(&journaled), each(&theirs))),
        );
    }
    let speed = Line::new("replay / original speed", Unit::Ratio, median(&speeds).unwrap_or(f64::NAN));
    lines.push(speed.at_least(1.0, 5.0).note(format!("{} s of requests, without a checkpoint", time.as_secs())));
    Ok(lines)
}

/// What clients saw of the service, and how many times faster a replay of it is.
fn served(place: &mut Place, program: &std::path::Path, flags: &[&str], time: Duration) -> Outcome<(Seen, f64)> {
    let store = place.store();
    let at = free_address()?;
    let listen = format!("{at}=7000");
    let live = Program::new(program, ["7000"]).under(&store, &[flags, &["--listen", &listen]].concat())?;
    let seen = clients::set(at, CLIENTS, time)?;
    live.kill()?;
    let mut speed = f64::NAN;
    if flags == NEVER {
        let output = Command::new(semper_binary()).args(["journal", "replay", "--json"]).arg(&store).output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let document: serde_json::Value = serde_json::from_str(text.lines().last().unwrap_or_default())
            .map_err(|error| format!("{error}: {}", String::from_utf8_lossy(&output.stderr)))?;
        speed = time.as_secs_f64() / document["seconds"].as_f64().unwrap_or(f64::NAN);
    }
    fs::remove_dir_all(&store)?;
    Ok((seen, speed))
}
