//! Names for generations, which stay as long as they have one.
//!
//! The file `tags` in the store's directory: a title line, then `GENERATION NAME` for each. It is replaced as a whole. Without it nothing is held
//! any more, and nothing else is lost.

use crate::directory::TAGS_FILE;
use crate::error::Error;
use crate::ids::Generation;
use crate::mirror::Mirrored;
use crate::root::MIN_KEPT;
use crate::shared::Shared;
use crate::store::Store;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::sync::PoisonError;

/// The first line of the file.
const TITLE: &str = "semper: generations that stay";

/// How the names of tags begin that keep what forks borrow.
pub(crate) const FORK: &str = "fork-";

/// Bytes that a name can have.
const LONGEST: usize = 64;

/// A generation with a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    /// Its name.
    pub name: String,
    /// Which one.
    pub generation: Generation,
}

impl Tag {
    /// Whether it keeps what a fork has its pages from.
    #[must_use]
    pub fn is_of_a_fork(&self) -> bool {
        self.name.strip_prefix(FORK).is_some_and(|id| id.len() == 8 && id.bytes().all(|byte| byte.is_ascii_hexdigit()))
    }
}

/// What the file says; a line that is none of ours is passed over.
///
/// # Errors
/// It is not known what it says.
pub(crate) fn read(sides: &Mirrored) -> Result<Vec<Tag>, Error> {
    let text = sides.note(TAGS_FILE).map_err(|e| Error::io(format!("read the file {TAGS_FILE}"), e))?;
    Ok(text.unwrap_or_default().lines().filter_map(parse).collect())
}

fn parse(line: &str) -> Option<Tag> {
    let (generation, name) = line.split_once(' ')?;
    check_name(name).ok()?;
    Some(Tag { name: name.to_owned(), generation: Generation(generation.parse().ok()?) })
}

fn write(sides: &Mirrored, tags: &[Tag]) -> Result<(), Error> {
    let mut text = format!("{TITLE}\n");
    for Tag { name, generation } in tags {
        let _ = writeln!(text, "{} {name}", generation.0);
    }
    sides.keep_note(TAGS_FILE, Some(&text))
}

fn bad(name: &str, why: impl Into<String>) -> Error {
    Error::BadTag { name: name.to_owned(), why: why.into() }
}

fn check_name(name: &str) -> Result<(), Error> {
    let letter = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if name.is_empty() || name.len() > LONGEST || !name.chars().all(letter) {
        return Err(bad(name, format!("a name has 1 to {LONGEST} letters, digits, dots, dashes or underscores")));
    }
    if name.chars().all(|c| c.is_ascii_digit()) {
        return Err(bad(name, "a name of digits alone would be taken for the number of a generation"));
    }
    Ok(())
}

impl Shared {
    /// Holds what the tags name and the root lists.
    pub fn hold_tagged(&self) {
        let (Some(sides), false) = (&self.mirrored, self.read_only) else { return };
        let root = &self.current().root;
        let tags = read(sides).unwrap_or_else(|e| {
            tracing::warn!("{e}: every generation is kept that can be");
            let all = root.listed().into_iter().skip(MIN_KEPT);
            all.map(|generation| Tag { name: "?".to_owned(), generation: Generation(generation) }).collect()
        });
        for Tag { name, generation } in tags {
            if root.find(generation).is_none() {
                tracing::warn!("the tag {name} is void: {generation} is not kept any more");
            } else if let Err(e) = self.holds().add(root, generation.0) {
                tracing::warn!("the tag {name} does not hold {generation}: {e}");
            }
        }
    }
}

impl Store {
    /// The tags of the store in `dir`, whether or not the generations are still there.
    #[must_use]
    pub fn tags_in(dir: &Path) -> Vec<Tag> {
        let bytes = fs::read(dir.join(TAGS_FILE)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).lines().filter_map(parse).collect()
    }

    /// Gives `generation` a name, durably: it stays readable until [`Store::untag`].
    ///
    /// # Errors
    /// [`Error::BadTag`] for a name that cannot be or is taken; [`Error::NoSuchGeneration`]; [`Error::TooManyHeld`]; what the host says.
    pub fn tag(&self, name: &str, generation: Generation) -> Result<(), Error> {
        check_name(name)?;
        let sides = self.sides(name)?;
        let hold = self.hold(generation)?;
        // If one page of it rots, the rest is to stay.
        self.seal()?;
        let _one = self.shared.tagging.lock().unwrap_or_else(PoisonError::into_inner);
        let mut tags = read(sides)?;
        if let Some(taken) = tags.iter().find(|tag| tag.name == name) {
            return Err(bad(name, format!("it names {} already", taken.generation)));
        }
        tags.push(Tag { name: name.to_owned(), generation });
        write(sides, &tags)?;
        // From now on it is the tag that holds.
        self.shared.holds().add(&self.shared.current().root, generation.0)?;
        drop(hold);
        Ok(())
    }

    /// Takes a name away, durably; gives the generation, which stays as long as it would without.
    ///
    /// # Errors
    /// [`Error::BadTag`] if there is none of that name; what the host says.
    pub fn untag(&self, name: &str) -> Result<Generation, Error> {
        let sides = self.sides(name)?;
        let _one = self.shared.tagging.lock().unwrap_or_else(PoisonError::into_inner);
        let mut tags = read(sides)?;
        let at = tags.iter().position(|tag| tag.name == name).ok_or_else(|| bad(name, "there is none of that name"))?;
        let Tag { generation, .. } = tags.remove(at);
        write(sides, &tags)?;
        self.shared.holds().remove(generation.0);
        Ok(generation)
    }

    fn sides(&self, name: &str) -> Result<&Mirrored, Error> {
        self.shared.check_writable()?;
        self.shared.mirrored.as_deref().ok_or_else(|| bad(name, "a store on a disk of the caller's has no tags"))
    }
}
