//! A world that has moved away: the file `moved` in its store says where it went. From the moment at which the file is there the world lives there,
//! and nowhere else.

use super::RuntimeError;
use semper_store::{Store, crash_point};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

const FILE: &str = "moved";
const NEW_FILE: &str = "moved.new";
const TITLE: &str = "semper: this world has moved";

/// Bytes that the file has at most.
const LONGEST: u64 = 16 << 10;

/// Where a world went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// As the command was told.
    pub to: String,
    /// What no other move has.
    pub id: [u8; 16],
}

impl Moved {
    /// Of the world in `dir`; none: it has not moved.
    ///
    /// # Errors
    /// The file is there and cannot be read: then nobody may go on with the world.
    pub fn of(dir: &Path) -> Result<Option<Self>, RuntimeError> {
        let path = dir.join(FILE);
        let failed = |source| RuntimeError::File { path: path.clone(), source };
        let mut text = String::new();
        match File::open(&path) {
            Ok(file) => file.take(LONGEST).read_to_string(&mut text).map_err(failed)?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(failed(e)),
        };
        let mut lines = text.lines();
        let (title, id, to) = (lines.next(), lines.next().and_then(parse_id), lines.next());
        match (title, id, to) {
            (Some(TITLE), Some(id), Some(to)) => Ok(Some(Self { to: to.to_owned(), id })),
            _ => Err(failed(io::Error::other("it should say where the world has moved to, and does not"))),
        }
    }

    /// Notes it, durably: the world is over here. Only who has the store open for itself may do it.
    ///
    /// # Errors
    /// What the host says. The file may be there or not then: [`Moved::of`] tells.
    pub fn note(&self, dir: &Path) -> io::Result<()> {
        let new = dir.join(NEW_FILE);
        let mut file = File::create(&new)?;
        let to = self.to.replace(['\n', '\r'], " ");
        file.write_all(format!("{TITLE}\n{}\n{to}\n", shown_id(&self.id)).as_bytes())?;
        file.sync_all()?;
        crash_point("move-unmarked");
        fs::rename(&new, dir.join(FILE))?;
        File::open(dir)?.sync_all()?;
        crash_point("move-marked");
        Ok(())
    }
}

impl Moved {
    /// Notes it on the mirrors of the store too. Who opens one looks into its directory as well; but that may be gone by then.
    pub fn note_on_mirrors(&self, store: &Store) {
        for side in &store.mirror_dirs() {
            if let Err(error) = self.note(side) {
                tracing::warn!(%error, "it is not noted in {} that the world has moved", side.display());
            }
        }
    }
}

/// In hexadecimal digits.
#[must_use]
pub fn shown_id(id: &[u8; 16]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn parse_id(text: &str) -> Option<[u8; 16]> {
    let number = (text.len() == 32).then(|| u128::from_str_radix(text, 16).ok()).flatten()?;
    Some(number.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_is_found_and_what_cannot_be_read_is_no_leave_to_go_on() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Moved::of(dir.path()).unwrap(), None);
        let moved = Moved { to: "exec:ssh host\nsemper".to_owned(), id: [7; 16] };
        moved.note(dir.path()).unwrap();
        let found = Moved::of(dir.path()).unwrap().unwrap();
        assert_eq!((found.id, &*found.to), ([7; 16], "exec:ssh host semper"));
        fs::write(dir.path().join(FILE), "semper").unwrap();
        assert!(Moved::of(dir.path()).is_err());
    }
}
