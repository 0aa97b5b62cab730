//! `semper logs`.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, UNIX_EPOCH};

use semper_domains::native::{LOG, OLD_LOG};

use super::failure::code;
use super::{Failure, say};
use crate::cli::Logs;

/// How often a followed log is looked at.
const LOOK: Duration = Duration::from_millis(100);

pub fn run(command: &Logs) -> Result<ExitCode, Failure> {
    let store = &command.store;
    if !semper_store::Store::lies_in(store) {
        let shown = store.display();
        return Err(Failure::new(code::NO_STORE, format!("there is no store {shown}; semper run makes one")));
    }
    let dir = store.join("console");
    let failed = |error: io::Error| Failure::io(format_args!("the log of {}", store.display()), &error);
    let most = command.lines.unwrap_or(usize::MAX);
    let mut last = VecDeque::new();
    let mut reader = None;
    for name in [OLD_LOG, LOG] {
        let Some(mut file) = open(&dir.join(name)).map_err(failed)? else { continue };
        while let Some(line) = file.line().map_err(failed)? {
            last.push_back(line);
            if last.len() > most {
                last.pop_front();
            }
        }
        reader = Some(file);
    }
    last.iter().for_each(|line| show(line));
    if command.follow {
        match follow(&dir.join(LOG), reader).map_err(failed)? {}
    }
    Ok(ExitCode::SUCCESS)
}

/// Shows what comes, until the command is ended.
fn follow(path: &Path, mut reader: Option<Reader>) -> io::Result<Infallible> {
    loop {
        let Some(file) = &mut reader else {
            thread::sleep(LOOK);
            reader = open(path)?;
            continue;
        };
        let renamed = match path.metadata() {
            Ok(current) => current.ino() != file.inode,
            Err(error) if error.kind() == ErrorKind::NotFound => false,
            Err(error) => return Err(error),
        };
        // A file is renamed after its last line: if it was, all of it is there.
        while let Some(line) = file.line()? {
            show(&line);
        }
        if renamed {
            reader = open(path)?;
        } else {
            thread::sleep(LOOK);
        }
    }
}

/// A file of the log; what was read of a line that has no end yet.
struct Reader {
    file: BufReader<File>,
    inode: u64,
    begun: Vec<u8>,
}

fn open(path: &Path) -> io::Result<Option<Reader>> {
    match File::open(path) {
        Ok(file) => {
            let inode = file.metadata()?.ino();
            Ok(Some(Reader { file: BufReader::new(file), inode, begun: Vec::new() }))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

impl Reader {
    /// The next whole line.
    fn line(&mut self) -> io::Result<Option<String>> {
        self.file.read_until(b'\n', &mut self.begun)?;
        if self.begun.pop_if(|last| *last == b'\n').is_none() {
            return Ok(None);
        }
        Ok(Some(String::from_utf8_lossy(&std::mem::take(&mut self.begun)).into_owned()))
    }
}

/// `TIME DOMAIN (PROGRAM): TEXT`; a line that is none of ours as it is.
fn show(line: &str) {
    let mut columns = line.splitn(4, '\t');
    let (Some(time), Some(object), Some(name), Some(text)) =
        (columns.next(), columns.next(), columns.next(), columns.next())
    else {
        return say(line);
    };
    let (seconds, micros) = time.split_once('.').unwrap_or((time, "0"));
    let at = Duration::new(
        seconds.parse().unwrap_or(0),
        micros.parse::<u32>().unwrap_or(0).saturating_mul(1000) % 1_000_000_000,
    );
    let at = humantime::format_rfc3339_micros(UNIX_EPOCH + at);
    let name = if name.is_empty() { String::new() } else { format!(" ({name})") };
    say(format_args!("{at} {object}{name}: {text}"));
}
