//! The words of the command line: commands and flags.

mod backup;
mod journal;
mod mirror;
mod values;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use semper::runtime::{Grants, Listen, OutputPolicies, StartKey};

pub use backup::{At, Backup, Create, Follow, Keygen, Look, Prune, Restore, Verify};
pub use journal::{JournalCommand, JournalReplay, JournalShow, JournalTrim, JournalVerify};
pub use mirror::{AddMirror, Mirror, RemoveMirror};
use values::{
    Addresses, Device, Output, parse_connect, parse_env, parse_file, parse_interval, parse_key, parse_listen,
    parse_output, parse_redirect, parse_size, parse_time,
};
pub use values::{Cpu, FileArg, Interval, Moment, parse_cpu};

/// Runs ordinary programs so that nothing can end them.
///
/// A program that runs under Semper goes on after its runtime was killed or the machine lost power: at the next
/// instruction after the last checkpoint, with every byte of its memory.
#[derive(Debug, Parser)]
#[command(name = "semper", version, max_term_width = 100, after_long_help = EXIT_CODES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The keys and exit codes, as the long help shows them.
const EXIT_CODES: &str = "\
Keys at the terminal of a program:
  its terminal modes hold for yours while it runs, and yours come back at the end
  Ctrl-C   goes to the program if it handles, ignores or reads it; if not, it stops the runtime cleanly
  Ctrl-\\  stops the runtime cleanly, whatever the program; resume goes on
  Where run added the program to a runtime that was running already, they end the command instead, and
  the program goes on there. From elsewhere: `semper stop`, or SIGTERM or SIGINT to the runtime.

Exit codes of run and resume:
  the program's own exit status, or 128 + n when signal n ended it
    2  the command line is wrong
  120  the store is in use by another runtime
  121  there is no store there, it may not be read or written, or it is damaged, foreign or of another version
  122  the store, the disk or the memory limit is too small
  123  no runtime is running on the store
  124  `semper stop` stopped the runtime before the program had ended: resume goes on
  125  Semper itself failed
  126  the program cannot be run: it is no x86-64 Linux program, or a library is missing
  127  the program, domain, object, generation or tag was not found
  130  SIGINT stopped the runtime cleanly before the program had ended: resume goes on
  131, 143  Ctrl-\\ or SIGTERM did
