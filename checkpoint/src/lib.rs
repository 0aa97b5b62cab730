//! Semper: the checkpoint.
