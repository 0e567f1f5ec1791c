//! get, of many keys at one instant: where transactions write over partitions, a reader sees all of one or nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::buffer::record::Record;
use crate::buffer::{Lookup, Stored};
use crate::entity::Entity;
use crate::entity::decode::decode_payload;
use crate::entity::key::Id;
use crate::error::CacheError;
use crate::read::Reader;
use crate::read::load::LoadedMany;

/// How often the states are looked up while what is loaded beside them changes again.
const LOOKS: u32 = 20;

/// What the buffer has of each id that this program can use.
type Seen = BTreeMap<Id, Lookup>;

impl<E: Entity> Reader<E> {
    /// The states that these keys had at one instant, in their order. What the buffer does not have is loaded, and counts
    /// only when nothing has changed meanwhile.
    pub(crate) async fn get_together(&self, keys: &[E::Key]) -> Result<Vec<Result<Option<E>, CacheError>>, CacheError> {
        let mut by_id: BTreeMap<Id, &E::Key> = BTreeMap::new();
        let mut by_partition: BTreeMap<u16, BTreeSet<Id>> = BTreeMap::new();
        let ids: Vec<Id> = keys.iter().map(Id::of).collect::<Result<_, _>>()?;
        for (id, key) in ids.iter().zip(keys) {
            by_id.insert(id.clone(), key);
            by_partition.entry(self.ctx.partition_of(id, key)?).or_default().insert(id.clone());
        }
        let places: Vec<(u16, Vec<Id>)> =
            by_partition.into_iter().map(|(partition, ids)| (partition, ids.into_iter().collect())).collect();
        let (mut seen, mut over) = self.see(&places).await?;
        let mut before: Option<HashMap<Id, Record>> = None;
        for _ in 0..LOOKS {
            let missing = by_id.iter().filter(|(id, _)| seen.get(*id).and_then(record).is_none());
            let missing: HashMap<&Id, &E::Key> = missing.map(|(id, key)| (id, *key)).collect();
            if missing.is_empty() {
                return Ok(self.values(&ids, keys, &seen, &LoadedMany::default()).await);
            }
            let loaded = self.load_many(missing, &over).await?;
            let (again, over_again) = self.see(&places).await?;
            let proof = Proof { untouched: &loaded.untouched, before: before.as_ref() };
            if stands(&seen, &loaded.records, &again, &proof) {
                return Ok(self.values(&ids, keys, &seen, &loaded).await);
            }
            (seen, over, before) = (again, over_again, Some(loaded.records));
        }
        let id = ids.first().map_or_else(String::new, Id::to_string);
        Err(CacheError::Contended { id, tries: LOOKS })
    }

    /// Also: copies that lack what this program's struct knows, which are as good as none.
    async fn see(&self, places: &[(u16, Vec<Id>)]) -> Result<(Seen, HashMap<Id, Stored>), CacheError> {
        let found = self.ctx.space.get_together(places).await?;
        let found = places.iter().zip(found).flat_map(|((_, ids), found)| ids.iter().cloned().zip(found));
        let (mut seen, mut over) = (Seen::new(), HashMap::new());
        for (id, lookup) in found {
            match lookup {
                Lookup::Clean(stored) if !self.ctx.shapes.can_read(stored.origin) => _ = over.insert(id, stored),
                lookup => _ = seen.insert(id, lookup),
            }
        }
        Ok((seen, over))
    }

    async fn values(
        &self,
        ids: &[Id],
        keys: &[E::Key],
        seen: &Seen,
        loaded: &LoadedMany,
    ) -> Vec<Result<Option<E>, CacheError>> {
        let mut values = Vec::with_capacity(ids.len());
        for (id, key) in ids.iter().zip(keys) {
            let record = seen.get(id).and_then(record).or_else(|| loaded.records.get(id));
            values.push(match record.and_then(Record::payload) {
                None => loaded.failed.get(id).filter(|_| record.is_none()).map_or(Ok(None), |error| Err(error.clone())),
                Some(payload) => match decode_payload(payload) {
                    Ok(value) => Ok(Some(value)),
                    // Rare: the single read knows what to do with a copy of another struct version.
                    Err(_) => self.get(key.clone()).await,
                },
            });
        }
        values
    }
}

const fn record(lookup: &Lookup) -> Option<&Record> {
    match lookup {
        Lookup::Dirty(record) | Lookup::Clean(Stored { record, .. }) => Some(record),
        Lookup::Loading(_) | Lookup::Absent => None,
    }
}

/// What says of a loaded state that no other one was flushed while others were loaded.
struct Proof<'a> {
    /// Those whose token stood during the load.
    untouched: &'a HashSet<Id>,
    /// What was loaded in the round before: where no token could be left (another reader has one there, the buffer is full) two loads
    /// that say the same are as good.
    before: Option<&'a HashMap<Id, Record>>,
}

impl Proof<'_> {
    fn holds(&self, id: &Id, loaded: &Record) -> bool {
        self.untouched.contains(id) || self.before.and_then(|before| before.get(id)) == Some(loaded)
    }
}

/// Whether what was seen and what was loaded after it are the states of one instant: nothing that was seen has changed or gone
/// since, and nothing that was loaded was written meanwhile. That the buffer has no state of it before and after proves nothing:
/// where no copies are kept, a write may have been flushed in between.
fn stands(seen: &Seen, loaded: &HashMap<Id, Record>, again: &Seen, proof: &Proof<'_>) -> bool {
    let kept = |(id, before): (&Id, &Lookup)| {
        record(before).is_none_or(|before| again.get(id).and_then(record) == Some(before))
    };
    let unwritten = |(id, loaded): (&Id, &Record)| match again.get(id) {
        Some(Lookup::Dirty(_)) => false,
        Some(Lookup::Clean(now)) => now.record == *loaded,
        _ => proof.holds(id, loaded),
    };
    seen.iter().all(kept) && loaded.iter().all(unwritten)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_meanwhile_does_not_stand() {
        let state = |text: &'static str| Record::from_bytes(text);
        let (dirty, clean) = (|text| Lookup::Dirty(state(text)), |text| Lookup::Clean(Stored::written(state(text))));
        let id = |n: u64| Id::of(&n).expect("a number is a key");
        let all = |one: Lookup, other: Lookup| Seen::from([(id(1), one), (id(2), other)]);
        let loaded = HashMap::from([(id(2), state("b"))]);
        let (untouched, touched) = (HashSet::from([id(2)]), HashSet::new());
        let proven = Proof { untouched: &untouched, before: None };
        for (again, expected) in [
            (all(dirty("a"), Lookup::Absent), true),
            (all(clean("a"), clean("b")), true),
            (all(dirty("a2"), Lookup::Absent), false),
            (all(dirty("a"), dirty("b")), false),
            (all(dirty("a"), clean("b2")), false),
            // Flushed, perhaps as another state, and its copy is gone.
            (all(Lookup::Absent, Lookup::Absent), false),
        ] {
            assert_eq!(stands(&all(dirty("a"), Lookup::Absent), &loaded, &again, &proven), expected, "{again:?}");
        }
        // Nothing is there, as before: it may have been written and flushed meanwhile, unless its token stood, or a load before
        // this one said the same.
        let other = HashMap::from([(id(2), state("b2"))]);
        for (before, expected) in [(None, false), (Some(&other), false), (Some(&loaded), true)] {
            let proof = Proof { untouched: &touched, before };
            let again = all(dirty("a"), Lookup::Absent);
            assert_eq!(stands(&all(dirty("a"), Lookup::Absent), &loaded, &again, &proof), expected, "{before:?}");
        }
    }
}