The other commands end with 0 when they did what was asked, with 1 when check, verify, doctor, demo or journal
found something wrong, and else with one of the codes above.";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start a program in a store, which is created if it is not there
    ///
    /// Runs in the foreground and ends with the program's exit status once all programs of the store have ended. On a
    /// store whose runtime is running already, the program is added to that one; flags of the runtime are refused then.
    Run(Run),
    /// Go on with everything that is in a store
    Resume(Resume),
    /// Move a world to another machine, while it runs
    ///
    /// Generations are sent while the world goes on here; then it stands still for the last increment, and from the moment at which its
    /// store notes that it has moved it lives there. If anything fails before, it goes on here. A move that was interrupted after that moment is ended by the
    /// same command.
    Move(Move),
    /// Take in a world that moves here: the other end of move, started by it
    Receive(Receive),
    /// Show the programs, generations and last checkpoints of a store, running or not
    Status(Status),
    /// Take a checkpoint now and print its generation when it is committed
    Checkpoint(StoreOnly),
    /// Take a final checkpoint and end the runtime, resume goes on later; or stop one domain
    ///
    /// With a DOMAIN that one domain, or Linux program, is not executed any more until `semper start`, over restarts
    /// too; messages to it queue, and the runtime and all else go on. It is durable when the command ends.
    Stop(Stop),
    /// Let a stopped domain go on
    ///
    /// Also one that stands at a fault which no keeper took: its instruction is tried again. It is durable when the
    /// command ends.
    Start(OnDomain),
    /// End a domain
    ///
    /// A program, native or Linux, ends as by SIGKILL: its exit status is 137, and what a native one bought is
    /// freed. Another native domain is sold back to its bank, and those who wait for it get `CalleeDied`. It is
    /// durable when the command ends.
    Kill(OnDomain),
    /// Show what native domains wrote with their log keys
    ///
    /// Lines come when they are written, before the checkpoint that contains them: what a crash takes back may have been
    /// logged, and is logged again. The store keeps the last 4 to 8 MiB of them. A running runtime is not needed.
    Logs(Logs),
    /// Put gdb on a native domain: in gdb, `target remote | semper gdb STORE DOMAIN`
    ///
    /// The domain is stopped. Its registers and memory can be read and written, memory as far as it is mapped and a write as
    /// far as the domain may write; breakpoints, single steps and Ctrl-C work. While gdb is there, faults of the domain
    /// come to it; `continue` hands one to the domain's keeper, `signal 0` tries the instruction again. When gdb detaches or
    /// goes away, the domain is as it was before: it goes on, or stays stopped; gdb's `kill` ends it as `semper kill`
    /// does. A restart of the runtime ends the session and leaves the domain stopped if it stood. Linux programs cannot
    /// be debugged by it.
    Gdb(Gdb),
    /// Show the banks of a store, running or not, and what they sold: domains, segments, meters...
    ///
    /// Each object is named INDEX.VERSION, which `semper inspect`, `kill`, `stop`, `start` and `gdb` take. Of a bank that
    /// sold more than 1000 objects they are counted and not listed. The Linux programs come last. A running world is
    /// not stopped, so what is shown may be of several instants.
    Ls(Ls),
    /// Show one object of a store, running or not: a domain with its keys, memory and registers, or what else it is
    ///
    /// A domain that runs is stopped for the moment that it takes to read its registers.
    Inspect(Inspect),
    /// List the generations of a store that can be gone back to, with their tags, running or not
    Generations(Status),
    /// Name a generation, which then stays until the name is taken away
    ///
    /// The newest, or another one. What it holds keeps its space. Beside the 4 newest generations 8 can be held.
    Tag(Tag),
    /// Go back: an older generation becomes the newest, and the next `semper resume` goes on from it
    ///
    /// The runtime has to be stopped. The generations in between, the future that is left, can be gone to as before until
    /// newer ones take their place; a tag keeps one. Takes the same time for every size of store.
    Rewind(Rewind),
    /// Make a new store of the world of another one, running or not, which goes on by itself
    ///
    /// Takes a moment, whatever the size: the pages are shared by the file system, or, where that cannot, copied while the new world runs; until then
    /// the old store has to stay. The new one has an identity of its own. What the programs have written out stays with the old one.
    Fork(Fork),
    /// Show where the store lies from which a forked one has pages, or say where it is now
    ///
    /// Until a fork has copied its pages, the old store has to stay; if it was moved, say so before the fork is resumed. It is looked whether it is
    /// that store, and has what is borrowed, before anything is written.
    Lender(LenderOf),
    /// Copy programs out of a store, running or not, into a new store, where they go on without the others
    ///
    /// Each goes with its memory, its files and all that its bank sold. Keys to others are void there, and who waits for one of them is told that it
    /// died: name all that belong together. The new store has an identity of its own.
    Extract(Extract),
    /// Show which segments differ between two generations, and by how many pages
    Diff(Diff),
    /// Make a store larger, running or not
    Grow(Resize),
    /// Make a store smaller, running or not
    ///
    /// What lies beyond the new end is moved, in small steps between the checkpoints of the world, and then the file is cut off. Older generations
    /// go; tagged ones that have something there are named, and in the way. Refused, with numbers, if what is in use does not fit.
    /// Interrupt it as you like: the runtime goes on, and `semper grow` to the old size takes it back.
    Shrink(Resize),
    /// The journal of a store: what no roll-back touches
    ///
    /// Programs write to it by /dev/semper/journal or a journal key; docs/journal.md. Showing, exporting and verifying go
    /// beside a running runtime; trimming needs the store at rest.
    #[command(subcommand)]
    Journal(JournalCommand),
    /// Keep a store on several disks, written in step: docs/operations.md
    #[command(subcommand)]
    Mirror(Mirror),
    /// Back up a store, running or not, and make a new store of backups: docs/operations.md
    #[command(subcommand)]
    Backup(Backup),
    /// Read and verify every byte of a store, beside a running runtime or without one
    Check(Status),
    /// Read and verify a store slowly, beside its world, once or again and again; `semper status` shows how far it is and what it found
    ///
    /// The newest generation is held, so that all of it is read, however many are committed meanwhile; what older ones have besides is read
    /// too, if they stay. Programs go first where processors are short.
    Scrub(Scrub),
    /// Say what this machine offers, what is missing and what to do
    Doctor(Doctor),
    /// Kill the runtime under two real programs ten times and compare with undisturbed runs
    Demo(Demo),
}

