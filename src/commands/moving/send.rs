//! `semper move`.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use indicatif::BinaryBytes;
use semper::control::{Connection, ControlError, Reply, Request};
use semper::runtime::Moved;
use semper_backup::Options;
use semper_store::{Generation, OpenOptions, Store, crash_point};

use super::tls::{Token, connect};
use super::wire::{Message, VERSION, Wire, hear, say};
use crate::cli::Move;
use crate::commands::backup::ship::{Journal, Newest, stream};
use crate::commands::failure::code;
use crate::commands::{Failure, say as print};

/// Increments that are sent while the world runs, at most.
const ROUNDS: u32 = 6;

/// An increment as small as this is the last but the one for which the world stands.
const SMALL: u64 = 8 << 20;

/// How the other end is named.
const EXEC: &str = "exec:";

pub fn run(command: &Move) -> Result<ExitCode, Failure> {
    let dir = &command.store;
    let moved = Moved::of(dir)?;
    let to = match (&command.to, &moved) {
        (Some(to), _) => to.clone(),
        (None, Some(moved)) => moved.to.clone(),
        (None, None) => return Err(Failure::new(code::USAGE, "name where it is to go: --to 'exec:COMMAND'")),
    };
    let id = match &moved {
        Some(moved) => moved.id,
        None => random()?,
    };
    let store = Store::open_read_only(dir)?.id();
    let mut peer = Peer::start(&to, command.token_file.as_deref())?;
    peer.say(&Message::Hello { version: VERSION, store: store.0, id })?;
    let answer = peer.hear()?;
    let stood = match (moved, answer) {
        (Some(_), Message::Done) => None,
        (Some(_), Message::Prepared) => Some(Duration::ZERO),
        (Some(_), _) => {
            let told = format!(
                "the world of {} has left it, and {to} does not know of that; name the place that it went to (it is noted in {})",
                dir.display(),
                dir.join("moved").display()
            );
            return Err(Failure::new(code::NOT_FOUND, told));
        }
        (None, Message::Ready) => Some(hand_over(command, &to, id, &mut peer)?),
        (None, _) => return Err(unexpected()),
    };
    if let Some(stood) = stood {
        peer.say(&Message::Commit)?;
        crash_point("move-committed");
        match peer.hear()? {
            Message::Done => {}
            _ => return Err(unexpected()),
        }
        if !stood.is_zero() {
            eprintln!("semper: the world stood still for at most {:.0} ms", stood.as_secs_f64() * 1e3);
        }
    }
    drop(peer);
    print(format_args!("{}: the world has moved to {to}", dir.display()));
    Ok(ExitCode::SUCCESS)
}

fn random() -> Result<[u8; 16], Failure> {
    let mut id = [0; 16];
    let drawn = File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut id));
    drawn.map(|()| id).map_err(|error| Failure::io("draw the number of the move", &error))
}

/// Brings the world over; when it returns it has left here, durably. For how long it stood.
fn hand_over(command: &Move, to: &str, id: [u8; 16], peer: &mut Peer) -> Result<Duration, Failure> {
    let dir = &command.store;
    let options = Options { rate_limit: command.rate_limit, ..Options::default() };
    match Connection::open(dir) {
        Ok(_) => running(dir, to, id, peer, &options),
        Err(ControlError::NotRunning) => at_rest(dir, to, id, peer, &options),
        Err(error) => Err(Failure::control(dir, error)),
    }
}

/// Nobody else opens the store meanwhile.
fn at_rest(dir: &Path, to: &str, id: [u8; 16], peer: &mut Peer, options: &Options) -> Result<Duration, Failure> {
    let lock = Store::open(dir, &OpenOptions::default())?;
    if Moved::of(dir)?.is_some() {
        return Err(Failure::new(code::IN_USE, "it was moved meanwhile"));
    }
    let newest = Newest::hold(dir, None, &Journal::New)?;
    not_empty(dir, newest.generation)?;
    peer.send(&newest, options)?;
    peer.prepare()?;
    let moved = Moved { to: to.to_owned(), id };
    let noted = moved.note(dir);
    noted.map_err(|error| Failure::io(format_args!("note in {} that it has moved", dir.display()), &error))?;
    moved.note_on_mirrors(&lock);
    Ok(Duration::ZERO)
}

fn not_empty(dir: &Path, generation: Generation) -> Result<(), Failure> {
    if generation > Generation(0) {
        return Ok(());
    }
    Err(Failure::new(code::NOT_FOUND, format!("nothing has been committed in {} yet", dir.display())))
}

