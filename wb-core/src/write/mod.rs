//! Writes: into the buffer, in groups, or by compare-and-set.

pub(crate) mod change_queue;
pub(crate) mod compare_and_set;
pub(crate) mod put;
pub(crate) mod recheck;
pub(crate) mod transact;
pub(crate) mod versions;

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::entity::Entity;
use crate::read::Reader;
use crate::runtime::context::EntityContext;
use crate::write::change_queue::ChangeQueue;
use crate::write::recheck::Recheck;

/// Writes that look for room at the same time; more would only ask the buffer more often.
pub(crate) const LOOKING_FOR_ROOM: usize = 64;

/// Writes, and changes that depend on what they meet.
pub(crate) struct Writer<E: Entity> {
    pub(crate) ctx: Arc<EntityContext<E>>,
    pub(crate) reader: Arc<Reader<E>>,
    /// Changes that depend on the state they meet.
    pub(crate) change_queue: ChangeQueue<E>,
    /// Who asks the sink to look at its schema again.
    pub(crate) recheck: Recheck,
    /// Turns of writes that wait for room.
    pub(crate) room: Semaphore,
}
