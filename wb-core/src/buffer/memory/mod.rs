//! The embedded buffer: records wait in this process. For tests, first runs, and data that may die with the process.

mod append_log;
mod copies;
mod leases;
mod marks;
mod orphans;
mod paged;
mod partition;
mod refusals;
mod shapes;
mod space;
mod steps;
mod subscribers;
mod transaction;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use self::partition::Partition;
use self::shapes::Listed;
use self::space::MemorySpace;
use self::subscribers::Ears;
use super::{Buffer, Orphan, Registration, Space, Topology, TopologyChange, Waiting};
use crate::error::buffer::{BufferError, BufferErrorKind};
use crate::telemetry::scope::Scope;

/// A buffer in this process. Clones share the records, so that several engines can work on them; each clone is closed
/// by its own engine.
///
/// Holds every promise of [`RedisBuffer`](crate::RedisBuffer) but one: records do not survive the process.
#[derive(Debug, Default)]
pub struct MemoryBuffer {
    shelves: Shelves,
    closed: Arc<AtomicBool>,
}

impl Clone for MemoryBuffer {
    fn clone(&self) -> Self {
        // The records are shared, the end is not: an engine that shuts down must not end the others.
        Self { shelves: self.shelves.clone(), closed: Arc::default() }
    }
}

/// By namespace and entity.
type Shelves = Arc<Mutex<HashMap<(String, &'static str), Shelf>>>;

/// Workers that are alive, and until when; `None`: for longer than the clock can say.
type Workers = Arc<Mutex<BTreeMap<String, Option<Instant>>>>;

/// What is kept of an entity.
#[derive(Debug, Default)]
struct Shelf {
    /// What was agreed on.
    topology: Option<Topology>,
    /// What it is to be left for, as was said last.
    leaving_for: Option<Topology>,
    /// Partitions by topology: as in Redis, each has places of its own.
    layouts: Vec<(Topology, Partitions)>,
    workers: Workers,
    door: Arc<Mutex<()>>,
    shapes: Arc<Mutex<Listed>>,
    ears: Ears,
    ids: Counter,
}

type Partitions = Arc<Vec<Mutex<Partition>>>;

impl Shelf {
    /// The partitions of this topology, if it was ever asked for.
    fn layout(&self, topology: &Topology) -> Option<&Partitions> {
        self.layouts.iter().find(|(known, _)| known == topology).map(|(_, partitions)| partitions)
    }

    /// What it is to change, when another topology was agreed on.
    fn change(&self, registration: &Registration) -> Option<Change> {
        let asked = registration.topology();
        let stored = self.topology.as_ref().filter(|stored| **stored != asked)?.clone();
        let (old, new) = (self.layout(&stored).cloned(), self.layout(&asked).cloned());
        Some(Change { scope: registration.scope.clone(), stored, asked, old, new })
    }
}

fn place(registration: &Registration) -> (String, &'static str) {
    (registration.scope.namespace.clone(), registration.scope.entity)
}

/// A layout that is to be left for another.
struct Change {
    scope: Arc<Scope>,
    stored: Topology,
    asked: Topology,
    old: Option<Partitions>,
    new: Option<Partitions>,
}

/// Both layouts of a change, locked: nobody writes meanwhile.
struct Locked<'a> {
    change: &'a Change,
    old: Vec<MutexGuard<'a, Partition>>,
    new: Vec<MutexGuard<'a, Partition>>,
}

impl Change {
    fn lock(&self) -> Locked<'_> {
        Locked { change: self, old: all(self.old.as_ref()), new: all(self.new.as_ref()) }
    }
}

/// All partitions of a layout, locked in ascending order.
fn all(partitions: Option<&Partitions>) -> Vec<MutexGuard<'_, Partition>> {
    partitions.into_iter().flat_map(|partitions| partitions.iter()).map(partition::lock).collect()
}

impl Locked<'_> {
    fn waiting(&self) -> Waiting {
        let sum = |partitions: &[MutexGuard<'_, Partition>]| {
            let statuses = partitions.iter().map(|partition| partition.status());
            statuses.fold((0, 0), |(dirty, dead), status| (dirty + status.dirty(), dead + status.dead))
        };
        let ((dirty, letters), (dirty_there, letters_there)) = (sum(&self.old), sum(&self.new));
        Waiting { dirty, letters, dirty_there, letters_there }
    }

    /// Refuses the change while anything waits.
    fn check(&self) -> Result<(), BufferError> {
        let waiting = self.waiting();
        let Change { scope, stored, asked, .. } = self.change;
        if waiting.is_nothing() {
            Ok(())
        } else {
            Err(super::topology_mismatch(scope, &stored.to_string(), asked, waiting))
        }
    }

    fn switch(&mut self) {
        self.old.iter_mut().for_each(|partition| partition.seal());
        self.new.iter_mut().for_each(|partition| partition.unseal());
    }
}

/// The last id that was reserved.
type Counter = Arc<Mutex<Ids>>;

/// Ids that were reserved.
#[derive(Debug, Default)]
struct Ids {
    last: Option<i64>,
    /// The largest block that was ever asked for.
    largest: i64,
}

