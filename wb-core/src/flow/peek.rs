//! peek: what the buffer says, without the sink; and where a key stands.

use super::get::decode;
use crate::buffer::{Lookup, Sight, Stored};
use crate::cache::State;
use crate::entity::Entity;
use crate::error::CacheError;
use crate::key::Id;
use crate::lane::Lane;

impl<E: Entity> Lane<E> {
    /// What this program finds: a copy that lacks what its struct knows is none.
    async fn lookup(&self, partition: u16, id: &Id) -> Result<Lookup, CacheError> {
        let found = self.space.get(partition, std::slice::from_ref(id)).await?.pop();
        let found = found.filter(|found| match found {
            Lookup::Clean(stored) => self.shapes.can_read(stored.origin),
            _ => true,
        });
        Ok(found.unwrap_or(Lookup::Absent))
    }

    pub(crate) async fn peek(&self, key: &E::Key) -> Result<Option<E>, CacheError> {
        self.gate.open()?;
        let id = Id::of(key)?;
        match self.lookup(self.partition_of(&id, key)?, &id).await? {
            Lookup::Dirty(record) | Lookup::Clean(Stored { record, .. }) => decode(&id, &record),
            Lookup::Loading(_) | Lookup::Absent => Ok(None),
        }
    }

    /// Looks where records are in the order in which they move, so that one on its way is not missed.
    pub(crate) async fn state(&self, key: &E::Key) -> Result<State, CacheError> {
        self.gate.open()?;
        let id = Id::of(key)?;
        let partition = self.partition_of(&id, key)?;
        let looks = self.space.look(partition, std::slice::from_ref(&id)).await?;
        match looks.into_iter().flat_map(|look| look.sights).next().unwrap_or_default() {
            Sight { open: true, .. } => return Ok(State::Dirty),
            Sight { flushing: true, .. } => return Ok(State::Flushing),
            Sight { dead: true, .. } => return Ok(State::Dead),
            Sight { stale: true, .. } => return Ok(State::Stale),
            Sight { .. } => {}
        }
        Ok(match self.lookup(partition, &id).await? {
            Lookup::Dirty(_) => State::Dirty,
            Lookup::Clean(stored) if !stored.record.is_tombstone() => State::Clean,
            Lookup::Clean(_) | Lookup::Loading(_) | Lookup::Absent => State::Absent,
        })
    }
}
