//! Transactions: records that are written together reach the sink together, or not at all.

use std::any::Any;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use super::Engine;
use crate::cache::{Cache, Receipt};
use crate::entity::Entity;
use crate::error::{CacheError, UnknownEntity};
use crate::flow::Draft;
use crate::lane::Lane;

/// Most records in one transaction: it is stored in one step, which holds the buffer up for others.
const MOST: usize = 200;

/// Why a transaction fails. Nothing of it is stored, except where a [`CacheError`] says that the outcome is unknown, or that it
/// is stored but not as it was asked.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransactionError {
    /// One of its records, or the buffer: as for [`Cache::put`].
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The engine has no such entity.
    #[error(transparent)]
    UnknownEntity(#[from] UnknownEntity),
    /// Records of two entities: each entity has a sink of its own, and no transaction goes over two.
    #[error("a transaction writes records of one entity, not of `{first}` and of `{second}`")]
    SeveralEntities {
        /// Entity of the records before.
        first: &'static str,
        /// Entity of the record that is one too many.
        second: &'static str,
    },
    /// More records than one step may store.
    #[error("a transaction of entity `{entity}` has more than {limit} records")]
    TooMany {
        /// The entity.
        entity: &'static str,
        /// The limit.
        limit: usize,
    },
    /// Its records are in several partitions, which are flushed apart from each other.
    #[error(
        "the records of a transaction of entity `{entity}` are in {partitions} partitions; set `EntityOptions::transactions(true)`, \
         or keep them in one with `#[wb(partition_by)]` or `EntityOptions::partitions(1)`"
    )]
    SeveralPartitions {
        /// The entity.
        entity: &'static str,
        /// Partitions that it would write to.
        partitions: usize,
    },
    /// The sink has no transactions (a MongoDB that is no replica set).
    #[error("the sink of entity `{entity}` has no transactions")]
    NotWhole {
        /// The entity.
        entity: &'static str,
    },
    /// The entity's records are only ever added.
    #[error("records of entity `{entity}` are only ever added, and in no transaction")]
    Append {
        /// The entity.
        entity: &'static str,
    },
}

/// What a transaction is to write; see [`Engine::transaction`].
pub struct Transaction<'e> {
    engine: &'e Engine,
    drafts: Option<Box<dyn AnyDrafts>>,
}

impl fmt::Debug for Transaction<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entity = self.drafts.as_ref().map(|drafts| drafts.entity());
        f.debug_struct("Transaction").field("entity", &entity).finish_non_exhaustive()
    }
}

/// Writes of one entity.
struct Drafts<T: Entity> {
    lane: Arc<Lane<T>>,
    drafts: Vec<Draft<T::Key>>,
}

#[async_trait]
trait AnyDrafts: Any + Send {
    fn entity(&self) -> &'static str;
    async fn store(self: Box<Self>) -> Result<(), TransactionError>;
    /// See [`Lane::recheck`].
    async fn recheck(&self);
}

#[async_trait]
impl<T: Entity> AnyDrafts for Drafts<T> {
    fn entity(&self) -> &'static str {
        T::NAME
    }

    async fn store(self: Box<Self>) -> Result<(), TransactionError> {
        let Self { lane, drafts } = *self;
        let partitions: BTreeSet<u16> = drafts.iter().map(|draft| draft.write.partition).collect();
        if partitions.len() > 1 && !lane.options.transactions {
            return Err(TransactionError::SeveralPartitions { entity: T::NAME, partitions: partitions.len() });
        }
        if !lane.readiness.whole()? {
            return Err(TransactionError::NotWhole { entity: T::NAME });
        }
        let places = drafts.iter().map(|draft| (draft.write.partition, draft.write.id.clone())).collect();
        // Before the write: what is lost after it is noticed.
        let receipt = Receipt::of_many(lane.clone(), places);
        lane.transact(&drafts).await?;
        Cache::new(lane).through(receipt).await?;
        Ok(())
    }

    async fn recheck(&self) {
        self.lane.recheck(self.lane.recheck.look()).await;
    }
}

impl<T: Entity> Drafts<T> {
    /// Of one record the last write counts.
    fn add(&mut self, draft: Draft<T::Key>) -> Result<(), TransactionError> {
        let full = self.drafts.len() >= MOST;
        match self.drafts.iter_mut().find(|before| before.write.id == draft.write.id) {
            Some(before) => *before = draft,
            None if full => {
                return Err(TransactionError::TooMany { entity: T::NAME, limit: MOST });
            }
            None => self.drafts.push(draft),
        }
        Ok(())
    }
}

