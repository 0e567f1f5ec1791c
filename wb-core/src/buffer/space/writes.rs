//! What changes the latest state of keys.

use async_trait::async_trait;

use crate::buffer::record::Write;
use crate::buffer::{Guarded, IdFloor, Mark, Stored, Swap, Transacted};
use crate::error::buffer::BufferError;

/// What changes the latest state of keys. A part of [`Space`](super::Space).
#[async_trait]
pub trait Writes: Send + Sync + 'static {
    /// Makes these writes the latest state of their keys, in this order. All are acknowledged, or an error says that
    /// some may not be; repeating is safe.
    async fn put(&self, writes: Vec<Write>) -> Result<(), BufferError>;

    /// Adds these entries to the logs of their partitions, in this order; their ids are not stored. All are acknowledged, or
    /// an error says that some may not be; repeating adds those twice that were stored, which the sink ignores by key.
    ///
    /// # Errors
    /// [`BufferErrorKind::Misconfigured`](crate::error::buffer::BufferErrorKind::Misconfigured) when the space was not registered with
    /// [`append`](crate::buffer::Registration::append).
    async fn append(&self, writes: Vec<Write>) -> Result<(), BufferError>;

    /// Makes these writes the latest states of their keys, all at one instant and only if each meets the state that it
    /// expects; no id occurs twice. Marks them with `mark`, or with one that ties them to the transactions that have
    /// written any of them in this epoch. Repeating is safe.
    ///
    /// # Errors
    /// [`BufferErrorKind::Full`](crate::error::buffer::BufferErrorKind::Full) when they would pass the limit: nothing is stored.
    async fn transact(&self, mark: Mark, writes: &[Guarded]) -> Result<Transacted, BufferError>;

    /// Counts the entity's ids up by `count`, which is above zero, and returns the last of them: they are the caller's, and
    /// nobody else's. From a `floor` on at least: the counter is there afterwards, and above it. Without one `None`, and
    /// nothing done, when there is no counter, or when it may have lost what was reserved last. Then a floor leaves out
    /// [`IdFloor::LEAP`] of the largest blocks that were ever asked for, whether it says so or not. Repeated, it reserves others.
    ///
    /// # Errors
    /// [`BufferErrorKind::Misconfigured`](crate::error::buffer::BufferErrorKind::Misconfigured) when the counter would pass [`i64::MAX`].
    async fn reserve_ids(&self, count: i64, floor: Option<IdFloor>) -> Result<Option<i64>, BufferError>;

    /// Makes a write the latest state of its key if `expected` is what stands: in `open`, else in `flushing`, else as the
    /// clean copy, and that to the byte: who loaded it counts. What it becomes was written. A tombstone stands for "no such row"
    /// only where it was found or left, not where nothing is known. Keeps to the limit of dirty keys like [`put`](Writes::put). Not to be repeated blindly when its outcome is unknown.
    async fn swap(&self, expected: &Stored, write: &Write) -> Result<Swap, BufferError>;
}
