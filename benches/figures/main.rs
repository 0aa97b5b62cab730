//! The figures of Semper, on the release binary, each against its floor in the same run:
//! `cargo bench --bench figures [-- [--quick] [--dir DIR] [FIGURE]...]`. `docs/benchmarks.md` says what each line means.

mod backup;
mod calls;
mod clients;
mod commit;
mod invoke;
mod kv;
mod live;
mod loads;
mod many;
mod memory;
mod moving;
mod native;
mod place;
mod programs;
mod ratios;
mod record;
mod report;
mod revival;
mod travel;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use place::Place;
use report::Line;

/// What a figure fails with: the sentence is what counts.
type Outcome<T> = Result<T, Box<dyn Error>>;

/// A figure, or several that one run gives.
struct Figure {
    name: &'static str,
    measure: fn(&mut Place) -> Outcome<Vec<Line>>,
}

const FIGURES: &[Figure] = &[
    Figure { name: "pause-writer", measure: loads::pause_writer },
    Figure { name: "pause-idle", measure: loads::pause_idle },
    Figure { name: "compute", measure: ratios::compute },
    Figure { name: "calls", measure: calls::calls },
    Figure { name: "invoke", measure: invoke::invoke },
    Figure { name: "kernel", measure: many::kernel },
    Figure { name: "repair", measure: many::repair },
    Figure { name: "many", measure: many::many },
    Figure { name: "interpreter", measure: ratios::interpreter },
    Figure { name: "scatter", measure: ratios::scatter },
    Figure { name: "commit", measure: commit::commit },
    Figure { name: "resume", measure: revival::resume },
    Figure { name: "faults", measure: revival::faults },
    Figure { name: "large", measure: memory::large },
    Figure { name: "kv", measure: kv::kv },
    Figure { name: "kv-native", measure: kv::native },
    Figure { name: "record", measure: record::record },
    Figure { name: "backup", measure: backup::backup },
    Figure { name: "travel", measure: travel::travel },
    Figure { name: "scrub", measure: travel::scrub },
    Figure { name: "move", measure: moving::moving },
    Figure { name: "overhead", measure: memory::overhead },
];

/// The command line.
struct Wanted {
    quick: bool,
    dir: Option<PathBuf>,
    names: Vec<String>,
}

fn wanted(args: impl Iterator<Item = String>) -> Outcome<Wanted> {
    let mut wanted = Wanted { quick: false, dir: None, names: Vec::new() };
    let mut args = args.filter(|arg| arg != "--bench");
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--quick" => wanted.quick = true,
            "--dir" => wanted.dir = Some(args.next().ok_or("--dir wants a directory")?.into()),
            name if FIGURES.iter().any(|figure| figure.name == name) => wanted.names.push(arg),
            other => {
                let names: Vec<&str> = FIGURES.iter().map(|figure| figure.name).collect();
                return Err(format!("there is no figure {other}; there are: {}", names.join(", ")).into());
            }
        }
    }
    Ok(wanted)
}

fn main() -> ExitCode {
    // `cargo test --benches` only asks whether it builds.
    if !std::env::args().any(|arg| arg == "--bench") {
        return ExitCode::SUCCESS;
    }
    match wanted(std::env::args().skip(1)).and_then(run) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("figures: {error}");
            ExitCode::from(2)
        }
    }
}

/// Measures; false if a figure could not be.
fn run(wanted: Wanted) -> Outcome<bool> {
    let mut place = Place::new(wanted.dir, wanted.quick)?;
    println!("{}", report::machine(&place));
    let mut lines = Vec::new();
    let mut complete = true;
    for figure in FIGURES {
        if !wanted.names.is_empty() && !wanted.names.iter().any(|name| name == figure.name) {
            continue;
        }
        eprintln!("{} ...", figure.name);
        match (figure.measure)(&mut place) {
            Ok(measured) => {
                measured.iter().for_each(|line| eprintln!("  {line}"));
                lines.extend(measured);
            }
            Err(error) => {
                complete = false;
                eprintln!("  {}: {error}", figure.name);
                lines.push(Line::failed(figure.name, &error.to_string()));
            }
        }
    }
    println!("{}", report::table(&lines));
    Ok(complete)
}
