//! Group commit: writes that arrive while earlier ones are on their way leave together, one `HSET` a partition.
//!
//! ```text
//! put ──idle?── yes ──▶ one HSET, sent by the caller itself
//!          └─── no ───▶ queue ──▶ task: at most two groups in flight ──▶ pipeline of HSETs ──▶ each caller's result
//! ```
//!
//! No timer: an idle connection sends at once, a busy one gathers for as long as a round trip takes. The connection
//! carries requests in order, so a later group never overtakes an earlier one.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use redis::aio::ConnectionManager;
use redis::{Pipeline, RedisResult};
use tokio::sync::{Notify, oneshot};

use super::classify::classify;
use super::keys::PartitionKeys;
use crate::buffer::{BufferError, BufferErrorKind};
use crate::key::Id;
use crate::pressure::Pressure;
use crate::record::{Record, Write};

/// Round trips under way at most. One would leave the server idle while an answer travels; more than two make
/// groups smaller and gain nothing.
const IN_FLIGHT: usize = 2;

/// A group ends at this size, in bytes of ids and payloads, so that one does not stall Redis for others.
const GROUP_BYTES: usize = 1 << 20;

/// An entity's keys as the committer needs them.
#[derive(Debug)]
pub(super) struct Shelf {
    /// Tells entities of one buffer apart.
    pub(super) number: u32,
    pub(super) partitions: Vec<PartitionKeys>,
    pub(super) pressure: Arc<Pressure>,
}

impl Shelf {
    pub(super) fn keys(&self, partition: u16) -> Result<&PartitionKeys, BufferError> {
        self.partitions.get(usize::from(partition)).ok_or_else(|| {
            BufferError::new(BufferErrorKind::Misconfigured, format!("there is no partition {partition}"))
        })
    }
}

/// Writes of one caller; never split over groups, so that there is one result.
struct Job {
    shelf: Arc<Shelf>,
    writes: Vec<Write>,
    done: oneshot::Sender<Result<(), BufferError>>,
}

impl Job {
    fn bytes(&self) -> usize {
        self.writes.iter().map(|w| w.id.as_bytes().len() + w.record.len()).sum()
    }
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    in_flight: usize,
    closed: bool,
}

pub(super) struct Committer {
    queue: Mutex<Queue>,
    wake: Notify,
    connection: ConnectionManager,
}

impl Committer {
    pub(super) fn new(connection: ConnectionManager) -> Self {
        Self { queue: Mutex::default(), wake: Notify::new(), connection }
    }

    /// No code that can panic runs under the lock, so a poisoned queue is whole.
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Commits these writes; returns when Redis has taken all of them.
    pub(super) async fn put(&self, shelf: &Arc<Shelf>, mut writes: Vec<Write>) -> Result<(), BufferError> {
        let waiting = {
            let mut queue = self.queue();
            if queue.closed {
                return Err(BufferError::new(BufferErrorKind::Closed, "the buffer was closed"));
            }
            if queue.in_flight == 0 && queue.jobs.is_empty() && writes.len() == 1 {
                queue.in_flight += 1;
                None
            } else {
                let (done, waiting) = oneshot::channel();
                queue.jobs.push_back(Job { shelf: shelf.clone(), writes: std::mem::take(&mut writes), done });
                if queue.in_flight < IN_FLIGHT {
                    self.wake.notify_one();
                }
                Some(waiting)
            }
        };
        match (waiting, writes.pop()) {
            (Some(waiting), _) => waiting.await.unwrap_or_else(|_| {
                Err(BufferError::new(BufferErrorKind::Unknown, "the buffer went away while the write was on its way"))
            }),
            (None, Some(write)) => {
                let _slot = Slot(self);
                self.send_one(shelf, write).await
            }
            (None, None) => Ok(()),
        }
    }

    /// The idle path: no task is woken, the caller's own future carries the request.
    async fn send_one(&self, shelf: &Shelf, write: Write) -> Result<(), BufferError> {
        let keys = shelf.keys(write.partition)?;
        let mut command = redis::cmd("HSET");
        command.arg(&keys.open).arg(write.id.as_bytes()).arg(write.record.as_bytes());
        let fresh: u64 = command
            .query_async(&mut self.connection.clone())
            .await
            .map_err(|error| classify("cannot put a record", error))?;
        shelf.pressure.add(fresh);
        Ok(())
    }

