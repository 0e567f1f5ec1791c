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
mod get_together;
mod load;
mod put;
mod rotate;
mod settle;
mod settle_unit;
mod together;
mod transact;
mod units;

pub(crate) use cycle::run;
pub(crate) use transact::Draft;
