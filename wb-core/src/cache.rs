//! What the application holds: writes and reads of one entity.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::entity::Entity;
use crate::error::CacheError;
use crate::lane::Lane;

/// Writes and reads of entity `T`. Cheap to clone; from [`Engine::cache`](crate::Engine::cache).
///
/// A write is acknowledged (`Ok`) when the buffer has it; the sink gets it within the entity's
/// [`flush_every`](crate::EntityOptions::flush_every) and the time of the flush. A read after an acknowledged write sees it.
pub struct Cache<T: Entity> {
    lane: Arc<Lane<T>>,
}

impl<T: Entity> Clone for Cache<T> {
    fn clone(&self) -> Self {
        Self { lane: self.lane.clone() }
    }
}

impl<T: Entity> fmt::Debug for Cache<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").field("entity", &T::NAME).finish_non_exhaustive()
    }
}

impl<T: Entity> Cache<T> {
    pub(crate) const fn new(lane: Arc<Lane<T>>) -> Self {
        Self { lane }
    }

    /// Makes `value` the state of its key.
    ///
    /// # Errors
    /// [`CacheError::Key`], [`CacheError::Codec`], [`CacheError::TooLarge`], [`CacheError::Empty`]: nothing is stored.
    /// [`CacheError::Buffer`]: its kind says whether the write may have been carried out; repeating it is safe.
    /// [`CacheError::Closed`] after shutdown.
    pub async fn put(&self, value: &T) -> Result<(), CacheError> {
        let write = self.lane.upsert(value)?;
        self.lane.put(vec![write]).await
    }

    /// Makes each value the state of its key, in this order and in one round trip. When one of them is not allowed,
    /// none is stored.
    ///
    /// # Errors
    /// As [`put`](Self::put); after a [`CacheError::Buffer`] some may be stored.
    pub async fn put_many<'a>(&self, values: impl IntoIterator<Item = &'a T>) -> Result<(), CacheError> {
        let writes = values.into_iter().map(|value| self.lane.upsert(value)).collect::<Result<Vec<_>, _>>()?;
        self.lane.put(writes).await
    }

    /// Deletes the row of `key`, whether there is one or not.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub async fn delete(&self, key: &T::Key) -> Result<(), CacheError> {
        let write = self.lane.tombstone(key)?;
        self.lane.put(vec![write]).await
    }

    /// The state of `key`: from the buffer, or from the sink on a miss.
    ///
    /// # Errors
    /// [`CacheError::Key`]; [`CacheError::Codec`] when what is buffered is not a value of this struct;
    /// [`CacheError::Buffer`]; [`CacheError::Sink`] when a miss cannot be loaded.
    pub async fn get(&self, key: &T::Key) -> Result<Option<T>, CacheError> {
        self.lane.get(key.clone()).await
    }

    /// The states of `keys`, in their order: one round trip a partition, and one load for all misses.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn get_many(&self, keys: &[T::Key]) -> Result<Vec<Option<T>>, CacheError> {
        self.lane.get_many(keys).await
    }

    /// Waits until everything acknowledged before this call is in the sink, from whatever process; asks this process's worker
    /// to flush now. Records that the sink refuses do not hold it up. Waits as long as the sink is away: see
    /// [`flush_within`](Self::flush_within).
    ///
    /// # Errors
    /// [`CacheError::Buffer`]; [`CacheError::Closed`] when the engine is over before the sink has everything.
    pub async fn flush(&self) -> Result<(), CacheError> {
        self.lane.flush_all().await
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
