//! Ordinary Rust: collections, strings, boxes, a panic that is caught, environment and arguments. `std_mix ROUNDS`

use std::collections::{BTreeMap, HashMap, VecDeque};

fn main() {
    let rounds: u64 = std::env::args().nth(1).and_then(|rounds| rounds.parse().ok()).unwrap_or(100);
    println!("MODE is {:?}", std::env::var("MODE").ok());
    let mut seed = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let mut tree: BTreeMap<u64, String> = BTreeMap::new();
    let mut counts: HashMap<String, u64> = HashMap::new();
    let mut queue: VecDeque<Box<[u64]>> = VecDeque::new();
    for round in 0..rounds {
        for _ in 0..3000 {
            let value = random();
            tree.insert(value % 5000, format!("{value:x}"));
            *counts.entry(format!("k{}", value % 700)).or_default() += value % 13;
            queue.push_back(vec![value; (value % 50) as usize].into_boxed_slice());
            if queue.len() > 500 {
                queue.pop_front();
            }
        }
        let text: u64 = tree.iter().map(|(key, text)| key.wrapping_mul(text.len() as u64)).sum();
        let queued: u64 = queue.iter().flat_map(|part| part.iter()).fold(0, |sum, value| sum.wrapping_add(*value));
        println!("round {round}: {} {text} {} {queued:x}", tree.len(), counts.values().sum::<u64>());
    }
    let caught = std::panic::catch_unwind(|| {
        if rounds > 0 {
            std::panic::resume_unwind(Box::new("unwound"));
        }
    });
    println!("unwinding was {}", if caught.is_err() { "caught" } else { "not needed" });
    std::process::exit(5);
}
