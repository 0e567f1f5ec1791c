//! One entity in a running engine: its buffer space, its sink, and what its tasks share.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use futures::future::{join_all, try_join_all};
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use crate::backlog::Backlog;
use crate::buffer::{BufferError, BufferErrorKind, Held, Pending, PendingReport, Space};
use crate::changes::Changes;
use crate::desk::Desk;
use crate::entity::Entity;
use crate::error::CacheError;
use crate::evidence::Evidence;
use crate::gate::Gate;
use crate::holds::Holds;
use crate::hook::Hook;
use crate::key::{Id, KeyError};
use crate::kin::{EpochOf, Kin};
use crate::lease::Leases;
use crate::load_passage::LoadPassage;
use crate::loads::Loads;
use crate::near::Near;
use crate::observed::Observed;
use crate::options::EntityOptions;
use crate::partition::partition_of;
use crate::passage::Passage;
use crate::postponed::Postponed;
use crate::pressure::Pressure;
use crate::readiness::Readiness;
use crate::recheck::Recheck;
use crate::renewed::Renewed;
use crate::shape::Shapes;
use crate::sink::{Scope, Sink};
use crate::stats::{Counters, EntityStats};
use crate::{events, lineage, metrics};

/// Whether tasks go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Running,
    Stopped,
}

/// Waits for the end of the engine, whether by shutdown or because it was dropped.
pub(crate) async fn stopped(phase: &mut watch::Receiver<Phase>) {
    // The guard that `wait_for` returns must not live across an await of the caller.
    let _ = phase.wait_for(|phase| *phase == Phase::Stopped).await.is_ok();
}

pub(crate) struct Lane<E: Entity> {
    pub(crate) scope: Arc<Scope>,
    pub(crate) options: EntityOptions,
    pub(crate) space: Arc<dyn Space>,
    pub(crate) sink: Arc<dyn Sink<E>>,
    pub(crate) pressure: Arc<Pressure>,
    pub(crate) counters: Counters,
    pub(crate) backlog: Backlog,
    pub(crate) leases: Leases,
    pub(crate) gate: Gate,
    pub(crate) loads: Loads,
    /// Whether the sink may be asked for what the buffer does not have.
    pub(crate) loading: Arc<LoadPassage>,
    /// Values that are kept beside the buffer.
    pub(crate) near: Near<E>,
    /// Changes that depend on the state they meet.
    pub(crate) changes: Changes<E>,
    /// Who waits until a write is in the sink.
    pub(crate) desk: Desk,
    /// Times the buffer was found to have lost data, or to be able to have.
    pub(crate) losses: AtomicU64,
    /// Those of them of which the next flush need not tell: one has, or they are older than this engine.
    pub(crate) losses_told: AtomicU64,
    /// Those that are older than this engine.
    pub(crate) losses_before: AtomicU64,
    /// What was written here since the last one.
    pub(crate) renewed: Renewed,
    /// What is known of the epochs of each partition.
    pub(crate) observed: Observed,
    /// The highest id that this process has reserved; 0: none.
    pub(crate) highest_id: AtomicI64,
    /// Who looks whether the buffer has lost data.
    pub(crate) lineage_turn: Semaphore,
    /// Whether the sink was looked at, and can be used.
    pub(crate) readiness: Arc<Readiness>,
    pub(crate) passage: Passage,
    /// Which writes landed, by which it is known whose fault a refusal is.
    pub(crate) evidence: Evidence,
    pub(crate) postponed: Postponed,
    /// Entities that this one belongs to, and that belong to it.
    pub(crate) kin: Kin,
    /// Deletes that wait for children.
    pub(crate) holds: Holds,
    pub(crate) shapes: Shapes,
    pub(crate) hook: Option<Hook<E>>,
    /// Who asks the sink to look at its schema again.
    pub(crate) recheck: Recheck,
    /// Turns of writes that wait for room.
    pub(crate) room: Semaphore,
    /// Changes at the end of each flush cycle; who waits for a flush looks again then.
    pub(crate) cycles: watch::Sender<u64>,
}

