//! Who works on a partition now. A lease is only liveness; safety is the epoch check of the buffer and the sink's fence.
//!
//! ```text
//! each tick (a third of a lease): heartbeat ──▶ who is alive, what is held, what is free
//!   share: the partitions that are this worker's part
//!   above it: some are given up, each when no cycle works on it any more
//!   below it: free ones are taken, and fenced in the sink before anything is claimed
//! ```
//!
//! Every worker computes the same shares from the same list, so that nobody has to hand them out.

mod hold;
mod keep;
mod newest;
mod share;
mod topology;

pub(crate) use hold::{Leases, Right, Suspension};
pub(crate) use keep::{begin, keep};
pub(crate) use newest::worker;
pub(crate) use topology::{confirm, watch};
