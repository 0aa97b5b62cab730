//! An ordinary Rust program, with std, that is a key-value server for whoever has a start key to it.
//!
//! ```console
//! $ semper run world --name map -- examples/linux/target/release/linux-server &
//! $ semper run world --native --key 12=map -- examples/native/target/release/kv client
//! ```

extern crate alloc;

use map::Map;
use semper_domain::Caller;
use std::collections::HashMap;
use std::convert::Infallible;
use std::process::ExitCode;

#[path = "../../../native/src/map.rs"]
mod map;

#[derive(Default)]
struct Store {
    values: HashMap<String, Vec<u8>>,
    calls: u64,
}

impl Map for Store {
    fn put(&mut self, _: &mut Caller, name: &str, value: &[u8]) -> Result<Option<Vec<u8>>, Infallible> {
        self.calls += 1;
        if self.calls.is_multiple_of(100) {
            println!("{} values were put", self.calls);
        }
        Ok(self.values.insert(name.into(), value.into()))
    }

    fn get(&mut self, _: &mut Caller, name: &str) -> Result<Option<Vec<u8>>, Infallible> {
        Ok(self.values.get(name).cloned())
    }

    fn remove(&mut self, _: &mut Caller, name: &str) -> Result<bool, Infallible> {
        Ok(self.values.remove(name).is_some())
    }

    fn census(&mut self, _: &mut Caller) -> Result<(u64, u64), Infallible> {
        Ok((self.values.len() as u64, self.values.values().flatten().map(|byte| u64::from(*byte)).sum()))
    }

    fn close(&mut self, caller: &mut Caller) -> Result<(), Infallible> {
        caller.end = true;
        Ok(())
    }
}

fn main() -> ExitCode {
    let mut store = Store::default();
    match store.serve() {
        Ok(()) => {
            println!("closed with {} values", store.values.len());
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
