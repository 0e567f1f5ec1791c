//! Where records go: the port that SQL, MongoDB and your own databases implement.

pub(crate) mod batch;
pub(crate) mod hook;
pub mod moves;

use std::sync::Arc;

use async_trait::async_trait;

use crate::error::sink::{SinkError, Unstorable};

use crate::entity::Entity;
use crate::error::finding::Finding;
use crate::sink::batch::{Batch, Fence, Report};
use crate::telemetry::scope::Scope;

/// A database that takes batches of records of entity `E`.
///
/// # Contract
/// - [`open`](Sink::open) is called at start, before anything else. Where it, or what is called after it at start, says that the
///   database does not answer ([`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable), [`ErrorKind::Transient`](crate::ErrorKind::Transient)), the engine starts all the same, and all of it
///   is called again later, until it succeeds.
/// - [`write`](Sink::write) gets a [`Batch`] in which no id occurs twice and both lists are sorted by id. The sink
///   applies all of it in one transaction where the database has transactions. Writing the same batch again must be
///   harmless: an upsert sets a state, a delete of an absent row succeeds.
/// - `Ok(report)` says that everything is durable in the sink except the records named in
///   [`Report::rejected`]. `Err` says that nothing of the batch may be taken as written; some of it may have been.
/// - [`write`](Sink::write) needs timeouts of its own. One that takes long is reported and waited for, never dropped:
///   what it does in the database could land later, over newer states.
/// - An entity with a [`version`](Entity::version): an upsert leaves a row alone whose version is higher, and names the
///   record in [`Report::stale`]. The same version is replaced, and a row without a version is older than all. It ends a
///   batch that is all or nothing, see [`Batch::whole`].
/// - The order of the two lists is not the order of the writes. A unique value that one record gives up and another one takes should
///   move whatever that order is; a record that is refused for one is marked with [`SinkError::taken`], and tried once more when the
///   others of the flush are settled.
/// - A panic is reported and taken for an outage. A batch that makes [`write`](Sink::write) panic again and again is
///   halved until the record is found; the record is only blamed when others of its batch land.
/// - The *kind* of an error decides what the flusher does (see [`ErrorKind`](crate::ErrorKind)); message texts never do. A refusal that may be the
///   record's fault or the configuration's is [`ambiguous`](SinkError::ambiguous), in a report as well as for a batch.
/// - Calls may run concurrently, with disjoint keys.
#[async_trait]
pub trait Sink<E: Entity>: Send + Sync + 'static {
    /// Checks that the database can be reached, and looks at it. Changes nothing: the engine may not start at all. It must end by
    /// itself, within seconds: the start waits for it.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) when it cannot be reached: the engine starts and asks again; [`ErrorKind::Misconfigured`](crate::ErrorKind::Misconfigured) when it can
    /// never work like this, which refuses the start.
    async fn open(&self, scope: &Scope) -> Result<(), SinkError>;

    /// Makes in the database what the sink itself needs, where it is missing (a table of fences, say); called after
    /// [`open`](Sink::open) and [`examine`](Sink::examine), when the engine starts.
    ///
    /// # Errors
    /// As for [`open`](Sink::open).
    async fn prepare(&self, scope: &Scope) -> Result<(), SinkError> {
        let _ = scope;
        Ok(())
    }

    /// Whether a row has something that this sink keeps less of, and that may be cut without harm: a time with a finer fraction of a
    /// second than its column has. Asked of every row before it is stored in the buffer; then [`cut`](Sink::cut) is called of a
    /// copy, and what is left is stored, so that a read of the buffer and a load of the row are one value.
    ///
    /// Like [`check`](Sink::check) it asks no server, may be called before [`open`](Sink::open), and is quick.
    fn cuts(&self, row: &E) -> bool {
        let _ = row;
        false
    }

    /// Cuts off what [`cuts`](Sink::cuts) finds. Never rounds: a time does not become a later one.
    fn cut(&self, row: &mut E) {
        let _ = row;
    }

    /// Whether this sink can hold a row at all, as far as the row alone tells: asked of every row before it is stored in the
    /// buffer, in its writer's task and in whatever process. What is wrong for good is told to who writes it, and not found by
    /// a flush when nobody waits any more. Not asked where the entity has a [`before_flush`](crate::EngineBuilder::before_flush)
    /// hook, which may put the row right.
    ///
    /// Asks no server, may be called before [`open`](Sink::open), and is quick: it is on the way of each write. It refuses
    /// nothing that [`write`](Sink::write) would take. What it takes may be refused by [`write`](Sink::write) all the same.
    ///
    /// # Errors
    /// [`Unstorable`] names the field and says what is wrong; the write fails with
    /// [`CacheError::Unstorable`](crate::CacheError::Unstorable).
    fn check(&self, row: &E) -> Result<(), Unstorable> {
        let _ = row;
        Ok(())
    }

    /// Looks again at what [`check`](Sink::check), [`cuts`](Sink::cuts) and [`cut`](Sink::cut) know of the database, which may have been
    /// altered since; `false`, the default, where they know nothing of it. Called when `check` has refused a row, at most once a second;
    /// then the row is checked again.
    ///
    /// # Errors
    /// As for [`write`](Sink::write); the refusal stands then, as it does when this takes longer than a second.
    async fn refresh(&self) -> Result<bool, SinkError> {
        Ok(false)
    }

    /// Fences a partition off from all earlier owners; called when a worker takes the partition, before it claims.
    /// `None` when this sink does not fence.
    ///
    /// # Errors
    /// As for [`write`](Sink::write).
    async fn fence(&self, scope: &Scope, partition: u16) -> Result<Option<Fence>, SinkError> {
        let _ = (scope, partition);
        Ok(None)
    }

    /// Writes a batch.
    ///
    /// # Errors
    /// One [`SinkError`] for the whole batch; its kind says what happens next.
    async fn write(&self, batch: &Batch<E>) -> Result<Report, SinkError>;

    /// Whether a batch is written whole or not at all, as [`Batch::whole`] asks; called after [`open`](Sink::open), and where that
    /// found nobody, for what can be said at once: a sink that always does says so without asking the database. `false` where the database has no transactions: such batches are not sent then.
    ///
    /// # Errors
    /// As for [`write`](Sink::write).
    async fn writes_whole(&self) -> Result<bool, SinkError> {
        Ok(true)
    }

    /// The highest key that the sink holds, where keys are single integers; `None` where they are not, where there is no
    /// row, or where this sink cannot say. The floor of ids that [`Engine::ids`](crate::Engine::ids) makes.
    ///
    /// # Errors
    /// As for [`write`](Sink::write).
    async fn highest_key(&self) -> Result<Option<i64>, SinkError> {
        Ok(None)
    }

    /// How to tell whether two states have the same values in the fields that [`write`](Sink::write) sets in a new row only, and leaves
    /// alone in one that is there (`#[wb(insert_only)]`). `None`, the default: it sets every field of every row.
    ///
    /// Where there are such fields a row may differ from the state that was written, so readers are left that state only where these
    /// fields are known to be the row's; else the next read loads the row.
    fn insert_only(&self) -> Option<SameInserted<E>> {
        None
    }

    /// Loads the values of these keys. Absent keys are left out; the order does not matter.
    ///
    /// # Errors
    /// As for [`write`](Sink::write).
    async fn load(&self, keys: &[E::Key]) -> Result<Vec<E>, SinkError>;

    /// Looks at the database: the entity's table or collection, the fences, what an operator should know. Called after
    /// [`open`](Sink::open).
    ///
    /// # Errors
    /// As for [`write`](Sink::write).
    async fn examine(&self, scope: &Scope) -> Result<Vec<Finding>, SinkError> {
        let _ = scope;
        Ok(Vec::new())
    }

    /// Releases what the sink holds; called once, at the end of shutdown.
    async fn close(&self) {}
}

