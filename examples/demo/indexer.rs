//! An indexer over text files: one program of `semper demo`. Ordinary Rust; it knows nothing of Semper.
//!
//! `indexer ROUNDS FILE...` builds an inverted index of the words of the files, then in each round ranks every file
//! against every other by what they have in common, and prints what it found as it goes.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::env;
use std::fs;
use std::process::ExitCode;

/// Where a word occurs: for each file the positions in it.
type Postings = BTreeMap<usize, Vec<u32>>;

struct Index {
    names: Vec<String>,
    lengths: Vec<u32>,
    words: HashMap<String, Postings>,
}

fn main() -> ExitCode {
    let mut args = env::args().skip(1);
    let Some(rounds) = args.next().and_then(|rounds| rounds.parse::<u32>().ok()) else {
        eprintln!("usage: indexer ROUNDS FILE...");
        return ExitCode::from(2);
    };
    let mut index = Index { names: Vec::new(), lengths: Vec::new(), words: HashMap::new() };
    for name in args {
        match fs::read_to_string(&name) {
            Ok(text) => add(&mut index, &name, &text),
            Err(error) => {
                eprintln!("indexer: {name}: {error}");
                return ExitCode::FAILURE;
            }
        }
    }
    let occurrences: usize = index.words.values().flat_map(|postings| postings.values()).map(Vec::len).sum();
    println!("{} files, {} different words, {occurrences} occurrences", index.names.len(), index.words.len());
    print_commonest(&index);
    for round in 1..=rounds {
        work(&index, round);
    }
    println!("done");
    ExitCode::SUCCESS
}

fn add(index: &mut Index, name: &str, text: &str) {
    let file = index.names.len();
    let mut position = 0;
    for word in text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty()) {
        index.words.entry(word.to_lowercase()).or_default().entry(file).or_default().push(position);
        position += 1;
    }
    println!("{name}: {position} words");
    index.names.push(name.to_owned());
    index.lengths.push(position);
}

fn print_commonest(index: &Index) {
    let mut counts: Vec<(usize, &str)> =
        index.words.iter().map(|(word, postings)| (postings.values().map(Vec::len).sum(), word.as_str())).collect();
    counts.sort_unstable_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(b.1)));
    for (count, word) in counts.iter().take(10) {
        println!("{count:8} {word}");
    }
}

/// One round: weighs the words, compares all pairs of files, and looks up phrases of two words.
fn work(index: &Index, round: u32) {
    let files = index.names.len();
    let mut similarity = vec![0.0f64; files * files];
    let mut words: Vec<_> = index.words.iter().collect();
    words.sort_unstable_by_key(|(word, _)| (word.len() ^ round as usize, word.as_str()));
    for (_, postings) in &words {
        let rarity = (files as f64 / postings.len() as f64).ln() + 1.0 / f64::from(round);
        for (&a, in_a) in postings.iter() {
            let weight_a = in_a.len() as f64 / f64::from(index.lengths[a]) * rarity;
            for (&b, in_b) in postings.range(a + 1..) {
                similarity[a * files + b] += weight_a * (in_b.len() as f64 / f64::from(index.lengths[b]) * rarity);
            }
        }
    }
    let mut best = (0, 0, f64::MIN);
    for a in 0..files {
        for b in a + 1..files {
            let norm = (similarity[a * files + b] * f64::from(round)).sqrt();
            if norm > best.2 {
                best = (a, b, norm);
            }
        }
    }
    let phrases = phrases(index, round);
    println!(
        "round {round}: {} and {} are closest ({:.6}); {} phrases, the longest {:?}",
        index.names.get(best.0).map_or("", String::as_str),
        index.names.get(best.1).map_or("", String::as_str),
        best.2,
        phrases.len(),
        phrases.iter().max_by_key(|phrase| (phrase.len(), phrase.as_str())).map_or("", String::as_str)
    );
}

/// All pairs of words, of those whose length fits the round, that stand one after the other somewhere.
fn phrases(index: &Index, round: u32) -> HashSet<String> {
    let mut by_place: HashMap<(usize, u32), &str> = HashMap::new();
    for (word, postings) in &index.words {
        if !(word.len() + round as usize).is_multiple_of(3) {
            for (&file, positions) in postings {
                by_place.extend(positions.iter().map(|&position| ((file, position), word.as_str())));
            }
        }
    }
    let mut found = HashSet::new();
    for (&(file, position), first) in &by_place {
        if let Some(second) = by_place.get(&(file, position + 1)) {
            found.insert(format!("{first} {second}"));
        }
    }
    found
}