/// Flags of the runtime, the same for run and resume.
#[derive(Args, Clone, Debug)]
pub struct RuntimeFlags {
    /// Time between checkpoints, from 10ms; 0 means only when asked [default: 1s]
    #[arg(long, value_name = "TIME", value_parser = parse_interval)]
    pub checkpoint_interval: Option<Interval>,
    /// Memory that pages may take; more than that stays in the store [default: no limit]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub memory: Option<u64>,
    /// Largest size of the store, when it is created; a larger one grows an existing store, a smaller one is ignored [default: 64G]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub size: Option<u64>,
    /// When output is shown: once the checkpoint that contains it is safe (held), at once (immediate), or, of programs that are recorded, once the journal has
    /// all that led to it (journaled). May be given for each DEVICE, `console` and `network` [default: held]
    #[arg(long, value_name = "[DEVICE=]WHEN", value_parser = parse_output)]
    pub output: Vec<Output>,
    /// Held output hastens the next checkpoint, but not more often than this [default: 20ms; for what the network waits for twice what
    /// the last one took, if that is less]
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub output_gap: Option<Duration>,
    /// The oldest records of the journal go when it is larger [default: 1G]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub journal_size: Option<u64>,
    /// Records of the journal go when they are older [default: never]
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub journal_age: Option<Duration>,
}

impl RuntimeFlags {
    /// The flags that were given, by their names.
    pub fn given(&self) -> Vec<&'static str> {
        let RuntimeFlags { checkpoint_interval, memory, size, output, output_gap, journal_size, journal_age } = self;
        [
            ("--checkpoint-interval", checkpoint_interval.is_some()),
            ("--memory", memory.is_some()),
            ("--size", size.is_some()),
            ("--output", !output.is_empty()),
            ("--output-gap", output_gap.is_some()),
            ("--journal-size", journal_size.is_some()),
            ("--journal-age", journal_age.is_some()),
        ]
        .into_iter()
        .filter_map(|(name, given)| given.then_some(name))
        .collect()
    }
}

/// What a program may reach: docs/network.md.
#[derive(Args, Clone, Debug)]
pub struct NetworkFlags {
    /// Listen at this address of the host for the program, which binds GUESTPORT, or accepts by its network key. Kept with the program; at resume, the program
    /// that has GUESTPORT listens here from now on [default GUESTPORT: PORT]
    #[arg(long, value_name = "ADDR:PORT[=GUESTPORT]", value_parser = parse_listen)]
    pub listen: Vec<Listen>,
    /// Let the program connect there, and nowhere else. Kept with the program; a name is looked up now
    #[arg(long, value_name = "HOST:PORT", value_parser = parse_connect)]
    pub connect: Vec<Addresses>,
}

impl NetworkFlags {
    /// As grants.
    pub fn grants(&self) -> Grants {
        let connects = self.connect.iter().flat_map(|to| to.0.iter().copied()).collect();
        Grants { listens: self.listen.clone(), connects }
    }
}

impl RuntimeFlags {
    /// When output is shown; what was said of one device counts more than what was said of all.
    pub fn output(&self) -> OutputPolicies {
        let said = |device| self.output.iter().rev().find(|one| one.device == device).map(|one| one.when);
        let all = said(None).unwrap_or_default();
        OutputPolicies {
            console: said(Some(Device::Console)).unwrap_or(all),
            network: said(Some(Device::Network)).unwrap_or(all),
        }
    }
}

/// `semper run`.
#[derive(Args, Clone, Debug)]
pub struct Run {
    /// Directory of the store
    pub store: PathBuf,
    /// Name of the program in the store, which must be free [default: its file name, numbered if it is taken]
    #[arg(long)]
    pub name: Option<String>,
    /// A file to copy into the store, and its name there [default: the same name]
    #[arg(long = "file", value_name = "HOST[:GUEST]", value_parser = parse_file)]
    pub files: Vec<FileArg>,
    /// A variable of the program's environment; K alone copies the caller's. Nothing else is in it
    #[arg(long = "env", value_name = "K=V", value_parser = parse_env)]
    pub env: Vec<(String, String)>,
    /// The program is a native domain, written with semper-domain: docs/native.md
    #[arg(long, conflicts_with_all = ["files", "env"])]
    pub native: bool,
    /// Memory of a native program: image, heap and stack [default: 16M]
    #[arg(long, value_name = "SIZE", value_parser = parse_size, requires = "native")]
    pub native_memory: Option<u64>,
    /// Record all that the program is told by the world outside, so that it can be told again: after a failure, up to the last thing
    /// that was recorded, and by semper journal replay: docs/replay.md
    #[arg(long)]
    pub record: bool,
    /// The program is to be able to go on at any processor of LEVEL: x86-64-v2 (also: baseline) or x86-64-v3; it is told of no instructions beyond that.
    /// host: of all that this one has, and it goes on where all of that is
    #[arg(long, value_name = "LEVEL", value_parser = parse_cpu, default_value = "host", hide_default_value = true)]
    pub cpu: Cpu,
    /// A start key to a domain of the store, put into a free slot of the program: SLOT is 10 to 15 of a Linux program, 12 to 14 of a
    /// native one (13 with --listen or --connect); DOMAIN is INDEX.VERSION as `semper ls` shows it, or the name of a program; the domain is told BADGE with each
    /// message [default badge: 0]
    #[arg(long = "key", value_name = "SLOT=DOMAIN[:BADGE]", value_parser = parse_key)]
    pub keys: Vec<StartKey>,
    /// What it may reach.
    #[command(flatten)]
    pub network: NetworkFlags,
    /// Flags of the runtime.
    #[command(flatten)]
    pub runtime: RuntimeFlags,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "PROGRAM")]
    pub program: Vec<std::ffi::OsString>,
}

