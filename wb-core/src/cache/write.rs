//! Writes.

use super::{Cache, Receipt};
use crate::entity::Entity;
use crate::error::CacheError;
use crate::record::Write;

impl<T: Entity> Cache<T> {
    /// Makes `value` the state of its key.
    ///
    /// # Errors
    /// [`CacheError::Key`], [`CacheError::Codec`], [`CacheError::TooLarge`], [`CacheError::Empty`]: nothing is stored.
    /// [`CacheError::Buffer`]: its kind says whether the write may have been carried out; repeating it is safe.
    /// [`CacheError::Closed`] after shutdown.
    pub async fn put(&self, value: &T) -> Result<Receipt<T>, CacheError> {
        self.write(self.lane.upsert(value)?).await
    }

    /// Makes each value the state of its key, in this order and in one round trip. When one of them is not allowed,
    /// none is stored.
    ///
    /// # Errors
    /// As [`put`](Self::put); after a [`CacheError::Buffer`] some may be stored.
    pub async fn put_many<'a>(&self, values: impl IntoIterator<Item = &'a T>) -> Result<Receipt<T>, CacheError> {
        let writes = values.into_iter().map(|value| self.lane.upsert(value)).collect::<Result<Vec<_>, _>>()?;
        let places = writes.iter().map(|write| (write.partition, write.id.clone())).collect();
        self.lane.put(writes).await?;
        Ok(Receipt::of_many(self.lane.clone(), places))
    }

    /// Deletes the row of `key`, whether there is one or not.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub async fn delete(&self, key: &T::Key) -> Result<Receipt<T>, CacheError> {
        self.write(self.lane.tombstone(key)?).await
    }

    async fn write(&self, write: Write) -> Result<Receipt<T>, CacheError> {
        let place = (write.partition, write.id.clone());
        self.lane.put(vec![write]).await?;
        Ok(Receipt::of(self.lane.clone(), place))
    }
}
