//! One entity in a running engine: its roles, and what the engine and other entities see of them.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use async_trait::async_trait;
use futures::FutureExt;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::buffer::record::Record;
use crate::buffer::{Held, Pending, PendingReport};
use crate::entity::Entity;
use crate::error::UnknownEntity;
use crate::error::buffer::{BufferError, BufferErrorKind};
use crate::flush::Flusher;
use crate::ownership::{Leases, Ownership};
use crate::read::Reader;
use crate::receipts::Receipts;
use crate::relations::{Relations, Relative};
use crate::runtime::backoff::LOOK_AGAIN;
use crate::runtime::context::{Dirty, EntityContext, EpochOf};
use crate::telemetry::stats::EntityStats;
use crate::telemetry::{log, metrics};
use crate::write::Writer;

/// One entity in a running engine. Each role reads the context; a writer also reads, and nobody else knows another role.
pub(crate) struct EntityRuntime<E: Entity> {
    pub(crate) ctx: Arc<EntityContext<E>>,
    pub(crate) leases: Arc<Leases>,
    pub(crate) relations: Arc<Relations>,
    pub(crate) ownership: Arc<Ownership<E>>,
    pub(crate) reader: Arc<Reader<E>>,
    pub(crate) writer: Arc<Writer<E>>,
    pub(crate) flusher: Arc<Flusher<E>>,
    pub(crate) receipts: Arc<Receipts<E>>,
}

impl<E: Entity> EntityRuntime<E> {
    /// Everything that is counted or measured.
    pub(crate) fn figures(&self) -> EntityStats {
        let counted = self.ctx.counters.snapshot();
        let (dirty_keys, oldest_dirty) = self.ctx.backlog.now();
        let near = self.ctx.near.figures();
        EntityStats {
            // Replayed letters make keys dirty without a write.
            coalesced_puts: (counted.puts + counted.replayed).saturating_sub(self.ctx.trigger.total()),
            leases: u32::try_from(self.leases.owned().len()).unwrap_or(u32::MAX),
            dirty_keys,
            sink_ready: self.ctx.readiness.is_ready(),
            failed_loads: self.reader.load_gate.failed.get(),
            refused_loads: self.reader.load_gate.refused.get(),
            broken_partitions: self.ctx.backlog.broken_partitions(),
            oldest_dirty,
            near_hits: near.hits,
            near_misses: near.misses,
            near_invalidations: near.invalidations,
            near_drops: near.drops,
            ..counted
        }
    }

    /// Publishes the figures as metrics.
    pub(crate) fn publish(&self) {
        metrics::publish(&self.ctx.scope, &self.figures());
    }
}

/// An entity as the engine sees it, whatever its type.
#[async_trait]
pub(crate) trait AnyEntity: Send + Sync {
    fn entity(&self) -> &'static str;
    fn stats(&self) -> EntityStats;
    fn close(&self);
    /// Asks whoever flushes, here or elsewhere, to do so now.
    async fn nudge(&self);
    /// Nothing more is flushed: whoever waits for it is told.
    fn end(&self);
    /// Waits for the last writes, then until what this worker owns is flushed; at most until `deadline`.
    async fn drain(&self, deadline: Instant);
    /// Records of owned partitions that are still dirty.
    async fn remaining(&self, owned: &[u16]) -> Result<u64, BufferError>;
    fn owned(&self) -> Vec<u16>;
    /// Partitions that were this worker's when it last looked, although their leases may have run out since.
    fn held(&self) -> Vec<u16>;
    /// Whether a flush is under way.
    fn is_at_work(&self) -> bool;
    /// Flushes nothing more and gives everything up; returns when that is done.
    async fn hand_over(&self);
    /// Gives all leases up at once, and takes this worker off the list. A failure is told: the leases end by themselves. So
    /// do those of partitions without a fence when a flush was `cut` off: what it does in the sink may still land.
    async fn release(&self, cut: bool);
    async fn close_sink(&self);
}

