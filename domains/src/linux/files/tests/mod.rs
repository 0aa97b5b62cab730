//! Tests of the files, through the calls that a program would give.

mod calls;
mod console;
mod hostile;
mod journal;
mod machine;
mod model;
mod sockets;
mod unix;
mod waiting;

pub use journal::TestJournal;
