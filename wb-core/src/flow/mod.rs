//! The flow of a record, one file a verb.
//!
//! ```text
//! put ─▶ open ─rotate─▶ flushing ─claim─▶ batch ─flush─▶ sink ─settle─▶ clean copy | open again | dead letter
//! append ─▶ log ─rotate─▶ closed log ─read─▶ batch ─flush─▶ sink ─trim─▶ off the log | open | dead letter
//! get: open, flushing, clean copy, sink
//! ```

mod claim;
mod cycle;
mod decode;
mod entries;
mod flush;
mod get;
mod load;
mod log;
mod put;
mod rotate;
mod settle;

pub(crate) use cycle::run;