#[async_trait]
impl<E: Entity> AnyEntity for EntityRuntime<E> {
    fn entity(&self) -> &'static str {
        E::NAME
    }

    fn stats(&self) -> EntityStats {
        self.figures()
    }

    fn close(&self) {
        self.ctx.intake.close();
        self.leases.close();
        // A batch that waits for a dead sink must not sleep through the deadline.
        self.flusher.sink_gate.hurry();
    }

    async fn nudge(&self) {
        self.ctx.trigger.nudge();
        // When nobody hears this, the interval comes all the same.
        let _ = self.ctx.space.nudge().await;
    }

    fn end(&self) {
        self.ctx.intake.end();
    }

    async fn drain(&self, deadline: Instant) {
        let owned = self.leases.known();
        let all = async {
            self.ctx.intake.quiet().await;
            // A buffer that fails now may be back before the deadline.
            while let Err(error) = self.receipts.barrier_at_the_end(&owned).await {
                // Another topology holds: it could only be changed because nothing was left of this one.
                if error.kind() == BufferErrorKind::Topology {
                    break;
                }
                tokio::time::sleep(LOOK_AGAIN.1).await;
            }
        };
        let _ = tokio::time::timeout_at(deadline, all).await;
    }

    async fn remaining(&self, owned: &[u16]) -> Result<u64, BufferError> {
        let all = self.flusher.awaits_sink().then(|| self.ctx.all_partitions());
        let PendingReport { pending, failed } = match self.ctx.space.pending(all.as_deref().unwrap_or(owned)).await {
            // Nothing of this layout is anybody's any more: a layout is left when nothing is dirty in it.
            Err(error) if error.kind() == BufferErrorKind::Topology => return Ok(0),
            found => found?,
        };
        let dirty = pending.iter().map(Pending::dirty).sum();
        // What is left of a partition that cannot be looked at is not known.
        failed.into_iter().next().map_or(Ok(dirty), |(_, error)| Err(error))
    }

    fn owned(&self) -> Vec<u16> {
        self.leases.owned()
    }

    fn held(&self) -> Vec<u16> {
        self.leases.known()
    }

    fn is_at_work(&self) -> bool {
        self.leases.is_at_work()
    }

    async fn hand_over(&self) {
        self.leases.leave();
        self.leases.left().await;
    }

    async fn release(&self, cut: bool) {
        if !self.leases.is_listed() {
            return;
        }
        let retired = self.ctx.space.retire(self.leases.owner()).await;
        let released = self.ctx.space.release(&self.leases.harmless(cut), self.leases.owner()).await;
        if let Err(error) = retired.and(released) {
            log::lease_failed(&self.ctx.scope, &error);
        }
    }

    async fn close_sink(&self) {
        if AssertUnwindSafe(self.ctx.sink.close()).catch_unwind().await.is_err() {
            log::close_panicked(&self.ctx.scope);
        }
    }
}

#[async_trait]
impl<E: Entity> Relative for EntityRuntime<E> {
    fn nudge(&self) {
        self.ctx.trigger.nudge();
    }

    fn child_flushed(&self) {
        if !self.flusher.deferred_deletes.is_empty() {
            self.ctx.trigger.nudge();
        }
    }

    fn cycles(&self) -> watch::Receiver<u64> {
        self.ctx.cycles.subscribe()
    }

    fn holds_deletes(&self) -> bool {
        self.relations.has_children()
    }

    async fn dirty_now(&self) -> Result<Dirty, BufferError> {
        self.ctx.dirty_epochs(&self.ctx.all_partitions()).await
    }

    async fn dirty_in(&self, partitions: &[u16]) -> Result<Dirty, BufferError> {
        self.ctx.dirty_epochs(partitions).await
    }

    async fn unflushed(&self, epochs: Vec<EpochOf>) -> Result<Vec<EpochOf>, BufferError> {
        // One that is lost says nothing of the others.
        Ok(self.ctx.stand_of(epochs).await?.0)
    }

    async fn held(&self, partitions: &[u16]) -> Result<Vec<Held>, BufferError> {
        self.ctx.space.held(partitions).await
    }

    async fn holds_rows(&self) -> Result<bool, BufferError> {
        let held = self.ctx.space.held(&self.ctx.all_partitions()).await?;
        Ok(held.iter().any(|held| held.attempts.digest != Record::TOMBSTONE_DIGEST))
    }

    async fn still_held(&self, held: Vec<Held>) -> Result<Vec<Held>, BufferError> {
        self.ctx.not_settled(held).await
    }
}

/// The entities of an engine, by their types.
#[derive(Default)]
pub(crate) struct Entities(HashMap<TypeId, Arc<dyn Any + Send + Sync>>);

impl Entities {
    pub(crate) fn add<E: Entity>(&mut self, runtime: Arc<EntityRuntime<E>>) {
        self.0.insert(TypeId::of::<E>(), runtime);
    }

    /// # Errors
    /// [`UnknownEntity`] when the builder was not given `E`.
    pub(crate) fn get<E: Entity>(&self) -> Result<Arc<EntityRuntime<E>>, UnknownEntity> {
        let runtime = self.0.get(&TypeId::of::<E>()).cloned().and_then(|runtime| runtime.downcast().ok());
        runtime.ok_or(UnknownEntity::absent(E::NAME))
    }
}
