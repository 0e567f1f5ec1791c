//! Receipts: what a write returns.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::future::{join_all, try_join_all};

use crate::entity::Entity;
use crate::error::CacheError;
use crate::key::Id;
use crate::lane::Lane;

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
    lane: Arc<Lane<T>>,
    places: Places,
    begun: Begun,
}

/// What was known when a write was begun.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Begun {
    /// Losses of the buffer.
    pub(crate) losses: u64,
    /// The moment of what was observed; `None`: the write is older than this.
    pub(crate) moment: Option<u64>,
}

/// A partition and an id.
pub(crate) type Place = (u16, Id);

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
    pub(crate) fn of(lane: Arc<Lane<T>>, place: Place) -> Self {
        let begun = lane.begin_write();
        Self { lane, places: Places::One(place), begun }
    }

    /// For what was written before, by whatever process.
    pub(crate) fn of_earlier(lane: Arc<Lane<T>>, place: Place) -> Self {
        let begun = Begun { losses: lane.losses_of_earlier(&place.1), moment: None };
        Self { lane, places: Places::One(place), begun }
    }

    pub(crate) fn of_many(lane: Arc<Lane<T>>, places: Vec<Place>) -> Self {
        let begun = lane.begin_write();
        Self { lane, places: Places::Many(places), begun }
    }

    pub(super) fn places(&self) -> &[Place] {
        match &self.places {
            Places::One(place) => std::slice::from_ref(place),
            Places::Many(places) => places,
        }
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
        let persisted =
            self.places().iter().map(|(partition, id)| self.lane.persisted(*partition, id, None, self.begun));
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
            match tokio::time::timeout(limit, self.lane.persisted(*partition, id, None, self.begun)).await {
                Ok(persisted) => persisted,
                Err(_) => Err(CacheError::NotPersisted { id: id.to_string(), waited: limit }),
            }
        }))
        .await
        .map(drop)
    }
}

impl<E: Entity> Lane<E> {
    /// A write is about to be sent.
    pub(crate) fn begin_write(&self) -> Begun {
        let losses = self.losses.load(Ordering::Acquire);
        Begun { losses, moment: Some(self.observed.now()) }
    }

    /// Writes were acknowledged; begun when so many `losses` were known.
    pub(crate) fn wrote<'a>(&self, losses: u64, ids: impl IntoIterator<Item = &'a Id>) {
        if losses > self.losses_before.load(Ordering::Acquire) {
            self.renewed.wrote(losses, ids);
        }
    }

    /// The losses that a write was begun with at least, of which only its id is known: those of today if this process has written
    /// it since the last one, else none that came while this engine ran.
    fn losses_of_earlier(&self, id: &Id) -> u64 {
        let losses = self.losses.load(Ordering::Acquire);
        if self.renewed.has(losses, id) { losses } else { self.losses_before.load(Ordering::Acquire) }
    }

    /// Waits until a write is in the sink; of an entry of a log `unreadable` is the id that it has if it is no row.
    pub(crate) async fn persisted(
        &self,
        partition: u16,
        id: &Id,
        unreadable: Option<Id>,
        begun: Begun,
    ) -> Result<(), CacheError> {
        let answer = self.desk.wait_for(partition, id.clone(), unreadable, begun);
        let mut answer = std::pin::pin!(answer);
        tokio::select! {
            biased;
            answer = &mut answer => answer.unwrap_or(Err(CacheError::Closed)),
            reason = self.gate.over() => {
                // The last look of the engine's end may have settled it.
                match tokio::time::timeout(LAST_LOOK, answer).await {
                    Ok(Ok(answer)) => answer,
                    Ok(Err(_)) | Err(_) => Err(reason),
                }
            }
        }
    }
}

/// How long the end of an engine may take to tell what is settled.
const LAST_LOOK: Duration = Duration::from_secs(1);