    /// The task: sends groups until the queue is closed and empty.
    pub(super) async fn run(self: Arc<Self>) {
        let mut sending = FuturesUnordered::new();
        loop {
            while let Some(group) = self.next_group() {
                sending.push(self.send(group));
            }
            if sending.is_empty() && self.finished() {
                return;
            }
            tokio::select! {
                () = self.wake.notified() => {}
                Some(()) = sending.next(), if !sending.is_empty() => {}
            }
        }
    }

    pub(super) fn close(&self) {
        self.queue().closed = true;
        self.wake.notify_one();
    }

    fn finished(&self) -> bool {
        let queue = self.queue();
        queue.closed && queue.jobs.is_empty()
    }

    fn next_group(&self) -> Option<Vec<Job>> {
        let mut queue = self.queue();
        if queue.in_flight >= IN_FLIGHT {
            return None;
        }
        let mut group = Vec::new();
        let mut bytes = 0;
        while bytes < GROUP_BYTES {
            let Some(job) = queue.jobs.pop_front() else { break };
            bytes += job.bytes();
            group.push(job);
        }
        if group.is_empty() {
            return None;
        }
        queue.in_flight += 1;
        Some(group)
    }

    async fn send(&self, jobs: Vec<Job>) {
        let _slot = Slot(self);
        let mut group = Group::default();
        let callers: Vec<_> = jobs.into_iter().map(|job| group.add(job)).collect();
        let results = group.send(&mut self.connection.clone()).await;
        for caller in callers {
            let result = results.of(&caller);
            // A caller that has gone away does not want its result.
            let _ = caller.done.send(result);
        }
    }
}

/// A place among the round trips under way; given back also when a caller's future is dropped.
struct Slot<'a>(&'a Committer);

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let mut queue = self.0.queue();
        queue.in_flight -= 1;
        if !queue.jobs.is_empty() {
            self.0.wake.notify_one();
        }
    }
}

/// Which hash: entity and partition.
type Hash = (u32, u16);

/// Writes that leave together, by hash; of one id only the last.
#[derive(Default)]
struct Group {
    hashes: BTreeMap<Hash, (Arc<Shelf>, HashMap<Id, Record>)>,
}

/// Who waits for which hashes.
struct Caller {
    first: Option<Hash>,
    // Empty for a single write: no allocation on the common path.
    others: Vec<Hash>,
    done: oneshot::Sender<Result<(), BufferError>>,
}

impl Group {
    fn add(&mut self, job: Job) -> Caller {
        let mut caller = Caller { first: None, others: Vec::new(), done: job.done };
        for Write { partition, id, record } in job.writes {
            let hash = (job.shelf.number, partition);
            self.hashes.entry(hash).or_insert_with(|| (job.shelf.clone(), HashMap::new())).1.insert(id, record);
            if caller.first.is_none() {
                caller.first = Some(hash);
            } else if caller.first != Some(hash) && caller.others.last() != Some(&hash) {
                caller.others.push(hash);
            }
        }
        caller
    }

    async fn send(self, connection: &mut ConnectionManager) -> Results {
        let mut failed = HashMap::new();
        let mut sent = Vec::with_capacity(self.hashes.len());
        let mut pipeline = Pipeline::with_capacity(self.hashes.len());
        pipeline.ignore_errors();
        for (hash, (shelf, fields)) in &self.hashes {
            match shelf.keys(hash.1) {
                Ok(keys) => {
                    pipeline.cmd("HSET").arg(&keys.open);
                    for (id, record) in fields {
                        pipeline.arg(id.as_bytes()).arg(record.as_bytes());
                    }
                    sent.push((*hash, shelf));
                }
                Err(error) => {
                    failed.insert(*hash, error);
                }
            }
        }
        let replies: RedisResult<Vec<RedisResult<u64>>> = pipeline.query_async(connection).await;
        match replies {
            Ok(replies) => {
                for ((hash, shelf), reply) in sent.into_iter().zip(replies) {
                    match reply {
                        Ok(fresh) => shelf.pressure.add(fresh),
                        Err(error) => {
                            failed.insert(hash, classify("cannot put a record", error));
                        }
                    }
                }
            }
            Err(error) => {
                let error = classify("cannot put a group of records", error);
                failed.extend(sent.into_iter().map(|(hash, _)| (hash, error.clone())));
            }
        }
        Results { failed }
    }
}

struct Results {
    failed: HashMap<Hash, BufferError>,
}

impl Results {
    fn of(&self, caller: &Caller) -> Result<(), BufferError> {
        if self.failed.is_empty() {
            return Ok(());
        }
        let failure = caller.first.iter().chain(&caller.others).find_map(|hash| self.failed.get(hash));
        failure.cloned().map_or(Ok(()), Err)
    }
}
