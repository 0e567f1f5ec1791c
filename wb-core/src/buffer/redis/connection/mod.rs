//! A connection to Redis that requests of many tasks share, and that is replaced when it is bad.
//!
//! ```text
//! request ──▶ current connection ──answer──▶ judge ──bad──▶ supervisor: connect, probe, again until it works
//!    └── none: wait for the next one, at most the connect timeout ──▶ Unsent (nothing was done)
//! ```
//!
//! Clones share one current connection. Each connection has a number, its generation: it lives no longer than the server
//! process behind it, so what was found out about the data on one generation holds for every request that is
//! [pinned](Pinned) to it.

mod peer;
mod server;
mod supervisor;
mod unsent;
mod verdict;

use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{AsyncConnectionConfig, Cmd, ErrorKind, Pipeline, RedisError, RedisFuture, RedisResult, Value};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use self::peer::Peer;
pub(super) use self::server::Server;
use self::unsent::Unsent;
pub(super) use self::unsent::{Why, last_failure, why_unsent};
use self::verdict::{Symptom, Verdict, error_symptom, judge, value_symptom};

/// A connection to Redis that requests of many tasks share; it is replaced by itself when it is bad.
#[derive(Clone)]
pub(super) struct Connection(Arc<Handle>);

/// All clones of a connection. The supervisor ends with the last one.
struct Handle {
    shared: Arc<Shared>,
    supervisor: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.ended.send_replace(true);
        self.shared.state.send_replace(State::Closed);
    }
}

/// What the supervisor and the requests share.
struct Shared {
    server: Server,
    config: AsyncConnectionConfig,
    connect_timeout: Duration,
    db: i64,
    state: watch::Sender<State>,
    /// The connection that serves is the last one.
    ended: watch::Sender<bool>,
}

#[derive(Clone)]
enum State {
    Up(Arc<Live>),
    Down(Outage),
    Closed,
}

/// The connection that serves.
struct Live {
    connection: MultiplexedConnection,
    peer: Option<Peer>,
    generation: u64,
    since: Instant,
    /// Answers so far: tells whether the connection was silent while a request waited.
    answers: AtomicU64,
    /// Time-outs since the last answer.
    timeouts: AtomicU32,
}

/// There is no connection.
#[derive(Clone)]
struct Outage {
    /// Generation of the last connection, and how its server knows it.
    generation: u64,
    peer: Option<Peer>,
    since: Instant,
    /// Life of the last connection.
    lived: Duration,
    /// Attempts to connect that have failed since.
    attempts: u64,
    /// The last failure.
    error: RedisError,
    /// The last server took no writes: the next one has to say that it is no replica.
    needs_primary: bool,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

impl Connection {
    /// Connects, in one attempt within the timeout; later ones are made by themselves.
    pub(super) async fn open(
        server: Server,
        config: AsyncConnectionConfig,
        connect_timeout: Duration,
    ) -> RedisResult<Self> {
        let db = server.client.get_connection_info().redis_settings().db();
        let (state, _) = watch::channel(State::Closed);
        let ended = watch::channel(false).0;
        let shared = Arc::new(Shared { server, config, connect_timeout, db, state, ended });
        let (connection, peer) = shared.connect(false, None).await?;
        shared.state.send_replace(State::Up(Arc::new(Live::new(connection, peer, 1))));
        let supervisor = tokio::spawn(supervisor::run(shared.clone()));
        Ok(Self(Arc::new(Handle { shared, supervisor: Mutex::new(Some(supervisor)) })))
    }

    /// The connection that serves now; waits for one while there is none.
    ///
    /// A request that meets the beginning of an outage waits for the whole connect timeout; later on it waits for one
    /// whole attempt to connect, so that callers fail soon and still do not spin.
    pub(super) async fn current(&self) -> RedisResult<Pinned> {
        if let State::Up(live) = &*self.0.shared.state.borrow() {
            return Ok(self.pinned(live));
        }
        self.next().await
    }

    fn pinned(&self, live: &Arc<Live>) -> Pinned {
        Pinned { connection: self.clone(), live: live.clone() }
    }

    async fn next(&self) -> RedisResult<Pinned> {
        let patience = self.0.shared.connect_timeout;
        let mut state = self.0.shared.state.subscribe();
        let (until, mut attempts) = (Instant::now() + patience, None);
        loop {
            let last = match &*state.borrow_and_update() {
                State::Up(live) => return Ok(self.pinned(live)),
                State::Closed => return Err(Unsent { why: Why::Closed, source: None }.into()),
                State::Down(outage) => {
                    // The attempt that was under way may have begun before the server was back.
                    let whole = outage.attempts >= attempts.get_or_insert(outage.attempts).saturating_add(2);
                    if outage.since.elapsed() >= patience && whole {
                        return Err(unsent(outage.error.clone()));
                    }
                    outage.error.clone()
                }
            };
            match tokio::time::timeout_at(until, state.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(Unsent { why: Why::Closed, source: None }.into()),
                Err(_) => return Err(unsent(last)),
            }
        }
    }

