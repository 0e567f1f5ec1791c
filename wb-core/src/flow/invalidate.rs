//! invalidate, refresh: what is clean is forgotten, so that the sink's row is read again. What is dirty stays, and so does
//! the copy of what the sink has refused: it is all there is of it.

use crate::entity::Entity;
use crate::error::CacheError;
use crate::key::Id;
use crate::lane::Lane;

impl<E: Entity> Lane<E> {
    pub(crate) async fn invalidate(&self, key: &E::Key) -> Result<bool, CacheError> {
        self.gate.open()?;
        let id = Id::of(key)?;
        let partition = self.partition_of(&id, key)?;
        let _near = self.near.writing([&id]);
        Ok(self.space.invalidate(partition, std::slice::from_ref(&id)).await? > 0)
    }

    /// Marks of loads that began earlier go with the copy, so that nobody fills in, or is told, what was loaded before.
    pub(crate) async fn refresh(&self, key: E::Key) -> Result<Option<E>, CacheError> {
        self.invalidate(&key).await?;
        let id = Id::of(&key)?;
        let ticket = self.near.ticket(&id);
        let (record, value) = self.read(&id, key).await?;
        self.near.keep(ticket, &id, &record, None);
        Ok(value)
    }
}
