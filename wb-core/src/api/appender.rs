//! What the application holds of an append-only entity: it adds records, and waits for them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::Instant;

use crate::buffer::record::Record;
use crate::entity::AppendOnly;
use crate::entity::key::Id;
use crate::entity_runtime::EntityRuntime;
use crate::error::CacheError;
use crate::runtime::context::Begun;

/// Adds records of the append-only entity `T`. Cheap to clone; from [`Engine::appender`](crate::Engine::appender).
///
/// Records wait in a list for each partition and reach the sink in the order in which they were added to it; with
/// `#[wb(partition_by)]` those with one value of that field are in one partition. A record whose key the sink has already
/// is ignored there, so appending again is safe. Nothing is kept of a record once the sink has it, and nothing is read
/// back: read the database.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use wb_core::{AppendOnly, CodecError, Engine, Entity, Format, codec};
///
/// #[derive(Serialize, Deserialize)]
/// struct Comment { id: u64, post: u64, text: String }
///
/// // `#[derive(WriteBehind)]` with `#[wb(append)]` writes this:
/// impl Entity for Comment {
///     type Key = u64;
///     const NAME: &'static str = "comment";
///     const FORMAT: Format = Format::Json;
///     const APPEND: bool = true;
///     fn key(&self) -> u64 { self.id }
///     fn encode(&self) -> Result<Vec<u8>, CodecError> { codec::encode(Self::FORMAT, self) }
///     fn decode(payload: &[u8]) -> Result<Self, CodecError> { codec::decode(Self::FORMAT, payload) }
/// }
/// impl AppendOnly for Comment {}
///
/// async fn comment(engine: &Engine, comment: &Comment) -> Result<(), Box<dyn std::error::Error>> {
///     let comments = engine.appender::<Comment>()?;
///     let appended = comments.append(comment).await?;     // in the buffer
///     appended.persisted().await?;                        // in the database
///     Ok(())
/// }
/// ```
pub struct Appender<T: AppendOnly> {
    entity: Arc<EntityRuntime<T>>,
}

impl<T: AppendOnly> Clone for Appender<T> {
    fn clone(&self) -> Self {
        Self { entity: self.entity.clone() }
    }
}

impl<T: AppendOnly> fmt::Debug for Appender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Appender").field("entity", &T::NAME).finish_non_exhaustive()
    }
}

impl<T: AppendOnly> Appender<T> {
    pub(crate) const fn new(entity: Arc<EntityRuntime<T>>) -> Self {
        Self { entity }
    }

    /// Adds a record.
    ///
    /// # Errors
    /// [`CacheError::Key`], [`CacheError::Codec`], [`CacheError::TooLarge`], [`CacheError::Empty`]: nothing is stored.
    /// [`CacheError::Buffer`]: its kind says whether the record may have been added; appending it again is safe, because
    /// the sink ignores a key that it has. [`CacheError::Closed`] after shutdown.
    pub async fn append(&self, value: &T) -> Result<Appended<T>, CacheError> {
        self.append_many(std::iter::once(value)).await
    }

    /// Adds records, in this order and in one round trip. When one of them is not allowed, none is stored.
    ///
    /// # Errors
    /// As [`append`](Self::append); after a [`CacheError::Buffer`] some may be stored.
    pub async fn append_many<'a>(&self, values: impl IntoIterator<Item = &'a T>) -> Result<Appended<T>, CacheError> {
        let values: Vec<&T> = values.into_iter().collect();
        let mut writes = Vec::with_capacity(values.len());
        for value in values {
            writes.push(self.entity.writer.rechecked(value).await?);
        }
        let places = writes.iter().map(|write| (write.partition, write.id.clone(), write.record.clone())).collect();
        // Before the write: what is lost after it is noticed.
        let begun = self.entity.ctx.begin_write();
        self.entity.writer.put(writes).await?;
        Ok(Appended { entity: self.entity.clone(), places, begun })
    }

    /// Waits until everything acknowledged before this call is in the sink, from whatever process; asks this process's worker
    /// to flush now. Records that the sink refuses do not hold it up. Waits as long as the sink is away: see
    /// [`flush_within`](Self::flush_within).
    ///
    /// # Errors
    /// [`CacheError::Buffer`]; [`CacheError::Closed`] when the engine is over before the sink has everything.
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

/// Says that records are in the buffer; from [`Appender::append`]. Costs nothing unless it is asked.
#[derive(Clone)]
pub struct Appended<T: AppendOnly> {
    entity: Arc<EntityRuntime<T>>,
    /// An entry that is no row has no id but the one that is made from its payload.
    places: Vec<(u16, Id, Record)>,
    begun: Begun,
}

impl<T: AppendOnly> fmt::Debug for Appended<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<&Id> = self.places.iter().map(|(_, id, _)| id).collect();
        f.debug_struct("Appended").field("entity", &T::NAME).field("ids", &ids).finish_non_exhaustive()
    }
}

impl<T: AppendOnly> Appended<T> {
    /// Waits until the sink has these records (or had their keys before). Works in a process that flushes nothing, too. Asks
    /// this process's worker to flush now, and waits as long as the sink is away.
    ///
    /// # Errors
    /// [`CacheError::DeadLettered`] for the first of them that the sink refuses for good, or that is no row;
    /// [`CacheError::Buffer`] of kind [`Lost`](crate::BufferErrorKind::Lost) when the buffer lost data meanwhile, so that nobody
    /// knows; [`CacheError::Closed`] when the engine is over before the sink has them.
    pub async fn persisted(&self) -> Result<(), CacheError> {
        self.entity.ctx.trigger.nudge();
        let owned = self.entity.leases.owned();
        if self.places.iter().any(|(partition, ..)| !owned.contains(partition)) {
            // Another process has it. When nobody hears this, the interval comes all the same.
            let _ = self.entity.ctx.space.nudge().await;
        }
        let persisted = self.places.iter().map(|(partition, id, record)| {
            self.entity.receipts.persisted(*partition, id, Some(Id::unreadable(record.as_bytes())), self.begun)
        });
        // One after the other fails: which one is told must not depend on who was asked first.
        join_all(persisted).await.into_iter().collect()
    }

    /// [`persisted`](Self::persisted) with an end.
    ///
    /// # Errors
    /// As [`persisted`](Self::persisted); [`CacheError::NotPersisted`] when the sink does not have them after `limit`, which
    /// names the first of them. They stay in the buffer and are flushed.
    pub async fn persisted_within(&self, limit: Duration) -> Result<(), CacheError> {
        let begun = Instant::now();
        match tokio::time::timeout(limit, self.persisted()).await {
            Ok(result) => result,
            Err(_) => {
                let id = self.places.first().map(|(_, id, _)| id.to_string()).unwrap_or_default();
                Err(CacheError::NotPersisted { id, waited: begun.elapsed() })
            }
        }
    }
}
