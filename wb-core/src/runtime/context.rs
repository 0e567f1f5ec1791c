//! What every role of an entity reads, and what they all ask of the buffer.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use futures::future::{join_all, try_join_all};
use tokio::sync::{Semaphore, watch};

use crate::buffer::flush_trigger::Pressure;
use crate::buffer::{Held, Pending, PendingReport, Space};
use crate::entity::Entity;
use crate::entity::key::{Id, KeyError};
use crate::entity::partition::partition_of;
use crate::error::buffer::{BufferError, BufferErrorKind};
use crate::near_cache::Near;
use crate::options::EntityOptions;
use crate::runtime::backlog::Backlog;
use crate::runtime::intake::Intake;
use crate::runtime::observed_epochs::ObservedEpochs;
use crate::runtime::readiness::Readiness;
use crate::runtime::shapes::Shapes;
use crate::runtime::written_since_loss::WrittenSinceLoss;
use crate::sink::Sink;
use crate::sink::hook::Hook;
use crate::telemetry::scope::Scope;
use crate::telemetry::stats::Counters;

/// A partition, and an epoch of it.
pub(crate) type EpochOf = (u16, u64);

/// A partition and an id.
pub(crate) type Place = (u16, Id);

/// What partitions have dirty at one moment.
#[derive(Debug)]
pub(crate) struct Dirty {
    pub(crate) epochs: Vec<EpochOf>,
    /// Partitions that cannot be looked at, and why.
    pub(crate) unknown: Vec<(u16, BufferError)>,
}

/// What was known when a write was begun.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Begun {
    /// Losses of the buffer.
    pub(crate) losses: u64,
    /// The moment of what was observed; `None`: the write is older than this.
    pub(crate) moment: Option<u64>,
}

/// What every role of an entity shares. It knows none of them.
pub(crate) struct EntityContext<E: Entity> {
    pub(crate) scope: Arc<Scope>,
    pub(crate) options: EntityOptions,
    pub(crate) space: Arc<dyn Space>,
    pub(crate) sink: Arc<dyn Sink<E>>,
    pub(crate) hook: Option<Hook<E>>,
    pub(crate) trigger: Arc<Pressure>,
    pub(crate) counters: Counters,
    pub(crate) backlog: Backlog,
    pub(crate) intake: Intake,
    /// Values that are kept beside the buffer.
    pub(crate) near: Near<E>,
    /// Times the buffer was found to have lost data, or to be able to have.
    pub(crate) losses: AtomicU64,
    /// Those of them of which the next flush need not tell: one has, or they are older than this engine.
    pub(crate) losses_told: AtomicU64,
    /// Those that are older than this engine.
    pub(crate) losses_before: AtomicU64,
    /// What was written here since the last one.
    pub(crate) written: WrittenSinceLoss,
    /// What is known of the epochs of each partition.
    pub(crate) observed_epochs: ObservedEpochs,
    /// The highest id that this process has reserved; 0: none.
    pub(crate) highest_id: AtomicI64,
    /// Who looks whether the buffer has lost data.
    pub(crate) lineage_turn: Semaphore,
    /// Whether the sink was looked at, and can be used.
    pub(crate) readiness: Arc<Readiness>,
    pub(crate) shapes: Shapes,
    /// Changes at the end of each flush cycle; who waits for a flush looks again then.
    pub(crate) cycles: watch::Sender<u64>,
}

impl<E: Entity> EntityContext<E> {
    /// Looks which epochs are open before the first write; where the buffer does not answer, less can be proven later.
    pub(crate) async fn observe(&self) {
        let losses = self.losses.load(Ordering::Acquire);
        let looks = self.all_partitions().into_iter().map(|partition| async move {
            if let Ok(status) = self.space.status(partition).await {
                self.observed_epochs.saw(partition, losses, status.open_epoch, Some(status.vanished_epoch));
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
            self.observed_epochs.saw(partition, losses, status.open_epoch, Some(status.vanished_epoch));
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

    /// Which of these records are still held, or what took their places without one of them having been settled. What was held
    /// anew since does not matter.
    pub(crate) async fn not_settled(&self, held: Vec<Held>) -> Result<Vec<Held>, BufferError> {
        let mut partitions = std::collections::BTreeMap::<u16, Vec<Held>>::new();
        for one in held {
            partitions.entry(one.partition).or_default().push(one);
        }
        let asked = try_join_all(partitions.into_iter().map(|(partition, held)| async move {
            let ids: Vec<_> = held.iter().map(|one| one.id.clone()).collect();
            let found = self.space.attempts(partition, &ids).await?;
            let still = held
                .into_iter()
                .zip(found)
                .filter(|(one, found)| found.is_some_and(|found| one.attempts.holds_on(&found)));
            Ok::<_, BufferError>(still.map(|(one, _)| one).collect::<Vec<_>>())
        }));
        Ok(asked.await?.into_iter().flatten().collect())
    }

    /// A write is about to be sent.
    pub(crate) fn begin_write(&self) -> Begun {
        let losses = self.losses.load(Ordering::Acquire);
        Begun { losses, moment: Some(self.observed_epochs.now()) }
    }

    /// Writes were acknowledged; begun when so many `losses` were known.
    pub(crate) fn wrote<'a>(&self, losses: u64, ids: impl IntoIterator<Item = &'a Id>) {
        if losses > self.losses_before.load(Ordering::Acquire) {
            self.written.wrote(losses, ids);
        }
    }

    /// The losses that a write was begun with at least, of which only its id is known: those of today if this process has written
    /// it since the last one, else none that came while this engine ran.
    pub(crate) fn losses_of_earlier(&self, id: &Id) -> u64 {
        let losses = self.losses.load(Ordering::Acquire);
        if self.written.has(losses, id) { losses } else { self.losses_before.load(Ordering::Acquire) }
    }
}

pub(crate) fn lost() -> BufferError {
    BufferError::new(BufferErrorKind::Lost, "the buffer lost what was to be flushed")
}