/// A deadline that no process lives to see, ten years.
pub(crate) const NEVER: Duration = Duration::from_secs(10 * 365 * 24 * 3_600);

/// Writes that look for room at the same time; more would only ask the buffer more often.
pub(crate) const LOOKING_FOR_ROOM: usize = 64;

/// Shortest and longest wait between two looks at a flush: it may be another process that does it.
pub(crate) const LOOK_AGAIN: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(100));

/// What partitions have dirty at one moment.
#[derive(Debug)]
pub(crate) struct Dirty {
    pub(crate) epochs: Vec<EpochOf>,
    /// Partitions that cannot be looked at, and why.
    pub(crate) unknown: Vec<(u16, BufferError)>,
}

fn lost() -> BufferError {
    BufferError::new(BufferErrorKind::Lost, "the buffer lost what was to be flushed")
}

impl<E: Entity> Lane<E> {
    /// Looks which epochs are open before the first write; where the buffer does not answer, less can be proven later.
    pub(crate) async fn observe(&self) {
        let losses = self.losses.load(Ordering::Acquire);
        let looks = self.all_partitions().into_iter().map(|partition| async move {
            if let Ok(status) = self.space.status(partition).await {
                self.observed.saw(partition, losses, status.open_epoch, Some(status.vanished_epoch));
            }
        });
        join_all(looks).await;
    }

    /// The epochs of these partitions that hold what is dirty now; none where nothing is. And the partitions of which nobody
    /// can say it.
    pub(crate) async fn dirty_epochs(&self, partitions: &[u16]) -> Result<Dirty, BufferError> {
        // What is not dirty now has nothing to wait for; so many partitions cost no more than those that have.
        let PendingReport { pending, failed } = self.space.pending(partitions).await?;
        let epochs = try_join_all(pending.into_iter().map(|Pending { partition, .. }| async move {
            let status = self.space.status(partition).await?;
            // Both where both are dirty: each has to come to the sink, and may vanish.
            let closed = (status.flushing > 0).then(|| status.open_epoch.saturating_sub(1));
            let open = (status.open > 0).then_some(status.open_epoch);
            Ok::<_, BufferError>(closed.into_iter().chain(open).map(move |epoch| (partition, epoch)))
        }));
        Ok(Dirty { epochs: epochs.await?.into_iter().flatten().collect(), unknown: failed })
    }

    /// Which of these epochs are not flushed yet.
    ///
    /// # Errors
    /// [`BufferErrorKind::Lost`] when one of them is gone.
    pub(crate) async fn not_flushed(&self, epochs: Vec<EpochOf>) -> Result<Vec<EpochOf>, BufferError> {
        let (waiting, gone) = self.stand_of(epochs).await?;
        if gone.is_empty() { Ok(waiting) } else { Err(lost()) }
    }

    /// Which of these epochs are not flushed yet, and which are gone without having been.
    pub(crate) async fn stand_of(&self, epochs: Vec<EpochOf>) -> Result<(Vec<EpochOf>, Vec<EpochOf>), BufferError> {
        let losses = self.losses.load(Ordering::Acquire);
        let looks = try_join_all(epochs.into_iter().map(|(partition, epoch)| async move {
            let status = self.space.status(partition).await?;
            self.observed.saw(partition, losses, status.open_epoch, Some(status.vanished_epoch));
            let vanished = status.vanished_epoch >= epoch;
            if status.flushed_epoch >= epoch && !vanished {
                return Ok::<_, BufferError>(None);
            }
            // Epochs go back only in a buffer that lost data, and an epoch ends by being flushed: that a later one is says
            // nothing of one that has vanished.
            let gone = vanished || status.open_epoch < epoch || status.dirty() == 0;
            Ok(Some(((partition, epoch), gone)))
        }));
        let (gone, waiting): (Vec<_>, Vec<_>) = looks.await?.into_iter().flatten().partition(|(_, gone)| *gone);
        let epochs = |looks: Vec<(EpochOf, bool)>| looks.into_iter().map(|(epoch, _)| epoch).collect();
        Ok((epochs(waiting), epochs(gone)))
    }