fn running(dir: &Path, to: &str, id: [u8; 16], peer: &mut Peer, options: &Options) -> Result<Duration, Failure> {
    let mut sent = Newest::hold(dir, None, &Journal::New)?;
    not_empty(dir, sent.generation)?;
    peer.send(&sent, options)?;
    for _ in 0..ROUNDS {
        ask(dir, &Request::Checkpoint)?;
        let next = Newest::hold(dir, Some(&sent.generation.0.to_string()), &Journal::New)?;
        if next.generation == sent.generation {
            break;
        }
        let bytes = peer.send(&next, options)?;
        sent = next;
        if bytes <= SMALL {
            break;
        }
    }
    crash_point("move-sent");
    let began = Instant::now();
    // As long as this lives the world stands, if nothing else is said over it.
    let world = Connection::open(dir).map_err(|error| Failure::control(dir, error))?;
    let answered = world.ask(&Request::HandOver).map_err(|error| Failure::control(dir, error))?;
    let Reply::Generation { generation } = answered else {
        return Err(Failure::control(dir, ControlError::Unexpected(Box::new(answered))));
    };
    let stands = began.elapsed();
    crash_point("move-stands");
    let last = Newest::hold(dir, Some(&sent.generation.0.to_string()), &Journal::New)?;
    if last.generation != Generation(generation) {
        return Err(Failure::new(code::FAILED, "the world did not stand still, which is a bug"));
    }
    if last.generation != sent.generation {
        peer.send(&last, &Options::default())?;
    }
    let sent = began.elapsed();
    peer.prepare()?;
    let prepared = began.elapsed();
    tracing::info!(?stands, ?sent, ?prepared, "since the world was asked to stand");
    crash_point("move-prepared");
    match world.ask(&Request::Moved { to: to.to_owned(), id }) {
        Ok(Reply::Done) => {}
        // The runtime may have ended behind the note.
        _ if Moved::of(dir)?.is_some_and(|moved| moved.id == id) => {}
        Ok(other) => return Err(Failure::control(dir, ControlError::Unexpected(Box::new(other)))),
        Err(error) => return Err(Failure::control(dir, error)),
    }
    crash_point("move-left");
    Ok(began.elapsed())
}

fn ask(dir: &Path, request: &Request) -> Result<Reply, Failure> {
    let answer = Connection::open(dir).and_then(|connection| connection.ask(request));
    answer.map_err(|error| Failure::control(dir, error))
}

fn unexpected() -> Failure {
    Failure::new(code::FAILED, "the other end says what does not belong here")
}

/// The other end.
struct Peer(Box<dyn Wire>);

/// A command that speaks for it.
struct Spoken {
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    _child: Ended,
}

impl Wire for Spoken {
    fn input(&mut self) -> &mut (dyn Read + Send) {
        &mut self.from
    }

    fn output(&mut self) -> &mut dyn Write {
        &mut self.to
    }
}

/// A command that is not left behind.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.wait();
    }
}

impl Peer {
    fn start(to: &str, token: Option<&Path>) -> Result<Peer, Failure> {
        let Some(command) = to.strip_prefix(EXEC) else {
            let Some(token) = token else {
                let told = format!("{to} needs --token-file FILE, the one of the other end; or write exec:COMMAND");
                return Err(Failure::new(code::USAGE, told));
            };
            return connect(to, &Token::read(token)?).map(Peer);
        };
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", command]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = shell.spawn().map_err(|error| Failure::io("start the other end", &error))?;
        let (Some(to), Some(from)) = (child.stdin.take(), child.stdout.take()) else { return Err(unexpected()) };
        Ok(Peer(Box::new(Spoken { to, from: BufReader::new(from), _child: Ended(child) })))
    }

    fn say(&mut self, message: &Message) -> Result<(), Failure> {
        match say(self.0.output(), message) {
            Ok(()) => Ok(()),
            Err(error) => Err(self.lost(&error)),
        }
    }

    fn hear(&mut self) -> Result<Message, Failure> {
        match hear(self.0.input()) {
            Ok(Message::Refused(why)) => Err(Failure::new(code::FAILED, format!("there: {why}"))),
            Ok(message) => Ok(message),
            Err(error) => Err(Failure::io("speak with the other end", &error)),
        }
    }

    /// What it said before it went, if it said something.
    fn lost(&mut self, error: &io::Error) -> Failure {
        match hear(self.0.input()) {
            Ok(Message::Refused(why)) => Failure::new(code::FAILED, format!("there: {why}")),
            Err(said) if said.kind() == io::ErrorKind::Other => Failure::io("speak with the other end", &said),
            _ => Failure::io("speak with the other end", error),
        }
    }

    /// Sends a generation, and waits until it is there; the bytes of it.
    fn send(&mut self, newest: &Newest, options: &Options) -> Result<u64, Failure> {
        self.say(&Message::Stream)?;
        let sent = stream(&newest.pinned(), options, self.0.output());
        let (_, header, manifest) = match sent {
            Ok(sent) => sent,
            Err(failure) => return Err(self.refusal().unwrap_or(failure)),
        };
        self.0.output().flush().map_err(|error| self.lost(&error))?;
        tracing::info!("{} is there, {}", header.generation(), BinaryBytes(manifest.bytes));
        match self.hear()? {
            Message::Applied => Ok(manifest.bytes),
            _ => Err(unexpected()),
        }
    }

    fn refusal(&mut self) -> Option<Failure> {
        match hear(self.0.input()) {
            Ok(Message::Refused(why)) => Some(Failure::new(code::FAILED, format!("there: {why}"))),
            _ => None,
        }
    }

    /// Has the other end make all of it durable.
    fn prepare(&mut self) -> Result<(), Failure> {
        self.say(&Message::Last)?;
        match self.hear()? {
            Message::Prepared => Ok(()),
            _ => Err(unexpected()),
        }
    }
}
