//! What a running engine tells a program: a stream of events, fed where operators are told the same.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::pin::Pin;
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use tokio::sync::broadcast::{self, error::RecvError};

use crate::entity::key::Id;

/// Events that are kept for a listener that does not keep up.
const KEPT: usize = 1_024;

/// Something that happened to an entity in this process.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A batch is in the sink.
    #[non_exhaustive]
    Flushed {
        /// The entity.
        entity: &'static str,
        /// Rows that were written.
        upserts: u64,
        /// Rows that were deleted.
        deletes: u64,
        /// Time of the sink's transaction.
        took: Duration,
    },
    /// A batch failed and is tried again after `wait`.
    #[non_exhaustive]
    Retried {
        /// The entity.
        entity: &'static str,
        /// Rows of the batch.
        rows: u64,
        /// Failures in a row, this one included.
        failures: u32,
        /// Time until the next try.
        wait: Duration,
        /// What the sink said.
        reason: String,
    },
    /// The sink refused a record, which is tried again after `wait`.
    #[non_exhaustive]
    Refused {
        /// The entity.
        entity: &'static str,
        /// The record.
        id: Id,
        /// Times that its payload was refused or deferred.
        attempts: u32,
        /// Time until the next try.
        wait: Duration,
        /// What the sink said.
        reason: String,
    },
    /// A record became a dead letter.
    #[non_exhaustive]
    DeadLettered {
        /// The entity.
        entity: &'static str,
        /// The record.
        id: Id,
        /// Kind of the letter: see [`DeadLetter::kind`](crate::DeadLetter::kind).
        kind: String,
        /// What was said.
        reason: String,
    },
    /// A record was left out of the sink, which has a row of a higher version: another program has written it, or the buffer's
    /// data went back. Whoever waits for the record gets [`CacheError::Stale`](crate::CacheError::Stale).
    #[non_exhaustive]
    Stale {
        /// The entity.
        entity: &'static str,
        /// The record.
        id: Id,
        /// Its version, which is not in the sink.
        version: i64,
    },
    /// The sink cannot work as it is (a table or a permission is missing), or it has twice refused all that it was given for what may
    /// be the configuration's fault: nothing is flushed until it is put right, or until a record lands. Once a pause.
    #[non_exhaustive]
    Paused {
        /// The entity.
        entity: &'static str,
        /// What the sink said.
        reason: String,
    },
    /// The sink answers again, after an outage or a pause.
    #[non_exhaustive]
    Resumed {
        /// The entity.
        entity: &'static str,
        /// How long it did not.
        lasted: Duration,
    },
    /// The sink was away when the engine started, and still is: writes are taken, nothing is flushed. Once a look.
    #[non_exhaustive]
    SinkAway {
        /// The entity.
        entity: &'static str,
        /// What was said.
        reason: String,
        /// Time until the next look, about.
        wait: Duration,
    },
    /// The sink was away when the engine started, and cannot be used as it is now: writes are refused until it is put right.
    #[non_exhaustive]
    SinkUnfit {
        /// The entity.
        entity: &'static str,
        /// What was found; [`Engine::findings`](crate::Engine::findings) has it too.
        reason: String,
    },
    /// The sink was away when the engine started, and is there now: the entity is flushed from now on.
    #[non_exhaustive]
    SinkReady {
        /// The entity.
        entity: &'static str,
        /// How long it was not, from the start on.
        lasted: Duration,
    },
    /// The sink does not answer loads, or met a limit of time: reads of what is not in the buffer fail at once, but for one at a
    /// time that tries whether it answers again.
    #[non_exhaustive]
    LoadsStopped {
        /// The entity.
        entity: &'static str,
        /// What the sink said.
        reason: String,
    },
    /// The sink answers again, and loads are sent.
    #[non_exhaustive]
    LoadsResumed {
        /// The entity.
        entity: &'static str,
        /// How long it did not.
        lasted: Duration,
    },
    /// A partition is this engine's to flush. What it holds when it starts is not told: see
    /// [`Engine::owned`](crate::Engine::owned).
    #[non_exhaustive]
    PartitionGained {
        /// The entity.
        entity: &'static str,
        /// The partition.
        partition: u16,
    },
    /// A partition is this engine's no more.
    #[non_exhaustive]
    PartitionLost {
        /// The entity.
        entity: &'static str,
        /// The partition.
        partition: u16,
        /// It was given up: for a fair share of another worker, or at a handover. Else the lease was lost.
        given_up: bool,
    },
    /// The sink refused a batch, because another worker has taken one of its partitions.
    #[non_exhaustive]
    Fenced {
        /// The entity.
        entity: &'static str,
        /// What the sink said.
        reason: String,
    },
    /// Records of a newer program are held back until a newer worker takes them. Once a pause.
    #[non_exhaustive]
    Held {
        /// The entity.
        entity: &'static str,
        /// Records of the batch in which the first of them were.
        records: u64,
    },
    /// The buffer lost data: what was acknowledged since then and not flushed is gone.
    #[non_exhaustive]
    BufferLostData {
        /// The entity.
        entity: &'static str,
        /// Milliseconds since the Unix epoch; `None`: anything that was dirty may be gone.
        since_ms: Option<u64>,
    },
    /// The buffer was restarted.
    #[non_exhaustive]
    BufferRestarted {
        /// The entity.
        entity: &'static str,
        /// Writes that were acknowledged since then, in milliseconds since the Unix epoch, may be missing; `None`: nothing is.
        since_ms: Option<u64>,
    },
    /// Records were taken out of the buffer by somebody else while they were being flushed.
    #[non_exhaustive]
    Vanished {
        /// The entity.
        entity: &'static str,
        /// The partition.
        partition: u16,
        /// How many; 0: not known.
        records: u64,
    },
    /// A partition cannot be used: the buffer holds a value of a foreign type under one of its keys. What is dirty there waits,
    /// the others go on (where the entity has [transactions](crate::EntityOptions::transactions): all wait).
    #[non_exhaustive]
    PartitionBroken {
        /// The entity.
        entity: &'static str,
        /// The partition.
        partition: u16,
        /// Which key it is, and what it holds.
        reason: String,
    },
    /// A partition that was [broken](Self::PartitionBroken) can be used again.
    #[non_exhaustive]
    PartitionMended {
        /// The entity.
        entity: &'static str,
        /// The partition.
        partition: u16,
    },
    /// Another program has laid the entity out anew: this engine takes no writes of it and flushes nothing of it until
    /// [`TopologyRestored`](Self::TopologyRestored).
    #[non_exhaustive]
    TopologyShut {
        /// The entity.
        entity: &'static str,
        /// What is stored now.
        reason: String,
    },
    /// The entity is laid out as this engine asks again: it goes on.
    #[non_exhaustive]
    TopologyRestored {
        /// The entity.
        entity: &'static str,
    },
    /// Records of an entity wait in the buffer, and no program that is alive flushes them: the entity was renamed or dropped,
    /// or another topology is stored. Looked for once a minute; what waits at a start is a finding of it.
    #[non_exhaustive]
    Orphaned {
        /// The entity; not one of this engine's, or of an earlier topology.
        entity: String,
        /// Records that are not flushed.
        records: u64,
        /// Dead letters.
        letters: u64,
    },
    /// What was [`Orphaned`](Self::Orphaned) is gone, or has a worker again.
    #[non_exhaustive]
    OrphanedNoMore {
        /// The entity.
        entity: String,
    },
    /// The listener did not keep up: events before the next one are left out.
    #[non_exhaustive]
    Missed {
        /// How many.
        count: u64,
    },
}

