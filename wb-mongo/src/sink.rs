//! [`MongoSink`]: the port.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bson::raw::RawDocumentBuf;
use mongodb::Database;
use mongodb::options::{Acknowledgment, WriteConcern};
use tokio::sync::{OnceCell, Semaphore};
use tokio::time::Instant;
use wb_core::{Batch, ErrorKind, Fence, Finding, Report, SameInserted, Scope, Sink, SinkError, Unstorable};

use crate::connect::{self, Deployment};
use crate::error;
use crate::error::sink_error;
use crate::examine::definition;
use crate::examine::definition::Definitions;
use crate::fence::slots::Slots;
use crate::mapping::entity::MongoEntity;
use crate::mapping::{insert_only, unstorable};
use crate::read::load;
use crate::read::spelling::Exact;
use crate::write::moves;
use crate::write::reply::Reply;
use crate::{examine, fence, write};

/// How long one command may take before the server counts as unavailable, unless told otherwise.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a load may take, unless told otherwise.
const LOAD_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a load that nobody waits for may still have its connection.
const ABANDONED: Duration = Duration::from_secs(60);

fn permits(loads: u32) -> Arc<Semaphore> {
    let loads = usize::try_from(loads).unwrap_or(usize::MAX).clamp(1, Semaphore::MAX_PERMITS);
    Arc::new(Semaphore::new(loads))
}

/// A sink that writes to a MongoDB database: each entity to its collection, a record to the document whose `_id` is
/// the key.
///
/// Clones share one client. One sink serves any number of entities.
///
/// # Writes
/// Upserts travel as `update` commands (whole documents, replaced or inserted), deletes as `delete` commands; a batch
/// is split where the server's limits ask for it (12 MiB of statements, `maxWriteBatchSize`). These commands work on
/// every server version; `bulkWrite`, which only servers from 8.0 on have, is not used.
///
/// On a replica set or behind a mongos a batch is one transaction. When the server refuses a document for its data
/// (validator, unique index, size), the transaction is rolled back and run again without that document, so that the
/// others land together and [`Report::rejected`] names the refused ones. A validator's refusal is
/// [`ambiguous`](SinkError::ambiguous) until documents have landed, and were changed, since the validator was first seen as it is now;
/// so are codes that are not known.
///
/// With `#[wb(version)]` on a field, every upsert is conditional: a document with a higher version stays as it is, and is
/// named in [`Report::stale`]. The same version is replaced, and what is no number is no version. Deletes carry none.
///
/// Keys are compared by their bytes, also in a collection with a collation that takes different texts for equal: an upsert of `bob`
/// that meets the document of `Bob` is refused, a delete or a load of `bob` leaves it alone.
///
/// A sharded collection must be sharded by `_id`.
///
/// A record that has no document (a `u64` above `i64::MAX`, a map whose keys are no text, one that is too long, a key that is an
/// array) is refused by [`check`](Sink::check), before it is stored in the buffer. A key without an `_id` is nowhere: it loads
/// nothing, and deleting it does nothing.
///
/// # Stale workers
/// A worker that was stopped, and overtaken, must not write any more. On a replica set and behind a mongos,
/// [`fence`](Sink::fence) issues a generation of the partition, kept in the collection `wb_fence` of the same database,
/// and every transaction checks the generations of its partitions first. Of one entity, eight batches of a process can
/// be in flight; more of them wait.
///
/// A transaction of an earlier owner that is still open makes `fence` wait for 2 seconds. Then it ends the sessions of
/// the earlier owners (`killSessions`), whose ids are kept in `wb_fence`: so a worker that was killed, or stopped, in
/// the middle of a transaction does not hold its partitions. A user may end its own sessions without a privilege, so
/// let all workers log in as the same user. Where sessions cannot be ended (another user, the smallest hosted
/// clusters), the server ends the transaction after one to one and a half times `transactionLifetimeLimitSeconds`
/// (60 by default); until then, `fence` fails as [`ErrorKind::Transient`] within 5 more seconds, and is tried again.
/// Both waits are half the [`command_timeout`](Self::command_timeout) at most.
///
/// A sink keeps eight sessions for each entity as long as it lives; [`Client::shutdown`](mongodb::Client::shutdown)
/// waits for them, so drop the sink first.
///
/// Generations start from the server's clock, so a `wb_fence` that was dropped, or restored from a backup, issues none
/// a second time. The database user needs `find`, `insert` and `update` on it.
///
/// # A standalone server
/// It has no transactions, so there are no fences. A batch is then unordered commands, and a crash can leave a part of
/// it written (it is written again). That an older state never overwrites a newer one rests on leases alone: a worker
/// that is stopped between its last look at the lease and its write can break it. [`examine`](Sink::examine) warns of
/// that as `no-fencing`. `#[wb(version)]` closes that for upserts; a late delete still deletes, and after a delete an
/// older state can come back. A batch that is all or nothing ([`Batch::whole`]) is refused. A replica set of one member
/// has none of these gaps; prefer it.
///
/// # Settings
/// - Write concern: the database's own, or its client's; `majority` when neither has one. One that asks for no
///   acknowledgement (`w: 0`) is refused by [`open`](Sink::open) as [`ErrorKind::Misconfigured`].
/// - Reads go to the primary, whatever the client prefers: a secondary may not have the last flush yet.
/// - A command without an answer fails after [`command_timeout`](Self::command_timeout).
#[derive(Clone)]
pub struct MongoSink {
    database: Database,
    /// What stands for the database in errors; never a password.
    label: Arc<str>,
    command_timeout: Duration,
    load_timeout: Duration,
    /// Loads that may be under way.
    loads: Arc<Semaphore>,
    deployment: Arc<OnceCell<Deployment>>,
    slots: Arc<Slots>,
    exact: Exact,
    definitions: Arc<Definitions>,
}

