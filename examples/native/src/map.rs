//! The interface between key-value servers and their clients, native or Linux programs.

use alloc::vec::Vec;
use core::convert::Infallible;
use semper_domain::interface;

interface! {
    /// A map from texts to bytes.
    pub trait Map, client MapClient, fails Infallible {
        /// Puts a value, and gives the one that was there.
        1 => fn put(name: &str, value: &[u8]) -> Option<Vec<u8>>;
        /// A value.
        2 => fn get(name: &str) -> Option<Vec<u8>>;
        /// Removes a value. Was there one?
        3 => fn remove(name: &str) -> bool;
        /// How many values there are, and the sum of all their bytes.
        4 => fn census() -> (u64, u64);
        /// The server ends.
        5 => fn close();
    }
}
