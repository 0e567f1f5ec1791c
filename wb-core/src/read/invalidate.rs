//! invalidate, refresh: what is clean is forgotten, so that the sink's row is read again. What is dirty stays, and so does
//! the copy of what the sink has refused: it is all there is of it.

use crate::entity::Entity;
use crate::entity::key::Id;
use crate::error::CacheError;
use crate::read::Reader;

impl<E: Entity> Reader<E> {
    pub(crate) async fn invalidate(&self, key: &E::Key) -> Result<bool, CacheError> {
        self.ctx.intake.open()?;
        let id = Id::of(key)?;
        let partition = self.ctx.partition_of(&id, key)?;
        let _near = self.ctx.near.writing([&id]);
        Ok(self.ctx.space.invalidate(partition, std::slice::from_ref(&id)).await? > 0)
    }

    /// Marks of loads that began earlier go with the copy, so that nobody fills in, or is told, what was loaded before.
    pub(crate) async fn refresh(&self, key: E::Key) -> Result<Option<E>, CacheError> {
        self.invalidate(&key).await?;
        let id = Id::of(&key)?;
        let ticket = self.ctx.near.ticket(&id);
        let (record, value) = self.read(&id, key).await?;
        self.ctx.near.keep(ticket, &id, &record, None);
        Ok(value)
    }
}
