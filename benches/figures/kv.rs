//! A service that keeps what it knows in memory and answers only what is safe, against Redis with a flush for each answer.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::clients::{self, Seen};
use crate::live::Live;
use crate::loads::{self, Checkpoint};
use crate::native::{Program, resume, status};
use crate::place::Place;
use crate::programs;
use crate::report::{Line, Unit, median, percentile};

pub const CLIENTS: u32 = 64;
pub const INTERVAL_MILLIS: f64 = 10.0;
pub const FLAGS: [&str; 4] = ["--checkpoint-interval", "10ms", "--output", "held"];
pub const REDIS: &str = "redis-server";

/// What is measured, and its bars against Redis.
struct Service {
    what: &'static str,
    program: PathBuf,
    flags: &'static [&'static str],
    bars: (f64, f64),
}

/// The lines of `kv`: an ordinary Linux program.
pub fn kv(place: &mut Place) -> Outcome<Vec<Line>> {
    let program = programs::linux("kv-service")?;
    measure(place, &Service { what: "key-value service", program, flags: &[], bars: (0.5, 1.5) })
}

/// The lines of `kv-native`: a native domain with a network key.
pub fn native(place: &mut Place) -> Outcome<Vec<Line>> {
    let program = programs::domain("hub")?;
    let what = "key-value service of a native domain";
    measure(place, &Service { what, program, flags: &["--native"], bars: (0.8, 2.0) })
}

fn measure(place: &mut Place, service: &Service) -> Outcome<Vec<Line>> {
    let redis = redis_version();
    if redis.is_none() {
        eprintln!("  skipped: the comparison, since {REDIS} is not installed");
    }
    let time = Duration::from_secs(place.pick(10, 1));
    let (mut ours, mut theirs, mut restarts, mut beside) = (Vec::new(), Vec::new(), Vec::new(), String::new());
    for _ in 0..place.pick(3, 1) {
        let store = place.store();
        let at = free_address()?;
        let listen = format!("{at}=7000");
        let flags = [&FLAGS[..], &["--listen", &listen], service.flags].concat();
        let live = Program::new(&service.program, ["7000"]).under(&store, &flags)?;
        ours.push(clients::set(at, CLIENTS, time)?);
        beside = checkpoints(&store)?;
        restarts.extend(accepted(live, &store, at, place.pick(5, 2))?);
        fs::remove_dir_all(&store)?;
        if redis.is_some() {
            theirs.push(beside_redis(place.path(), time)?);
        }
    }
    Ok(lines(service, (&ours, &theirs), &restarts, &beside, redis.as_deref()))
}

fn lines(
    service: &Service,
    (ours, theirs): (&[Seen], &[Seen]),
    restarts: &[f64],
    beside: &str,
    redis: Option<&str>,
) -> Vec<Line> {
    let rates = |seen: &[Seen]| seen.iter().map(Seen::rate).collect::<Vec<_>>();
    let rate = median(&rates(ours)).unwrap_or(f64::NAN);
    let mut lines = Vec::new();
    let what = format!("{}, held, 10 ms checkpoints, {CLIENTS} clients", service.what);
    lines.push(Line::new(format!("{what}, SET a second"), Unit::PerSecond, rate).note(beside));
    if let Some(version) = redis {
        let floor = median(&rates(theirs)).unwrap_or(f64::NAN);
        let line = Line::new(format!("the same / {REDIS}, appendfsync always"), Unit::Ratio, rate / floor);
        let each = |seen: &[Seen]| rates(seen).iter().map(|rate| format!("{rate:.0}")).collect::<Vec<_>>().join(" ");
        lines.push(line.at_least(service.bars.0, service.bars.1).note(format!(
            "{version}: {floor:.0} a second, p50 {:.2} ms, p99 {:.2} ms; rounds: {} / {}",
            latency(theirs, 50),
            latency(theirs, 99),
            each(ours),
            each(theirs)
        )));
    }
    let p99 = Line::new("its latency, p99, in intervals", Unit::Ratio, latency(ours, 99) / INTERVAL_MILLIS);
    lines.push(p99.against(3.0, 1.5).note(format!(
        "p50 {:.2} ms, p99 {:.2} ms, longest {:.2} ms",
        latency(ours, 50),
        latency(ours, 99),
        latency(ours, 100)
    )));
    let restart = Line::new(
        "SIGKILL, from resume to the first accepted connection",
        Unit::Millis,
        median(restarts).unwrap_or(f64::NAN),
    );
    lines.push(restart.against(150.0, 50.0).note(format!(
        "of {}, longest {:.2} ms",
        restarts.len(),
        percentile(restarts, 100).unwrap_or(f64::NAN)
    )));
    lines
}

pub fn latency(seen: &[Seen], percent: usize) -> f64 {
    let all: Vec<f64> = seen.iter().flat_map(|seen| &seen.latencies).copied().collect();
    percentile(&all, percent).unwrap_or(f64::NAN)
}

/// Milliseconds from the start of `resume` to a connection that is accepted, after each of some kills.
fn accepted(mut live: Live, store: &Path, to: SocketAddr, times: usize) -> Outcome<Vec<f64>> {
    let mut restarts = Vec::new();
    for _ in 0..times {
        live.kill()?;
        let begun = Instant::now();
        live = resume(store, &FLAGS)?;
        let mut stream = clients::connect(to, Duration::from_secs(30))?;
        restarts.push(begun.elapsed().as_secs_f64() * 1e3);
        // It is the service that answers, and knows what it knew.
        let answer = clients::size(&mut stream)?;
        if answer == 0 {
            return Err("the service has forgotten everything".into());
        }
    }
    live.kill()?;
    Ok(restarts)
}

/// What its last checkpoints cost.
fn checkpoints(store: &Path) -> Outcome<String> {
    let status = status(store)?;
    let last: Vec<Checkpoint> = loads::checkpoints(&status).collect();
    let of = |field: &str| median(&last.iter().filter_map(|one| one.get(field).copied()).collect::<Vec<_>>());
    let of = |field: &str| of(field).unwrap_or_default();
    Ok(format!(
        "of the last {} checkpoints, medians: {} us in all, {} writing, {} flushing, pause {} us, {} pages, {} KiB",
        last.len(),
        of("total_us"),
        of("write_us"),
        of("flush_us"),
        of("pause_us"),
        of("pages"),
        of("bytes") >> 10,
    ))
}

/// What Redis does on the same disk.
pub fn beside_redis(place: &Path, time: Duration) -> Outcome<Seen> {
    let dir = place.join("redis");
    fs::create_dir(&dir)?;
    let at = free_address()?;
    let mut command = Command::new(REDIS);
    command.args(["--bind", "127.0.0.1", "--save", "", "--port", &at.port().to_string()]);
    command.args(["--appendonly", "yes", "--appendfsync", "always"]).arg("--dir").arg(&dir);
    let live = Live::start(&mut command)?;
    let seen = clients::set(at, CLIENTS, time)?;
    live.kill()?;
    fs::remove_dir_all(&dir)?;
    Ok(seen)
}

pub fn redis_version() -> Option<String> {
    let output = Command::new(REDIS).arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = text.split(' ').find_map(|word| word.strip_prefix("v="))?;
    Some(format!("Redis {version}"))
}

/// An address of this host at which nobody listens.
pub fn free_address() -> Outcome<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
