//! The verbs on partitions in memory.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::partition::{Partition, lock};
use crate::buffer::{
    Attempts, BufferError, BufferErrorKind, Clean, DeadLetter, Done, Lookup, Page, Rotation, Space, Status, Step, Token,
};
use crate::key::Id;
use crate::pressure::Pressure;
use crate::record::{Record, Write};

#[derive(Debug)]
pub(super) struct MemorySpace {
    pub(super) partitions: Arc<Vec<Mutex<Partition>>>,
    pub(super) pressure: Arc<Pressure>,
    pub(super) closed: Arc<AtomicBool>,
    /// Most keys that may be dirty.
    pub(super) limit: Option<u64>,
    /// Writes under the limit pass it one at a time, so that each sees what the others have made dirty.
    pub(super) door: Arc<Mutex<()>>,
}

impl MemorySpace {
    /// Runs `act` on a partition, under its lock; never across an await.
    fn on<R>(&self, partition: u16, act: impl FnOnce(&mut Partition) -> R) -> Result<R, BufferError> {
        let cell = self.partitions.get(usize::from(partition)).ok_or_else(|| super::no_such_partition(partition))?;
        Ok(act(&mut lock(cell)))
    }

    /// Refuses writes that would make more keys dirty than are allowed; called with the door locked.
    fn check(&self, limit: u64, writes: &[Write]) -> Result<(), BufferError> {
        let mut fresh = HashSet::new();
        for Write { partition, id, .. } in writes {
            if !self.on(*partition, |p| p.is_dirty(id))? {
                fresh.insert((*partition, id));
            }
        }
        // A flush may go on beside it: it only takes away.
        let dirty: u64 = self.partitions.iter().map(|cell| lock(cell).dirty()).sum();
        if fresh.is_empty() || dirty + fresh.len() as u64 <= limit {
            return Ok(());
        }
        let full = format!("{dirty} keys are dirty, `max_dirty` allows {limit}");
        Err(BufferError::new(BufferErrorKind::Full, full))
    }
}

#[async_trait]
impl Space for MemorySpace {
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
                self.check(limit, &writes)?;
                Some(door)
            }
            None => None,
        };
        let mut fresh = 0;
        for Write { partition, id, record } in writes {
            fresh += u64::from(self.on(partition, |p| p.put(id, record))?);
        }
        self.pressure.add(fresh);
        Ok(())
    }

    async fn get(&self, partition: u16, ids: &[Id]) -> Result<Vec<Lookup>, BufferError> {
        tokio::task::coop::consume_budget().await;
        let now = Instant::now();
        self.on(partition, |p| ids.iter().map(|id| p.get(id, now)).collect())
    }

    async fn token(&self, partition: u16, id: &Id, token: &Token, ttl: Duration) -> Result<bool, BufferError> {
        self.on(partition, |p| p.token(id, token, ttl, Instant::now()))
    }

    async fn fill(
        &self,
        partition: u16,
        id: &Id,
        token: &Token,
        record: &Record,
        ttl: Duration,
    ) -> Result<bool, BufferError> {
        self.on(partition, |p| p.fill(id, token, record, ttl, Instant::now()))
    }

    async fn take(&self, partitions: &[u16], owner: &str, ttl: Duration) -> Result<Vec<bool>, BufferError> {
        partitions.iter().map(|&p| self.on(p, |p| p.take(owner, ttl, Instant::now()))).collect()
    }

    async fn release(&self, partitions: &[u16], owner: &str) -> Result<(), BufferError> {
        partitions.iter().try_for_each(|&p| self.on(p, |p| p.release(owner)))
    }

    async fn pending(&self, partitions: &[u16]) -> Result<Vec<u16>, BufferError> {
        let mut pending = Vec::new();
        for &partition in partitions {
            if self.on(partition, |p| p.pending())? {
                pending.push(partition);
            }
        }
        Ok(pending)
    }

    async fn rotate(&self, partition: u16, owner: &str) -> Result<Rotation, BufferError> {
        self.on(partition, |p| p.rotate(owner, Instant::now()))
    }

    async fn claim(&self, partition: u16, cursor: u64, limit: usize) -> Result<Page, BufferError> {
        self.on(partition, |p| p.claim(cursor, limit))
    }

    async fn ack(&self, step: &Step<'_>, ids: &[Id], clean: Clean) -> Result<Done, BufferError> {
        self.on(step.partition, |p| p.ack(step, ids, clean, Instant::now()))
    }

    async fn back(&self, step: &Step<'_>, records: &[(Id, Attempts)]) -> Result<Done, BufferError> {
        self.on(step.partition, |p| p.back(step, records, Instant::now()))
    }

    async fn bury(&self, step: &Step<'_>, letters: &[(Id, DeadLetter)]) -> Result<Done, BufferError> {
        self.on(step.partition, |p| p.bury(step, letters, Instant::now()))
    }

    async fn attempts(&self, partition: u16, ids: &[Id]) -> Result<Vec<Option<Attempts>>, BufferError> {
        self.on(partition, |p| ids.iter().map(|id| p.attempts(id)).collect())
    }

    async fn letter(&self, partition: u16, id: &Id) -> Result<Option<DeadLetter>, BufferError> {
        self.on(partition, |p| p.letter(id))
    }

    async fn status(&self, partition: u16) -> Result<Status, BufferError> {
        self.on(partition, |p| p.status())
    }
}
