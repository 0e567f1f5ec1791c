//! What the processes of an application tell each other.

use std::time::Duration;

use async_trait::async_trait;

use crate::buffer::{Lineage, SeenShape, SeenShapes};
use crate::error::buffer::BufferError;

/// What the processes of an application tell each other. A part of [`Space`](super::Space).
#[async_trait]
pub trait Coordination: Send + Sync + 'static {
    /// Begins to watch over the data, and to listen, for an engine that runs; after [`agree`](crate::buffer::Buffer::agree), once.
    async fn start(&self) -> Result<(), BufferError> {
        Ok(())
    }

    /// Whether the topology is still the one that this space was opened with. Records of another one are looked for
    /// elsewhere: what is written under the old one is not flushed any more. A buffer that has lost it with its data takes
    /// this one again. What was closed by a program that [wanted](crate::buffer::Buffer::announce) another one, and is gone, is opened again.
    ///
    /// # Errors
    /// [`BufferErrorKind::Topology`](crate::error::buffer::BufferErrorKind::Topology) when it is not.
    async fn confirm(&self) -> Result<(), BufferError>;

    /// Asks whoever works on this entity, in whatever process, to flush now. A wish: nothing is lost when nobody hears it.
    async fn nudge(&self) -> Result<(), BufferError> {
        Ok(())
    }

    /// Makes the shape of an entity's struct known, unless it is, and tells all that are known. `seen` is what earlier calls
    /// told, for a buffer that has lost some of it; an empty shape is not made known. Of two times of a shape the earlier one counts. A buffer that keeps no list
    /// says nothing; workers then flush what newer programs wrote.
    async fn shapes(&self, shape: &str, seen: &[SeenShape]) -> Result<SeenShapes, BufferError> {
        let _ = (shape, seen);
        Ok(SeenShapes::new(Vec::new(), Duration::MAX))
    }

    /// What became of the data since the last call; called about once a second in each process. A buffer that finds its
    /// data gone back drops the clean copies that may be older than the sink before it answers.
    async fn lineage(&self) -> Result<Lineage, BufferError> {
        Ok(Lineage::Unwatched)
    }
}
