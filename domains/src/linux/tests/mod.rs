//! Tests of the personality, on a program that is not run: a test plays the processor.

mod docs;
mod hostile;
mod keys;
mod loading;
mod memory;
mod processor;
mod signals;
pub(in crate::linux) mod support;
mod timing;
