//! Semper: the command line.

fn main() {}
