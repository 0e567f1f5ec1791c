//! The engine: entities with their sinks over one buffer, and the tasks that flush them.

mod await_sink;
mod builder;
pub(crate) mod figures;
mod relayout;
mod setup;
mod transaction;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

pub use self::builder::EngineBuilder;
use crate::api::appender::Appender;
use crate::api::cache::Cache;
use crate::api::dead_letters::DeadLetters;
use crate::api::ids::Ids;
use crate::buffer::Buffer;
use crate::entity::{AppendOnly, Entity};
use crate::entity_runtime::{AnyEntity, Entities};
use crate::error::UnknownEntity;
use crate::error::buffer::{BufferError, BufferErrorKind};
use crate::error::finding::Finding;
use crate::options::Role;
use crate::runtime::backoff::NEVER;
use crate::runtime::lifecycle::Phase;
use crate::sink::hook::Hooks;
use crate::telemetry::event::{Events, Stage};
use crate::telemetry::findings::Findings;
use crate::telemetry::log;
use crate::telemetry::stats::EntityStats;

/// A running engine. End it with [`shutdown`](Engine::shutdown).
pub struct Engine {
    buffer: Arc<dyn Buffer>,
    running: Vec<Arc<dyn AnyEntity>>,
    entities: Entities,
    tasks: JoinSet<()>,
    phase: watch::Sender<Phase>,
    findings: Arc<Findings>,
    stage: Arc<Stage>,
    over: bool,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entities: Vec<_> = self.running.iter().map(|entity| entity.entity()).collect();
        f.debug_struct("Engine").field("entities", &entities).finish_non_exhaustive()
    }
}

/// What a shutdown left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Drained {
    /// Records that reached the sink since the shutdown began.
    pub flushed: u64,
    /// Records of the partitions this engine owned that are not in the sink; the next worker flushes them. Of a worker whose sink
    /// was away from its start on, records of all partitions: it took none, and perhaps nobody has.
    pub remaining: u64,
    /// The same by entity.
    pub by_entity: BTreeMap<&'static str, DrainedEntity>,
}

/// What a shutdown left of one entity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DrainedEntity {
    /// Records that reached the sink since the shutdown began.
    pub flushed: u64,
    /// Records that are not in the sink.
    pub remaining: u64,
}

impl Engine {
    /// Starts to describe an engine over `buffer`.
    pub fn builder(buffer: impl Buffer) -> EngineBuilder {
        EngineBuilder {
            buffer: Arc::new(buffer),
            namespace: "wb".to_owned(),
            role: Role::Both,
            lease: Duration::from_secs(10),
            topology_change_within: Duration::from_secs(30),
            entities: Vec::new(),
            hooks: Hooks::default(),
        }
    }

    /// Writes and reads of entity `T`.
    ///
    /// # Errors
    /// [`UnknownEntity`] when the builder was not given `T`, or `T` is [`AppendOnly`]: it has an
    /// [`appender`](Self::appender).
    pub fn cache<T: Entity>(&self) -> Result<Cache<T>, UnknownEntity> {
        if T::APPEND {
            return Err(UnknownEntity::append_only(T::NAME));
        }
        self.entities.get().map(Cache::new)
    }

    /// Adds records of the append-only entity `T`.
    ///
    /// # Errors
    /// [`UnknownEntity`] when the builder was not given `T`.
    pub fn appender<T: AppendOnly>(&self) -> Result<Appender<T>, UnknownEntity> {
        self.entities.get().map(Appender::new)
    }

    /// Records of entity `T` that its sink refuses: listed, replayed, discarded. Works in any process, a writer's too.
    ///
    /// # Errors
    /// [`UnknownEntity`] when the builder was not given `T`.
    pub fn dead_letters<T: Entity>(&self) -> Result<DeadLetters<T>, UnknownEntity> {
        self.entities.get().map(DeadLetters::new)
    }

    /// Ids for new records of entity `T`: integers from a counter in the buffer, reserved in blocks of `block` (a zero
    /// counts as one). Each call has a block of its own, so keep the value and clone it. Larger blocks cost fewer round trips,
    /// and leave larger gaps: 100 to 1 000 is usual.
    ///
    /// # Errors
    /// [`UnknownEntity`] when the builder was not given `T`.
    pub fn ids<T: Entity>(&self, block: u32) -> Result<Ids<T>, UnknownEntity> {
        self.entities.get().map(|entity| Ids::new(entity, block))
    }

