//! What a store says of the one in which its pages still lie.

use crate::ids::StoreId;
use crate::node::BlockRef;
use std::path::PathBuf;
use xxhash_rust::xxh3::xxh3_64;

/// The first line of the file.
const TITLE: &str = "Semper loan 1";

/// The record as it lies in the file `loan`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// The store that borrows.
    pub store: StoreId,
    pub lender: StoreId,
    /// The directory of the lender.
    pub from: PathBuf,
    /// The generation of the lender that the store began as, and the root of its tree.
    pub generation: u64,
    pub root: BlockRef,
    /// The tag that keeps it there.
    pub tag: String,
}

impl Record {
    /// The record as text; none if the path cannot stand in it.
    pub fn text(&self) -> Option<String> {
        let from = self.from.to_str().filter(|from| !from.contains(['\n', '\r']))?;
        let BlockRef { place, birth, checksum } = self.root;
        let Self { store, lender, generation, tag, .. } = self;
        let body = format!(
            "{TITLE}\nstore {store}\nlender {lender} {from}\ngeneration {generation}\nroot {place} {birth} {checksum:016x}\ntag {tag}\n"
        );
        let sum = xxh3_64(body.as_bytes());
        Some(format!("{body}sum {sum:016x}\n"))
    }

    /// Reads it.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if !text.starts_with(&format!("{TITLE}\n")) {
            return Err("it is of another version, or something else");
        }
        let (body, sum) = text.strip_suffix('\n').and_then(|text| text.rsplit_once('\n')).ok_or("it is cut short")?;
        let body = &text[..=body.len()];
        if sum.strip_prefix("sum ") != Some(&format!("{:016x}", xxh3_64(body.as_bytes()))) {
            return Err("its checksum does not match");
        }
        parse_lines(body).ok_or("it says what cannot be")
    }
}

fn parse_lines(body: &str) -> Option<Record> {
    let mut lines = body.lines().skip(1);
    let mut line = |word: &str| lines.next()?.strip_prefix(word)?.strip_prefix(' ');
    let store = line("store")?.parse().ok()?;
    let (lender, from) = line("lender")?.split_once(' ')?;
    let generation = line("generation")?.parse().ok()?;
    let mut root = line("root")?.splitn(3, ' ');
    let mut number = |radix| u64::from_str_radix(root.next()?, radix).ok();
    let root = BlockRef { place: number(10)?, birth: number(10)?, checksum: number(16)? };
    let tag = line("tag")?.to_owned();
    let record = Record { store, lender: lender.parse().ok()?, from: from.into(), generation, root, tag };
    lines.next().is_none().then_some(record)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            store: StoreId([1; 16]),
            lender: StoreId([2; 16]),
            from: "/a dir/with spaces".into(),
            generation: 7,
            root: BlockRef { place: 300, birth: 7, checksum: 0xfedc_ba98_7654_3210 },
            tag: "fork-01010101".to_owned(),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(Record::parse(&record().text().unwrap()), Ok(record()));
        assert_eq!(Record { from: "/a\nb".into(), ..record() }.text(), None);
    }

    #[test]
    fn nothing_that_was_changed_is_believed() {
        let text = record().text().unwrap();
        for at in 0..text.len() {
            assert!(Record::parse(&text[..at]).is_err(), "cut at {at}");
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            assert!(String::from_utf8(bytes).map_or(true, |text| Record::parse(&text).is_err()), "changed at {at}");
        }
        let body = "Semper loan 1\nstore x\n";
        let sum = xxh3_64(body.as_bytes());
        assert_eq!(Record::parse(&format!("{body}sum {sum:016x}\n")), Err("it says what cannot be"));
    }
}
