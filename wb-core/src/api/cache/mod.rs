//! What the application holds: writes and reads of one entity.

pub(crate) mod change;
pub(crate) mod inspect;
pub(crate) mod read;
pub(crate) mod write;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::entity::Entity;
use crate::entity_runtime::EntityRuntime;
use crate::error::CacheError;

pub use self::inspect::{DirtyCursor, DirtyKey, DirtyPage};

/// Writes and reads of entity `T`. Cheap to clone; from [`Engine::cache`](crate::Engine::cache).
///
/// A write is acknowledged (`Ok`) when the buffer has it; the sink gets it within the entity's
/// [`flush_every`](crate::EntityOptions::flush_every) and the time of the flush. A read after an acknowledged write sees it.
pub struct Cache<T: Entity> {
    entity: Arc<EntityRuntime<T>>,
}

impl<T: Entity> Clone for Cache<T> {
    fn clone(&self) -> Self {
        Self { entity: self.entity.clone() }
    }
}

impl<T: Entity> fmt::Debug for Cache<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").field("entity", &T::NAME).finish_non_exhaustive()
    }
}

impl<T: Entity> Cache<T> {
    pub(crate) const fn new(entity: Arc<EntityRuntime<T>>) -> Self {
        Self { entity }
    }

    /// Waits until everything acknowledged before this call is in the sink, from whatever process; asks this process's worker
    /// to flush now. Records that the sink refuses do not hold it up. Waits as long as the sink is away: see
    /// [`flush_within`](Self::flush_within).
    ///
    /// # Errors
    /// [`CacheError::Buffer`], of kind [`Lost`](crate::BufferErrorKind::Lost) once after each time that the buffer was found to
    /// have lost data since this engine started: writes may be missing, those of other processes too. [`CacheError::Closed`] when
    /// the engine is over before the sink has everything.
    pub async fn flush(&self) -> Result<(), CacheError> {
        self.entity.receipts.flush_all().await
    }

    /// [`flush`](Self::flush) with an end: `false` when it is not through after `limit`.
    ///
    /// # Errors
    /// As [`flush`](Self::flush).
    pub async fn flush_within(&self, limit: Duration) -> Result<bool, CacheError> {
        match tokio::time::timeout(limit, self.flush()).await {
            Ok(result) => result.map(|()| true),
            Err(_) => Ok(false),
        }
    }
}