    /// Figures of every entity since the start, in this process.
    #[must_use]
    pub fn stats(&self) -> BTreeMap<&'static str, EntityStats> {
        self.running.iter().map(|entity| (entity.entity(), entity.stats())).collect()
    }

    /// What happens from now on to the entities in this process: flushes, retries, refused and dead records, pauses,
    /// partitions that come and go. The stream ends with the engine. A listener that does not keep up hears
    /// [`Event::Missed`](crate::Event::Missed) after 1024 events that it has not taken; nobody waits for it.
    ///
    /// ```
    /// use wb_core::{Engine, Event};
    ///
    /// # fn example(engine: &Engine) {
    /// let mut events = engine.events();
    /// tokio::spawn(async move {
    ///     while let Some(event) = events.next().await {
    ///         match event {
    ///             Event::DeadLettered { entity, id, reason, .. } => println!("{entity} {id}: {reason}"),
    ///             Event::Paused { entity, reason, .. } => println!("{entity} is paused: {reason}"),
    ///             Event::Missed { count, .. } => println!("{count} events were missed"),
    ///             _ => {}
    ///         }
    ///     }
    /// });
    /// # }
    /// ```
    #[must_use]
    pub fn events(&self) -> Events {
        self.stage.listen()
    }

    /// What was found, as it is known now: nothing fatal at start, but perhaps warnings. What was not known then, because a sink was
    /// away, is found when it is back, and may be fatal for its entity: writes of it are refused until it is put right, and the
    /// finding goes.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        self.findings.now()
    }

    /// Partitions that this engine flushes now, by entity. Workers share the partitions evenly; a sum over all workers of
    /// less than all of them means that some are between two owners.
    #[must_use]
    pub fn owned(&self) -> BTreeMap<&'static str, Vec<u16>> {
        self.running.iter().map(|entity| (entity.entity(), entity.owned())).collect()
    }

    /// Stops flushing here, for a rolling deploy: what is in flight is settled, then this engine's partitions are given up
    /// and it counts as a worker no more. Other workers take them within a third of a lease, or at their next start.
    /// Writes and reads go on; [`shutdown`](Self::shutdown) afterwards has nothing left to flush.
    ///
    /// Returns when everything is given up. That takes as long as the batches that are on their way: with a sink that is
    /// down about a lease, and until it is back where the sink does not fence. With a buffer that is down it waits, too.
    /// Dropping the future does not take the request back; calling it again waits again. A [`Role::Writer`] has nothing
    /// to hand over.
    pub async fn handover(&self) {
        futures::future::join_all(self.running.iter().map(|entity| entity.hand_over())).await;
    }

    /// Takes no more writes, flushes what this engine owns for at most `deadline`, ends its tasks and gives its
    /// partitions up. Counting what is left, giving up and closing may take until the deadline, or 2 s more; what does not
    /// answer by then is not waited for.
    ///
    /// # Errors
    /// When the buffer cannot say what is left. The engine is over all the same.
    pub async fn shutdown(mut self, deadline: Duration) -> Result<Drained, BufferError> {
        // "However long it takes" is a deadline too.
        let until = Instant::now().checked_add(deadline).unwrap_or_else(|| Instant::now() + NEVER);
        let before: Vec<u64> = self.running.iter().map(|entity| entity.stats().flushed).collect();
        // A lease that is lost meanwhile takes nothing off what is left.
        let mut owned: Vec<BTreeSet<u16>> =
            self.running.iter().map(|entity| entity.held().into_iter().collect()).collect();
        for entity in &self.running {
            entity.close();
        }
        futures::future::join_all(self.running.iter().map(|entity| entity.drain(until))).await;
        for (owned, entity) in owned.iter_mut().zip(&self.running) {
            owned.extend(entity.held());
            entity.end();
        }
        self.phase.send_replace(Phase::Stopped);
        let mut cut = vec![false; self.running.len()];
        // A task that is in the middle of a retry does not hear; it is cut off at the deadline, which is harmless: what
        // was not acknowledged is still dirty.
        if timeout_at(until, async { while self.tasks.join_next().await.is_some() {} }).await.is_err() {
            for (cut, entity) in cut.iter_mut().zip(&self.running) {
                *cut = entity.is_at_work();
            }
            self.tasks.abort_all();
            // Not one that never yields: it would hold up everything here.
            let _ = tokio::time::timeout(FAREWELL, async { while self.tasks.join_next().await.is_some() {} }).await;
        }
        let last = until.max(Instant::now());
        let last = last.checked_add(FAREWELL).unwrap_or(last);
        let parted = self.running.iter().zip(owned).zip(cut);
        let parted = parted.map(|((entity, owned), cut)| part(&**entity, owned.into_iter().collect(), cut, last));
        let parted = futures::future::join_all(parted).await;
        if timeout_at(last, self.buffer.close()).await.is_err() {
            log::not_closed("(all)");
        }
        self.over = true;
        let mut drained = Drained::default();
        for ((entity, before), remaining) in self.running.iter().zip(before).zip(parted) {
            let (remaining, flushed) = (remaining?, entity.stats().flushed.saturating_sub(before));
            drained.flushed += flushed;
            drained.remaining += remaining;
            drained.by_entity.insert(entity.entity(), DrainedEntity { flushed, remaining });
        }
        Ok(drained)
    }
}

/// How long what is asked at the end of a shutdown may go on after its deadline.
const FAREWELL: Duration = Duration::from_secs(2);

/// Counts what an entity leaves in these partitions, gives its leases up and closes its sink.
async fn part(entity: &dyn AnyEntity, owned: Vec<u16>, cut: bool, last: Instant) -> Result<u64, BufferError> {
    let count = async {
        let remaining = timeout_at(last, entity.remaining(&owned)).await;
        if timeout_at(last, entity.release(cut)).await.is_err() {
            log::not_given_up(entity.entity());
        }
        remaining.unwrap_or_else(|_| {
            Err(BufferError::new(BufferErrorKind::Unavailable, "the buffer does not say in time what is left"))
        })
    };
    // Beside it, so that a buffer that is away does not take the sink's time.
    let (remaining, closed) = tokio::join!(count, timeout_at(last, entity.close_sink()));
    if closed.is_err() {
        log::not_closed(entity.entity());
    }
    remaining
}

impl Drop for Engine {
    fn drop(&mut self) {
        if !self.over {
            log::dropped();
            for entity in &self.running {
                entity.close();
                entity.end();
            }
        }
    }
}
