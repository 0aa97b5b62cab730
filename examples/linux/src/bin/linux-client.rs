//! An ordinary Rust program, with std, that is a client of a key-value server by a key in slot 12: `linux-client [ENTRIES]`.
//!
//! ```console
//! $ semper run world --native --name kv -- examples/native/target/release/kv serve &
//! $ semper run world --key 12=kv -- examples/linux/target/release/linux-client
//! ```
//!
//! Outside Semper it says that there is no kernel.

extern crate alloc;

use map::MapClient;
use semper_domain::CallError;
use semper_domain::keys::Key;
use std::collections::HashMap;
use std::convert::Infallible;
use std::process::ExitCode;

#[path = "../../../native/src/map.rs"]
mod map;

/// Where the key was put: `--key 12=kv`.
const SERVER: u8 = 12;

fn value(n: u64) -> Vec<u8> {
    n.to_string().repeat(1 + usize::try_from(n % 40).unwrap_or(0)).into_bytes()
}

/// Does to the server what it does to a map of its own, and compares.
fn work(map: &MapClient, entries: u64) -> Result<(), CallError<Infallible>> {
    let mut expected: HashMap<String, Vec<u8>> = HashMap::new();
    let mut wrong = 0;
    for n in 0..entries {
        let (name, value) = (format!("entry {}", n * 7 % (entries / 2 + 1)), value(n));
        wrong += u64::from(map.put(&name, &value)? != expected.insert(name.clone(), value));
        if n % 5 == 0 {
            wrong += u64::from(map.remove(&name)? != expected.remove(&name).is_some());
        }
        if n % 100 == 99 {
            println!("{} calls, {} values, {wrong} wrong", n + 1, expected.len());
        }
    }
    for (name, value) in &expected {
        wrong += u64::from(map.get(name)?.as_ref() != Some(value));
    }
    let sum: u64 = expected.values().flatten().map(|byte| u64::from(*byte)).sum();
    let census = map.census()?;
    println!("the server holds {census:?}, expected {:?}, {wrong} wrong", (expected.len() as u64, sum));
    Ok(())
}

fn main() -> ExitCode {
    let entries = std::env::args().nth(1).and_then(|arg| arg.parse().ok()).unwrap_or(1000);
    let map = MapClient::at(SERVER);
    match work(&map, entries).and_then(|()| map.close()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