    /// Whether this is a clone of `other`.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Gives the current connection up; the next one leads to no replica.
    pub(super) fn replace(&self) {
        let live = match &*self.0.shared.state.borrow() {
            State::Up(live) => live.clone(),
            State::Down(_) | State::Closed => return,
        };
        let error = RedisError::from((ErrorKind::Client, "requests go to another connection"));
        self.0.shared.give_up(&live, Symptom::ReadOnly, &error);
    }

    /// Waits until a later connection than this generation serves, or until there will be none.
    pub(super) async fn replaced(&self, generation: u64) {
        let mut state = self.0.shared.state.subscribe();
        let later = |state: &State| match state {
            State::Up(live) => live.generation > generation,
            State::Down(_) => false,
            State::Closed => true,
        };
        // Its sender lives as long as `self`.
        let _ = state.wait_for(later).await.is_ok();
    }

    /// The connection that serves, if any, is the last one: who still reads may. Returns when the supervisor has ended.
    pub(super) async fn close(&self) {
        self.0.shared.ended.send_replace(true);
        let supervisor = self.0.supervisor.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(supervisor) = supervisor {
            // It holds nothing that a panic could break.
            let _ = supervisor.await;
        }
        self.0.shared.state.send_if_modified(|state| {
            let down = matches!(state, State::Down(_));
            if down {
                *state = State::Closed;
            }
            down
        });
    }
}

fn unsent(error: RedisError) -> RedisError {
    Unsent { why: Why::NoConnection, source: Some(error) }.into()
}

impl Live {
    fn new(connection: MultiplexedConnection, peer: Option<Peer>, generation: u64) -> Self {
        let (answers, timeouts) = (AtomicU64::new(0), AtomicU32::new(0));
        Self { connection, peer, generation, since: Instant::now(), answers, timeouts }
    }

    /// Counts what a request has shown, and judges.
    fn judge(&self, symptom: Symptom) -> Verdict {
        let timeouts = match symptom {
            Symptom::TimedOut { .. } => self.timeouts.fetch_add(1, Ordering::Relaxed).saturating_add(1),
            _ => {
                self.answers.fetch_add(1, Ordering::Relaxed);
                // Almost always zero: not written to then.
                if self.timeouts.load(Ordering::Relaxed) > 0 {
                    self.timeouts.store(0, Ordering::Relaxed);
                }
                0
            }
        };
        judge(symptom, timeouts)
    }
}

impl Shared {
    /// Gives this connection up, unless another one serves already: of many requests that fail, the first one does it.
    fn give_up(&self, live: &Live, symptom: Symptom, error: &RedisError) {
        self.state.send_if_modified(|state| {
            let current = matches!(state, State::Up(current) if current.generation == live.generation);
            if current && *self.ended.borrow() {
                *state = State::Closed;
            } else if current {
                *state = State::Down(Outage {
                    generation: live.generation,
                    peer: live.peer.clone(),
                    since: Instant::now(),
                    lived: live.since.elapsed(),
                    attempts: 0,
                    error: error.clone(),
                    needs_primary: symptom == Symptom::ReadOnly,
                });
            }
            current
        });
    }
}

/// One connection, and no other: requests fail when it is not the one that serves.
#[derive(Clone)]
pub(super) struct Pinned {
    connection: Connection,
    live: Arc<Live>,
}

impl Pinned {
    /// The number of the connection.
    pub(super) fn generation(&self) -> u64 {
        self.live.generation
    }

    async fn command(&self, command: &Cmd) -> RedisResult<Value> {
        let before = self.live.answers.load(Ordering::Relaxed);
        let reply = self.live.connection.clone().send_packed_command(command).await;
        self.judge(&reply, before, value_symptom);
        reply
    }

    async fn pipeline(&self, pipeline: &Pipeline, offset: usize, count: usize) -> RedisResult<Vec<Value>> {
        let before = self.live.answers.load(Ordering::Relaxed);
        let reply = self.live.connection.clone().send_packed_commands(pipeline, offset, count).await;
        self.judge(&reply, before, |values| values.iter().find_map(value_symptom));
        reply
    }

    fn judge<T>(&self, reply: &RedisResult<T>, before: u64, symptom: impl FnOnce(&T) -> Option<(Symptom, RedisError)>) {
        let found = match reply {
            Ok(value) => symptom(value),
            Err(error) => {
                let silent = self.live.answers.load(Ordering::Relaxed) == before;
                Some((error_symptom(error, silent), error.clone()))
            }
        };
        let Some((symptom, error)) = found else {
            self.live.judge(Symptom::Answered);
            return;
        };
        if self.live.judge(symptom) == Verdict::Replace {
            self.connection.0.shared.give_up(&self.live, symptom, &error);
        }
    }
}

impl ConnectionLike for Pinned {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        self.command(cmd).boxed()
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        self.pipeline(pipeline, offset, count).boxed()
    }

    fn get_db(&self) -> i64 {
        self.connection.0.shared.db
    }
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        async move { self.current().await?.command(cmd).await }.boxed()
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        async move { self.current().await?.pipeline(pipeline, offset, count).await }.boxed()
    }

    fn get_db(&self) -> i64 {
        self.0.shared.db
    }
}
