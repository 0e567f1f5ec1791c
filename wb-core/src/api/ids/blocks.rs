//! Integers from a counter in the buffer, a block at a time.

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Semaphore;

use crate::buffer::IdFloor;
use crate::entity::Entity;
use crate::entity_runtime::EntityRuntime;
use crate::error::CacheError;
use crate::error::buffer::{BufferError, BufferErrorKind};
use crate::fault::mechanism::Mechanism;

/// Ids of entity `E`, from [`Engine::ids`](crate::Engine::ids): positive integers that no other process gets. Clones share a
/// block, so keep one and clone it.
///
/// - **Unique, not dense, not in order.** What is left of a block when a process ends is never used. Ids of one value and its
///   clones ascend; those of several processes interleave.
/// - **A block costs one round trip**, whoever waits for it; all other ids cost nothing.
/// - **The sink is the floor.** Before its first block, each process asks the sink for its highest key, and again when the
///   buffer has lost the counter, was restarted, or may have lost data otherwise. Then 1 000 blocks are left out (of the
///   largest size that anybody has asked for), for the sake of processes that hold ids of forgotten ones. So ids stay unique
///   although Redis loses its last second, or is emptied, and a table that has rows already can be taken over. What nobody
///   can know: ids of a process that reserved more than that in the time that was lost, or, when all of Redis is lost and
///   the table is empty, of processes that have not noticed it yet (they do within a second).
///
/// Rows that other programs insert with keys of their own are seen at those moments only: let all of them take their ids
/// here, or keep to another range.
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// # use wb_core::{CodecError, Entity, Format, codec};
/// # #[derive(Clone, Serialize, Deserialize)]
/// # struct Post { id: i64, title: String }
/// # impl Entity for Post {
/// #     type Key = i64;
/// #     const NAME: &'static str = "post";
/// #     const FORMAT: Format = Format::Json;
/// #     fn key(&self) -> i64 { self.id }
/// #     fn encode(&self) -> Result<Vec<u8>, CodecError> { codec::encode(Self::FORMAT, self) }
/// #     fn decode(payload: &[u8]) -> Result<Self, CodecError> { codec::decode(Self::FORMAT, payload) }
/// # }
/// # async fn example(engine: wb_core::Engine) -> Result<(), Box<dyn std::error::Error>> {
/// let ids = engine.ids::<Post>(100)?;
/// let posts = engine.cache::<Post>()?;
/// posts.put(&Post { id: ids.next().await?, title: "no round trip to the database".into() }).await?;
/// # Ok(())
/// # }
/// ```
pub struct Ids<E: Entity> {
    shared: Arc<Shared<E>>,
}

struct Shared<E: Entity> {
    entity: Arc<EntityRuntime<E>>,
    size: i64,
    block: Mutex<Block>,
    /// Whose turn it is to reserve a block; the others wait for it.
    turn: Semaphore,
}

/// What is left of the last block that was reserved.
#[derive(Debug, Default)]
struct Block {
    left: i64,
    /// The last id of the block, and the highest one that was ever reserved here.
    last: i64,
    /// Losses of the buffer that were known when the sink was asked for its highest key; `None`: it never was.
    asked: Option<u64>,
}

impl Block {
    fn take(&mut self) -> Option<i64> {
        let id = self.last.checked_sub(self.left)?.checked_add(1)?;
        self.left = (self.left > 0).then(|| self.left - 1)?;
        Some(id)
    }
}

impl<E: Entity> Clone for Ids<E> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<E: Entity> fmt::Debug for Ids<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ids").field("entity", &E::NAME).field("block", &self.shared.size).finish_non_exhaustive()
    }
}

impl<E: Entity> Ids<E> {
    pub(crate) fn new(entity: Arc<EntityRuntime<E>>, size: u32) -> Self {
        let shared = Shared { entity, size: size.max(1).into(), block: Mutex::default(), turn: Semaphore::new(1) };
        Self { shared: Arc::new(shared) }
    }

    /// The next id: at once from the block, or after a round trip that reserves the next one.
    ///
    /// # Errors
    /// [`CacheError::Buffer`] when no block can be reserved, [`CacheError::Sink`] and [`CacheError::SinkAway`] when the sink
    /// is asked for its highest key and does not say: trying again is safe, at worst a block is left out. [`CacheError::Closed`] after shutdown.
    pub async fn next(&self) -> Result<i64, CacheError> {
        let shared = &*self.shared;
        if let Some(id) = shared.block().take() {
            return Ok(id);
        }
        // Never closed.
        let _turn = shared.turn.acquire().await.map_err(|_| CacheError::Closed)?;
        // Somebody else may have reserved it meanwhile, and others may have used it up.
        if let Some(id) = shared.block().take() {
            return Ok(id);
        }
        shared.reserve().await?;
        shared.block().take().ok_or_else(exhausted)
    }
}

impl<E: Entity> Shared<E> {
    fn block(&self) -> MutexGuard<'_, Block> {
        // No code that can panic runs under the lock.
        self.block.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reserves a block. Given up in the middle, a block is left out.
    async fn reserve(&self) -> Result<(), CacheError> {
        let entity = &self.entity;
        let _place = entity.ctx.intake.enter()?;
        let losses = entity.ctx.losses.load(Ordering::Acquire);
        let (asked, own) = {
            let block = self.block();
            (block.asked, block.last)
        };
        let last = match entity.ctx.space.reserve_ids(self.size, None).await? {
            Some(last) if asked == Some(losses) => last,
            // The first block, or the counter is not to be trusted.
            counted => {
                let highest = entity.reader.load_gate.ask(async { entity.ctx.sink.highest_key().await }).await?;
                let highest = highest.unwrap_or(0).max(own);
                match counted {
                    Some(last) if asked.is_none() && last - self.size >= highest => last,
                    _ => self.above(highest, asked.is_none()).await?,
                }
            }
        };
        *self.block() = Block { left: self.size, last, asked: Some(losses) };
        entity.ctx.highest_id.fetch_max(last, Ordering::AcqRel);
        Ok(())
    }

    /// The end of a block above the highest id that is known.
    async fn above(&self, highest: i64, first: bool) -> Result<i64, CacheError> {
        // Nothing is left out where there never was anything.
        let leap = (!first || highest > 0) && !self.entity.ctx.options.sabotage.lacks(Mechanism::IdLeap);
        let floor = IdFloor { above: highest, leap };
        self.entity.ctx.space.reserve_ids(self.size, Some(floor)).await?.ok_or_else(exhausted)
    }
}

fn exhausted() -> CacheError {
    CacheError::Buffer(BufferError::new(BufferErrorKind::Misconfigured, "the counter of ids is at its end"))
}
