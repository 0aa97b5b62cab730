//! What domains write with their log keys: two files of bounded length beside the store. `docs/format-log.md` has the lines.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// The newer lines, in the directory of the consoles.
pub const LOG: &str = "log";
/// The older lines.
pub const OLD_LOG: &str = "log.old";
/// Bytes from which on the newer lines become the older ones.
pub const LOG_BYTES: u64 = 4 << 20;

/// The log, open.
pub struct Log {
    dir: PathBuf,
    file: Option<File>,
    bytes: u64,
    /// It could not be written, and that was told.
    broken: bool,
}

impl Log {
    /// The log in `dir`; the file is made with the first line.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_path_buf(), file: None, bytes: 0, broken: false }
    }

    /// Adds what a domain wrote, each line of it by itself. A log that cannot be written is told once; nobody waits for it.
    pub fn add(&mut self, object: &str, name: &str, text: &[u8]) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let text = String::from_utf8_lossy(text);
        let mut lines = String::new();
        for line in text.trim_end().lines() {
            let (seconds, micros) = (now.as_secs(), now.subsec_micros());
            lines += &format!("{seconds}.{micros:06}\t{object}\t{}\t{}\n", printable(name), printable(line));
        }
        match self.write(lines.as_bytes()) {
            Ok(()) => self.broken = false,
            Err(error) if !self.broken => {
                self.broken = true;
                tracing::warn!(%error, "the log of the domains cannot be written");
            }
            Err(_) => {}
        }
    }

    fn write(&mut self, lines: &[u8]) -> std::io::Result<()> {
        if self.bytes >= LOG_BYTES {
            self.file = None;
            std::fs::rename(self.dir.join(LOG), self.dir.join(OLD_LOG))?;
        }
        if self.file.is_none() {
            let file = OpenOptions::new().append(true).create(true).open(self.dir.join(LOG))?;
            self.bytes = file.metadata()?.len();
            self.file = Some(file);
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        file.write_all(lines)?;
        self.bytes += lines.len() as u64;
        Ok(())
    }
}

/// Without what could move a terminal's cursor or look like another column.
fn printable(text: &str) -> String {
    let shown = |c: char| match c {
        '\t' => ' ',
        c if c.is_control() => char::REPLACEMENT_CHARACTER,
        c => c,
    };
    text.chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_log_is_bounded_and_keeps_the_newest_lines() {
        let dir = std::env::temp_dir().join(format!("semper-log-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let mut log = Log::new(&dir);
        let text = [b'x'; 4000];
        for _ in 0..3 * LOG_BYTES / 4000 {
            log.add("1.1", "a\tb", &text);
        }
        log.add("1.1", "", b"the\x1b[2J last\nline\n");
        let (new, old) =
            (std::fs::read_to_string(dir.join(LOG)).unwrap(), std::fs::metadata(dir.join(OLD_LOG)).unwrap());
        let limit = LOG_BYTES + 5000;
        assert!(new.len() as u64 <= limit && old.len() <= limit, "{} {}", new.len(), old.len());
        let last: Vec<Vec<&str>> = new.lines().rev().take(2).map(|line| line.split('\t').collect()).collect();
        assert_eq!(last.iter().map(|line| line[3]).collect::<Vec<_>>(), ["line", "the\u{fffd}[2J last"]);
        assert!(last.iter().all(|line| line.len() == 4 && line[1] == "1.1"));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
