//! The verbs on partitions in memory.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::partition::{Partition, end, lock};
use super::shapes::Listed;
use super::{Counter, Shelf, Shelves, Workers};
use crate::buffer;
use crate::buffer::flush_trigger::Pressure;
use crate::buffer::memory::subscribers::{Ears, Listener};
use crate::buffer::record::{Record, Write};
use crate::buffer::{
    Attempts, Clean, Coordination, DeadLetter, DeadLetterStore, Epochs, Guarded, Held, Holder, IdFloor, LeaseStore,
    Letters, LogPage, Look, Lookup, Mark, Marks, Moved, Page, PendingReport, Reads, Replayed, Roll, Rotation,
    SeenShape, SeenShapes, Settled, Settlement, Stamp, Status, Step, Stored, Swap, Token, Topology, Transacted, Writes,
};
use crate::entity::key::Id;
use crate::error::buffer::{BufferError, BufferErrorKind};
use crate::telemetry::scope::Scope;

#[derive(Debug)]
pub(super) struct MemorySpace {
    pub(super) partitions: Arc<Vec<Mutex<Partition>>>,
    pub(super) workers: Workers,
    pub(super) shelves: Shelves,
    pub(super) scope: Arc<Scope>,
    pub(super) topology: Topology,
    pub(super) pressure: Arc<Pressure>,
    pub(super) closed: Arc<AtomicBool>,
    /// Most keys that may be dirty.
    pub(super) limit: Option<u64>,
    /// Writes under the limit pass it one at a time, so that each sees what the others have made dirty.
    pub(super) door: Arc<Mutex<()>>,
    pub(super) shapes: Arc<Mutex<Listed>>,
    /// Who listens to this entity; one of them is this space's engine, for as long as the space lives.
    pub(super) ears: Ears,
    #[expect(dead_code, reason = "keeps it listening")]
    pub(super) ear: Arc<Listener>,
    pub(super) ids: Counter,
}

impl MemorySpace {
    fn workers(&self) -> MutexGuard<'_, std::collections::BTreeMap<String, Option<Instant>>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `act` on a partition, under its lock; never across an await.
    fn on<R>(&self, partition: u16, act: impl FnOnce(&mut Partition) -> R) -> Result<R, BufferError> {
        self.on_any(partition, |p| (!p.is_sealed()).then(|| act(p)))?.ok_or_else(|| self.sealed())
    }

    /// The same, for what only a layout does that takes writes.
    fn write_on<R>(&self, partition: u16, act: impl FnOnce(&mut Partition) -> R) -> Result<R, BufferError> {
        self.on_any(partition, |p| (!p.is_shut()).then(|| act(p)))?.ok_or_else(|| self.sealed())
    }

    /// The same, whether the layout is sealed or not.
    fn on_any<R>(&self, partition: u16, act: impl FnOnce(&mut Partition) -> R) -> Result<R, BufferError> {
        let cell = self.partitions.get(usize::from(partition)).ok_or_else(|| super::no_such_partition(partition))?;
        Ok(act(&mut lock(cell)))
    }

    /// Why a layout does nothing, or takes no writes; with no partition locked.
    pub(super) fn sealed(&self) -> BufferError {
        let shelves = self.shelves.lock().unwrap_or_else(PoisonError::into_inner);
        let stored = shelves.get(&(self.scope.namespace.clone(), self.scope.entity));
        if let Some(Shelf { topology: Some(stored), leaving_for: Some(to), .. }) = stored
            && *stored == self.topology
        {
            return buffer::topology_leaving(&self.scope, &to.to_string(), &self.topology);
        }
        let stored = stored.and_then(|shelf| shelf.topology.as_ref()).map(ToString::to_string).unwrap_or_default();
        buffer::topology_changed(&self.scope, &stored, &self.topology)
    }

    /// Refuses writes that would make more keys dirty than are allowed; called with the door locked.
    pub(super) fn check<'w>(&self, limit: u64, writes: impl Iterator<Item = &'w Write>) -> Result<(), BufferError> {
        let mut fresh = HashSet::new();
        for Write { partition, id, .. } in writes {
            if !self.on(*partition, |p| p.is_dirty(id))? {
                fresh.insert((*partition, id));
            }
        }
        if fresh.is_empty() { Ok(()) } else { self.check_room(limit, fresh.len() as u64) }
    }

    /// Refuses so many new keys or entries when they are more than are allowed; called with the door locked.
    fn check_room(&self, limit: u64, fresh: u64) -> Result<(), BufferError> {
        // A flush may go on beside it: it only takes away.
        let dirty: u64 = self.partitions.iter().map(|cell| lock(cell).dirty()).sum();
        if dirty + fresh <= limit {
            return Ok(());
        }
        let full = format!("{dirty} keys are dirty, `max_dirty` allows {limit}");
        Err(BufferError::new(BufferErrorKind::Full, full))
    }
}

