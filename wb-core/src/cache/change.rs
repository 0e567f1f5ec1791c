//! Changes that depend on the state they meet.

use std::sync::Arc;

use super::{Cache, Receipt};
use crate::change::{Counter, CounterField, Patch};
use crate::changes::{State, Target};
use crate::codec::merge_unknown;
use crate::entity::Entity;
use crate::error::CacheError;
use crate::key::Id;
use crate::lane::Lane;
use crate::record::{Record, Write};

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
        let target = self.lane.target(key)?;
        let receipt = Receipt::of(self.lane.clone(), (target.partition, target.id.clone()));
        let value = self.lane.change(target, move |lane, target, state| {
            let before = lane.value_of(target, state.record)?;
            let version = before.as_ref().and_then(Entity::version).max(state.floor);
            match change(before) {
                Some(mut value) => {
                    lane.raise(target, version, &mut value)?;
                    Ok((Some(lane.changed(target, state, &value)?), Some(value)))
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
        let id = self.lane.target(key)?.id;
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
        let (write, version) = (self.lane.rechecked(value).await?, value.version());
        self.put_where(value, write, move |lane, target, state, record| {
            if !state.record.is_tombstone() {
                return Ok(None);
            }
            lane.not_below(target, state.floor, version)?;
            Ok(Some(record))
        })
        .await
    }

    /// Stores `value` if there is a record of its key, in the buffer or in the sink; `None` when there is none.
    ///
    /// # Errors
    /// As [`update`](Self::update), but for the absence; [`CacheError::Conflict`] as for [`put`](Self::put).
    pub async fn replace(&self, value: &T) -> Result<Option<Receipt<T>>, CacheError> {
        let (write, version) = (self.lane.rechecked(value).await?, value.version());
        self.put_where(value, write, move |lane, target, state, record| {
            if state.record.is_tombstone() {
                return Ok(None);
            }
            lane.newer(target, state, version)?;
            Ok(Some(record))
        })
        .await
    }

    /// A put of an entity whose versions count.
    pub(super) async fn put_version(&self, value: &T, write: Write) -> Result<Receipt<T>, CacheError> {
        let version = value.version();
        let put = self.put_where(value, write, move |lane, target, state, record| {
            lane.newer(target, state, version)?;
            Ok(Some(record))
        });
        // It never declines.
        put.await?.ok_or(CacheError::Closed)
    }

    /// Stores a value where `decide` says so.
    async fn put_where<F>(&self, value: &T, write: Write, mut decide: F) -> Result<Option<Receipt<T>>, CacheError>
    where
        F: FnMut(&Lane<T>, &Target<T::Key>, &State<'_>, Record) -> Result<Option<Record>, CacheError> + Send + 'static,
    {
        let Write { partition, id, record } = write;
        let target = Target { partition, id: id.clone(), key: value.key() };
        let receipt = Receipt::of(self.lane.clone(), (partition, id));
        let stored = self.lane.change(target, move |lane, target, state| {
            let record = decide(lane, target, state, record.clone())?;
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
        let target = self.lane.target(key)?;
        let receipt = Receipt::of(self.lane.clone(), (target.partition, target.id.clone()));
        let updated = self.lane.change(target, move |lane, target, state| {
            let mut value =
                lane.value_of(target, state.record)?.ok_or_else(|| CacheError::Absent { id: target.id.to_string() })?;
            let version = value.version();
            let said = change(&mut value)?;
            lane.raise(target, version, &mut value)?;
            Ok((Some(lane.changed(target, state, &value)?), (value, said)))
        });
        let updated = updated.await?;
        self.through(receipt).await?;
        Ok(updated)
    }
}

impl<E: Entity> Lane<E> {
    /// Where the record of a key is.
    pub(super) fn target(&self, key: &E::Key) -> Result<Target<E::Key>, CacheError> {
        let id = Id::of(key)?;
        let partition = self.partition_of(&id, key)?;
        Ok(Target { partition, id, key: key.clone() })
    }

    fn value_of(&self, target: &Target<E::Key>, record: &Record) -> Result<Option<E>, CacheError> {
        let failed = |source| CacheError::Codec { id: target.id.to_string(), source: Arc::new(source) };
        record.payload().map(|payload| E::decode(payload).map_err(failed)).transpose()
    }

    /// The record of a changed value. Fields of the state before it that this struct does not know stay: a newer program
    /// has put them there.
    fn changed(&self, target: &Target<E::Key>, state: &State<'_>, value: &E) -> Result<Record, CacheError> {
        let before = state.record;
        if state.outdated && !before.is_tombstone() && !self.options.accept_unknown_fields {
            return Err(CacheError::Outdated { id: target.id.to_string() });
        }
        let write = self.upsert(value)?;
        if write.id != target.id {
            return Err(CacheError::KeyChanged { id: target.id.to_string() });
        }
        let (Some(known), Some(before)) = (E::fields(), before.payload()) else { return Ok(write.record) };
        let merged = merge_unknown(E::FORMAT, before, write.record.as_bytes().to_vec(), known);
        let (size, limit) = (target.id.as_bytes().len() + merged.len(), self.options.max_record_bytes);
        if size > limit {
            return Err(CacheError::TooLarge { id: target.id.to_string(), size, limit });
        }
        Ok(Record::from_bytes(merged))
    }

    /// Gives a changed value a higher version than it had, unless the change did.
    fn raise(&self, target: &Target<E::Key>, before: Option<i64>, value: &mut E) -> Result<(), CacheError> {
        let (Some(before), Some(now)) = (before, value.version()) else { return Ok(()) };
        if now > before || before.checked_add(1).is_some_and(|next| value.set_version(next)) {
            return Ok(());
        }
        Err(CacheError::Overflow { id: target.id.to_string(), field: "version" })
    }

    /// Whether a state of `version` may replace what stands. Not even the very same state may: two that have counted to
    /// the same number from the same state would both believe that they were counted.
    fn newer(&self, target: &Target<E::Key>, state: &State<'_>, version: Option<i64>) -> Result<(), CacheError> {
        let stored = self.value_of(target, state.record)?.as_ref().and_then(Entity::version);
        self.not_below(target, stored.max(state.floor), version)
    }

    fn not_below(&self, target: &Target<E::Key>, stored: Option<i64>, offered: Option<i64>) -> Result<(), CacheError> {
        match (stored, offered) {
            (Some(stored), Some(offered)) if offered <= stored => {
                Err(CacheError::Conflict { id: target.id.to_string(), stored, offered })
            }
            _ => Ok(()),
        }
    }

    /// Waits until a write is in the sink, and asks for the flush.
    pub(super) async fn hasten(&self, receipt: &Receipt<E>) -> Result<(), CacheError> {
        self.pressure.nudge();
        if !self.holds_all(receipt) {
            // Another process has the partition. When nobody hears it, the interval comes all the same.
            let _ = self.space.nudge().await;
        }
        receipt.persisted_within(self.options.persist_within).await
    }

    fn holds_all(&self, receipt: &Receipt<E>) -> bool {
        let owned = self.leases.owned();
        receipt.places().iter().all(|(partition, _)| owned.contains(partition))
    }
}
