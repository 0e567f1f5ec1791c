//! The flow of a record, one file a verb.
//!
//! ```text
//! put ─▶ open ─rotate─▶ flushing ─claim─▶ batch ─flush─▶ sink ─settle─▶ clean copy | open again | dead letter
//! get: open, flushing, clean copy, sink
//! ```

mod change;
mod claim;
mod cycle;
mod decode;
mod flush;
mod get;
mod load;
mod order;
mod put;
mod rotate;
mod settle;

pub(crate) use cycle::run;
