//! Who works on a partition.

use std::time::Duration;

use async_trait::async_trait;

use crate::buffer::Roll;
use crate::error::buffer::BufferError;

/// Who works on a partition. A part of [`Space`](super::Space).
#[async_trait]
pub trait LeaseStore: Send + Sync + 'static {
    /// Takes or renews the leases of these partitions; says for each whether `owner` holds it now.
    async fn take(&self, partitions: &[u16], owner: &str, ttl: Duration) -> Result<Vec<bool>, BufferError>;

    /// Says that a worker is alive, until `ttl` from now, and renews the leases that it holds; takes none. Tells who else
    /// works on this entity, and which leases are free. Only the buffer's clock counts.
    async fn heartbeat(&self, worker: &str, ttl: Duration) -> Result<Roll, BufferError>;

    /// Says that a worker works on this entity no more. Its leases stay as they are.
    async fn retire(&self, worker: &str) -> Result<(), BufferError>;

    /// Gives leases up.
    async fn release(&self, partitions: &[u16], owner: &str) -> Result<(), BufferError>;
}
