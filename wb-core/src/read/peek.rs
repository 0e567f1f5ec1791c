//! peek: what the buffer says, without the sink; and where a key stands.

use crate::buffer::{Lookup, Sight, Stored};
use crate::entity::Entity;
use crate::entity::key::Id;
use crate::error::CacheError;
use crate::read::Reader;
use crate::read::get::decode;

/// Where a key stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum State {
    /// Its latest state waits for the next flush; an older one may be on its way to the sink.
    Dirty,
    /// Its latest state is on its way to the sink.
    Flushing,
    /// The sink refuses its latest state: see [`DeadLetters`](crate::DeadLetters).
    Dead,
    /// The sink has a row of a higher version than its latest state, which was left out.
    Stale,
    /// Its row is in the sink, and the buffer has a copy.
    Clean,
    /// The buffer has no state of it: it is only in the sink, or nowhere, or was deleted.
    Absent,
}

impl<E: Entity> Reader<E> {
    /// What this program finds: a copy that lacks what its struct knows is none.
    async fn lookup(&self, partition: u16, id: &Id) -> Result<Lookup, CacheError> {
        let found = self.ctx.space.get(partition, std::slice::from_ref(id)).await?.pop();
        let found = found.filter(|found| match found {
            Lookup::Clean(stored) => self.ctx.shapes.can_read(stored.origin),
            _ => true,
        });
        Ok(found.unwrap_or(Lookup::Absent))
    }

    pub(crate) async fn peek(&self, key: &E::Key) -> Result<Option<E>, CacheError> {
        self.ctx.intake.open()?;
        let id = Id::of(key)?;
        match self.lookup(self.ctx.partition_of(&id, key)?, &id).await? {
            Lookup::Dirty(record) | Lookup::Clean(Stored { record, .. }) => decode(&id, &record),
            Lookup::Loading(_) | Lookup::Absent => Ok(None),
        }
    }

    /// Looks where records are in the order in which they move, so that one on its way is not missed.
    pub(crate) async fn state(&self, key: &E::Key) -> Result<State, CacheError> {
        self.ctx.intake.open()?;
        let id = Id::of(key)?;
        let partition = self.ctx.partition_of(&id, key)?;
        let looks = self.ctx.space.look(partition, std::slice::from_ref(&id)).await?;
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
