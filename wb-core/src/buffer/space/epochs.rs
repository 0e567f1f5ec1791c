//! What is dirty, and how it is closed and read for a flush.

use async_trait::async_trait;

use crate::buffer::record::Record;
use crate::buffer::{LogPage, Marks, Page, PendingReport, Rotation, Stamp, Status};
use crate::entity::key::Id;
use crate::error::buffer::BufferError;

/// What is dirty, and how it is closed and read for a flush. A part of [`Space`](super::Space).
#[async_trait]
pub trait Epochs: Send + Sync + 'static {
    /// Entries of the log that is being flushed, from the `skip`th on, `limit` at most. Only a rotation puts entries there.
    async fn read_log(&self, partition: u16, skip: u64, limit: usize) -> Result<LogPage, BufferError>;

    /// Which of these partitions have anything to flush, how much, and since when; and which of them cannot be used.
    ///
    /// # Errors
    /// When none can be looked at.
    async fn pending(&self, partitions: &[u16]) -> Result<PendingReport, BufferError>;

    /// Partitions that cannot be used, and why; for who looks before anything runs. Changes nothing.
    ///
    /// # Errors
    /// When none can be looked at.
    async fn broken(&self) -> Result<Vec<(u16, BufferError)>, BufferError> {
        Ok(Vec::new())
    }

    /// Closes the open epoch: `open` becomes `flushing`, and the log of an append-only entity the one that is being flushed,
    /// in one step, whatever their size. Marks it, or the one that was
    /// left behind, with `stamp`: steps that carry another one do nothing from now on.
    async fn rotate(&self, partition: u16, owner: &str, stamp: Stamp) -> Result<Rotation, BufferError>;

    /// A page of the epoch that is being flushed; about `limit` records, some perhaps twice. Cursor 0 starts and ends.
    async fn claim(&self, partition: u16, cursor: u64, limit: usize) -> Result<Page, BufferError>;

    /// [`rotate`](Epochs::rotate) of all partitions in one step, marked with one stamp. Nothing is done unless `owner` holds
    /// the leases of all of them. When an epoch of any of them was left behind, only those that were are marked, and nothing
    /// is closed: the next cut is one of all partitions again. One answer per partition.
    async fn rotate_all(&self, owner: &str, stamp: Stamp) -> Result<Vec<Rotation>, BufferError>;

    /// A page of the marks of the epoch that is being flushed; about `limit`. Cursor 0 starts and ends.
    async fn marks(&self, partition: u16, cursor: u64, limit: usize) -> Result<Marks, BufferError>;

    /// These records of the epoch that is being flushed, as [`claim`](Epochs::claim) names them. One answer per id.
    async fn pick(&self, partition: u16, ids: &[Id]) -> Result<Vec<Option<Record>>, BufferError>;

    /// Where a partition stands.
    ///
    /// # Errors
    /// Also when [`pending`](Epochs::pending) says that the partition cannot be used: who waits for it must not wait for ever.
    async fn status(&self, partition: u16) -> Result<Status, BufferError>;
}
