//! The words of `semper backup`.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::builder::RangedI64ValueParser;
use clap::{Args, Subcommand};
use semper_backup::{Compression, Options, Recipient, Retention};

use super::values::parse_moment;
use super::{Moment, parse_size};

/// What to do with backups.
#[derive(Clone, Debug, Subcommand)]
pub enum Backup {
    /// Write a backup of the newest generation, while the world runs or at rest
    ///
    /// No program is stopped and no checkpoint waits: the generation is held and read. Without --since all of it is written, with
    /// it what changed since another generation. In a directory the backup is a file of its own, which gets its name when it
    /// is complete and flushed, and its generation is tagged `backup-last`, so that the next `--since last` finds it; what
    /// changes since keeps its space until the next backup moves the tag.
    Create(Create),
    /// Ship every generation that is committed to a directory of backups, until it is interrupted
    ///
    /// Each becomes an increment after the one before; if more are committed than can be written, the newest. It goes on where it was
    /// interrupted, waits while no runtime runs, and begins anew with a full backup after --full-after increments, when the increments
    /// have grown larger than the full one and 64M, and when nothing that it has shipped is kept in the store any more.
    Follow(Follow),
    /// List the backups in a directory or file
    List(Look),
    /// Read backups whole: every hash, and whether each increment has what it was made since
    ///
    /// Of an encrypted backup the ciphertext is read; with --identity also what is encrypted.
    Verify(Verify),
    /// Make a new store of a full backup and the increments after it
    ///
    /// The store gets its name when it is complete: a restore that fails or is killed leaves none. It has an identity of its own, and
    /// takes its own backups, in a directory of their own.
    Restore(Restore),
    /// Remove the backups in a directory that those to keep do not need
    ///
    /// Give one --keep-... or several: what any of them keeps stays, and the newest always. Nothing is removed if one of those that are needed is not whole.
    /// What has to stay is known from what encrypted backups say in clear, too: no identity is needed.
    Prune(Prune),
    /// Make an identity for encrypted backups: a file that opens them, and the recipient to encrypt to
    Keygen(Keygen),
}

/// `semper backup create`.
#[derive(Args, Clone, Debug)]
pub struct Create {
    /// Directory of the store
    pub store: PathBuf,
    /// A directory, which is made if it is not there; s3://BUCKET/PREFIX, gs:// or az://, an object store that is used like one; a file,
    /// whose name ends in .semper; or - for standard output
    pub dest: PathBuf,
    /// Write what changed since this generation, which still has to be kept; `last`: that of the newest backup in DEST
    #[arg(long, value_name = "GEN|TAG|last")]
    pub since: Option<String>,
    #[command(flatten)]
    pub how: How,
    /// The tag that keeps the generation for the next increment, for a store with several directories of backups
    #[arg(long, value_name = "TAG", default_value = "backup-last")]
    pub keep_as: String,
    /// Do not keep the generation for the next increment
    #[arg(long, conflicts_with = "keep_as")]
    pub no_keep: bool,
}

/// How a backup is written.
#[derive(Args, Clone, Debug)]
pub struct How {
    /// Compress pages: zstd, zstd:1 to zstd:19, or none
    #[arg(long, value_name = "HOW", value_parser = parse_compression, default_value = "none")]
    pub compress: Compression,
    /// The most bytes to write in a second [default: no limit]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub rate_limit: Option<u64>,
    /// Leave the journal out: a world restored from the backup may do again what its programs had noted there
    #[arg(long, overrides_with = "with_journal")]
    pub without_journal: bool,
    /// Take the journal along, as it is done if nothing is said
    #[arg(long, overrides_with = "without_journal")]
    pub with_journal: bool,
    /// Encrypt to this recipient of age, who can open the backup; can be given several times
    #[arg(long, value_name = "RECIPIENT")]
    pub encrypt: Vec<Recipient>,
}

impl How {
    /// As the library has it, with what ends it early.
    pub fn options(&self, stop: Option<Arc<AtomicBool>>) -> Options {
        Options { compression: self.compress, rate_limit: self.rate_limit, recipients: self.encrypt.clone(), stop }
    }
}

/// `semper backup follow`.
#[derive(Args, Clone, Debug)]
pub struct Follow {
    /// Directory of the store
    pub store: PathBuf,
    /// Directory of backups, which is made if it is not there, or s3://BUCKET/PREFIX, gs://, az://
    pub dest: PathBuf,
    #[command(flatten)]
    pub how: How,
    /// Begin anew with a full backup after so many increments
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    pub full_after: u32,
    /// The tag that keeps the generation of the newest backup, for a store that is followed to several directories
    #[arg(long, value_name = "TAG", default_value = "backup-follow")]
    pub keep_as: String,
}

/// `semper backup list`.
#[derive(Args, Clone, Debug)]
pub struct Look {
    /// A directory or file of backups, or s3://BUCKET/PREFIX, gs://, az://
    pub dest: PathBuf,
    /// Print JSON, for scripts
    #[arg(long)]
    pub json: bool,
}

/// `semper backup verify`.
#[derive(Args, Clone, Debug)]
pub struct Verify {
    /// A directory or file of backups, s3://BUCKET/PREFIX, gs://, az://, or - for standard input
    pub dest: PathBuf,
    /// Print JSON, for scripts
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub opened_by: OpenedBy,
}