/// `semper resume`.
#[derive(Args, Clone, Debug)]
pub struct Resume {
    /// Directory of the store
    pub store: PathBuf,
    /// Add the output of the program NAME to FILE instead of showing it here
    #[arg(long = "stdout", value_name = "NAME=FILE", value_parser = parse_redirect)]
    pub stdout: Vec<(String, PathBuf)>,
    /// Go back to generation N, which `semper status` lists; the newer ones are given up
    #[arg(long, value_name = "N")]
    pub generation: Option<u64>,
    /// What programs may reach.
    #[command(flatten)]
    pub network: NetworkFlags,
    /// Flags of the runtime.
    #[command(flatten)]
    pub runtime: RuntimeFlags,
}

/// A command on a store with the choice of JSON.
#[derive(Args, Clone, Debug)]
pub struct Status {
    /// Directory of the store
    pub store: PathBuf,
    /// Print JSON, for scripts
    #[arg(long)]
    pub json: bool,
}

/// `semper scrub`.
#[derive(Args, Clone, Debug)]
pub struct Scrub {
    /// The store, and how to print
    #[command(flatten)]
    pub on: Status,
    /// The most bytes to read in a second [default: no limit]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub rate_limit: Option<u64>,
    /// Begin again so long after each end, until it is interrupted
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub every: Option<Duration>,
}

/// `semper tag`.
#[derive(Args, Clone, Debug)]
pub struct Tag {
    /// Directory of the store
    pub store: PathBuf,
    /// The name: letters, digits, dots, dashes, underscores
    pub name: String,
    /// The generation, or the name of one [default: the newest]
    #[arg(long, value_name = "GEN|TAG", conflicts_with = "delete")]
    pub at: Option<String>,
    /// Take the name away
    #[arg(long)]
    pub delete: bool,
}

/// `semper rewind`.
#[derive(Args, Clone, Debug)]
pub struct Rewind {
    /// Directory of the store
    pub store: PathBuf,
    /// The generation to go back to, or the name of one
    #[arg(long, value_name = "GEN|TAG")]
    pub to: String,
}

/// `semper fork`.
#[derive(Args, Clone, Debug)]
pub struct Fork {
    /// Directory of the store
    pub store: PathBuf,
    /// Directory of the new one, which must not be there
    pub new_store: PathBuf,
    /// The generation, or the name of one [default: the newest]
    #[arg(long, value_name = "GEN|TAG")]
    pub at: Option<String>,
    /// Copy all pages now, so that the new store needs the old one no more
    #[arg(long)]
    pub copy: bool,
}

/// `semper lender`.
#[derive(Args, Clone, Debug)]
pub struct LenderOf {
    /// Directory of the forked store
    pub store: PathBuf,
    /// Where the store is now from which it has pages [default: show where it was last]
    pub dir: Option<PathBuf>,
    /// Print JSON, for scripts
    #[arg(long, conflicts_with = "dir")]
    pub json: bool,
}

/// `semper extract`.
#[derive(Args, Clone, Debug)]
pub struct Extract {
    /// Directory of the store
    pub store: PathBuf,
    /// The programs, by their names in `semper status`
    #[arg(required = true, value_name = "DOMAIN")]
    pub domains: Vec<String>,
    /// Directory of the new store, which must not be there
    #[arg(long, value_name = "NEW_STORE")]
    pub to: PathBuf,
    /// The generation, or the name of one [default: the newest]
    #[arg(long, value_name = "GEN|TAG")]
    pub at: Option<String>,
}

/// `semper diff`.
#[derive(Args, Clone, Debug)]
pub struct Diff {
    /// Directory of the store
    pub store: PathBuf,
    /// A generation, or the name of one
    #[arg(value_name = "GEN|TAG")]
    pub from: String,
    /// Another
    #[arg(value_name = "GEN|TAG")]
    pub to: String,
    /// Print JSON, for scripts
    #[arg(long)]
    pub json: bool,
}