#[async_trait]
impl Writes for MemorySpace {
    async fn put(&self, writes: Vec<Write>) -> Result<(), BufferError> {
        // Nothing here waits: without this a loop of writes would keep its thread, and the flusher from it.
        tokio::task::coop::consume_budget().await;
        if self.closed.load(Ordering::Acquire) {
            return Err(BufferError::new(BufferErrorKind::Closed, "the buffer was closed"));
        }
        let _door = match self.limit {
            // It guards no data of its own, so a panic under it breaks nothing.
            Some(limit) => {
                let door = self.door.lock().unwrap_or_else(PoisonError::into_inner);
                self.check(limit, writes.iter())?;
                Some(door)
            }
            None => None,
        };
        let mut fresh = 0;
        let kept = self.ears.anybody_keeps();
        let ids: Vec<Id> = writes.iter().filter(|_| kept).map(|write| write.id.clone()).collect();
        for Write { partition, id, record } in writes {
            fresh += u64::from(self.write_on(partition, |p| p.put(id, record))?);
        }
        self.pressure.add(fresh);
        self.ears.written(&ids);
        Ok(())
    }

    async fn append(&self, writes: Vec<Write>) -> Result<(), BufferError> {
        tokio::task::coop::consume_budget().await;
        if self.closed.load(Ordering::Acquire) {
            return Err(BufferError::new(BufferErrorKind::Closed, "the buffer was closed"));
        }
        if !self.topology.append {
            return Err(buffer::no_logs(&self.scope));
        }
        let _door = match self.limit {
            Some(limit) => {
                let door = self.door.lock().unwrap_or_else(PoisonError::into_inner);
                self.check_room(limit, writes.len() as u64)?;
                Some(door)
            }
            None => None,
        };
        let entries = writes.len() as u64;
        for Write { partition, record, .. } in writes {
            self.write_on(partition, |p| p.append(record))?;
        }
        self.pressure.add(entries);
        Ok(())
    }

    async fn transact(&self, mark: Mark, writes: &[Guarded]) -> Result<Transacted, BufferError> {
        tokio::task::coop::consume_budget().await;
        self.transact_now(mark, writes)
    }

    async fn swap(&self, expected: &Stored, write: &Write) -> Result<Swap, BufferError> {
        tokio::task::coop::consume_budget().await;
        if self.closed.load(Ordering::Acquire) {
            return Err(BufferError::new(BufferErrorKind::Closed, "the buffer was closed"));
        }
        let Write { partition, id, record } = write;
        let now = Instant::now();
        let _door = match self.limit {
            Some(limit) => {
                let door = self.door.lock().unwrap_or_else(PoisonError::into_inner);
                // What is not to be stored needs no room.
                if self.on(*partition, |p| p.stands(id, expected, now))? {
                    self.check(limit, std::iter::once(write))?;
                }
                Some(door)
            }
            None => None,
        };
        let stored =
            self.write_on(*partition, |p| p.stands(id, expected, now).then(|| p.put(id.clone(), record.clone())))?;
        self.pressure.add(u64::from(stored == Some(true)));
        self.ears.written(std::slice::from_ref(id));
        Ok(if stored.is_some() { Swap::Stored } else { Swap::Changed })
    }

    async fn reserve_ids(&self, count: i64, floor: Option<IdFloor>) -> Result<Option<i64>, BufferError> {
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(from) = ids.last.max(floor.map(|floor| floor.above.max(0))) else { return Ok(None) };
        let largest = ids.largest.max(count);
        let leap = if floor.is_some_and(|floor| floor.leap) { largest.saturating_mul(IdFloor::LEAP) } else { 0 };
        let last = from.checked_add(leap).and_then(|from| from.checked_add(count));
        let end = || BufferError::new(BufferErrorKind::Misconfigured, "the counter of ids is at its end");
        ids.last = Some(last.ok_or_else(end)?);
        ids.largest = largest;
        Ok(ids.last)
    }
}

#[async_trait]
impl Reads for MemorySpace {
    async fn get(&self, partition: u16, ids: &[Id]) -> Result<Vec<Lookup>, BufferError> {
        tokio::task::coop::consume_budget().await;
        let now = Instant::now();
        self.on(partition, |p| ids.iter().map(|id| p.get(id, now)).collect())
    }