#[async_trait]
impl<E: Entity, S: Sink<E> + ?Sized> Sink<E> for Arc<S> {
    async fn open(&self, scope: &Scope) -> Result<(), SinkError> {
        (**self).open(scope).await
    }

    async fn prepare(&self, scope: &Scope) -> Result<(), SinkError> {
        (**self).prepare(scope).await
    }

    fn cuts(&self, row: &E) -> bool {
        (**self).cuts(row)
    }

    fn cut(&self, row: &mut E) {
        (**self).cut(row);
    }

    fn check(&self, row: &E) -> Result<(), Unstorable> {
        (**self).check(row)
    }

    async fn refresh(&self) -> Result<bool, SinkError> {
        (**self).refresh().await
    }

    async fn fence(&self, scope: &Scope, partition: u16) -> Result<Option<Fence>, SinkError> {
        (**self).fence(scope, partition).await
    }

    async fn write(&self, batch: &Batch<E>) -> Result<Report, SinkError> {
        (**self).write(batch).await
    }

    async fn writes_whole(&self) -> Result<bool, SinkError> {
        (**self).writes_whole().await
    }

    async fn highest_key(&self) -> Result<Option<i64>, SinkError> {
        (**self).highest_key().await
    }

    fn insert_only(&self) -> Option<SameInserted<E>> {
        (**self).insert_only()
    }

    async fn load(&self, keys: &[E::Key]) -> Result<Vec<E>, SinkError> {
        (**self).load(keys).await
    }

    async fn examine(&self, scope: &Scope) -> Result<Vec<Finding>, SinkError> {
        (**self).examine(scope).await
    }

    async fn close(&self) {
        (**self).close().await;
    }
}

/// Whether two states have the same values in the fields that are set in a new row only; see [`Sink::insert_only`].
pub type SameInserted<E> = fn(&E, &E) -> bool;
