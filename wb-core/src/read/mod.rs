//! Reads: the buffer first, then the sink, one load of a key at a time.

pub(crate) mod get;
pub(crate) mod invalidate;
pub(crate) mod load;
pub(crate) mod peek;
pub(crate) mod single_flight;
pub(crate) mod snapshot;

use std::sync::Arc;

use crate::entity::Entity;
use crate::read::single_flight::SingleFlight;
use crate::runtime::context::EntityContext;
use crate::sink_gate::load_gate::LoadGate;

/// Reads. It knows no other role.
pub(crate) struct Reader<E: Entity> {
    pub(crate) ctx: Arc<EntityContext<E>>,
    pub(crate) single_flight: SingleFlight,
    /// Whether the sink may be asked for what the buffer does not have.
    pub(crate) load_gate: Arc<LoadGate>,
}