    async fn token(
        &self,
        partition: u16,
        id: &Id,
        token: &Token,
        over: Option<&Stored>,
        ttl: Duration,
    ) -> Result<bool, BufferError> {
        self.on(partition, |p| p.token(id, token, over, ttl, Instant::now()))
    }

    async fn fill(
        &self,
        partition: u16,
        id: &Id,
        token: &Token,
        loaded: &Stored,
        ttl: Duration,
    ) -> Result<bool, BufferError> {
        self.on(partition, |p| p.fill(id, token, loaded, ttl, Instant::now()))
    }

    async fn stale(&self, partition: u16, id: &Id) -> Result<Option<i64>, BufferError> {
        self.on(partition, |p| p.stale(id))
    }

    async fn get_together(&self, places: &[(u16, Vec<Id>)]) -> Result<Vec<Vec<Lookup>>, BufferError> {
        tokio::task::coop::consume_budget().await;
        self.get_together_now(places)
    }

    async fn look(&self, partition: u16, ids: &[Id]) -> Result<Vec<Look>, BufferError> {
        self.on(partition, |p| vec![p.look(ids)])
    }

    async fn invalidate(&self, partition: u16, ids: &[Id]) -> Result<u64, BufferError> {
        let now = Instant::now();
        let dropped = self.on_any(partition, |p| ids.iter().filter(|id| p.invalidate(id, now)).count() as u64)?;
        self.ears.written(ids);
        Ok(dropped)
    }

    async fn scan(&self, partition: u16, flushing: bool, cursor: u64, limit: usize) -> Result<Page, BufferError> {
        self.on(partition, |p| if flushing { p.claim(cursor, limit) } else { p.scan_open(cursor, limit) })
    }
}

#[async_trait]
impl Epochs for MemorySpace {
    async fn read_log(&self, partition: u16, skip: u64, limit: usize) -> Result<LogPage, BufferError> {
        self.on(partition, |p| p.read_log(skip, limit))
    }

    async fn pending(&self, partitions: &[u16]) -> Result<PendingReport, BufferError> {
        let now = Instant::now();
        let found = partitions.iter().map(|&partition| self.on(partition, |p| p.pending(partition, now)));
        let pending = found.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect();
        Ok(PendingReport { pending, failed: Vec::new() })
    }

    async fn rotate(&self, partition: u16, owner: &str, stamp: Stamp) -> Result<Rotation, BufferError> {
        self.on(partition, |p| p.rotate(owner, stamp, Instant::now()))
    }

    async fn claim(&self, partition: u16, cursor: u64, limit: usize) -> Result<Page, BufferError> {
        self.on(partition, |p| p.claim(cursor, limit))
    }

    async fn rotate_all(&self, owner: &str, stamp: Stamp) -> Result<Vec<Rotation>, BufferError> {
        self.rotate_all_now(owner, stamp)
    }

    async fn marks(&self, partition: u16, _cursor: u64, _limit: usize) -> Result<Marks, BufferError> {
        self.on(partition, |p| p.marks())
    }

    async fn pick(&self, partition: u16, ids: &[Id]) -> Result<Vec<Option<Record>>, BufferError> {
        self.on(partition, |p| ids.iter().map(|id| p.pick(id)).collect())
    }

    async fn status(&self, partition: u16) -> Result<Status, BufferError> {
        self.on(partition, |p| p.status())
    }
}

#[async_trait]
impl Settlement for MemorySpace {
    async fn trim(&self, step: &Step<'_>, number: u64, settled: &[Settled]) -> Result<Moved, BufferError> {
        self.on(step.partition, |p| p.trim(step, number, settled, Instant::now()))
    }

    async fn ack(&self, step: &Step<'_>, ids: &[Id], clean: Clean) -> Result<Moved, BufferError> {
        self.on(step.partition, |p| p.ack(step, ids, clean, Instant::now()))
    }

    async fn copies(&self, partition: u16, ids: &[Id]) -> Result<Vec<Option<Stored>>, BufferError> {
        let now = Instant::now();
        self.on(partition, |p| ids.iter().map(|id| p.clean_copy(id, now)).collect())
    }

    async fn ack_stale(&self, step: &Step<'_>, records: &[(Id, i64)]) -> Result<Moved, BufferError> {
        let moved = self.on(step.partition, |p| p.ack_stale(step, records, Instant::now()));
        // What stands for readers is another state from now on.
        self.ears.written(&records.iter().map(|(id, _)| id.clone()).collect::<Vec<_>>());
        moved
    }

