//! `semper journal`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Status;
use super::values::{Moment, parse_moment, parse_size};

/// `semper journal`.
#[derive(Clone, Debug, Subcommand)]
pub enum JournalCommand {
    /// Show records, a line each; or with --json a JSON object each
    Show(JournalShow),
    /// Write records out whole: a JSON object on each line, the bytes in hexadecimal digits
    Export(JournalShow),
    /// Let old records go, by whole segments; or give up records that are lost
    ///
    /// A program that goes back to an older generation may ask again for what it wrote since: keep what is newer than
    /// the oldest generation that semper status lists.
    Trim(JournalTrim),
    /// Read and verify every record, on every side of a mirrored store
    Verify(JournalVerify),
    /// Roll a store at rest forward: tell its recorded programs again what they were told after its newest generation
    ///
    /// Up to the last record, or to the one that is named; there the programs stand, a generation is committed, and the next `semper resume`
    /// goes on from it. A program that does something else than it did is named, and nothing is committed. docs/replay.md
    Replay(JournalReplay),
}

/// `semper journal verify`.
#[derive(Args, Clone, Debug)]
pub struct JournalVerify {
    /// The store, and how to print
    #[command(flatten)]
    pub on: Status,
    /// What is rotten on one side of a mirrored store and not on another is written anew, as semper scrub does it
    #[arg(long)]
    pub repair: bool,
}

/// `semper journal replay`.
#[derive(Args, Clone, Debug)]
pub struct JournalReplay {
    /// Directory of the store
    pub store: PathBuf,
    /// The last record that is told again: its place in the journal, or a time such as 2026-01-31T12:00:00Z [default: the last]
    #[arg(long, value_name = "PLACE|TIME", value_parser = parse_moment)]
    pub to: Option<Moment>,
    /// Print JSON, for scripts
    #[arg(long)]
    pub json: bool,
}

/// Which records to show.
#[derive(Args, Clone, Debug)]
pub struct JournalShow {
    /// Directory of the store
    pub store: PathBuf,
    /// The first record: its place in the journal, or a time such as 2026-01-31T12:00:00Z
    #[arg(long, value_name = "PLACE|TIME", value_parser = parse_moment)]
    pub from: Option<Moment>,
    /// The last record
    #[arg(long, value_name = "PLACE|TIME", value_parser = parse_moment)]
    pub to: Option<Moment>,
    /// Only records of the program with this number, as semper status shows it; 0: the journal's own notes
    #[arg(long, value_name = "NUMBER")]
    pub writer: Option<u32>,
    /// Print JSON, for scripts
    #[arg(long)]
    pub json: bool,
}

/// `semper journal trim`.
#[derive(Args, Clone, Debug)]
#[command(group(clap::ArgGroup::new("what").required(true).multiple(true)))]
pub struct JournalTrim {
    /// Directory of the store
    pub store: PathBuf,
    /// Records before this one go
    #[arg(long, value_name = "PLACE|TIME", value_parser = parse_moment, group = "what")]
    pub before: Option<Moment>,
    /// The oldest records go, until the journal is not larger
    #[arg(long, value_name = "SIZE", value_parser = parse_size, group = "what")]
    pub keep: Option<u64>,
    /// Only records go that are in a backup
    #[arg(long, group = "what")]
    pub covered: bool,
    /// Give up the records that cannot be read any more, so that the journal can be written to again
    #[arg(long, group = "what")]
    pub accept_loss: bool,
}
