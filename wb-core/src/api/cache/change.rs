//! Changes that depend on the state they meet.

use crate::api::cache::Cache;
use crate::api::receipt::Receipt;
use crate::buffer::record::{Record, Write};
use crate::entity::Entity;
use crate::entity::patch::{Counter, CounterField, Patch};
use crate::error::CacheError;
use crate::write::Writer;
use crate::write::change_queue::{State, Target};

impl<T: Entity> Cache<T> {
    /// Changes the record of `key` by `change`, and returns its new state.
    ///
    /// Reads it (from the buffer, or from the sink), applies `change`, and stores the result if the record is still what was
    /// read; when somebody else was faster, again with the newer state. Changes of one key in one process are applied in the
    /// order in which they come, as many as wait in one round. So `change` may be called more than once, and should do
    /// nothing else. A `#[wb(version)]` that it leaves as it is, or lowers, is raised by one.
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # use wb_core::{Cache, CacheError, CodecError, Entity, Format, codec};
    /// # #[derive(Serialize, Deserialize)]
    /// # struct Post { id: u64, title: String }
    /// # impl Entity for Post {
    /// #     type Key = u64;
    /// #     const NAME: &'static str = "post";
    /// #     const FORMAT: Format = Format::Json;
    /// #     fn key(&self) -> u64 { self.id }
    /// #     fn encode(&self) -> Result<Vec<u8>, CodecError> { codec::encode(Self::FORMAT, self) }
    /// #     fn decode(payload: &[u8]) -> Result<Self, CodecError> { codec::decode(Self::FORMAT, payload) }
    /// # }
    /// # async fn run(posts: Cache<Post>) -> Result<(), CacheError> {
    /// let post = posts.update(&7, |post| post.title = "new".into()).await?;
    /// assert_eq!(post.title, "new");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`CacheError::Absent`] when there is no record; [`CacheError::KeyChanged`] when `change` gives it another key;
    /// [`CacheError::Contended`] when others were faster too often; [`CacheError::Overflow`] when there is no higher version;
    /// [`CacheError::Outdated`] in a program that a newer one replaces, for a record that is in no buffer;
    /// those of [`put`](Self::put) for what it makes of the record, and of [`get`](Self::get): nothing is stored.
    /// [`CacheError::Buffer`] of kind [`Unknown`](crate::BufferErrorKind::Unknown): it may be.
    ///
    /// # Panics
    /// When `change` does.
    pub async fn update<F>(&self, key: &T::Key, mut change: F) -> Result<T, CacheError>
    where
        F: FnMut(&mut T) + Send + 'static,
    {
        self.try_update(key, move |value| {
            change(value);
            Ok(())
        })
        .await
        .map(|(value, ())| value)
    }

    /// Changes the record of `key`, whether there is one (`Some`) or not (`None`), to what `change` returns (`None` deletes
    /// it), and returns that. Like [`update`](Self::update) in everything else.
    ///
    /// # Errors
    /// As [`update`](Self::update), but for the absence.
    ///
    /// # Panics
    /// When `change` does.
    pub async fn compute<F>(&self, key: &T::Key, mut change: F) -> Result<Option<T>, CacheError>
    where
        F: FnMut(Option<T>) -> Option<T> + Send + 'static,
    {
        let target = self.entity.writer.target(key)?;
        let receipt = Receipt::of(self.entity.clone(), (target.partition, target.id.clone()));
        let value = self.entity.writer.change(target, move |writer, target, state| {
            let before = writer.value_of(target, state.record)?;
            let version = before.as_ref().and_then(Entity::version).max(state.floor);
            match change(before) {
                Some(mut value) => {
                    writer.raise(target, version, &mut value)?;
                    Ok((Some(writer.changed(target, state, &value)?), Some(value)))
                }
                None => Ok((Some(Record::tombstone()), None)),
            }
        });
        let value = value.await?;
        self.through(receipt).await?;
        Ok(value)
    }

    /// Adds `by` to a number of the record of `key`, and returns the sum. The derive makes a constant for each such field:
    /// `Post::VIEWS` for `views`. Exact: an increment that is acknowledged counts once. Those of one process are added up
    /// and stored in one round trip, however many wait.
    ///
    /// Exact among all who write through the buffer. The flush writes the record as [`patch`](Self::patch) says: sums that another program
    /// makes in the column itself are overwritten.
    ///
    /// # Errors
    /// As [`update`](Self::update); [`CacheError::Overflow`] when the field cannot hold the sum. After
    /// [`CacheError::Buffer`] of kind [`Unknown`](crate::BufferErrorKind::Unknown) it may have been counted.
    pub async fn increment<N: CounterField>(
        &self,
        key: &T::Key,
        counter: Counter<T, N>,
        by: N::Delta,
    ) -> Result<N, CacheError> {
        let id = self.entity.writer.target(key)?.id;
        let add = move |value: &mut T| {
            counter.add(value, by).ok_or_else(|| CacheError::Overflow { id: id.to_string(), field: counter.name() })
        };
        self.try_update(key, add).await.map(|(_, sum)| sum)
    }

