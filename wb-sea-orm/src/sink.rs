//! The SQL sink.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use sea_orm::{DatabaseConnection, DbBackend};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;
use wb_core::{Batch, ErrorKind, Fence, Finding, Report, SameInserted, Scope, Sink, SinkError, Unstorable};

use crate::connection::tx::Pool;
use crate::examine::unfit;
use crate::mapping::entity::{Columns, SqlEntity};
use crate::mapping::insert_only;
use crate::options::SqlOptions;
use crate::read::highest_key;
use crate::read::load::load;
use crate::read::loads::Loads;
use crate::statement::plan::Plan;
use crate::tables::Tables;
use crate::write::{rows, unique};
use crate::{examine, fence, write};

/// How long the pool is waited for before it is asked beside it whether anybody is there.
const SILENT: Duration = Duration::from_millis(500);

/// Writes records to PostgreSQL, MySQL, MariaDB or SQLite.
///
/// One value serves any number of entities; clones share its connections.
///
/// - A batch is one transaction: one upsert and one delete, or as few statements as the database's limits allow.
/// - The table exists already, with a primary key or unique index on exactly the entity's key columns; both are checked
///   at [`open`](Sink::open). The sink never changes it. ([`create_table`](crate::create_table) helps in tests.)
/// - The one table that it creates is `wb_fence` (see [`fence_table_sql`](crate::fence_table_sql)): the newest owner of
///   each partition. Every batch checks and locks its rows there, so that a worker that lost a partition writes nothing.
/// - Rows that the database refuses are named in [`Report::rejected`]; all others land in the same transaction. What may be a row's
///   fault or the configuration's (a right, an error inside a trigger, a code that is not known, whatever refuses every row since the
///   table's definition changed) is [`ambiguous`](SinkError::ambiguous): it counts against a row only when others land.
/// - When no upsert of a batch lands, the table is looked at again; what is wrong with it (a column that is missing, or that is not
///   mapped and takes no row) is [`Misconfigured`](ErrorKind::Misconfigured).
/// - A row whose part of a partitioned table is not there is [`Deferred`](ErrorKind::Deferred), and ambiguous.
/// - A connection on which the server says that it is read-only, shuts down, or has a statement of an old schema is closed, and so are
///   those that nobody uses then.
/// - An upsert writes only the row of its own key: a value that collides with another row under a second unique key is
///   [`Rejected`](ErrorKind::Rejected), on MySQL too.
/// - Keys are compared by their bytes, also where the column's collation or type takes different texts for equal: an upsert of
///   `bob` that meets the row of `Bob` is [`Rejected`](ErrorKind::Rejected), a delete or a load of `bob` leaves it alone. A key that its
///   column would change on its way in (spaces at the end in a `char(n)`, ...) is refused by [`check`](Sink::check), loads nothing, and
///   deleting it does nothing.
/// - A value that its column does not keep as it is (`u64` above `i64::MAX` on PostgreSQL and SQLite, a NUL character on
///   PostgreSQL, NaN on MySQL and SQLite, a decimal number of more digits, a text that is too long, ...) is refused by
///   [`check`](Sink::check), before it is stored in the buffer. One that comes by another way is named in [`Report::rejected`];
///   the rest of its batch lands.
/// - Times are cut to the fraction of a second that their columns keep when they are written, in the buffer as in the row
///   ([`cut`](Sink::cut)).
/// - `None` is refused by [`check`](Sink::check) where the column is NOT NULL and no trigger may fill it in.
/// - On MySQL the transactions of the sink have a strict `sql_mode` of their own, whatever the session's. The sessions of
///   [`connect`](SqlSink::connect) begin with it, and have no limits of rows and no other end of a transaction than the usual one.
/// - With `#[wb(version)]` on a field, a row with a higher version is left alone and named in [`Report::stale`]. The same
///   version is replaced, and a row without one (NULL) is older than all. Deletes carry none. On MySQL this costs one more
///   query a batch.
/// - A batch that is all or nothing ([`Batch::whole`]) is rolled back when a row of it is refused; the error names the row.
/// - Loads take half of the pool's connections at most (one at least; of all sinks on one pool together) and have a limit of
///   their own ([`SqlOptions::load_timeout`]), so that reads of a locked table leave the flusher its connections. In a pool of one
///   connection reads and flushes wait for each other.
/// - A key column that the database is meant to fill in (an identity, a sequence, `AUTO_INCREMENT`) is a fatal finding of
///   [`examine`](Sink::examine), unless the entity says `#[wb(client_keys)]`.
/// - A foreign key's missing parent is [`Deferred`](ErrorKind::Deferred). Where the entity says what it refers to
///   ([`SqlEntity::references`]), one statement finds all such rows of a batch.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use wb_sea_orm::SqlSink;
///
/// let sink = SqlSink::connect("postgres://app:secret@localhost/blog").await?;
/// # let _ = sink;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct SqlSink {
    db: DatabaseConnection,
    shared: Arc<Shared>,
}