    async fn back(&self, step: &Step<'_>, records: &[(Id, Attempts)]) -> Result<Moved, BufferError> {
        self.on(step.partition, |p| p.back(step, records, Instant::now()))
    }

    async fn bury(&self, step: &Step<'_>, letters: &[(Id, DeadLetter)]) -> Result<Moved, BufferError> {
        self.on(step.partition, |p| p.bury(step, letters, Instant::now()))
    }

    async fn attempts(&self, partition: u16, ids: &[Id]) -> Result<Vec<Option<Attempts>>, BufferError> {
        self.on(partition, |p| ids.iter().map(|id| p.attempts(id)).collect())
    }

    async fn held(&self, partitions: &[u16]) -> Result<Vec<Held>, BufferError> {
        let held = partitions.iter().map(|&partition| self.on(partition, |p| p.held(partition)));
        Ok(held.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
    }

    async fn back_unit(
        &self,
        mark: Mark,
        parts: &[(Step<'_>, Vec<(Id, Attempts)>)],
    ) -> Result<Vec<Moved>, BufferError> {
        self.back_unit_now(mark, parts)
    }

    async fn bury_unit(&self, parts: &[(Step<'_>, Vec<(Id, DeadLetter)>)]) -> Result<Vec<Moved>, BufferError> {
        self.bury_unit_now(parts)
    }
}

#[async_trait]
impl DeadLetterStore for MemorySpace {
    async fn letter(&self, partition: u16, id: &Id) -> Result<Option<DeadLetter>, BufferError> {
        self.on(partition, |p| p.letter(id))
    }

    async fn letters(&self, partition: u16, cursor: u64, limit: usize) -> Result<Letters, BufferError> {
        self.on(partition, |p| p.letters(cursor, limit))
    }

    async fn replay(&self, partition: u16, ids: &[Id]) -> Result<Replayed, BufferError> {
        self.replay_now(partition, ids)
    }

    async fn discard(&self, partition: u16, ids: &[Id]) -> Result<u64, BufferError> {
        let discarded = self.write_on(partition, |p| ids.iter().filter(|id| p.discard(id)).count() as u64)?;
        self.ears.written(ids);
        Ok(discarded)
    }
}

#[async_trait]
impl LeaseStore for MemorySpace {
    async fn take(&self, partitions: &[u16], owner: &str, ttl: Duration) -> Result<Vec<bool>, BufferError> {
        partitions.iter().map(|&p| self.on_any(p, |p| p.take(owner, ttl, Instant::now()))).collect()
    }

    async fn heartbeat(&self, worker: &str, ttl: Duration) -> Result<Roll, BufferError> {
        let now = Instant::now();
        let mut workers = self.workers();
        workers.retain(|_, until| until.is_none_or(|until| until > now));
        workers.insert(worker.to_owned(), end(now, ttl));
        let leases: Vec<Holder> = self.partitions.iter().map(|p| lock(p).renew(worker, ttl, now)).collect();
        Ok(Roll { workers: workers.keys().cloned().collect(), leases, failed: Vec::new() })
    }

    async fn retire(&self, worker: &str) -> Result<(), BufferError> {
        self.workers().remove(worker);
        Ok(())
    }

    async fn release(&self, partitions: &[u16], owner: &str) -> Result<(), BufferError> {
        partitions.iter().try_for_each(|&p| self.on_any(p, |p| p.release(owner)))
    }
}

#[async_trait]
impl Coordination for MemorySpace {
    async fn confirm(&self) -> Result<(), BufferError> {
        let mut shelves = self.shelves.lock().unwrap_or_else(PoisonError::into_inner);
        let shelf = shelves.entry((self.scope.namespace.clone(), self.scope.entity)).or_default();
        let stored = shelf.topology.get_or_insert_with(|| self.topology.clone());
        if *stored == self.topology {
            let now = Instant::now();
            self.partitions.iter().for_each(|partition| lock(partition).stay(Some(now)));
            return Ok(());
        }
        Err(buffer::topology_changed(&self.scope, &stored.to_string(), &self.topology))
    }

    async fn shapes(&self, shape: &str, seen: &[SeenShape]) -> Result<SeenShapes, BufferError> {
        Ok(self.shapes.lock().unwrap_or_else(PoisonError::into_inner).tell(shape, seen))
    }

    async fn nudge(&self) -> Result<(), BufferError> {
        self.ears.nudge();
        Ok(())
    }
}
