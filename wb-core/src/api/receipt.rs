//! Receipts: what a write returns.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{join_all, try_join_all};

use crate::entity::Entity;
use crate::entity::key::Id;
use crate::entity_runtime::EntityRuntime;
use crate::error::CacheError;
use crate::runtime::context::{Begun, Place};

/// Says that a write is in the buffer, and can be waited for until it is in the sink; from [`Cache::put`](crate::Cache::put)
/// and its siblings. Costs nothing unless it is asked.
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
/// # async fn run(posts: Cache<Post>, post: Post) -> Result<(), CacheError> {
/// let receipt = posts.put(&post).await?;      // in Redis
/// receipt.persisted().await?;                 // in the database
/// # Ok(())
/// # }
/// ```
pub struct Receipt<T: Entity> {
    entity: Arc<EntityRuntime<T>>,
    places: Places,
    begun: Begun,
}

/// What was written.
enum Places {
    One(Place),
    Many(Vec<Place>),
}

impl<T: Entity> fmt::Debug for Receipt<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<&Id> = self.places().iter().map(|(_, id)| id).collect();
        f.debug_struct("Receipt").field("entity", &T::NAME).field("ids", &ids).finish_non_exhaustive()
    }
}

impl<T: Entity> Receipt<T> {
    pub(crate) fn of(entity: Arc<EntityRuntime<T>>, place: Place) -> Self {
        let begun = entity.ctx.begin_write();
        Self { entity, places: Places::One(place), begun }
    }

    /// For what was written before, by whatever process.
    pub(crate) fn of_earlier(entity: Arc<EntityRuntime<T>>, place: Place) -> Self {
        let begun = Begun { losses: entity.ctx.losses_of_earlier(&place.1), moment: None };
        Self { entity, places: Places::One(place), begun }
    }

    pub(crate) fn of_many(entity: Arc<EntityRuntime<T>>, places: Vec<Place>) -> Self {
        let begun = entity.ctx.begin_write();
        Self { entity, places: Places::Many(places), begun }
    }

    pub(crate) fn places(&self) -> &[Place] {
        match &self.places {
            Places::One(place) => std::slice::from_ref(place),
            Places::Many(places) => places,
        }
    }

    /// Asks for the flush, and waits until the write is in the sink, as long as the options say.
    pub(crate) async fn hasten(&self) -> Result<(), CacheError> {
        self.entity.receipts.hurry(self.places()).await;
        self.persisted_within(self.entity.ctx.options.persist_within).await
    }

    /// Waits until the sink has committed this write, or a newer one of its key; of several writes, all of them. Asked late,
    /// the answer is that of the key's latest state. Whichever
    /// process flushes: the buffer is asked. Does not hurry the flush (see
    /// [`put_through`](crate::Cache::put_through)), and waits as long as the sink is away (see
    /// [`persisted_within`](Self::persisted_within)).
    ///
    /// # Errors
    /// [`CacheError::DeadLettered`] when the sink refuses the record, with the reason, also when the letter is discarded;
    /// [`CacheError::Stale`] when the sink has
    /// a newer version of it, from another program, and this one was left out; [`CacheError::Buffer`] of kind
    /// [`Lost`](crate::BufferErrorKind::Lost) when the buffer lost data meanwhile, so that nobody knows, and of kind
    /// [`Unknown`](crate::BufferErrorKind::Unknown) when it is asked late and thousands of writes were left out or discarded since;
    /// [`CacheError::Closed`] when this engine ends first.
    pub async fn persisted(&self) -> Result<(), CacheError> {
        let persisted = self
            .places()
            .iter()
            .map(|(partition, id)| self.entity.receipts.persisted(*partition, id, None, self.begun));
        // One after the other fails: which one is told must not depend on who was asked first.
        join_all(persisted).await.into_iter().collect()
    }

    /// [`persisted`](Self::persisted) with an end.
    ///
    /// # Errors
    /// As for [`persisted`](Self::persisted); [`CacheError::NotPersisted`] when it is not in the sink after `limit`. It is
    /// still in the buffer then, and will be flushed; the receipt can be asked again.
    pub async fn persisted_within(&self, limit: Duration) -> Result<(), CacheError> {
        try_join_all(self.places().iter().map(async |(partition, id)| {
            match tokio::time::timeout(limit, self.entity.receipts.persisted(*partition, id, None, self.begun)).await {
                Ok(persisted) => persisted,
                Err(_) => Err(CacheError::NotPersisted { id: id.to_string(), waited: limit }),
            }
        }))
        .await
        .map(drop)
    }
}
