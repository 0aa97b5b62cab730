//! The smallest domain: prints its arguments.
#![no_std]
#![no_main]

use semper_domain::{args, entry, println};

entry!(main);

fn main() {
    let mut args = args();
    let name = args.next().unwrap_or_default();
    println!("hello from {name}, which has {} arguments", args.count());
}
