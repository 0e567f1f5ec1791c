//! The embedded buffer: records wait in this process. For tests, first runs, and data that may die with the process.

mod ears;
mod log;
mod paged;
mod partition;
mod shapes;
mod space;
mod transaction;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tokio::time::Instant;

use self::ears::Ears;
use self::partition::Partition;
use self::space::MemorySpace;
use super::{Buffer, BufferError, BufferErrorKind, Registration, SeenShape, Space, Topology};

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

#[derive(Debug)]
struct Shelf {
    topology: Topology,
    partitions: Arc<Vec<Mutex<Partition>>>,
    workers: Workers,
    door: Arc<Mutex<()>>,
    shapes: Arc<Mutex<Vec<SeenShape>>>,
    ears: Ears,
    ids: Counter,
}

/// The last id that was reserved.
type Counter = Arc<Mutex<Option<i64>>>;

impl MemoryBuffer {
    /// An empty buffer.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets the counters of ids.
    #[cfg(feature = "testing")]
    #[doc(hidden)]
    pub fn lose_ids(&self) {
        let shelves = self.shelves.lock().unwrap_or_else(PoisonError::into_inner);
        for shelf in shelves.values() {
            *shelf.ids.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }

    /// Forgets every epoch that is being flushed, as a server does whose data is deleted under its workers.
    #[cfg(feature = "testing")]
    #[doc(hidden)]
    pub fn lose_closed_epochs(&self) {
        let shelves = self.shelves.lock().unwrap_or_else(PoisonError::into_inner);
        for partition in shelves.values().flat_map(|shelf| shelf.partitions.iter()) {
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
        let fresh = |topology: Topology| {
            let partitions = (0..scope.partitions).map(|_| Mutex::new(Partition::new(registration.sabotage))).collect();
            Shelf {
                topology,
                partitions: Arc::new(partitions),
                workers: Workers::default(),
                door: Arc::default(),
                shapes: Arc::default(),
                ears: Ears::default(),
                ids: Counter::default(),
            }
        };
        let key = (scope.namespace.clone(), scope.entity);
        let shelf = shelves.entry(key).or_insert_with(|| fresh(asked.clone()));
        if shelf.topology != asked {
            let dirty: u64 = shelf.partitions.iter().map(|p| partition::lock(p).status().dirty()).sum();
            if dirty > 0 {
                return Err(super::topology_mismatch(scope, &shelf.topology.to_string(), &asked, dirty));
            }
            *shelf = Shelf { ids: shelf.ids.clone(), ..fresh(asked) };
        }
        Ok(Arc::new(MemorySpace {
            partitions: shelf.partitions.clone(),
            workers: shelf.workers.clone(),
            shelves: self.shelves.clone(),
            scope: scope.clone(),
            topology: shelf.topology.clone(),
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

    async fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }
}

fn no_such_partition(partition: u16) -> BufferError {
    BufferError::new(BufferErrorKind::Misconfigured, format!("there is no partition {partition}"))
}
