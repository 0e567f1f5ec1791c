//! The near cache where it is switched on.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::buffer::NearCopies;
use crate::buffer::record::Record;
use crate::entity::Entity;
use crate::entity::key::Id;
use crate::near_cache::stripes::Stripes;
use crate::near_cache::{Figures, Ticket, Value};
use crate::options::EntityOptions;
use crate::options::near_cache::NearCache;
use crate::telemetry::stats::Counter;

pub(crate) struct Near<E: Entity>(Option<Arc<Kept<E>>>);

struct Kept<E: Entity> {
    values: moka::sync::Cache<Id, Entry<E>>,
    stripes: Stripes,
    /// Odd while signals are heard. What was kept under another one is not served.
    generation: AtomicU64,
    max_age: Duration,
    hits: Counter,
    misses: Counter,
    invalidations: Counter,
    drops: Counter,
}

struct Entry<E> {
    value: Arc<Value<E>>,
    generation: u64,
    at: Instant,
}

impl<E> Clone for Entry<E> {
    fn clone(&self) -> Self {
        Self { value: self.value.clone(), ..*self }
    }
}

impl<E: Entity> fmt::Debug for Kept<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").field("entity", &E::NAME).finish_non_exhaustive()
    }
}

const fn is_heard(generation: u64) -> bool {
    generation % 2 == 1
}

impl<E: Entity> Kept<E> {
    fn new(NearCache { entries, max_age }: NearCache) -> Self {
        // By the age of the state itself reads are judged; this only frees the memory in time.
        let values = moka::sync::Cache::builder().max_capacity(entries).time_to_live(max_age).build();
        Self {
            values,
            stripes: Stripes::new(),
            generation: AtomicU64::new(0),
            max_age,
            hits: Counter::default(),
            misses: Counter::default(),
            invalidations: Counter::default(),
            drops: Counter::default(),
        }
    }

    fn find(&self, id: &Id) -> Option<Arc<Value<E>>> {
        let generation = self.generation.load(Ordering::Acquire);
        if !is_heard(generation) {
            return None;
        }
        let entry = self.values.get(id)?;
        (entry.generation == generation && entry.at.elapsed() < self.max_age).then_some(entry.value)
    }

    fn turn(&self, next: impl Fn(u64) -> u64) {
        // Never refused.
        let _ = self.generation.fetch_update(Ordering::AcqRel, Ordering::Acquire, |now| Some(next(now)));
        self.values.invalidate_all();
    }
}

impl<E: Entity> NearCopies for Kept<E> {
    fn forget(&self, id: &Id) {
        self.stripes.change(id, || {
            if self.values.remove(id).is_some() {
                self.invalidations.add(1);
            }
        });
    }

    fn is_deaf(&self) {
        if is_heard(self.generation.load(Ordering::Acquire)) {
            self.drops.add(1);
        }
        self.turn(|now| now + u64::from(is_heard(now)));
    }

    fn hears(&self) {
        self.turn(|now| now + 1 + u64::from(is_heard(now)));
    }
}

/// A write under way. Until it is dropped, readers may find the state before it or after it, and keep neither.
pub(crate) struct Writing<E: Entity> {
    near: Option<(Arc<Kept<E>>, Vec<Id>)>,
}

impl<E: Entity> Drop for Writing<E> {
    fn drop(&mut self) {
        if let Some((kept, ids)) = &self.near {
            ids.iter().for_each(|id| kept.forget(id));
        }
    }
}

impl<E: Entity> Near<E> {
    pub(crate) fn new(options: &EntityOptions) -> Self {
        Self(options.near.map(|near| Arc::new(Kept::new(near))))
    }

    /// What the buffer tells about other processes' writes.
    pub(crate) fn listener(&self) -> Option<Arc<dyn NearCopies>> {
        self.0.clone().map(|kept| -> Arc<dyn NearCopies> { kept })
    }

    /// What is kept of an id.
    pub(crate) fn get(&self, id: &Id) -> Option<Arc<Value<E>>> {
        let kept = self.0.as_ref()?;
        let found = kept.find(id);
        if found.is_some() {
            kept.hits.add(1);
        } else {
            kept.misses.add(1);
        }
        found
    }

    /// To be taken before the state of an id is read; `None` when it would not be kept.
    pub(crate) fn ticket(&self, id: &Id) -> Option<Ticket> {
        let kept = self.0.as_ref()?;
        let generation = kept.generation.load(Ordering::Acquire);
        is_heard(generation).then(|| Ticket { generation, stamp: kept.stripes.stamp(id), at: Instant::now() })
    }

    /// Keeps what was read after the ticket was taken, unless it may have changed since.
    pub(crate) fn keep(&self, ticket: Option<Ticket>, id: &Id, record: &Record, decoded: Option<Option<Arc<E>>>) {
        let (Some(kept), Some(Ticket { generation, stamp, at })) = (&self.0, ticket) else { return };
        kept.stripes.unless_changed(id, stamp, || {
            // What is heard of since has another generation, and is not served.
            let value = Arc::new(Value::new(record.clone(), decoded));
            kept.values.insert(id.clone(), Entry { value, generation, at });
        });
    }

    /// These ids are written from now on until what is returned is dropped, which must be before anybody is told that they
    /// were.
    pub(crate) fn writing<'i>(&self, ids: impl IntoIterator<Item = &'i Id>) -> Writing<E> {
        let near = self.0.as_ref().map(|kept| {
            let ids: Vec<Id> = ids.into_iter().cloned().collect();
            ids.iter().for_each(|id| kept.forget(id));
            (kept.clone(), ids)
        });
        Writing { near }
    }

    /// The buffer may have gone back: nothing that was read before is served.
    pub(crate) fn drop_all(&self) {
        if let Some(kept) = &self.0 {
            kept.drops.add(1);
            // Heard or not, as before.
            kept.turn(|now| now + 2);
        }
    }

    pub(crate) fn figures(&self) -> Figures {
        self.0.as_ref().map_or_else(Figures::default, |kept| Figures {
            hits: kept.hits.get(),
            misses: kept.misses.get(),
            invalidations: kept.invalidations.get(),
            drops: kept.drops.get(),
        })
    }
}
