//! Reads.

use std::sync::Arc;

use crate::api::cache::Cache;
use crate::entity::Entity;
use crate::error::CacheError;

impl<T: Entity> Cache<T> {
    /// The state of `key`: from the buffer, or from the sink on a miss.
    ///
    /// # Errors
    /// [`CacheError::Key`]; [`CacheError::Codec`] when what is buffered is not a value of this struct;
    /// [`CacheError::Buffer`]; [`CacheError::Sink`] when a miss cannot be loaded, [`CacheError::SinkAway`] at once while the sink
    /// does not answer.
    pub async fn get(&self, key: &T::Key) -> Result<Option<T>, CacheError> {
        self.entity.reader.get(key.clone()).await
    }

    /// The state of `key` as [`get`](Self::get) finds it, shared. With a [near cache](crate::EntityOptions::near_cache) a value is
    /// decoded once and then handed out as it is, without a round trip.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn get_shared(&self, key: &T::Key) -> Result<Option<Arc<T>>, CacheError> {
        self.entity.reader.get_shared(key.clone()).await
    }

    /// The states of `keys`, in their order: one round trip a partition, and one load for all misses.
    ///
    /// # Errors
    /// As [`get`](Self::get): that of the first key that has one. See [`get_each`](Self::get_each).
    pub async fn get_many(&self, keys: &[T::Key]) -> Result<Vec<Option<T>>, CacheError> {
        self.entity.reader.get_many(keys).await
    }

    /// [`get_many`](Self::get_many), with an outcome for each key: a record that is no value of this struct costs its own key.
    ///
    /// ```
    /// # use wb_core::{Cache, CacheError, Entity};
    /// # async fn run<Post: Entity<Key = u64>>(posts: Cache<Post>) -> Result<(), CacheError> {
    /// for post in posts.get_each(&[1, 2, 3]).await? {
    ///     match post {
    ///         Ok(Some(_)) => println!("there"),
    ///         Ok(None) => println!("no such row"),
    ///         Err(error) => println!("{error}"),
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// For a key [`CacheError::Codec`], which names it, [`CacheError::Sink`] of a row that the sink cannot read as this struct, or that
    /// of the read that looked at it once more; for all of them the others of [`get`](Self::get).
    pub async fn get_each(&self, keys: &[T::Key]) -> Result<Vec<Result<Option<T>, CacheError>>, CacheError> {
        self.entity.reader.get_each(keys).await
    }
}