    /// Waits until everything is in the sink (or refused by it) that these partitions held when this was called.
    ///
    /// # Errors
    /// [`BufferErrorKind::Lost`] when the buffer lost data meanwhile: nobody can say that it reached the sink.
    pub(crate) async fn barrier(&self, partitions: &[u16]) -> Result<(), BufferError> {
        let Dirty { epochs, unknown } = self.outlast_epochs(partitions).await?;
        self.outlast_holds(epochs, |_| true).await?;
        unknown.into_iter().next().map_or(Ok(()), |(_, error)| Err(error))
    }

    /// The barrier for who is about to end: what only a newer program can flush is left to that.
    async fn barrier_at_the_end(&self, partitions: &[u16]) -> Result<(), BufferError> {
        let Dirty { epochs, unknown } = self.outlast_epochs(partitions).await?;
        self.outlast_holds(epochs, |held| !held.attempts.waits_for_newer()).await?;
        unknown.into_iter().next().map_or(Ok(()), |(_, error)| Err(error))
    }

    /// The error of a partition that holds the whole entity up: transactions are flushed as a cut over all of them.
    async fn nothing_holds_up_all(&self) -> Result<(), BufferError> {
        if !self.options.transactions {
            return Ok(());
        }
        let failed = self.space.pending(&self.all_partitions()).await?.failed;
        failed.into_iter().next().map_or(Ok(()), |(_, error)| Err(error))
    }

    /// Waits until the epochs are flushed that are dirty now; returns them. What cannot be looked at is not waited for.
    async fn outlast_epochs(&self, partitions: &[u16]) -> Result<Dirty, BufferError> {
        let Dirty { epochs, unknown } = self.dirty_epochs(partitions).await?;
        let mut waiting = epochs.clone();
        let mut cycles = self.cycles.subscribe();
        let mut pause = LOOK_AGAIN.0;
        let owned = self.leases.owned();
        if waiting.iter().any(|(partition, _)| !owned.contains(partition)) {
            // Another process has it. When nobody hears this, the interval comes all the same.
            let _ = self.space.nudge().await;
        }
        while !waiting.is_empty() {
            self.pressure.nudge();
            // Either this process flushes and says so, or another one does and has to be asked.
            let _ = tokio::time::timeout(LOOK_AGAIN.1, cycles.changed()).await;
            waiting = self.not_flushed(waiting).await?;
            if !waiting.is_empty() {
                self.nothing_holds_up_all().await?;
                // This process's cycles end at once when the partitions are another one's.
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LOOK_AGAIN.1);
            }
        }
        Ok(Dirty { epochs, unknown })
    }

    /// Waits for what came out of these epochs, which are flushed, because it is held. What is refused is not waited for.
    async fn outlast_holds(&self, epochs: Vec<EpochOf>, counts: fn(&Held) -> bool) -> Result<(), BufferError> {
        let partitions: Vec<u16> = epochs.iter().map(|(partition, _)| *partition).collect();
        let mut held = self.space.held(&partitions).await?;
        held.retain(counts);
        let mut cycles = self.cycles.subscribe();
        let mut pause = LOOK_AGAIN.0;
        while !held.is_empty() {
            self.kin.children().for_each(|child| child.nudge());
            self.pressure.nudge();
            let _ = tokio::time::timeout(LOOK_AGAIN.1, cycles.changed()).await;
            held = self.not_settled(held).await?;
            if held.is_empty() {
                // It may be gone because all is.
                self.not_flushed(epochs).await?;
                break;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LOOK_AGAIN.1);
        }
        Ok(())
    }

    /// The barrier over all partitions, for who may wait longer than this engine lives.
    pub(crate) async fn flush_all(&self) -> Result<(), CacheError> {
        let (all, told) = (self.all_partitions(), self.losses_told.load(Ordering::Acquire));
        let barrier = async {
            self.barrier(&all).await?;
            // A buffer that lost data counts its epochs from anew, and may have come to the awaited one. Only a look that
            // comes after says that it has not.
            lineage::look(self).await?;
            let losses = self.losses.load(Ordering::Acquire);
            if losses == told {
                return Ok(());
            }
            // What was acknowledged before the loss, by whatever process, may never come to the sink: the flush after it is the
            // one to say so. That this process has written nothing, or flushed all of it, says nothing of the others.
            self.losses_told.fetch_max(losses, Ordering::AcqRel);
            Err(lost())
        };
        tokio::select! {
            biased;
            flushed = barrier => flushed.map_err(CacheError::from),
            // What is left is another worker's: perhaps there is none.
            reason = self.gate.over() => Err(reason),
        }
    }

    /// Everything that is counted or measured.
    pub(crate) fn figures(&self) -> EntityStats {
        let counted = self.counters.snapshot();
        let (dirty_keys, oldest_dirty) = self.backlog.now();
        let near = self.near.figures();
        EntityStats {
            // Replayed letters make keys dirty without a write.
            coalesced_puts: (counted.puts + counted.replayed).saturating_sub(self.pressure.total()),
            leases: u32::try_from(self.leases.owned().len()).unwrap_or(u32::MAX),
            dirty_keys,
            sink_ready: self.readiness.is_ready(),
            failed_loads: self.loading.failed.get(),
            refused_loads: self.loading.refused.get(),
            broken_partitions: self.backlog.broken_partitions(),
            oldest_dirty,
            near_hits: near.hits,
            near_misses: near.misses,
            near_invalidations: near.invalidations,
            near_drops: near.drops,
            ..counted
        }
    }

    /// Whether this is a worker whose sink was not there since its start: it holds no partitions, but not because others do.
    pub(crate) fn awaits_sink(&self) -> bool {
        !self.readiness.is_ready() && self.leases.is_listed()
    }

    /// Publishes the figures as metrics.
    pub(crate) fn publish(&self) {
        metrics::publish(&self.scope, &self.figures());
    }

    /// The partition of an id, whose key this is.
    pub(crate) fn partition_of(&self, id: &Id, key: &E::Key) -> Result<u16, KeyError> {
        self.partition(id, || E::place_of(key))
    }

    /// The partition of an id; `place` is asked only where it is not the id itself that decides.
    pub(crate) fn partition(&self, id: &Id, place: impl FnOnce() -> Result<Id, KeyError>) -> Result<u16, KeyError> {
        let partitions = self.scope.partitions;
        if E::PLACED { Ok(partition_of(&place()?, partitions)) } else { Ok(partition_of(id, partitions)) }
    }

    pub(crate) fn all_partitions(&self) -> Vec<u16> {
        (0..self.scope.partitions).collect()
    }
}