impl Transaction<'_> {
    /// Makes `value` the state of its key, as [`Cache::put`] does.
    ///
    /// # Errors
    /// What is wrong with the value; records of another entity before; an entity that the engine does not have.
    pub fn put<T: Entity>(&mut self, value: &T) -> Result<(), TransactionError> {
        let drafts = self.of::<T>()?;
        let write = drafts.lane.upsert(value)?;
        let version = if T::VERSIONED { value.version() } else { None };
        drafts.add(Draft { write, key: value.key(), version })
    }

    /// Deletes the row of `key`, whether there is one or not, and whatever its version is.
    ///
    /// # Errors
    /// As for [`put`](Self::put).
    pub fn delete<T: Entity>(&mut self, key: &T::Key) -> Result<(), TransactionError> {
        let drafts = self.of::<T>()?;
        let write = drafts.lane.tombstone(key)?;
        drafts.add(Draft { write, key: key.clone(), version: None })
    }

    fn of<T: Entity>(&mut self) -> Result<&mut Drafts<T>, TransactionError> {
        if T::APPEND {
            return Err(TransactionError::Append { entity: T::NAME });
        }
        let drafts = match &mut self.drafts {
            Some(drafts) => drafts,
            none => none.insert(Box::new(Drafts::<T> { lane: self.engine.lane::<T>()?, drafts: Vec::new() })),
        };
        let first = drafts.entity();
        let drafts: &mut dyn Any = &mut **drafts;
        drafts.downcast_mut().ok_or(TransactionError::SeveralEntities { first, second: T::NAME })
    }
}

impl Engine {
    /// Writes several records of one entity together: all of them are in the buffer at one instant or none is, every reader
    /// of [`Cache::get_many`] sees all or none, and they reach the sink in one of its transactions. When the sink refuses one
    /// of them it gets none, and all become dead letters when the retries are used up.
    ///
    /// `fill` says what to write, and is not asked again. An error of it is the transaction's: nothing is stored. At most 200
    /// records; of one record the last write counts. A `put` of a value with a `#[wb(version)]` that is not above the one
    /// that stands is a [`CacheError::Conflict`], and nothing is stored.
    ///
    /// Records of one partition can always be written together; records of several when the entity's options
    /// [say so](crate::EntityOptions::transactions). Transactions that write a record in common within one flush are
    /// flushed together, however many there are, and share their fate: also above `max_batch`. Dead letters of a
    /// unit are replayed together.
    ///
    /// A unique value may move from one record to another: the sink finds the order. Two that exchange theirs are refused, unless the
    /// database checks the constraint at the end of its transaction.
    ///
    /// To wait for the sink, ask [`Cache::receipt`] for one of the records.
    ///
    /// ```
    /// # use wb_core::{CodecError, Engine, Entity, EntityOptions, Format, MemoryBuffer, codec, testing::ScriptedSink};
    /// # #[derive(Clone, serde::Serialize, serde::Deserialize)]
    /// # struct Player { id: u64, gold: i64 }
    /// # impl Entity for Player {
    /// #     type Key = u64;
    /// #     const NAME: &'static str = "player";
    /// #     const FORMAT: Format = Format::Json;
    /// #     fn key(&self) -> u64 { self.id }
    /// #     fn encode(&self) -> Result<Vec<u8>, CodecError> { codec::encode(Self::FORMAT, self) }
    /// #     fn decode(payload: &[u8]) -> Result<Self, CodecError> { codec::decode(Self::FORMAT, payload) }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let sink = ScriptedSink::<Player>::new();
    /// let engine = Engine::builder(MemoryBuffer::new())
    ///     .entity::<Player>(sink, EntityOptions::new().transactions(true))
    ///     .start()
    ///     .await?;
    /// let (mut buyer, mut seller) = (Player { id: 1, gold: 50 }, Player { id: 2, gold: 10 });
    /// buyer.gold -= 30;
    /// seller.gold += 30;
    /// engine
    ///     .transaction(|tx| {
    ///         tx.put(&buyer)?;
    ///         tx.put(&seller)?;
    ///         tx.delete::<Player>(&3)?;
    ///         Ok(())
    ///     })
    ///     .await?;
    /// # engine.shutdown(std::time::Duration::from_secs(5)).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`TransactionError`]. After a [`BufferErrorKind::Unknown`](crate::BufferErrorKind::Unknown) all of it may be stored, or
    /// nothing; repeating it is safe. (Where versions count, a repetition of what was stored is a conflict with itself.)
    pub async fn transaction<R>(
        &self,
        fill: impl FnOnce(&mut Transaction<'_>) -> Result<R, TransactionError>,
    ) -> Result<R, TransactionError> {
        let (drafts, result) = {
            let mut transaction = Transaction { engine: self, drafts: None };
            let filled = fill(&mut transaction);
            if let (Err(TransactionError::Cache(CacheError::Unstorable { .. })), Some(drafts)) =
                (&filled, &transaction.drafts)
            {
                // It is not asked again; its repetition is judged by what the schema is now.
                drafts.recheck().await;
            }
            (transaction.drafts, filled?)
        };
        if let Some(drafts) = drafts {
            drafts.store().await?;
        }
        Ok(result)
    }
}
