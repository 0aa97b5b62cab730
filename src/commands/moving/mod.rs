//! `semper move` and `semper receive`: a world goes from one store to another, and is never in both.
//!
//! | step | there | here | the world lives |
//! | --- | --- | --- | --- |
//! | 1 | builds a store of the streams that come | runs | here |
//! | 2 | | stands | here |
//! | 3 | has all of it, durably, as `.NAME.arrived`, which nobody resumes | | here |
//! | 4 | | writes the file `moved`, durably: **the world changes its place** | there |
//! | 5 | gives the store its name | is over | there |
//!
//! A death before step 4 leaves the world here, and what there is of it there is thrown away by the next move. A death after it leaves a store there that
//! waits for its name; the same command ends that.

pub mod receive;
pub mod send;
mod tls;
mod wire;

/// The file in a store that says by which move it came.
const ARRIVED: &str = "arrived";
