//! Lines of the table.

use std::fmt;
use std::fs;
use std::time::Duration;

use crate::place::Place;

/// What a number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// How many times as much as the floor.
    Ratio,
    /// Microseconds.
    Micros,
    /// Milliseconds.
    Millis,
    /// KiB of memory.
    Kibibytes,
    /// MiB of memory.
    Mebibytes,
    /// MiB in a second.
    Throughput,
    /// So many in a second.
    PerSecond,
}

impl Unit {
    fn show(self, value: f64) -> String {
        match self {
            Unit::Ratio => format!("{value:.2} x"),
            Unit::Micros => format!("{value:.2} us"),
            Unit::Millis => format!("{value:.2} ms"),
            Unit::Kibibytes => format!("{value:.2} KiB"),
            Unit::Mebibytes => format!("{value:.0} MiB"),
            Unit::Throughput => format!("{value:.0} MiB/s"),
            Unit::PerSecond => format!("{value:.0} /s"),
        }
    }
}

/// A line.
#[derive(Clone, Debug)]
pub struct Line {
    figure: String,
    unit: Unit,
    bar: Option<f64>,
    aim: Option<f64>,
    /// Whether larger is better.
    rises: bool,
    measured: Option<f64>,
    note: String,
}

impl Line {
    /// A figure that was measured; smaller is better, if nothing else is said.
    pub fn new(figure: impl Into<String>, unit: Unit, measured: f64) -> Self {
        let (bar, aim, note) = (None, None, String::new());
        Self { figure: figure.into(), unit, bar, aim, rises: false, measured: Some(measured), note }
    }

    /// With what is promised and what is hoped for.
    pub fn against(self, bar: f64, aim: f64) -> Self {
        Self { bar: Some(bar), aim: Some(aim), ..self }
    }

    /// The same, where larger is better.
    pub fn at_least(self, bar: f64, aim: f64) -> Self {
        Self { rises: true, ..self.against(bar, aim) }
    }

    /// With what is promised.
    pub fn bar(self, bar: f64) -> Self {
        Self { bar: Some(bar), ..self }
    }

    /// With what helps to judge it.
    pub fn note(self, note: impl Into<String>) -> Self {
        Self { note: note.into(), ..self }
    }

    /// A figure that could not be measured.
    pub fn failed(figure: &str, why: &str) -> Self {
        Self { measured: None, ..Self::new(figure, Unit::Ratio, 0.0) }.note(why.replace('\n', " "))
    }

    fn verdict(&self) -> &'static str {
        let reaches = |measured: f64, wanted: f64| if self.rises { measured >= wanted } else { measured <= wanted };
        match (self.measured, self.bar, self.aim) {
            (None, ..) => "FAILED",
            (Some(measured), _, Some(aim)) if reaches(measured, aim) => "aim",
            (Some(measured), Some(bar), _) if reaches(measured, bar) => "met",
            (Some(_), Some(_), _) => "MISSED",
            (Some(_), None, _) => "",
        }
    }

    fn cells(&self) -> [String; 6] {
        let show = |value: Option<f64>| value.map_or_else(String::new, |value| self.unit.show(value));
        [
            self.figure.clone(),
            show(self.bar),
            show(self.aim),
            show(self.measured),
            self.verdict().to_owned(),
            self.note.clone(),
        ]
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [figure, bar, _, measured, verdict, note] = self.cells();
        write!(f, "{figure}: {measured} (bar {bar}) {verdict}; {note}")
    }
}

const HEAD: [&str; 6] = ["figure", "bar", "aim", "measured", "", "beside it"];

/// The table, as Markdown.
pub fn table(lines: &[Line]) -> String {
    let mut rows: Vec<[String; 6]> = vec![HEAD.map(str::to_owned)];
    rows.extend(lines.iter().map(Line::cells));
    // The last column is as long as it is.
    let widths: [usize; 5] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        text.push('|');
        for (column, cell) in row.iter().enumerate() {
            let width = widths.get(column).copied().unwrap_or(0);
            text.push_str(&format!(" {cell:width$} |"));
        }
        text.push('\n');
        if number == 0 {
            text.push_str("| --- | --- | --- | --- | --- | --- |\n");
        }
    }
    text
}

/// What the figures were measured on.
pub fn machine(place: &Place) -> String {
    let file = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = file("/proc/cpuinfo");
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("an unknown CPU", |rest| rest.trim_start_matches([' ', '\t', ':']));
    let cpus = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    let memory = file("/proc/meminfo")
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok())
        .unwrap_or(0);
    let kernel = file("/proc/sys/kernel/osrelease");
    let load = file("/proc/loadavg");
    let load = load.split(' ').next().unwrap_or("?");
    format!(
        "{cpus} x {model}, {} GiB, Linux {}, stores on {}, load average at the start {load}{}\n",
        memory >> 20,
        kernel.trim(),
        place.file_system(),
        if place.quick() { ", --quick: too short to be quoted" } else { "" },
    )
}

/// The one in the middle; of an even number the lower one.
pub fn median<T: Copy + PartialOrd>(values: &[T]) -> Option<T> {
    percentile(values, 50)
}

/// The smallest of which `percent` in a hundred are not larger.
pub fn percentile<T: Copy + PartialOrd>(values: &[T], percent: usize) -> Option<T> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

/// Of microseconds.
pub fn micros(values: &[Duration], percent: usize) -> f64 {
    percentile(values, percent).unwrap_or_default().as_secs_f64() * 1e6
}
