//! Semper.
fn main() {}