struct Shared {
    options: SqlOptions,
    /// What stands for the database in errors, where it is known; never a password.
    label: Option<String>,
    /// `None`: a connection that was never opened, or of a driver that is not compiled in.
    backend: Option<DbBackend>,
    tables: Tables,
    /// Of the pool, once it was used.
    loads: OnceLock<Arc<Loads>>,
    /// SQLite has one writer: the others wait here instead of polling its lock.
    writer: Semaphore,
}

impl fmt::Debug for SqlSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlSink").field("db", &self.db).field("options", &self.shared.options).finish_non_exhaustive()
    }
}

impl SqlSink {
    /// A sink over a connection (pool) that the application has already.
    ///
    /// Make it with `ConnectOptions::connect_lazy(true)`, so that the program starts while its database is away:
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// use sea_orm::{ConnectOptions, Database};
    /// use wb_sea_orm::SqlSink;
    ///
    /// let mut options = ConnectOptions::new("postgres://app:secret@localhost/blog");
    /// options.connect_lazy(true);
    /// let sink = SqlSink::new(Database::connect(options).await?);
    /// # let _ = sink;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn new(db: DatabaseConnection) -> Self {
        Self::with_options(db, SqlOptions::new())
    }

    /// A sink over a connection (pool) that the application has already. The options that concern connecting count
    /// only for [`open`](Sink::open).
    #[must_use]
    pub fn with_options(db: DatabaseConnection, options: SqlOptions) -> Self {
        Self::labelled(db, options, None)
    }

    pub(crate) fn labelled(db: DatabaseConnection, options: SqlOptions, label: Option<String>) -> Self {
        let backend = Pool::of(&db, options.limits()).ok().map(|pool| pool.backend());
        let (tables, loads) = Default::default();
        let shared = Shared { options, label, backend, tables, loads, writer: Semaphore::new(1) };
        Self { db, shared: Arc::new(shared) }
    }

    /// The connection (pool) that the sink writes through.
    #[must_use]
    pub const fn db(&self) -> &DatabaseConnection {
        &self.db
    }

    fn pool(&self) -> Result<Pool, SinkError> {
        Pool::of(&self.db, self.shared.options.limits())
    }

    /// Waits for this sink's turn to write, where one writes at a time.
    async fn turn(&self, pool: &Pool) -> Option<SemaphorePermit<'_>> {
        match pool.backend() {
            DbBackend::Sqlite => self.shared.writer.acquire().await.ok(),
            _ => None,
        }
    }

    /// What stands for the database in errors.
    fn place(&self) -> String {
        self.shared.label.as_deref().map_or_else(|| "the database".to_owned(), |label| format!("`{label}`"))
    }

    /// Ends only when nobody is there, and says why. The pool does not: it tries again in silence until its time is over.
    async fn nobody_there(&self, pool: &Pool) -> SinkError {
        tokio::time::sleep(SILENT).await;
        match pool.reach(&self.place()).await {
            Err(error) if error.kind() == ErrorKind::Unavailable => error,
            // Whatever else is wrong the pool says at once.
            _ => std::future::pending().await,
        }
    }

    /// Asks about the columns: what the table tells of them is known once it was looked at. `None`: of no database that is known.
    fn told<E: SqlEntity, T>(&self, ask: impl FnOnce(Columns<'_>, Option<&Plan>) -> T) -> Option<T> {
        let backend = self.shared.backend?;
        let plan = self.shared.tables.last::<E>();
        let columns = plan.as_ref().map_or(Columns { backend, limits: &[] }, |plan| plan.columns());
        Some(ask(columns, plan.as_deref()))
    }

    /// Looks at an entity's table, whatever is known of it.
    async fn look<E: SqlEntity>(&self, pool: &Pool, checked: bool) -> Result<(), SinkError> {
        self.shared.tables.look::<E>(pool, &self.shared.options, checked).await.map(drop)
    }

    async fn plan<E: SqlEntity>(&self, pool: &Pool) -> Result<Arc<Plan>, SinkError> {
        self.shared.tables.plan::<E>(pool, &self.shared.options).await
    }
}

