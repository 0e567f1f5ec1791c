//! Where records wait: the port that [`RedisBuffer`](crate::RedisBuffer) and [`MemoryBuffer`] implement.
//!
//! A [`Buffer`] is a place (a Redis server, this process); a [`Space`] is one entity's share of it, and has one method
//! for each verb of the flow. Records move `open` → `flushing` → clean copy, in the order in which readers look, so
//! that none is missed.

mod append_log;
pub(crate) mod dead_letter;
pub(crate) mod flush_trigger;
mod lookup;
pub mod memory;
mod orphan;
mod ownership;
pub(crate) mod record;
#[cfg(feature = "redis")]
pub mod redis;
mod shapes;
mod space;
mod step;
mod subscription;
mod topology;
mod transaction;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

pub use self::append_log::{LogPage, Settled};
pub use self::dead_letter::{DeadLetter, Letters, Operation, Replay, Replayed, Together};
pub use self::subscription::{Ear, NearCopies};
pub use crate::error::buffer::{BufferError, BufferErrorKind};
pub use lookup::{IdFloor, Look, Lookup, Origin, Sight, Stored, Swap, Token};
pub use memory::MemoryBuffer;
pub use orphan::Orphan;
pub use ownership::{Holder, Lineage, Roll};
pub use shapes::{SeenShape, SeenShapes};
pub use space::{Coordination, DeadLetterStore, Epochs, LeaseStore, Reads, Settlement, Space, Writes};
pub use step::{
    Attempts, Clean, Done, Held, Moved, Page, Pending, PendingReport, Rotation, STALE_MARKS, Stamp, Status, Step,
};
pub use topology::{LAYOUT, Registration, Topology, TopologyChange};
use topology::{Waiting, no_logs, topology_changed, topology_leaving, topology_mismatch};
pub use transaction::{Guarded, Mark, Marks, Transacted};

use crate::error::finding::Finding;

/// A place where records wait.
#[async_trait]
pub trait Buffer: Send + Sync + 'static {
    /// Opens an entity's share of the buffer. Only looks: nothing of the buffer changes, so that whoever opens it may still
    /// fail, or never run at all. What is written needs an agreement first ([`agree`](Buffer::agree)).
    ///
    /// # Errors
    /// [`BufferErrorKind::Topology`] when an agreement would be refused now; the error says why.
    async fn space(&self, registration: Registration) -> Result<Arc<dyn Space>, BufferError>;

    /// What an agreement would change of this entity's layout, and what stands in its way now; `None` when it is laid out as asked, or not
    /// yet. Changes nothing.
    async fn change(&self, registration: &Registration) -> Result<Option<TopologyChange>, BufferError> {
        let _ = registration;
        Ok(None)
    }

    /// Says that the `stored` layout is to be left for that of this registration, which holds for `lasts` unless it is said again. Meanwhile
    /// each partition is closed for writes in the step that closes its epoch ([`Epochs::rotate`]), or at once where nothing is open:
    /// writes fail as [`BufferErrorKind::Topology`], reads and the verbs of workers go on, and a record that goes
    /// [`back`](Settlement::back) opens its partition until the next rotation. So a time comes at which nothing is dirty, also under writers
    /// that never pause. Nothing is done when another topology is stored.
    ///
    /// When the time is over without an agreement, [`Coordination::confirm`] of any space of the layout, and the next agreement on it, open
    /// it again.
    async fn announce(
        &self,
        registration: &Registration,
        stored: &Topology,
        lasts: Duration,
    ) -> Result<(), BufferError> {
        let _ = (registration, stored, lasts);
        Ok(())
    }

    /// Takes back what was [announced](Buffer::announce) for this registration: the `stored` layout is open again. Nothing is done when
    /// another one is stored by now.
    async fn cancel(&self, registration: &Registration, stored: &Topology) -> Result<(), BufferError> {
        let _ = (registration, stored);
        Ok(())
    }

    /// Fixes the topology (partitions, format) of all these entities, in one step: of all of them, or of none. Called once,
    /// at start, when everything else that can fail has passed; before [`Coordination::start`].
    ///
    /// A topology that is left is sealed in the same step: spaces that were opened with it read and write nothing any
    /// more, at whatever moment, and fail as [`BufferErrorKind::Topology`] until it is the stored one again. Clean copies
    /// of an earlier life of the topology asked for are gone.
    ///
    /// # Errors
    /// [`BufferErrorKind::Topology`] when another topology is stored and any record of it is not flushed yet, or is a
    /// dead letter; the error names both topologies and the counts, and nothing has changed.
    async fn agree(&self, registrations: &[Registration]) -> Result<(), BufferError>;

    /// Ends the tasks of the buffer and waits for them; called once, at the end of shutdown. Writes that are on their
    /// way are finished first, later ones fail.
    async fn close(&self);

    /// Looks at the server: what an operator should know, and what an engine must not start with.
    ///
    /// # Errors
    /// When the server cannot be asked.
    async fn examine(&self) -> Result<Vec<Finding>, BufferError> {
        Ok(Vec::new())
    }

    /// Looks for what waits in a namespace and nobody flushes: records and dead letters of entities that are not among these
    /// (`own`, each with the topology that its engine asks for) and have no worker that is alive, and of topologies that are
    /// not the stored ones. Changes nothing. Called at start, and about once a minute in each process that runs; the work of
    /// a call grows with the partitions of such layouts, not with what waits in them.
    ///
    /// # Errors
    /// When the buffer cannot be asked.
    async fn orphans(
        &self,
        namespace: &str,
        own: &BTreeMap<&'static str, Topology>,
    ) -> Result<Vec<Orphan>, BufferError> {
        let _ = (namespace, own);
        Ok(Vec::new())
    }
}