impl fmt::Debug for MongoSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MongoSink").field("database", &self.label).finish_non_exhaustive()
    }
}

impl MongoSink {
    /// A sink on a database of a client that you configured. Does no IO.
    ///
    /// Give the client a `server_selection_timeout` of a few seconds: the driver's default lets every attempt to reach
    /// a server that is down wait for 30 seconds.
    #[must_use]
    pub fn new(database: Database) -> Self {
        let label = Arc::from(format!("database `{}`", database.name()));
        Self::labelled(database, label)
    }

    /// A sink on `database` of the deployment at `url` (`mongodb://` or `mongodb+srv://`).
    ///
    /// Resolves the URL; connections are opened when they are needed. Where the URL does not say otherwise, selecting
    /// a server and connecting to it take 5 seconds at most.
    ///
    /// # Errors
    /// [`ErrorKind::Misconfigured`] for a malformed or [ambiguous](wb_core::Address::ambiguity) URL, [`ErrorKind::Unavailable`] when
    /// its SRV record cannot be resolved. Of the URL only what [`Address`](wb_core::Address) shows is named.
    pub async fn connect(url: &str, database: &str) -> Result<Self, SinkError> {
        let (client, connections, address) = connect::client(url).await?;
        let label = Arc::from(format!("database `{database}` at {address}"));
        Ok(Self::labelled(client.database(database), label).max_loads(connections / 2))
    }

    fn labelled(database: Database, label: Arc<str>) -> Self {
        Self {
            database,
            label,
            command_timeout: COMMAND_TIMEOUT,
            load_timeout: LOAD_TIMEOUT,
            loads: permits(connect::CONNECTIONS / 2),
            deployment: Arc::default(),
            slots: Arc::default(),
            exact: Exact::default(),
            definitions: Arc::default(),
        }
    }

    /// How long one command may take; 30 seconds by default. A command that takes longer fails as
    /// [`ErrorKind::Unavailable`], its transaction is rolled back, and the batch is tried again.
    #[must_use]
    pub const fn command_timeout(mut self, timeout: Duration) -> Self {
        self.command_timeout = timeout;
        self
    }

    /// How long one load of documents may take, waiting for its turn included; 5 seconds by default. The server ends it by
    /// itself then; a load that waited in vain for other loads is [`ErrorKind::Transient`].
    #[must_use]
    pub const fn load_timeout(mut self, timeout: Duration) -> Self {
        self.load_timeout = timeout;
        self
    }

    /// Loads that this sink, with its clones, has under way at most; zero counts as one. So that slow reads leave the flusher its
    /// connections: half of the URL's `maxPoolSize` by default; for a sink on a client of yours 5, half of the driver's default.
    /// Several sinks on one client share its connections, so clone one of them, or let their loads be fewer together than
    /// `maxPoolSize`.
    #[must_use]
    pub fn max_loads(self, loads: u32) -> Self {
        Self { loads: permits(loads), ..self }
    }