/// What is done beside the statements of a batch or a load has an end, too.
async fn in_time<T>(limit: Duration, work: impl Future<Output = Result<T, SinkError>>) -> Result<T, SinkError> {
    tokio::time::timeout(limit, work).await.unwrap_or_else(|elapsed| {
        let text = format!("the database did not answer within {limit:?}");
        Err(SinkError::new(ErrorKind::Unavailable, text).with_source(elapsed))
    })
}

#[async_trait]
impl<E: SqlEntity> Sink<E> for SqlSink {
    async fn open(&self, _scope: &Scope) -> Result<(), SinkError> {
        let pool = self.pool()?;
        let opened = tokio::select! {
            biased;
            opened = in_time(self.shared.options.connect_timeout, self.look::<E>(&pool, true)) => opened,
            error = self.nobody_there(&pool) => return Err(error),
        };
        opened.map_err(|error| match error.kind() {
            ErrorKind::Unavailable => {
                SinkError::new(error.kind(), format!("{} cannot be reached", self.place())).with_source(error)
            }
            _ => error,
        })
    }

    async fn prepare(&self, _scope: &Scope) -> Result<(), SinkError> {
        in_time(self.shared.options.connect_timeout, fence::prepare(&self.pool()?)).await
    }

    fn cuts(&self, row: &E) -> bool {
        self.told::<E, _>(|columns, _| row.cuts(columns)).unwrap_or_default()
    }

    fn cut(&self, row: &mut E) {
        self.told::<E, _>(|columns, _| row.cut(columns));
    }

    fn check(&self, row: &E) -> Result<(), Unstorable> {
        let told = self.told::<E, _>(|columns, plan| {
            let bytes = row.storable(columns)?;
            plan.map_or(Ok(()), |plan| rows::storable(plan, row, bytes))
        });
        told.unwrap_or(Ok(()))
    }

    async fn refresh(&self) -> Result<bool, SinkError> {
        self.look::<E>(&self.pool()?, false).await.map(|()| true)
    }

    async fn fence(&self, scope: &Scope, partition: u16) -> Result<Option<Fence>, SinkError> {
        let pool = self.pool()?;
        let _turn = self.turn(&pool).await;
        fence::issue(&pool, scope, partition).await.map(Some)
    }

    async fn write(&self, batch: &Batch<E>) -> Result<Report, SinkError> {
        if batch.is_empty() {
            return Ok(Report::default());
        }
        let pool = self.pool()?;
        let plan = self.plan::<E>(&pool).await?;
        let _turn = self.turn(&pool).await;
        let begun = Instant::now();
        let written = unique::marked(write::batch(&pool, &plan, batch).await);
        unfit::judged((&pool, &plan, &self.shared.tables.definitions), batch, begun, written).await
    }

    async fn highest_key(&self) -> Result<Option<i64>, SinkError> {
        let pool = self.pool()?;
        let plan = self.plan::<E>(&pool).await?;
        highest_key::key::<E>(&pool, &plan).await
    }

    fn insert_only(&self) -> Option<SameInserted<E>> {
        insert_only::fields::<E>()
    }

    async fn load(&self, keys: &[E::Key]) -> Result<Vec<E>, SinkError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let pool = self.pool()?;
        let within = self.shared.options.load_timeout;
        let plan = in_time(within, self.plan::<E>(&pool)).await?;
        let loads = self.shared.loads.get_or_init(|| Loads::of(&pool));
        load((&pool, loads), &plan, keys, within).await
    }

    async fn examine(&self, _scope: &Scope) -> Result<Vec<Finding>, SinkError> {
        examine::examine(&self.pool()?, E::NAME, &E::table()).await
    }
}
