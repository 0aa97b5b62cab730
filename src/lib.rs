//! Semper runs ordinary programs so that nothing can end them.
//!
//! This package assembles the parts: the command line is its executable, and this library is what the executable is made
//! of, without a terminal.

#![deny(unsafe_code)]

pub mod control;
pub mod doctor;
pub mod runtime;
