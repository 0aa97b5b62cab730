//! Tests of the personality, on a program that is not run: a test plays the processor.

mod docs;
mod hostile;
mod loading;
mod memory;
mod signals;
mod support;
mod timing;