/// `semper grow` and `semper shrink`.
#[derive(Args, Clone, Debug)]
pub struct Resize {
    /// Directory of the store
    pub store: PathBuf,
    /// Its new size
    #[arg(value_parser = parse_size)]
    pub size: u64,
}

/// A command on a store.
#[derive(Args, Clone, Debug)]
pub struct StoreOnly {
    /// Directory of the store
    pub store: PathBuf,
}

/// `semper ls`.
#[derive(Args, Clone, Debug)]
pub struct Ls {
    /// Directory of the store
    pub store: PathBuf,
    /// Levels of banks below the prime bank that are looked into
    #[arg(long, value_name = "LEVELS", default_value_t = 16)]
    pub depth: u32,
    /// Print JSON, for scripts
    #[arg(long)]
    pub json: bool,
}

/// `semper inspect`.
#[derive(Args, Clone, Debug)]
pub struct Inspect {
    /// Directory of the store
    pub store: PathBuf,
    /// INDEX.VERSION as `semper ls` shows it, or the name of a program
    pub object: String,
    /// Print JSON, for scripts
    #[arg(long)]
    pub json: bool,
}

/// `semper stop`.
#[derive(Args, Clone, Debug)]
pub struct Stop {
    /// Directory of the store
    pub store: PathBuf,
    /// INDEX.VERSION as `semper ls` shows it, or the name of a program [default: the whole runtime]
    pub domain: Option<String>,
}

/// A command on a domain.
#[derive(Args, Clone, Debug)]
pub struct OnDomain {
    /// Directory of the store
    pub store: PathBuf,
    /// INDEX.VERSION as `semper ls` shows it, or the name of a program
    pub domain: String,
}

/// `semper logs`.
#[derive(Args, Clone, Debug)]
pub struct Logs {
    /// Directory of the store
    pub store: PathBuf,
    /// Go on with what is written from now on, until Ctrl-C
    #[arg(long)]
    pub follow: bool,
    /// Only the last N lines of what there is [default: all]
    #[arg(long, value_name = "N")]
    pub lines: Option<usize>,
}

/// `semper gdb`.
#[derive(Args, Clone, Debug)]
pub struct Gdb {
    /// Directory of the store
    pub store: PathBuf,
    /// INDEX.VERSION as `semper ls` shows it, or the name of a native program
    pub domain: String,
    /// Wait here for one gdb, which can do everything to the domain, instead of standard input and output
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: Option<std::net::SocketAddr>,
    /// Leave the domain stopped at the end
    #[arg(long)]
    pub leave_stopped: bool,
}

/// `semper doctor`.
#[derive(Args, Clone, Debug)]
pub struct Doctor {
    /// Where stores would be kept
    #[arg(default_value = ".")]
    pub directory: PathBuf,
    /// Print JSON, for scripts
    #[arg(long)]
    pub json: bool,
}

/// `semper demo`.
#[derive(Args, Clone, Debug)]
pub struct Demo {
    /// Seed of the random moments, to repeat a run [default: random, and printed]
    #[arg(long)]
    pub seed: Option<u64>,
    /// How often to kill the runtime
    #[arg(long, default_value_t = 10)]
    pub kills: u32,
    /// Keep the store and the outputs in this directory, which must be empty [default: a temporary one]
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_the_command_line_are_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}

/// `semper move`.
#[derive(Args, Clone, Debug)]
pub struct Move {
    /// Directory of the store
    pub store: PathBuf,
    /// Where `semper receive DIR --listen` waits; or `exec:COMMAND`, a command of the shell that runs `semper receive DIR --stdio` there,
    /// such as `exec:ssh host semper receive world --stdio`. It is remembered: a move that is to be ended needs none
    #[arg(long, value_name = "HOST:PORT|exec:COMMAND")]
    pub to: Option<String>,
    /// The token that the other end has, too
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// The most bytes to write in a second while the world runs [default: no limit]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub rate_limit: Option<u64>,
}

/// `semper receive`.
#[derive(Args, Clone, Debug)]
pub struct Receive {
    /// Directory of the store to make, which must be new or empty
    pub store: PathBuf,
    /// Wait here for who has the same token, until a world has arrived
    #[arg(long, value_name = "ADDR:PORT", requires = "token_file", required_unless_present = "stdio")]
    pub listen: Option<String>,
    /// The token, which is made if the file is not there: who has it can move a world here, or take one in the place of this end
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Speak with `semper move` over standard input and output
    #[arg(long, conflicts_with = "listen")]
    pub stdio: bool,
}
