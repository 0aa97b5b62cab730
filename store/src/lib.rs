//! Semper: the store.