impl MemoryBuffer {
    /// An empty buffer.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Acts on the partitions of this layout, if it is the stored one.
    fn on_stored(
        &self,
        registration: &Registration,
        stored: &Topology,
        act: impl FnOnce(&mut Shelf, &mut [MutexGuard<'_, Partition>]),
    ) {
        let mut shelves = self.shelves.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(shelf) = shelves.get_mut(&place(registration)) else { return };
        if shelf.topology.as_ref() == Some(stored) {
            let partitions = shelf.layout(stored).cloned();
            act(shelf, &mut all(partitions.as_ref()));
        }
    }

    /// Forgets the counters of ids.
    #[cfg(feature = "testing")]
    #[doc(hidden)]
    pub fn lose_ids(&self) {
        let shelves = self.shelves.lock().unwrap_or_else(PoisonError::into_inner);
        for shelf in shelves.values() {
            *shelf.ids.lock().unwrap_or_else(PoisonError::into_inner) = Ids::default();
        }
    }

    /// Forgets which shapes were made known, as a server does that is emptied.
    #[cfg(feature = "testing")]
    #[doc(hidden)]
    pub fn lose_shapes(&self) {
        let shelves = self.shelves.lock().unwrap_or_else(PoisonError::into_inner);
        for shelf in shelves.values() {
            shelf.shapes.lock().unwrap_or_else(PoisonError::into_inner).lose();
        }
    }

    /// Forgets every epoch that is being flushed, as a server does whose data is deleted under its workers.
    #[cfg(feature = "testing")]
    #[doc(hidden)]
    pub fn lose_closed_epochs(&self) {
        let shelves = self.shelves.lock().unwrap_or_else(PoisonError::into_inner);
        let layouts = shelves.values().flat_map(|shelf| &shelf.layouts);
        for partition in layouts.flat_map(|(_, partitions)| partitions.iter()) {
            partition::lock(partition).vanish();
        }
    }
}

#[async_trait]
impl Buffer for MemoryBuffer {
    async fn space(&self, registration: Registration) -> Result<Arc<dyn Space>, BufferError> {
        let scope = &registration.scope;
        let asked = registration.topology();
        let mut shelves = self.shelves.lock().unwrap_or_else(PoisonError::into_inner);
        let shelf = shelves.entry((scope.namespace.clone(), scope.entity)).or_default();
        if let Some(change) = shelf.change(&registration) {
            change.lock().check()?;
        }
        let partitions = match shelf.layout(&asked) {
            Some(partitions) => partitions.clone(),
            None => {
                let cells = (0..scope.partitions).map(|_| Mutex::new(Partition::new(registration.sabotage)));
                let partitions = Arc::new(cells.collect());
                shelf.layouts.push((asked.clone(), Arc::clone(&partitions)));
                partitions
            }
        };
        Ok(Arc::new(MemorySpace {
            partitions,
            workers: shelf.workers.clone(),
            shelves: self.shelves.clone(),
            scope: scope.clone(),
            topology: asked,
            pressure: registration.pressure.clone(),
            closed: self.closed.clone(),
            limit: registration.max_dirty,
            door: shelf.door.clone(),
            shapes: shelf.shapes.clone(),
            ear: shelf.ears.listen(&registration),
            ears: shelf.ears.clone(),
            ids: shelf.ids.clone(),
        }))
    }

    async fn change(&self, registration: &Registration) -> Result<Option<TopologyChange>, BufferError> {
        let shelves = self.shelves.lock().unwrap_or_else(PoisonError::into_inner);
        let change = shelves.get(&place(registration)).and_then(|shelf| shelf.change(registration));
        Ok(change.map(|change| TopologyChange::new(change.stored.clone(), change.lock().waiting())))
    }

    async fn announce(
        &self,
        registration: &Registration,
        stored: &Topology,
        lasts: Duration,
    ) -> Result<(), BufferError> {
        let until = partition::end(Instant::now(), lasts);
        self.on_stored(registration, stored, |shelf, partitions| {
            shelf.leaving_for = Some(registration.topology());
            partitions.iter_mut().for_each(|partition| partition.announce(until));
        });
        Ok(())
    }

    async fn cancel(&self, registration: &Registration, stored: &Topology) -> Result<(), BufferError> {
        self.on_stored(registration, stored, |shelf, partitions| {
            if shelf.leaving_for == Some(registration.topology()) {
                partitions.iter_mut().for_each(|partition| partition.stay(None));
            }
        });
        Ok(())
    }

    async fn agree(&self, registrations: &[Registration]) -> Result<(), BufferError> {
        let mut shelves = self.shelves.lock().unwrap_or_else(PoisonError::into_inner);
        let changes: Vec<Change> = registrations
            .iter()
            .filter_map(|registration| shelves.get(&place(registration))?.change(registration))
            .collect();
        // All of them are locked, and none is changed before all may be.
        let mut locked: Vec<Locked<'_>> = changes.iter().map(Change::lock).collect();
        locked.iter().try_for_each(Locked::check)?;
        locked.iter_mut().for_each(Locked::switch);
        for registration in registrations {
            let shelf = shelves.entry(place(registration)).or_default();
            let asked = registration.topology();
            if shelf.topology.replace(asked.clone()).as_ref() == Some(&asked) {
                let now = Instant::now();
                all(shelf.layout(&asked)).iter_mut().for_each(|partition| partition.stay(Some(now)));
            }
        }
        Ok(())
    }

    async fn orphans(
        &self,
        namespace: &str,
        own: &BTreeMap<&'static str, Topology>,
    ) -> Result<Vec<Orphan>, BufferError> {
        let shelves = self.shelves.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(orphans::orphans(&shelves, namespace, own))
    }

    async fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }
}

fn no_such_partition(partition: u16) -> BufferError {
    BufferError::new(BufferErrorKind::Misconfigured, format!("there is no partition {partition}"))
}