/// What opens encrypted backups.
#[derive(Args, Clone, Debug)]
pub struct OpenedBy {
    /// A file of identities of age that open encrypted backups; can be given several times
    #[arg(long = "identity", value_name = "FILE")]
    pub identities: Vec<PathBuf>,
}

/// `semper backup keygen`.
#[derive(Args, Clone, Debug)]
pub struct Keygen {
    /// The file to make, which only you can read; keep it away from the backups
    pub file: PathBuf,
}

/// What is to be restored.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum At {
    /// The generation of that number.
    Generation(u64),
    /// The newest that was committed by then, in nanoseconds since 1970.
    Time(u64),
}

/// `semper backup restore`.
#[derive(Args, Clone, Debug)]
pub struct Restore {
    /// A directory of backups; s3://BUCKET/PREFIX, gs://, az://; a file; or - for standard input. A file or input may hold several, the
    /// full one first
    pub dest: PathBuf,
    /// Directory of the store to make, which must be new or empty
    pub store: PathBuf,
    /// The generation to restore, or of a directory the newest that was committed before a time [default: the newest]
    #[arg(long, value_name = "GEN|TIME", value_parser = parse_at)]
    pub at: Option<At>,
    /// Leave the journal out: the world begins an empty one, and may do again what its programs had noted
    #[arg(long)]
    pub without_journal: bool,
    /// Then roll the world forward: its recorded programs are told again what the journal in the backup has beyond the generation
    #[arg(long, conflicts_with = "without_journal")]
    pub then_replay: bool,
    #[command(flatten)]
    pub opened_by: OpenedBy,
}

/// `semper backup prune`.
#[derive(Args, Clone, Debug)]
pub struct Prune {
    /// Directory of backups, or s3://BUCKET/PREFIX, gs://, az://
    pub dest: PathBuf,
    #[command(flatten)]
    pub keep: Keep,
    /// Only say what would be removed
    #[arg(long)]
    pub dry_run: bool,
}

/// Which generations stay, with all that they need.
#[derive(Args, Clone, Debug)]
#[group(required = true, multiple = true)]
pub struct Keep {
    /// Keep the newest N generations
    #[arg(long = "keep-last", visible_alias = "keep", value_name = "N", value_parser = count())]
    pub last: Option<u32>,
    /// Keep the newest generation of each of the newest N hours that have any
    #[arg(long = "keep-hourly", value_name = "N", value_parser = count())]
    pub hourly: Option<u32>,
    /// Keep the newest generation of each of the newest N days (UTC) that have any
    #[arg(long = "keep-daily", value_name = "N", value_parser = count())]
    pub daily: Option<u32>,
    /// Keep the newest generation of each of the newest N weeks that have any
    #[arg(long = "keep-weekly", value_name = "N", value_parser = count())]
    pub weekly: Option<u32>,
    /// Keep the newest generation of each of the newest N months that have any
    #[arg(long = "keep-monthly", value_name = "N", value_parser = count())]
    pub monthly: Option<u32>,
}

impl Keep {
    /// As the library has it.
    pub fn retention(&self) -> Retention {
        let number = |given: Option<u32>| usize::try_from(given.unwrap_or(0)).unwrap_or(usize::MAX);
        Retention {
            last: number(self.last),
            hourly: number(self.hourly),
            daily: number(self.daily),
            weekly: number(self.weekly),
            monthly: number(self.monthly),
        }
    }
}

fn count() -> RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..)
}

/// The level that `zstd` alone means: fast enough for a disk.
const USUAL_LEVEL: i32 = 3;

fn parse_at(text: &str) -> Result<At, String> {
    match parse_moment(text) {
        Ok(Moment::Sequence(number)) => Ok(At::Generation(number)),
        Ok(Moment::Time(nanos)) => Ok(At::Time(nanos)),
        Err(_) => Err("neither a generation nor a time; write for example 17 or 2026-01-31T12:00:00Z".to_owned()),
    }
}

fn parse_compression(text: &str) -> Result<Compression, String> {
    let level = match text {
        "none" => return Ok(Compression::None),
        "zstd" => Some(USUAL_LEVEL),
        other => other.strip_prefix("zstd:").and_then(|level| level.parse().ok()),
    };
    match level {
        Some(level @ 1..=19) => Ok(Compression::Zstd(level)),
        _ => Err("write none, zstd, or zstd:1 to zstd:19".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_restored_has_a_number_or_a_time() {
        assert_eq!(parse_at("17"), Ok(At::Generation(17)));
        assert_eq!(parse_at("1970-01-01T00:00:01Z"), Ok(At::Time(1_000_000_000)));
        for bad in ["", "now", "-1", "1969-01-01T00:00:01Z"] {
            assert!(parse_at(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn compression_has_levels_that_there_are() {
        assert_eq!(parse_compression("none"), Ok(Compression::None));
        assert_eq!(parse_compression("zstd"), Ok(Compression::Zstd(3)));
        assert_eq!(parse_compression("zstd:19"), Ok(Compression::Zstd(19)));
        for bad in ["", "zstd:", "zstd:0", "zstd:20", "zstd:-1", "lz4"] {
            assert!(parse_compression(bad).is_err(), "{bad}");
        }
    }
}
