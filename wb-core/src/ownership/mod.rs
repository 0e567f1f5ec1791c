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

pub(crate) mod keeper;
pub(crate) mod leases;
pub(crate) mod shares;
pub(crate) mod topology;
pub(crate) mod worker_name;

use std::sync::Arc;

use crate::entity::Entity;
use crate::runtime::context::EntityContext;
use crate::sink_gate::load_gate::LoadGate;

pub(crate) use self::keeper::{begin, keep};
pub(crate) use self::leases::{Leases, Right, Suspension};
pub(crate) use self::worker_name::worker;
pub(crate) use topology::{confirm, watch};

/// Takes, keeps and gives up partitions.
pub(crate) struct Ownership<E: Entity> {
    pub(crate) ctx: Arc<EntityContext<E>>,
    pub(crate) leases: Arc<Leases>,
    pub(crate) load_gate: Arc<LoadGate>,
}
