//! The engine: entities with their sinks over one buffer, and the tasks that flush them.

mod await_sink;
mod builder;
mod relayout;
mod setup;
mod transaction;

use std::any::{Any, TypeId};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

pub use self::builder::EngineBuilder;
pub use self::transaction::{Transaction, TransactionError};
use crate::appender::Appender;
use crate::buffer::{Buffer, BufferError, BufferErrorKind};
use crate::cache::Cache;
use crate::dead_letters::DeadLetters;
use crate::doctor::Finding;
use crate::entity::{AppendOnly, Entity};
use crate::error::UnknownEntity;
use crate::event::{Events, Stage};
use crate::events;
use crate::findings::Findings;
use crate::hook::Hooks;
use crate::ids::Ids;
use crate::lane::{AnyLane, Lane, NEVER, Phase};
use crate::options::Role;
use crate::stats::EntityStats;

/// A running engine. End it with [`shutdown`](Engine::shutdown).
pub struct Engine {
    buffer: Arc<dyn Buffer>,
    lanes: Vec<Arc<dyn AnyLane>>,
    typed: HashMap<TypeId, Arc<dyn Any + Send + Sync>>,
    tasks: JoinSet<()>,
    phase: watch::Sender<Phase>,
    findings: Arc<Findings>,
    stage: Arc<Stage>,
    over: bool,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entities: Vec<_> = self.lanes.iter().map(|lane| lane.entity()).collect();
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
        self.lane().map(Cache::new)
    }

    /// Adds records of the append-only entity `T`.
    ///
    /// # Errors
    /// [`UnknownEntity`] when the builder was not given `T`.
    pub fn appender<T: AppendOnly>(&self) -> Result<Appender<T>, UnknownEntity> {
        self.lane().map(Appender::new)
    }

    /// Records of entity `T` that its sink refuses: listed, replayed, discarded. Works in any process, a writer's too.
    ///
    /// # Errors
    /// [`UnknownEntity`] when the builder was not given `T`.
    pub fn dead_letters<T: Entity>(&self) -> Result<DeadLetters<T>, UnknownEntity> {
        self.lane().map(DeadLetters::new)
    }

    /// Ids for new records of entity `T`: integers from a counter in the buffer, reserved in blocks of `block` (a zero
    /// counts as one). Each call has a block of its own, so keep the value and clone it. Larger blocks cost fewer round trips,
    /// and leave larger gaps: 100 to 1 000 is usual.
    ///
    /// # Errors
    /// [`UnknownEntity`] when the builder was not given `T`.
    pub fn ids<T: Entity>(&self, block: u32) -> Result<Ids<T>, UnknownEntity> {
        self.lane().map(|lane| Ids::new(lane, block))
    }

    fn lane<T: Entity>(&self) -> Result<Arc<Lane<T>>, UnknownEntity> {
        let lane = self.typed.get(&TypeId::of::<T>()).cloned().and_then(|lane| lane.downcast::<Lane<T>>().ok());
        lane.ok_or(UnknownEntity::absent(T::NAME))
    }

    /// Figures of every entity since the start, in this process.
    #[must_use]
    pub fn stats(&self) -> BTreeMap<&'static str, EntityStats> {
        self.lanes.iter().map(|lane| (lane.entity(), lane.stats())).collect()
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
        self.lanes.iter().map(|lane| (lane.entity(), lane.owned())).collect()
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
        futures::future::join_all(self.lanes.iter().map(|lane| lane.hand_over())).await;
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
        let before: Vec<u64> = self.lanes.iter().map(|lane| lane.stats().flushed).collect();
        // A lease that is lost meanwhile takes nothing off what is left.
        let mut owned: Vec<BTreeSet<u16>> = self.lanes.iter().map(|lane| lane.held().into_iter().collect()).collect();
        for lane in &self.lanes {
            lane.close();
        }
        futures::future::join_all(self.lanes.iter().map(|lane| lane.drain(until))).await;
        for (owned, lane) in owned.iter_mut().zip(&self.lanes) {
            owned.extend(lane.held());
            lane.end();
        }
        self.phase.send_replace(Phase::Stopped);
        let mut cut = vec![false; self.lanes.len()];
        // A task that is in the middle of a retry does not hear; it is cut off at the deadline, which is harmless: what
        // was not acknowledged is still dirty.
        if timeout_at(until, async { while self.tasks.join_next().await.is_some() {} }).await.is_err() {
            for (cut, lane) in cut.iter_mut().zip(&self.lanes) {
                *cut = lane.is_at_work();
            }
            self.tasks.abort_all();
            // Not one that never yields: it would hold up everything here.
            let _ = tokio::time::timeout(FAREWELL, async { while self.tasks.join_next().await.is_some() {} }).await;
        }
        let last = until.max(Instant::now());
        let last = last.checked_add(FAREWELL).unwrap_or(last);
        let parted = self.lanes.iter().zip(owned).zip(cut);
        let parted = parted.map(|((lane, owned), cut)| part(&**lane, owned.into_iter().collect(), cut, last));
        let parted = futures::future::join_all(parted).await;
        if timeout_at(last, self.buffer.close()).await.is_err() {
            events::not_closed("(all)");
        }
        self.over = true;
        let mut drained = Drained::default();
        for ((lane, before), remaining) in self.lanes.iter().zip(before).zip(parted) {
            let (remaining, flushed) = (remaining?, lane.stats().flushed.saturating_sub(before));
            drained.flushed += flushed;
            drained.remaining += remaining;
            drained.by_entity.insert(lane.entity(), DrainedEntity { flushed, remaining });
        }
        Ok(drained)
    }
}

/// How long what is asked at the end of a shutdown may go on after its deadline.
const FAREWELL: Duration = Duration::from_secs(2);

/// Counts what a lane leaves in these partitions, gives its leases up and closes its sink.
async fn part(lane: &dyn AnyLane, owned: Vec<u16>, cut: bool, last: Instant) -> Result<u64, BufferError> {
    let count = async {
        let remaining = timeout_at(last, lane.remaining(&owned)).await;
        if timeout_at(last, lane.release(cut)).await.is_err() {
            events::not_given_up(lane.entity());
        }
        remaining.unwrap_or_else(|_| {
            Err(BufferError::new(BufferErrorKind::Unavailable, "the buffer does not say in time what is left"))
        })
    };
    // Beside it, so that a buffer that is away does not take the sink's time.
    let (remaining, closed) = tokio::join!(count, timeout_at(last, lane.close_sink()));
    if closed.is_err() {
        events::not_closed(lane.entity());
    }
    remaining
}

impl Drop for Engine {
    fn drop(&mut self) {
        if !self.over {
            events::dropped();
            for lane in &self.lanes {
                lane.close();
                lane.end();
            }
        }
    }
}
