//! The flow of a record, one file a verb.
//!
//! ```text
//! put ─▶ open ─rotate─▶ flushing ─claim─▶ batch ─flush─▶ sink ─settle─▶ clean copy | open again | dead letter
//! append ─▶ log ─rotate─▶ closed log ─read─▶ batch ─flush─▶ sink ─trim─▶ off the log | open | dead letter
//! get: open, flushing, clean copy, sink
//! ```

mod agree;
mod blame;
mod change;
mod claim;
mod cycle;
mod decode;
mod entries;
mod flush;
mod get;
mod get_together;
mod hold;
mod invalidate;
mod load;
mod log;
mod order;
mod parts;
mod peek;
mod put;
mod rotate;
mod settle;
mod settle_unit;
mod taken;
mod together;
mod transact;
mod transform;
mod units;

pub(crate) use cycle::run;
pub(crate) use transact::Draft;