    /// Sets the fields of the record of `key` that `patch` holds, leaves the others alone, and returns the new state. The
    /// derive makes a patch type for each entity: `PostPatch` for `Post`.
    ///
    /// It is the record in the buffer that is changed, and the flush writes all of it, not only these fields: each column that the struct
    /// maps gets the value that the record has, which is the one that the row had when it was loaded or last flushed. What another program
    /// has written into a mapped column since then is overwritten. [`invalidate`](Self::invalidate) the key after such a change, or leave the
    /// column out of the struct. The same holds for [`update`](Self::update) and its siblings.
    ///
    /// # Errors
    /// As [`update`](Self::update).
    pub async fn patch(&self, key: &T::Key, patch: impl Patch<T>) -> Result<T, CacheError> {
        self.update(key, move |value| patch.apply(value)).await
    }

    /// Stores `value` if there is no record of its key, in the buffer or in the sink; `None` when there is one.
    ///
    /// # Errors
    /// As [`update`](Self::update), but for the absence. [`CacheError::Conflict`] when a deleted row of a higher version is
    /// still in the sink.
    pub async fn put_if_absent(&self, value: &T) -> Result<Option<Receipt<T>>, CacheError> {
        let (write, version) = (self.entity.writer.rechecked(value).await?, value.version());
        self.put_where(value, write, move |writer, target, state, record| {
            if !state.record.is_tombstone() {
                return Ok(None);
            }
            writer.not_below(target, state.floor, version)?;
            Ok(Some(record))
        })
        .await
    }

    /// Stores `value` if there is a record of its key, in the buffer or in the sink; `None` when there is none.
    ///
    /// # Errors
    /// As [`update`](Self::update), but for the absence; [`CacheError::Conflict`] as for [`put`](Self::put).
    pub async fn replace(&self, value: &T) -> Result<Option<Receipt<T>>, CacheError> {
        let (write, version) = (self.entity.writer.rechecked(value).await?, value.version());
        self.put_where(value, write, move |writer, target, state, record| {
            if state.record.is_tombstone() {
                return Ok(None);
            }
            writer.newer(target, state, version)?;
            Ok(Some(record))
        })
        .await
    }

    /// A put of an entity whose versions count.
    pub(crate) async fn put_version(&self, value: &T, write: Write) -> Result<Receipt<T>, CacheError> {
        let version = value.version();
        let put = self.put_where(value, write, move |writer, target, state, record| {
            writer.newer(target, state, version)?;
            Ok(Some(record))
        });
        // It never declines.
        put.await?.ok_or(CacheError::Closed)
    }

    /// Stores a value where `decide` says so.
    async fn put_where<F>(&self, value: &T, write: Write, mut decide: F) -> Result<Option<Receipt<T>>, CacheError>
    where
        F: FnMut(&Writer<T>, &Target<T::Key>, &State<'_>, Record) -> Result<Option<Record>, CacheError>
            + Send
            + 'static,
    {
        let Write { partition, id, record } = write;
        let target = Target { partition, id: id.clone(), key: value.key() };
        let receipt = Receipt::of(self.entity.clone(), (partition, id));
        let stored = self.entity.writer.change(target, move |writer, target, state| {
            let record = decide(writer, target, state, record.clone())?;
            let stored = record.is_some();
            Ok((record, stored))
        });
        if stored.await? { self.through(receipt).await.map(Some) } else { Ok(None) }
    }

    /// An update that can fail, and says something.
    async fn try_update<F, R>(&self, key: &T::Key, mut change: F) -> Result<(T, R), CacheError>
    where
        F: FnMut(&mut T) -> Result<R, CacheError> + Send + 'static,
        R: Send + 'static,
    {
        let target = self.entity.writer.target(key)?;
        let receipt = Receipt::of(self.entity.clone(), (target.partition, target.id.clone()));
        let updated = self.entity.writer.change(target, move |writer, target, state| {
            let mut value = writer
                .value_of(target, state.record)?
                .ok_or_else(|| CacheError::Absent { id: target.id.to_string() })?;
            let version = value.version();
            let said = change(&mut value)?;
            writer.raise(target, version, &mut value)?;
            Ok((Some(writer.changed(target, state, &value)?), (value, said)))
        });
        let updated = updated.await?;
        self.through(receipt).await?;
        Ok(updated)
    }
}
