//! How what was flushed leaves its epoch. Each does nothing for a worker without the lease of the partition, and says so.

use async_trait::async_trait;

use crate::buffer::{Attempts, Clean, DeadLetter, Held, Mark, Moved, Settled, Step, Stored};
use crate::entity::key::Id;
use crate::error::buffer::BufferError;

/// How what was flushed leaves its epoch. Each does nothing for a worker without the lease of the partition, and says so. A part of [`Space`](super::Space).
#[async_trait]
pub trait Settlement: Send + Sync + 'static {
    /// These entries, the first ones of the log that is being flushed, are settled: off the log. What the sink has not goes
    /// into `open`, where of two with one id the first stays, or becomes a dead letter. Does nothing when the first entry of the
    /// log has another `number`. Ends the epoch when nothing of it is left.
    async fn trim(&self, step: &Step<'_>, number: u64, settled: &[Settled]) -> Result<Moved, BufferError>;

    /// These records are in the sink: removes them from the epoch and leaves clean copies. Clears their attempts and
    /// dead letters, and the marks of [`ack_stale`](Self::ack_stale). Ends the epoch when it was the last one.
    async fn ack(&self, step: &Step<'_>, ids: &[Id], clean: Clean) -> Result<Moved, BufferError>;

    /// The clean copies of these ids that have an end, as they stand, whatever is dirty. What has none is the state of a refused record, and
    /// says nothing of the sink's row; a load token is no copy. One answer per id.
    async fn copies(&self, partition: u16, ids: &[Id]) -> Result<Vec<Option<Stored>>, BufferError>;

    /// These records, each with its [version](crate::Entity::version), were left out because the sink has newer versions of
    /// them: removes them from the epoch and leaves no copies. Clears their attempts and dead letters. The version stays as a
    /// mark until a later state of the key is acknowledged, so that whoever asks later, in whatever process, does not take the
    /// record for written. Bounded: of a partition at least the [`STALE_MARKS`](crate::buffer::STALE_MARKS) / 2 newest marks stay, and all
    /// of the epoch that was closed last. [`Look::unmarked_epoch`](crate::buffer::Look::unmarked_epoch) says up to which epoch some are gone.
    async fn ack_stale(&self, step: &Step<'_>, records: &[(Id, i64)]) -> Result<Moved, BufferError>;

    /// These records must be tried again: back to `open` where no newer state is, else dropped (superseded). The
    /// value stays readable as the clean copy, without TTL. The attempts are kept in both cases: that an id has any says
    /// that it was refused when it was settled last.
    async fn back(&self, step: &Step<'_>, records: &[(Id, Attempts)]) -> Result<Moved, BufferError>;

    /// These records are dead letters: out of the epoch, kept with payload and reason, readable as the clean copy
    /// without TTL.
    async fn bury(&self, step: &Step<'_>, letters: &[(Id, DeadLetter)]) -> Result<Moved, BufferError>;

    /// Attempts that were counted for these ids.
    async fn attempts(&self, partition: u16, ids: &[Id]) -> Result<Vec<Option<Attempts>>, BufferError>;

    /// The records of these partitions that are [held](Attempts::is_held): they went [`back`](Self::back) without having
    /// been refused, and neither they nor newer states of their keys are in the sink. Each that is held during the whole
    /// call is there.
    async fn held(&self, partitions: &[u16]) -> Result<Vec<Held>, BufferError>;

    /// [`back`](Settlement::back) of records that belong together, over partitions, in one step: of none unless all the leases
    /// and epochs are the caller's. They are marked again, with `mark` or one that ties them to what transactions have
    /// written since. One answer per part.
    async fn back_unit(&self, mark: Mark, parts: &[(Step<'_>, Vec<(Id, Attempts)>)])
    -> Result<Vec<Moved>, BufferError>;

    /// [`bury`](Settlement::bury) of records that belong together, over partitions, in one step: of none unless all the leases
    /// and epochs are the caller's. One answer per part.
    async fn bury_unit(&self, parts: &[(Step<'_>, Vec<(Id, DeadLetter)>)]) -> Result<Vec<Moved>, BufferError>;
}