/// The events of an engine; from [`Engine::events`](crate::Engine::events). A [`Stream`] that ends with the engine.
pub struct Events {
    stream: Pin<Box<dyn Stream<Item = Event> + Send>>,
}

impl Events {
    fn new(receiver: broadcast::Receiver<Event>) -> Self {
        let stream = stream::unfold(receiver, async |mut receiver| match receiver.recv().await {
            Ok(event) => Some((event, receiver)),
            Err(RecvError::Lagged(count)) => Some((Event::Missed { count }, receiver)),
            Err(RecvError::Closed) => None,
        });
        Self { stream: Box::pin(stream) }
    }

    /// The next event; `None` when the engine is over.
    pub async fn next(&mut self) -> Option<Event> {
        self.stream.next().await
    }
}

impl Stream for Events {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Event>> {
        self.stream.as_mut().poll_next(context)
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

/// Where an engine's events are heard; there is no channel before somebody listens. Goes with the engine, and ends the streams.
#[derive(Debug, Default)]
pub(crate) struct Stage(OnceLock<broadcast::Sender<Event>>);

impl Stage {
    pub(crate) fn listen(&self) -> Events {
        Events::new(self.0.get_or_init(|| broadcast::channel(KEPT).0).subscribe())
    }
}

/// The way to whoever listens. Says nothing about whose records a [`Scope`](crate::Scope) is about: all are equal.
#[derive(Clone, Debug, Default)]
pub(crate) struct Listeners(Weak<Stage>);

impl Listeners {
    pub(crate) fn of(stage: &Arc<Stage>) -> Self {
        Self(Arc::downgrade(stage))
    }

    /// Tells an event, which is only made when somebody listens.
    pub(crate) fn tell(&self, event: impl FnOnce() -> Event) {
        let Some(stage) = self.0.upgrade() else { return };
        if let Some(sender) = stage.0.get().filter(|sender| sender.receiver_count() > 0) {
            // The last listener may just have gone.
            let _ = sender.send(event()).is_ok();
        }
    }
}

impl PartialEq for Listeners {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Listeners {}

impl Hash for Listeners {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}