    /// Waits for a load's turn, then for the load. A load that nobody waits for any more has its connection until the server has
    /// answered; so it runs in a task of its own, and keeps its turn: others would take the connections of the flusher.
    pub(crate) async fn load_within<T: Send + 'static, F>(
        &self,
        what: &str,
        load: impl FnOnce(Duration) -> F,
    ) -> Result<T, SinkError>
    where
        F: Future<Output = mongodb::error::Result<T>> + Send + 'static,
    {
        let begun = Instant::now();
        let Ok(Ok(permit)) = tokio::time::timeout(self.load_timeout, self.loads.clone().acquire_owned()).await else {
            let text =
                format!("cannot {what} in {}: other loads did not end within {:?}", self.label, self.load_timeout);
            return Err(SinkError::new(ErrorKind::Transient, text));
        };
        let left = self.load_timeout.saturating_sub(begun.elapsed()).max(Duration::from_millis(1));
        // A little longer than the server was told to take: its own words say more than our silence.
        let load = load(left);
        let task = tokio::spawn(async move {
            let _permit = permit;
            tokio::time::timeout(ABANDONED, load).await
        });
        match tokio::time::timeout(left.saturating_add(Duration::from_millis(500)), task).await {
            Ok(Ok(Ok(Ok(done)))) => Ok(done),
            Ok(Ok(Ok(Err(error)))) => Err(self.failed(what, error)),
            // The task fails when the runtime shuts down.
            Ok(Err(_) | Ok(Err(_))) | Err(_) => Err(SinkError::new(
                ErrorKind::Unavailable,
                format!("cannot {what} in {}: no answer within {:?}", self.label, self.load_timeout),
            )),
        }
    }

    /// The database that the sink writes to.
    #[must_use]
    pub const fn database(&self) -> &Database {
        &self.database
    }

    /// What the server is, asked once.
    pub(crate) async fn deployment(&self) -> Result<&Deployment, SinkError> {
        self.deployment.get_or_try_init(|| connect::discover(self)).await
    }

    /// How long one command may take.
    pub(crate) const fn timeout(&self) -> Duration {
        self.command_timeout
    }

    /// The slots of the fences.
    pub(crate) fn slots(&self) -> &Slots {
        &self.slots
    }

    /// The collections that compare texts by their bytes.
    pub(crate) const fn exact(&self) -> &Exact {
        &self.exact
    }

    /// How the collections validate.
    pub(crate) fn definitions(&self) -> &Definitions {
        &self.definitions
    }

    /// What stands for the database in errors and findings.
    pub(crate) fn label(&self) -> &str {
        &self.label
    }

    /// What stands for the fences in errors.
    pub(crate) fn fences(&self) -> String {
        format!("collection `{}` of {}", fence::COLLECTION, self.label)
    }

    /// The write concern of every write.
    pub(crate) fn write_concern(&self) -> WriteConcern {
        let own = self.database.write_concern().cloned();
        own.unwrap_or_else(|| WriteConcern::builder().w(Acknowledgment::Majority).build())
    }

    /// Waits for the driver, but not for ever: it has no timeout of its own for a server that does not answer.
    pub(crate) async fn bounded<T>(
        &self,
        what: &str,
        work: impl Future<Output = mongodb::error::Result<T>>,
    ) -> Result<T, SinkError> {
        match tokio::time::timeout(self.command_timeout, work).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) => Err(self.failed(what, error)),
            Err(_) => Err(SinkError::new(
                ErrorKind::Unavailable,
                format!("cannot {what} in {}: no answer within {:?}", self.label, self.command_timeout),
            )),
        }
    }

    /// A driver's error while it did something in the database.
    pub(crate) fn failed(&self, what: &str, error: mongodb::error::Error) -> SinkError {
        sink_error(error, format!("cannot {what} in {}", self.label))
    }

    /// Sends a write command outside of any transaction and reads the failures in its reply.
    pub(crate) async fn send(&self, collection: &str, command: RawDocumentBuf) -> Result<Reply, SinkError> {
        let what = format!("write to collection `{collection}`");
        let reply = self.bounded(&what, async { self.database.run_raw_command(command).await }).await;
        let reply = reply.map_err(error::of_documents)?;
        Ok(Reply::read(&reply, collection))
    }
}

#[async_trait]
impl<E: MongoEntity> Sink<E> for MongoSink {
    async fn open(&self, _scope: &Scope) -> Result<(), SinkError> {
        connect::open(self).await?;
        // What lands from here on shows that the validator can be met.
        definition::look(self, E::COLLECTION).await;
        Ok(())
    }

    async fn prepare(&self, _scope: &Scope) -> Result<(), SinkError> {
        connect::prepare(self, E::COLLECTION).await
    }

    fn cuts(&self, row: &E) -> bool {
        unstorable::cuts(row)
    }

    fn cut(&self, row: &mut E) {
        unstorable::cut(row);
    }

    fn check(&self, row: &E) -> Result<(), Unstorable> {
        let max_document = self.deployment.get().map_or(unstorable::MAX_DOCUMENT, |deployment| deployment.max_document);
        unstorable::check(row, max_document)
    }

    async fn fence(&self, scope: &Scope, partition: u16) -> Result<Option<Fence>, SinkError> {
        fence::issue(self, scope, partition).await
    }

    async fn write(&self, batch: &Batch<E>) -> Result<Report, SinkError> {
        moves::marked(write::batch(self, batch).await)
    }

    async fn writes_whole(&self) -> Result<bool, SinkError> {
        Ok(self.deployment().await?.transactions)
    }

    async fn highest_key(&self) -> Result<Option<i64>, SinkError> {
        load::highest_key::<E>(self).await
    }

    fn insert_only(&self) -> Option<SameInserted<E>> {
        insert_only::fields::<E>()
    }

    async fn load(&self, keys: &[E::Key]) -> Result<Vec<E>, SinkError> {
        load::values(self, keys).await
    }

    async fn examine(&self, scope: &Scope) -> Result<Vec<Finding>, SinkError> {
        examine::examine::<E>(self, scope).await
    }
}
