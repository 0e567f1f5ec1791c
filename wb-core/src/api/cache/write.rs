//! Writes.

use futures::future::join_all;

use crate::api::cache::Cache;
use crate::api::receipt::Receipt;
use crate::buffer::record::Write;
use crate::entity::Entity;
use crate::error::CacheError;
use crate::options::Mode;

impl<T: Entity> Cache<T> {
    /// Makes `value` the state of its key.
    ///
    /// Where the entity has a `#[wb(version)]`, the state that it replaces must have a lower one. That is looked up, also in
    /// the sink, so such a put takes two round trips instead of one. Repeated after an unknown outcome it can be in conflict
    /// with itself: then the stored version is the offered one, and a read tells whose state it is.
    ///
    /// # Errors
    /// [`CacheError::Key`], [`CacheError::Codec`], [`CacheError::TooLarge`], [`CacheError::Empty`], [`CacheError::Unstorable`],
    /// [`CacheError::Conflict`]: nothing is stored. [`CacheError::Buffer`]: its kind says whether the write may have been carried out; repeating it is
    /// safe. [`CacheError::Closed`] after shutdown.
    pub async fn put(&self, value: &T) -> Result<Receipt<T>, CacheError> {
        let write = self.entity.writer.rechecked(value).await?;
        if T::VERSIONED {
            return self.put_version(value, write).await;
        }
        self.write(write).await
    }

    /// Makes each value the state of its key, in this order and in one round trip. When one of them is not allowed,
    /// none is stored. (Values with a version are put one by one, at the same time: one that is a conflict does not hold
    /// up the others, and the error is the first one.)
    ///
    /// # Errors
    /// As [`put`](Self::put); after a [`CacheError::Buffer`] or a [`CacheError::Conflict`] some may be stored.
    pub async fn put_many<'a>(&self, values: impl IntoIterator<Item = &'a T>) -> Result<Receipt<T>, CacheError> {
        let values: Vec<&T> = values.into_iter().collect();
        let mut writes = Vec::with_capacity(values.len());
        for value in &values {
            writes.push(self.entity.writer.rechecked(value).await?);
        }
        let places = writes.iter().map(|write| (write.partition, write.id.clone())).collect();
        let receipt = Receipt::of_many(self.entity.clone(), places);
        if T::VERSIONED {
            let puts = values.iter().zip(writes).map(|(value, write)| self.put_version(value, write));
            let mut first = Ok(());
            for put in join_all(puts).await {
                first = first.and(put.map(drop));
            }
            first?;
            return Ok(receipt);
        }
        self.entity.writer.put(writes).await?;
        self.through(receipt).await
    }

    /// Deletes the row of `key`, whether there is one or not, and whatever its version is.
    ///
    /// # Errors
    /// As [`put`](Self::put), but for the conflict.
    pub async fn delete(&self, key: &T::Key) -> Result<Receipt<T>, CacheError> {
        self.write(self.entity.writer.tombstone(key)?).await
    }

    /// [`put`](Self::put), answered when the sink has it: flushes its key without waiting for the interval, in whatever
    /// process.
    ///
    /// # Errors
    /// As [`put`](Self::put); then as [`Receipt::persisted_within`]
    /// [`persist_within`](crate::EntityOptions::persist_within): the write is in the buffer.
    pub async fn put_through(&self, value: &T) -> Result<(), CacheError> {
        let receipt = self.put(value).await?;
        if self.entity.ctx.options.mode == Mode::WriteThrough {
            // It was waited for already.
            return Ok(());
        }
        receipt.hasten().await
    }

    /// A receipt for what was acknowledged of `key` before this call, by whatever process: to wait for what
    /// [`update`](Self::update) and its siblings have stored, for example. Asks nobody.
    ///
    /// When the buffer has lost data since this engine started, only of what this engine has written since the loss (of its
    /// 32 768 newest ids at least) can it say that it is not lost: of all else such a receipt says
    /// [`Lost`](crate::BufferErrorKind::Lost), until it is written again.
    ///
    /// # Errors
    /// [`CacheError::Key`].
    pub fn receipt(&self, key: &T::Key) -> Result<Receipt<T>, CacheError> {
        let target = self.entity.writer.target(key)?;
        Ok(Receipt::of_earlier(self.entity.clone(), (target.partition, target.id)))
    }

    async fn write(&self, write: Write) -> Result<Receipt<T>, CacheError> {
        let place = (write.partition, write.id.clone());
        // Before the write: what is lost after it is noticed.
        let receipt = Receipt::of(self.entity.clone(), place);
        self.entity.writer.put(vec![write]).await?;
        self.through(receipt).await
    }

    /// A write is in the buffer; waits for the sink where the entity wants that.
    pub(crate) async fn through(&self, receipt: Receipt<T>) -> Result<Receipt<T>, CacheError> {
        if self.entity.ctx.options.mode == Mode::WriteThrough {
            receipt.hasten().await?;
        }
        Ok(receipt)
    }
}
