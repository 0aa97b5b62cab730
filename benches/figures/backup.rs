//! Backing up and restoring, against copying as many bytes.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::live::{Live, number};
use crate::native::{Program, ask, semper};
use crate::place::Place;
use crate::programs;
use crate::report::{Line, Unit, median};

/// The most that backup and restore may take, MiB.
const BAR_MIB: f64 = 256.0;

/// What a command took.
struct Took {
    time: Duration,
    /// The most memory that it had, MiB.
    memory: f64,
}

/// Line 13.
pub fn backup(place: &mut Place) -> Outcome<Vec<Line>> {
    let mib: u64 = place.pick(4096, 128);
    let rounds = place.pick(3, 1);
    let program = Program::new(programs::c(place, "portion")?, [mib.to_string()]);
    let (store, file) = (place.store(), place.path().join("backup.semper"));
    let increment = place.path().join("increment.semper");
    let restored = place.path().join("restored");
    let mut live = program.under(&store, &["--checkpoint-interval", "0", "--output", "immediate"])?;
    change(&mut live, &store, mib * 256)?;
    let (mut full, mut copy, mut part, mut back) = (vec![], vec![], vec![], vec![]);
    let mut memory: f64 = 0.0;
    for round in 0..rounds {
        let base = format!("bench-{round}");
        ask("tag", &store, &[&base])?;
        let took = timed(backup_command("create", &store, &file))?;
        full.push(took.time);
        memory = memory.max(took.memory);
        copy.push(copied(&file, &place.path().join("copy"))?);
        change(&mut live, &store, mib * 256 / 100)?;
        let mut command = backup_command("create", &store, &increment);
        command.args(["--since", &base]);
        part.push(timed(command)?.time);
        let took = timed(backup_command("restore", &file, &restored))?;
        back.push(took.time);
        memory = memory.max(took.memory);
        fs::remove_dir_all(&restored)?;
        ask("tag", &store, &[&base, "--delete"])?;
    }
    let beside = slowed(place, &store)?;
    live.kill()?;
    let (bytes, part_bytes) = (fs::metadata(&file)?.len() >> 20, fs::metadata(&increment)?.len() >> 20);
    let seconds = |times: &[Duration]| median(times).unwrap_or_default().as_secs_f64();
    let floor = seconds(&copy);
    let ratio = |figure: &str, times: &[Duration], floor: f64, note: String| {
        let time = seconds(times);
        Line::new(figure, Unit::Ratio, time / floor)
            .note(format!("{time:.2} s of {}, against {floor:.2} s; {note}", times.len()))
    };
    fs::remove_file(&file)?;
    fs::remove_file(&increment)?;
    fs::remove_dir_all(&store)?;
    Ok(vec![
        ratio("full backup / cp with fsync", &full, floor, format!("{bytes} MiB")).against(1.5, 1.1),
        ratio("increment after 1 % changed / full backup", &part, seconds(&full), format!("{part_bytes} MiB"))
            .against(0.03, 0.015),
        ratio("restore / cp with fsync", &back, floor, format!("{bytes} MiB")).against(1.6, 1.1),
        beside,
        Line::new("memory of backup and restore", Unit::Mebibytes, memory)
            .against(BAR_MIB, 64.0)
            .note("the most of all"),
    ])
}

/// The program writes that many random pages, and a checkpoint has them.
fn change(live: &mut Live, store: &Path, pages: u64) -> Outcome<()> {
    live.tell(&pages.to_string())?;
    live.wait_for("ready", || {})?;
    ask("checkpoint", store, &[]).map(drop)
}

fn backup_command(what: &str, from: &Path, to: &Path) -> Command {
    let mut command = semper("backup", Path::new(what));
    command.arg(from).arg(to);
    command
}

/// Runs it to its end, looking at its memory meanwhile.
fn timed(mut command: Command) -> Outcome<Took> {
    let start = Instant::now();
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let path = format!("/proc/{}/status", child.id());
    let mut most: u32 = 0;
    loop {
        let status = fs::read_to_string(&path).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        most = most.max(line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0));
        if let Some(status) = child.try_wait()? {
            if !status.success() {
                return Err(format!("{command:?}: {status}").into());
            }
            return Ok(Took { time: start.elapsed(), memory: f64::from(most) / 1024.0 });
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// `cp` and a flush.
fn copied(from: &Path, to: &Path) -> Outcome<Duration> {
    let start = Instant::now();
    let status = Command::new("cp").arg("--reflink=never").arg(from).arg(to).status()?;
    if !status.success() {
        return Err(format!("cp: {status}").into());
    }
    File::open(to)?.sync_all()?;
    let took = start.elapsed();
    fs::remove_file(to)?;
    Ok(took)
}

/// How much longer a program computes beside the other one, while the store is backed up again and again.
fn slowed(place: &Place, store: &Path) -> Outcome<Line> {
    let program = Program::new(programs::c(place, "compute")?, [place.pick(4000, 300).to_string()]);
    let target = place.path().join("busy.semper");
    let compute = || -> Outcome<u64> {
        let mut command = semper("run", store);
        number(&Live::start(command.arg("--").arg(&program.file).args(&program.args))?.finish()?, "elapsed")
    };
    let (mut alone, mut beside, mut backups) = (vec![], vec![], 0);
    for _ in 0..place.pick(3, 1) {
        alone.push(compute()?);
        let ended = AtomicBool::new(false);
        let time = std::thread::scope(|scope| {
            let backing = scope.spawn(|| -> Result<u32, String> {
                let mut made = 0;
                while !ended.load(Ordering::Relaxed) {
                    timed(backup_command("create", store, &target)).map_err(|error| error.to_string())?;
                    made += 1;
                }
                Ok(made)
            });
            let time = compute();
            ended.store(true, Ordering::Relaxed);
            backups += backing.join().map_err(|_| "a backup panicked")??;
            time
        })?;
        beside.push(time);
    }
    fs::remove_file(&target)?;
    let seconds = |times: &[u64]| Duration::from_nanos(median(times).unwrap_or_default()).as_secs_f64();
    let (alone, beside) = (seconds(&alone), seconds(&beside));
    Ok(Line::new("a program that computes while backups run / without", Unit::Ratio, beside / alone)
        .against(1.25, 1.10)
        .note(format!("{beside:.2} s, {alone:.2} s; {backups} backups in all, no rate limit")))
}