/// What the engine does with a lane whose entity type it does not know.
#[async_trait]
pub(crate) trait AnyLane: Send + Sync {
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
impl<E: Entity> AnyLane for Lane<E> {
    fn entity(&self) -> &'static str {
        E::NAME
    }

    fn stats(&self) -> EntityStats {
        self.figures()
    }

    fn close(&self) {
        self.gate.close();
        self.leases.close();
        // A batch that waits for a dead sink must not sleep through the deadline.
        self.passage.hurry();
    }

    async fn nudge(&self) {
        self.pressure.nudge();
        // When nobody hears this, the interval comes all the same.
        let _ = self.space.nudge().await;
    }

    fn end(&self) {
        self.gate.end();
    }

    async fn drain(&self, deadline: Instant) {
        let owned = self.held();
        let all = async {
            self.gate.quiet().await;
            // A buffer that fails now may be back before the deadline.
            while let Err(error) = self.barrier_at_the_end(&owned).await {
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
        let all = self.awaits_sink().then(|| self.all_partitions());
        let PendingReport { pending, failed } = match self.space.pending(all.as_deref().unwrap_or(owned)).await {
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
        let retired = self.space.retire(self.leases.owner()).await;
        let released = self.space.release(&self.leases.harmless(cut), self.leases.owner()).await;
        if let Err(error) = retired.and(released) {
            events::lease_failed(&self.scope, &error);
        }
    }

    async fn close_sink(&self) {
        if AssertUnwindSafe(self.sink.close()).catch_unwind().await.is_err() {
            events::close_panicked(&self.scope);
        }
    }
}
