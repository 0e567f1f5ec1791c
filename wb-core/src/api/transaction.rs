//! Transactions: records that are written together reach the sink together, or not at all.

use std::any::Any;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use crate::api::cache::Cache;
use crate::api::receipt::Receipt;
use crate::entity::Entity;
use crate::entity_runtime::{Entities, EntityRuntime};
use crate::error::{CacheError, UnknownEntity};
use crate::write::transact::Draft;

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

/// What a transaction is to write; see [`Engine::transaction`](crate::Engine::transaction).
pub struct Transaction<'e> {
    entities: &'e Entities,
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
    entity: Arc<EntityRuntime<T>>,
    drafts: Vec<Draft<T::Key>>,
}

#[async_trait]
trait AnyDrafts: Any + Send {
    fn entity(&self) -> &'static str;
    async fn store(self: Box<Self>) -> Result<(), TransactionError>;
    /// See [`Writer::recheck`](crate::write::Writer::recheck).
    async fn recheck(&self);
}

#[async_trait]
impl<T: Entity> AnyDrafts for Drafts<T> {
    fn entity(&self) -> &'static str {
        T::NAME
    }

    async fn store(self: Box<Self>) -> Result<(), TransactionError> {
        let Self { entity, drafts } = *self;
        let partitions: BTreeSet<u16> = drafts.iter().map(|draft| draft.write.partition).collect();
        if partitions.len() > 1 && !entity.ctx.options.transactions {
            return Err(TransactionError::SeveralPartitions { entity: T::NAME, partitions: partitions.len() });
        }
        if !entity.ctx.readiness.whole()? {
            return Err(TransactionError::NotWhole { entity: T::NAME });
        }
        let places = drafts.iter().map(|draft| (draft.write.partition, draft.write.id.clone())).collect();
        // Before the write: what is lost after it is noticed.
        let receipt = Receipt::of_many(entity.clone(), places);
        entity.writer.transact(&drafts).await?;
        Cache::new(entity).through(receipt).await?;
        Ok(())
    }

    async fn recheck(&self) {
        self.entity.writer.recheck(self.entity.writer.recheck.look()).await;
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
        let write = drafts.entity.writer.upsert(value)?;
        let version = if T::VERSIONED { value.version() } else { None };
        drafts.add(Draft { write, key: value.key(), version })
    }

    /// Deletes the row of `key`, whether there is one or not, and whatever its version is.
    ///
    /// # Errors
    /// As for [`put`](Self::put).
    pub fn delete<T: Entity>(&mut self, key: &T::Key) -> Result<(), TransactionError> {
        let drafts = self.of::<T>()?;
        let write = drafts.entity.writer.tombstone(key)?;
        drafts.add(Draft { write, key: key.clone(), version: None })
    }

    fn of<T: Entity>(&mut self) -> Result<&mut Drafts<T>, TransactionError> {
        if T::APPEND {
            return Err(TransactionError::Append { entity: T::NAME });
        }
        let drafts = match &mut self.drafts {
            Some(drafts) => drafts,
            none => none.insert(Box::new(Drafts::<T> { entity: self.entities.get::<T>()?, drafts: Vec::new() })),
        };
        let first = drafts.entity();
        let drafts: &mut dyn Any = &mut **drafts;
        drafts.downcast_mut().ok_or(TransactionError::SeveralEntities { first, second: T::NAME })
    }
}

/// What [`Engine::transaction`](crate::Engine::transaction) does.
pub(crate) async fn run<R>(
    entities: &Entities,
    fill: impl FnOnce(&mut Transaction<'_>) -> Result<R, TransactionError>,
) -> Result<R, TransactionError> {
    let (drafts, result) = {
        let mut transaction = Transaction { entities, drafts: None };
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
