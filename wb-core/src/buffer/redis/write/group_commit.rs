//! Group commit: writes that arrive while earlier ones are on their way leave together, one `HSET` a partition.
//!
//! ```text
//! put ──idle?── yes ──▶ one HSET, sent by the caller itself
//!          └─── no ───▶ queue ──▶ task: at most two groups in flight ──▶ pipeline of HSETs ──▶ each caller's result
//! ```
//!
//! An entity with a limit of dirty keys goes out as script calls instead (`limit.rs`); where writes must be durable, one
//! wait ends each group (`durability.rs`).
//!
//! No timer: an idle connection sends at once, a busy one gathers for as long as a round trip takes. The connection
//! carries requests in order, so a later group never overtakes an earlier one.
//!
//! What nobody waits for any more does not leave: its caller has been told nothing, and may have written something newer
//! since. A group takes its jobs when there is a connection for it, and sends them at once.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use redis::{Cmd, Pipeline, RedisResult, Script, Value};
use tokio::sync::{Notify, oneshot};

use crate::buffer::flush_trigger::Pressure;
use crate::buffer::record::Write;
use crate::buffer::redis::classify::classify;
use crate::buffer::redis::connection::{Connection, Pinned};
use crate::buffer::redis::keys::PartitionKeys;
use crate::buffer::redis::write::durability::Wait;
use crate::buffer::redis::write::group::{Group, Way};
use crate::buffer::redis::write::{append, compare_and_set, limit};
use crate::error::buffer::{BufferError, BufferErrorKind};

/// Round trips under way at most. One would leave the server idle while an answer travels; more than two make
/// groups smaller and gain nothing.
const IN_FLIGHT: usize = 2;

/// A group ends at this size, in bytes of ids and payloads, so that one does not stall Redis for others.
const GROUP_BYTES: usize = 1 << 20;

/// An entity's keys as the committer needs them.
#[derive(Debug)]
pub(in crate::buffer::redis) struct Shelf {
    /// Tells entities of one buffer apart.
    pub(in crate::buffer::redis) number: u32,
    pub(in crate::buffer::redis) partitions: Vec<PartitionKeys>,
    pub(in crate::buffer::redis) pressure: Arc<Pressure>,
    /// Channel on which ids that are written are told; `None`: nobody keeps values of them.
    pub(in crate::buffer::redis) written: Option<String>,
    /// Most keys that may be dirty; `None`: writes are plain `HSET`s.
    pub(in crate::buffer::redis) limit: Option<u64>,
    /// Whether the entity has logs.
    pub(in crate::buffer::redis) append: bool,
}

impl Shelf {
    pub(in crate::buffer::redis) fn keys(&self, partition: u16) -> Result<&PartitionKeys, BufferError> {
        self.partitions.get(usize::from(partition)).ok_or_else(|| {
            BufferError::new(BufferErrorKind::Misconfigured, format!("there is no partition {partition}"))
        })
    }
}

/// What is done with writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::buffer::redis) enum Verb {
    /// They become the states of their keys.
    Put,
    /// They are added to the logs.
    Append,
}

/// Writes of one caller; never split over groups, so that there is one result.
struct Job {
    shelf: Arc<Shelf>,
    verb: Verb,
    writes: Vec<Write>,
    done: oneshot::Sender<Result<(), BufferError>>,
}

impl Job {
    fn is_wanted(&self) -> bool {
        !self.done.is_closed()
    }

    fn bytes(&self) -> usize {
        self.writes.iter().map(|w| w.id.as_bytes().len() + w.record.len()).sum()
    }
}

/// Jobs that wait, a line for each entity: they take turns, so that no entity waits behind all that another one has written.
#[derive(Default)]
struct Queue {
    lines: Vec<Line>,
    /// Whose turn it is.
    turn: usize,
    /// Jobs in all lines.
    jobs: usize,
    in_flight: usize,
    closed: bool,
    /// At this length jobs are taken out that nobody waits for.
    tidy_at: usize,
}

/// The jobs of an entity, in their order.
struct Line {
    shelf: u32,
    jobs: VecDeque<Job>,
}

/// A shorter queue is not looked through.
const TIDY_FROM: usize = 1024;

impl Queue {
    /// However many callers give up while nothing can be sent, the queue is no longer than twice those that wait.
    fn push(&mut self, job: Job) {
        if self.jobs >= self.tidy_at.max(TIDY_FROM) {
            self.lines.iter_mut().for_each(|line| line.jobs.retain(Job::is_wanted));
            self.jobs = self.lines.iter().map(|line| line.jobs.len()).sum();
            self.tidy_at = 2 * self.jobs;
        }
        self.jobs += 1;
        let shelf = job.shelf.number;
        match self.lines.iter_mut().find(|line| line.shelf == shelf) {
            Some(line) => line.jobs.push_back(job),
            None => self.lines.push(Line { shelf, jobs: VecDeque::from([job]) }),
        }
    }

    /// The first job of the next line that has any.
    fn pop(&mut self) -> Option<Job> {
        for _ in 0..self.lines.len() {
            let at = self.turn % self.lines.len();
            self.turn = at + 1;
            if let Some(job) = self.lines.get_mut(at).and_then(|line| line.jobs.pop_front()) {
                self.jobs -= 1;
                return Some(job);
            }
        }
        None
    }

    fn is_empty(&self) -> bool {
        self.jobs == 0
    }
}

pub(in crate::buffer::redis) struct Committer {
    queue: Mutex<Queue>,
    wake: Notify,
    way: Way,
}

