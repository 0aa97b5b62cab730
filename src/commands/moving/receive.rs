//! `semper receive`.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use semper::runtime::shown_id;
use semper_backup::{Restore, StreamReader};
use semper_store::crash_point;

use super::ARRIVED;
use super::tls::{Listener, Token};
use super::wire::{Message, VERSION, Wire, hear, say};
use crate::cli::Receive;
use crate::commands::Failure;
use crate::commands::failure::code;

/// Bytes that are read at once.
const BUFFER: usize = 1 << 20;

pub fn run(command: &Receive) -> Result<ExitCode, Failure> {
    match (&command.listen, &command.token_file) {
        (Some(address), Some(token)) => {
            let listener = Listener::bind(address, &Token::read_or_make(token)?)?;
            // Who fails may come again, and has to if the world has left the other end.
            while let Err(failure) = converse(&command.store, listener.accept()?) {
                eprintln!("semper: {failure}; waiting");
            }
        }
        _ => {
            let input = io::stdin().as_fd().try_clone_to_owned().map_err(failed)?;
            let output = io::stdout().as_fd().try_clone_to_owned().map_err(failed)?;
            let input = BufReader::with_capacity(BUFFER, File::from(input));
            converse(&command.store, Box::new(Stdio { input, output: File::from(output) }))?;
        }
    }
    eprintln!("semper: the world is in {0}; go on with: semper resume {0}", command.store.display());
    Ok(ExitCode::SUCCESS)
}

fn converse(target: &Path, wire: Box<dyn Wire>) -> Result<(), Failure> {
    let mut end = End(wire);
    let received = receive(target, &mut end);
    if let Err(failure) = &received {
        // The other end says it to its user; if it is gone, this end's does.
        let _ = say(end.0.output(), &Message::Refused(failure.to_string()));
    }
    received
}

fn failed(error: io::Error) -> Failure {
    Failure::io("speak with the other end", &error)
}

/// Standard input and output.
struct Stdio {
    input: BufReader<File>,
    output: File,
}

impl Wire for Stdio {
    fn input(&mut self) -> &mut (dyn Read + Send) {
        &mut self.input
    }

    fn output(&mut self) -> &mut dyn Write {
        &mut self.output
    }
}

/// The way to the end that the world leaves.
struct End(Box<dyn Wire>);

impl End {
    fn say(&mut self, message: &Message) -> Result<(), Failure> {
        say(self.0.output(), message).map_err(failed)
    }

    fn hear(&mut self) -> Result<Message, Failure> {
        hear(self.0.input()).map_err(failed)
    }
}

/// Where a world arrives, which has its place when it has left the other.
struct Place {
    target: PathBuf,
    parent: PathBuf,
    /// What has arrived and waits.
    waiting: PathBuf,
    _lock: File,
}

fn receive(target: &Path, wire: &mut End) -> Result<(), Failure> {
    let Message::Hello { version, store, id } = wire.hear()? else { return Err(unexpected()) };
    if version != VERSION {
        let told = format!(
            "the other end speaks version {version} of the hand-over, and this one {VERSION}; use the same semper"
        );
        return Err(Failure::new(code::USAGE, told));
    }
    let note = format!("{}\n{}\n", shown_id(&store), shown_id(&id));
    let place = Place::of(target)?;
    if noted(target)?.as_deref() == Some(&*note) {
        wire.say(&Message::Done)?;
        return Ok(());
    }
    if !is_free(target) {
        let told = format!("{} is there already; name a new directory to receive to", target.display());
        return Err(Failure::new(code::USAGE, told));
    }
    match noted(&place.waiting)? {
        Some(waiting) if waiting == note => {}
        // The store that it came from lives on, or it would not move again.
        Some(waiting) if waiting.starts_with(&shown_id(&store)) => {
            fs::remove_dir_all(&place.waiting).map_err(|e| at("remove", &place.waiting, &e))?;
            build(&place, &note, wire)?;
        }
        Some(_) => {
            let told = format!("{} waits for the end of the move of another world", place.waiting.display());
            return Err(Failure::new(code::IN_USE, told));
        }
        None => build(&place, &note, wire)?,
    }
    crash_point("receive-prepared");
    wire.say(&Message::Prepared)?;
    let Message::Commit = wire.hear()? else { return Err(unexpected()) };
    crash_point("receive-committing");
    if target.exists() {
        fs::remove_dir(target).map_err(|e| at("remove the empty directory", target, &e))?;
    }
    fs::rename(&place.waiting, target).map_err(|e| at("give its name to", target, &e))?;
    place.flush()?;
    crash_point("receive-arrived");
    wire.say(&Message::Done)
}

/// Makes the store of the streams that come, to wait.
fn build(place: &Place, note: &str, wire: &mut End) -> Result<(), Failure> {
    let mut restore = Restore::begin(&place.waiting)?.with_note(ARRIVED, note.as_bytes());
    wire.say(&Message::Ready)?;
    loop {
        match wire.hear()? {
            Message::Stream => {
                crash_point("receive-stream");
                let mut reader = StreamReader::new(wire.0.input(), "what comes");
                restore.apply(&mut reader, &mut |_| {})?;
                // Not when the world stands: the last stream is one commit, after which there is nothing to do.
                restore.settle()?;
                wire.say(&Message::Applied)?;
            }
            Message::Last => break,
            _ => return Err(unexpected()),
        }
    }
    crash_point("receive-complete");
    restore.finish()?;
    Ok(())
}

impl Place {
    fn of(target: &Path) -> Result<Place, Failure> {
        let name = target.file_name().ok_or_else(|| Failure::new(code::USAGE, "name a directory to receive to"))?;
        let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let hidden = |what: &str| parent.join(format!(".{}.{what}", name.to_string_lossy()));
        let path = hidden("receiving-lock");
        let lock = File::create(&path).map_err(|e| at("create", &path, &e))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                let told = format!("another world is being received to {}", target.display());
                return Err(Failure::new(code::IN_USE, told));
            }
            Err(fs::TryLockError::Error(e)) => return Err(at("lock", &path, &e)),
        }
        Ok(Place { target: target.to_owned(), parent: parent.to_owned(), waiting: hidden("arrived"), _lock: lock })
    }

    fn flush(&self) -> Result<(), Failure> {
        let flushed = File::open(&self.parent).and_then(|dir| dir.sync_all());
        flushed.map_err(|e| at("flush the directory of", &self.target, &e))
    }
}

/// By which move the store in `dir` came; none: by none, or there is no such store.
fn noted(dir: &Path) -> Result<Option<String>, Failure> {
    match fs::read_to_string(dir.join(ARRIVED)) {
        Ok(note) => Ok(Some(note)),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(e) => Err(at("read how it came to", dir, &e)),
    }
}

fn is_free(dir: &Path) -> bool {
    match fs::read_dir(dir) {
        Ok(mut entries) => entries.next().is_none(),
        Err(e) => e.kind() == io::ErrorKind::NotFound && dir.symlink_metadata().is_err(),
    }
}

fn at(what: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::io(format_args!("{what} {}", path.display()), error)
}

fn unexpected() -> Failure {
    Failure::new(code::FAILED, "the other end says what does not belong here")
}
