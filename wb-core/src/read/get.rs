//! get: the buffer in the order in which records move, then the sink.

use std::collections::HashMap;
use std::sync::Arc;

use futures::future::try_join_all;

use crate::buffer::record::Record;
use crate::buffer::{Lookup, Stored, Token};
use crate::entity::Entity;
use crate::entity::decode::decode_payload;
use crate::entity::key::Id;
use crate::error::{CacheError, codec};
use crate::near_cache::Ticket;
use crate::read::Reader;
use crate::telemetry::log;

/// Looks at a key again at most so often while others put tokens there; then loads without filling.
const LOOKS: usize = 3;

impl<E: Entity> Reader<E> {
    /// The state of one key.
    pub(crate) async fn get(&self, key: E::Key) -> Result<Option<E>, CacheError> {
        self.ctx.intake.open()?;
        let id = Id::of(&key)?;
        if let Some(kept) = self.ctx.near.get(&id) {
            return decode(&id, &kept.record);
        }
        let ticket = self.ctx.near.ticket(&id);
        let (record, value) = self.read(&id, key).await?;
        self.ctx.near.keep(ticket, &id, &record, None);
        Ok(value)
    }

    /// The state of one key, shared with whoever else reads it from the near cache.
    pub(crate) async fn get_shared(&self, key: E::Key) -> Result<Option<Arc<E>>, CacheError> {
        self.ctx.intake.open()?;
        let id = Id::of(&key)?;
        if let Some(kept) = self.ctx.near.get(&id) {
            let decoded = kept.shared(|record| record.payload().map(|payload| decode_payload(payload)).transpose());
            return decoded.map_err(|source| codec(&id, source));
        }
        let ticket = self.ctx.near.ticket(&id);
        let (record, value) = self.read(&id, key).await?;
        let value = value.map(Arc::new);
        self.ctx.near.keep(ticket, &id, &record, Some(value.clone()));
        Ok(value)
    }

    /// Reads one key from the buffer; a miss is loaded from the sink, once at a time in this process.
    pub(crate) async fn read(&self, id: &Id, key: E::Key) -> Result<(Record, Option<E>), CacheError> {
        let partition = self.ctx.partition_of(id, &key)?;
        for _ in 0..LOOKS {
            let lookup = self.ctx.space.get(partition, std::slice::from_ref(id)).await?.pop().unwrap_or(Lookup::Absent);
            let over = match lookup {
                Lookup::Dirty(record) => return both(id, record),
                Lookup::Clean(Stored { record, origin }) if self.ctx.shapes.can_read(origin) => {
                    return match decode(id, &record) {
                        Ok(value) => Ok((record, value)),
                        Err(error) => self.undecodable_copy(partition, id, key, error).await,
                    };
                }
                Lookup::Loading(token) => {
                    return both(
                        id,
                        self.single_flight.join(id, &token, || self.load_one(id.clone(), key.clone())).await?,
                    );
                }
                // It lacks what its loader does not know.
                Lookup::Clean(stored) => Some(stored),
                Lookup::Absent => None,
            };
            self.load_gate.open()?;
            let token = Token::fresh();
            if self.leave_token(partition, id, &token, over.as_ref()).await? {
                let loaded = self.single_flight.join(id, &token, || self.load_one(id.clone(), key.clone())).await?;
                self.fill(partition, id, &token, &loaded).await;
                return both(id, loaded);
            }
            // Somebody was faster; what is there now?
        }
        both(id, self.load_one(id.clone(), key).await?)
    }

    /// The states of many keys, in their order: one lookup a partition, one load for all misses.
    pub(crate) async fn get_many(&self, keys: &[E::Key]) -> Result<Vec<Option<E>>, CacheError> {
        self.get_each(keys).await?.into_iter().collect()
    }

    /// The states of many keys, each with its own outcome: what is no value of this struct costs its own key.
    pub(crate) async fn get_each(&self, keys: &[E::Key]) -> Result<Vec<Result<Option<E>, CacheError>>, CacheError> {
        self.ctx.intake.open()?;
        if self.ctx.options.transactions {
            return self.get_together(keys).await;
        }
        let ids: Vec<Id> = keys.iter().map(Id::of).collect::<Result<_, _>>()?;
        let mut by_partition: HashMap<u16, Vec<Id>> = HashMap::new();
        let mut states: HashMap<Id, Record> = HashMap::new();
        let mut tickets: HashMap<&Id, Option<Ticket>> = HashMap::new();
        for (id, key) in ids.iter().zip(keys) {
            if let Some(kept) = self.ctx.near.get(id) {
                states.insert(id.clone(), kept.record.clone());
                continue;
            }
            tickets.insert(id, self.ctx.near.ticket(id));
            by_partition.entry(self.ctx.partition_of(id, key)?).or_default().push(id.clone());
        }
        let lookups = try_join_all(by_partition.into_iter().map(|(partition, mut ids)| async move {
            ids.sort_unstable();
            ids.dedup();
            let found = self.ctx.space.get(partition, &ids).await?;
            Ok::<_, CacheError>(ids.into_iter().zip(found).collect::<Vec<_>>())
        }))
        .await?;
        let mut over: HashMap<Id, Stored> = HashMap::new();
        for (id, lookup) in lookups.into_iter().flatten() {
            match lookup {
                Lookup::Clean(stored) if !self.ctx.shapes.can_read(stored.origin) => _ = over.insert(id, stored),
                Lookup::Dirty(record) | Lookup::Clean(Stored { record, .. }) => _ = states.insert(id, record),
                Lookup::Loading(_) | Lookup::Absent => {}
            }
        }
        let missing: HashMap<&Id, &E::Key> = ids.iter().zip(keys).filter(|(id, _)| !states.contains_key(*id)).collect();
        let loaded = self.load_many(missing, &over).await?;
        states.extend(loaded.records);
        let mut values = Vec::with_capacity(keys.len());
        for (id, key) in ids.iter().zip(keys) {
            let value = match states.get(id) {
                None => loaded.failed.get(id).map_or(Ok(None), |error| Err(error.clone())),
                Some(record) => match decode(id, record) {
                    Ok(value) => {
                        self.ctx.near.keep(tickets.remove(id).flatten(), id, record, None);
                        Ok(value)
                    }
                    // Rare: the single read knows what to do with a copy of another struct version.
                    Err(_) => self.get(key.clone()).await,
                },
            };
            values.push(value);
        }
        Ok(values)
    }

    /// A clean copy of an older struct version is as good as none; the copy of a dead letter is all there is.
    async fn undecodable_copy(
        &self,
        partition: u16,
        id: &Id,
        key: E::Key,
        error: CacheError,
    ) -> Result<(Record, Option<E>), CacheError> {
        let refused = self.ctx.space.letter(partition, id).await?.is_some()
            || self.ctx.space.attempts(partition, std::slice::from_ref(id)).await?.iter().any(Option::is_some);
        if refused {
            return Err(error);
        }
        log::copy_undecodable(&self.ctx.scope, id);
        both(id, self.load_one(id.clone(), key).await?)
    }
}

/// A record and what it says.
fn both<E: Entity>(id: &Id, record: Record) -> Result<(Record, Option<E>), CacheError> {
    let value = decode(id, &record)?;
    Ok((record, value))
}

pub(crate) fn decode<E: Entity>(id: &Id, record: &Record) -> Result<Option<E>, CacheError> {
    record.payload().map(|payload| decode_payload(payload).map_err(|source| codec(id, source))).transpose()
}
