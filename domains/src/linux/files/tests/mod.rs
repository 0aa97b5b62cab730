//! Tests of the files, through the calls that a program would give.

mod calls;
mod console;
mod hostile;
mod machine;
mod model;
mod waiting;
