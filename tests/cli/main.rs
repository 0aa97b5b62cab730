//! End to end, through the command line, as a user would.
//!
//! One file per subject; `harness` holds what they share. A failure prints `SEMPER_SEED=...`: set it to run the same again.

#![allow(clippy::unwrap_used)]

mod harness;

mod backup;
mod bucket;
mod console;
mod cpu;
mod crash_points;
mod crowd;
mod damage;
mod demo;
mod device;
mod doctor;
mod dynamic;
mod encrypted;
mod extract;
mod following;
mod forking;
mod full_disk;
mod hostile;
mod journal;
mod journal_backup;
mod keys;
mod killing;
mod lifecycle;
mod mail;
mod mirrors;
mod moving;
mod native;
mod network;
mod operating;
mod outputs;
mod packages;
mod replay;
mod replay_native;
mod rights;
mod room;
mod rot;
mod run;
mod sandbox;
mod scrubbing;
mod serve;
mod service;
mod shrinking;
mod siege;
mod skipping;
mod terminal;
mod tour;
mod travel;
