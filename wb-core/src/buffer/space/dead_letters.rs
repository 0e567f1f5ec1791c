//! Records that the sink has refused for good.

use async_trait::async_trait;

use crate::buffer::{DeadLetter, Letters, Replayed};
use crate::entity::key::Id;
use crate::error::buffer::BufferError;

/// Records that the sink has refused for good. A part of [`Space`](super::Space).
#[async_trait]
pub trait DeadLetterStore: Send + Sync + 'static {
    /// The dead letter of an id.
    async fn letter(&self, partition: u16, id: &Id) -> Result<Option<DeadLetter>, BufferError>;

    /// A page of the dead letters of a partition; about `limit`, some perhaps twice. Cursor 0 starts and ends.
    async fn letters(&self, partition: u16, cursor: u64, limit: usize) -> Result<Letters, BufferError>;

    /// Makes the payloads of these dead letters dirty again, with no attempts counted; the letters go. Where a newer state
    /// is in `open` or `flushing` nothing is done: it decides. A letter proves that nothing newer was flushed since,
    /// because every ack removes it. Letters that belong [together](DeadLetter::together) all come back with one of them, in
    /// one step over their partitions, and marked, so that they reach the sink together; those of which a newer state is dirty
    /// are left out, and that state is not tied to the others.
    async fn replay(&self, partition: u16, ids: &[Id]) -> Result<Replayed, BufferError>;

    /// Removes these dead letters for good; where no newer state is dirty, their attempts and clean copies too, so that
    /// readers see the sink's row again. Returns how many there were.
    async fn discard(&self, partition: u16, ids: &[Id]) -> Result<u64, BufferError>;
}