impl Committer {
    /// Writes leave by this connection; where there is something to wait for, nobody else should use it.
    pub(in crate::buffer::redis) fn new(connection: Connection, wait: Option<Wait>) -> Self {
        let way = Way { connection, limit: Script::new(limit::TEXT), append: Script::new(append::TEXT), wait };
        Self { queue: Mutex::default(), wake: Notify::new(), way }
    }

    /// No code that can panic runs under the lock, so a poisoned queue is whole.
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Commits these writes; returns when Redis has taken all of them.
    pub(in crate::buffer::redis) async fn commit(
        &self,
        shelf: &Arc<Shelf>,
        verb: Verb,
        mut writes: Vec<Write>,
    ) -> Result<(), BufferError> {
        let waiting = {
            let mut queue = self.queue();
            if queue.closed {
                return Err(BufferError::new(BufferErrorKind::Closed, "the buffer was closed"));
            }
            if queue.in_flight == 0 && queue.is_empty() && writes.len() == 1 {
                queue.in_flight += 1;
                None
            } else {
                let (done, waiting) = oneshot::channel();
                queue.push(Job { shelf: shelf.clone(), verb, writes: std::mem::take(&mut writes), done });
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
                self.send_one(shelf, verb, write).await
            }
            (None, None) => Ok(()),
        }
    }

    /// The idle path: no task is woken, the caller's own future carries the request.
    async fn send_one(&self, shelf: &Arc<Shelf>, verb: Verb, write: Write) -> Result<(), BufferError> {
        if shelf.limit.is_some() || shelf.written.is_some() || self.way.wait.is_some() {
            let mut group = Group::default();
            let caller = group.add(shelf, verb, vec![write]);
            let connection = self.current().await?;
            return group.send(&self.way, &connection).await.of(&caller);
        }
        let keys = shelf.keys(write.partition)?;
        let command = match verb {
            Verb::Put => {
                let mut command = redis::cmd("HSET");
                command.arg(&keys.open).arg(write.id.as_bytes()).arg(write.record.as_bytes());
                command
            }
            Verb::Append => append::command(keys, std::slice::from_ref(&write.record)),
        };
        let reply: u64 = command
            .query_async(&mut self.way.connection.clone())
            .await
            .map_err(|error| classify("cannot put a record", error))?;
        // RPUSH says how long the log is.
        shelf.pressure.add(if verb == Verb::Append { 1 } else { reply });
        Ok(())
    }

    /// The task: sends groups until the queue is closed and empty.
    pub(in crate::buffer::redis) async fn run(self: Arc<Self>) {
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

    /// Sends so many commands that gather with no others, what is `told` of them, and the wait for what they write. The reply
    /// of the last command.
    pub(in crate::buffer::redis) async fn send_alone(
        &self,
        connection: &Pinned,
        mut pipeline: Pipeline,
        told: Option<&Cmd>,
        commands: usize,
    ) -> Result<(RedisResult<Value>, Option<BufferError>), BufferError> {
        if let Some(told) = told {
            pipeline.add_command(told.clone());
        }
        let sent = self.way.send(connection, pipeline, commands + usize::from(told.is_some())).await;
        let (mut replies, weak) = sent.map_err(|error| classify("cannot change a record", error))?;
        replies.truncate(commands);
        Ok((compare_and_set::last(replies), weak))
    }

    pub(in crate::buffer::redis) fn is_closed(&self) -> bool {
        self.queue().closed
    }

    pub(in crate::buffer::redis) fn close(&self) {
        self.queue().closed = true;
        self.wake.notify_one();
    }

    fn finished(&self) -> bool {
        let queue = self.queue();
        queue.closed && queue.is_empty()
    }

    fn next_group(&self) -> Option<Vec<Job>> {
        let mut queue = self.queue();
        if queue.in_flight >= IN_FLIGHT {
            return None;
        }
        let mut group = Vec::new();
        let mut bytes = 0;
        while bytes < GROUP_BYTES {
            let Some(job) = queue.pop() else { break };
            if !job.is_wanted() {
                continue;
            }
            bytes += job.bytes();
            group.push(job);
        }
        if group.is_empty() {
            return None;
        }
        queue.in_flight += 1;
        Some(group)
    }

    async fn current(&self) -> Result<Pinned, BufferError> {
        self.way.connection.current().await.map_err(|error| classify("cannot put records", error))
    }

    /// The connection by which writes leave.
    pub(in crate::buffer::redis) fn connection(&self) -> &Connection {
        &self.way.connection
    }

    async fn send(&self, mut jobs: Vec<Job>) {
        let _slot = Slot(self);
        // First a connection: while it is waited for callers may give up, and theirs has not left.
        let connection = match self.current().await {
            Ok(connection) => connection,
            Err(error) => {
                // Those behind would wait for nothing else.
                let mut queue = self.queue();
                jobs.extend(std::iter::from_fn(|| queue.pop()));
                drop(queue);
                for job in jobs {
                    // A caller that has gone away does not want its result.
                    let _ = job.done.send(Err(error.clone()));
                }
                return;
            }
        };
        jobs.retain(Job::is_wanted);
        if jobs.is_empty() {
            return;
        }
        let mut group = Group::default();
        let callers: Vec<_> =
            jobs.into_iter().map(|job| (group.add(&job.shelf, job.verb, job.writes), job.done)).collect();
        let results = group.send(&self.way, &connection).await;
        for (caller, done) in callers {
            // A caller that has gone away does not want its result.
            let _ = done.send(results.of(&caller));
        }
    }
}

/// A place among the round trips under way; given back also when a caller's future is dropped.
struct Slot<'a>(&'a Committer);

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let mut queue = self.0.queue();
        queue.in_flight -= 1;
        if !queue.is_empty() {
            self.0.wake.notify_one();
        }
    }
}
