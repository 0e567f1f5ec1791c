//! The verbs on partitions in memory.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::partition::{Partition, lock};
use crate::buffer::{
    Attempts, BufferError, BufferErrorKind, Clean, DeadLetter, Letters, Lookup, Moved, Page, Replay, Rotation, Space,
    Status, Step, Token,
};
use crate::key::Id;
use crate::pressure::Pressure;
use crate::record::{Record, Write};

#[derive(Debug)]
pub(super) struct MemorySpace {
    pub(super) partitions: Arc<Vec<Mutex<Partition>>>,
    pub(super) pressure: Arc<Pressure>,
    pub(super) closed: Arc<AtomicBool>,
}

impl MemorySpace {
    /// Runs `act` on a partition, under its lock; never across an await.
    fn on<R>(&self, partition: u16, act: impl FnOnce(&mut Partition) -> R) -> Result<R, BufferError> {
        let cell = self.partitions.get(usize::from(partition)).ok_or_else(|| super::no_such_partition(partition))?;
        Ok(act(&mut lock(cell)))
    }
}

#[async_trait]
impl Space for MemorySpace {
    async fn put(&self, writes: Vec<Write>) -> Result<(), BufferError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(BufferError::new(BufferErrorKind::Closed, "the buffer was closed"));
        }
        // Nothing here waits: without this a loop of writes would keep its thread, and the flusher from it.
        tokio::task::coop::consume_budget().await;
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

    async fn ack(&self, step: &Step<'_>, ids: &[Id], clean: Clean) -> Result<Moved, BufferError> {
        self.on(step.partition, |p| p.ack(step, ids, clean, Instant::now()))
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

    async fn letter(&self, partition: u16, id: &Id) -> Result<Option<DeadLetter>, BufferError> {
        self.on(partition, |p| p.letter(id))
    }

    async fn letters(&self, partition: u16, cursor: u64, limit: usize) -> Result<Letters, BufferError> {
        self.on(partition, |p| p.letters(cursor, limit))
    }

    async fn replay(&self, partition: u16, ids: &[Id]) -> Result<Vec<Replay>, BufferError> {
        let replays: Vec<Replay> = self.on(partition, |p| ids.iter().map(|id| p.replay(id)).collect())?;
        self.pressure.add(replays.iter().filter(|replay| **replay == Replay::Again).count() as u64);
        Ok(replays)
    }

    async fn discard(&self, partition: u16, ids: &[Id]) -> Result<u64, BufferError> {
        self.on(partition, |p| ids.iter().filter(|id| p.discard(id)).count() as u64)
    }

    async fn status(&self, partition: u16) -> Result<Status, BufferError> {
        self.on(partition, |p| p.status())
    }
}
