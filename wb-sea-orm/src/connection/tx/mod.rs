//! The connection pools and transactions of the drivers. Statements run on the drivers' own connections, because
//! SeaORM's take no typed arrays. Nothing waits for ever: every step has a limit, and who gives up leaves nothing
//! behind.

#[cfg(any(feature = "postgres", feature = "mysql"))]
mod pooled;

use std::time::Duration;

use sea_orm::{DatabaseConnection, DatabaseConnectionType, DbBackend, QueryResult};
use wb_core::{ErrorKind, SinkError};

use sea_orm::sqlx::{self, AssertSqlSafe, ConnectOptions, Connection};

use crate::connection::error;
use crate::connection::error::{Class, from_sqlx};
use crate::connection::session;
use crate::connection::session::Limits;
use crate::statement::bind::Statement;

#[cfg(any(feature = "postgres", feature = "mysql"))]
use self::pooled::Held;
#[cfg(any(feature = "mysql", feature = "sqlite"))]
use crate::statement::bind::Args;
#[cfg(any(feature = "mysql", feature = "sqlite"))]
use sea_query_sqlx::SqlxValues;

/// The pool of a driver, and how long a statement and the time between two of them may take.
#[derive(Clone)]
pub(crate) struct Pool {
    driver: Driver,
    limits: Limits,
}

#[derive(Clone)]
enum Driver {
    #[cfg(feature = "postgres")]
    Postgres(sqlx::PgPool),
    #[cfg(feature = "mysql")]
    MySql(sqlx::MySqlPool),
    #[cfg(feature = "sqlite")]
    Sqlite(sqlx::SqlitePool),
}

/// An open transaction. Dropped without an end it is rolled back.
pub(crate) struct Tx {
    session: Session,
    limit: Duration,
    /// A step was given up in the middle: nothing more can be said on this connection.
    broken: bool,
    /// The pool that the connection is of.
    pool: Pool,
    /// The server said that the session is of no use any more.
    ended: bool,
}

enum Session {
    #[cfg(feature = "postgres")]
    Postgres(Held<sqlx::Postgres>),
    #[cfg(feature = "mysql")]
    MySql(Held<sqlx::MySql>),
    /// The driver's own transaction: a statement runs to its end in a thread, and the rollback queues behind it. A
    /// database in memory would be gone with its connection.
    #[cfg(feature = "sqlite")]
    Sqlite(sqlx::Transaction<'static, sqlx::Sqlite>),
}

/// The kind of database that a connection is of.
pub(crate) fn backend(db: &DatabaseConnection) -> Result<DbBackend, SinkError> {
    Ok(Pool::of(db, Limits { statement: Duration::ZERO, lock: Duration::ZERO, idle: Duration::ZERO })?.backend())
}

impl Pool {
    /// The pool of a connection, used within these limits.
    pub(crate) fn of(db: &DatabaseConnection, limits: Limits) -> Result<Self, SinkError> {
        let misconfigured = |text: &str| Err(SinkError::new(ErrorKind::Misconfigured, text));
        let driver = match &db.inner {
            #[cfg(feature = "postgres")]
            DatabaseConnectionType::SqlxPostgresPoolConnection(_) => {
                Driver::Postgres(db.get_postgres_connection_pool().clone())
            }
            #[cfg(feature = "mysql")]
            DatabaseConnectionType::SqlxMySqlPoolConnection(_) => Driver::MySql(db.get_mysql_connection_pool().clone()),
            #[cfg(feature = "sqlite")]
            DatabaseConnectionType::SqlxSqlitePoolConnection(_) => {
                Driver::Sqlite(db.get_sqlite_connection_pool().clone())
            }
            DatabaseConnectionType::Disconnected => return misconfigured("the database connection was never opened"),
            #[allow(unreachable_patterns, reason = "other variants exist when the application switches them on")]
            _ => {
                return misconfigured(
                    "the sink writes through the drivers of the features `postgres`, `mysql` and `sqlite`; switch the \
                     one of this connection on",
                );
            }
        };
        Ok(Self { driver, limits })
    }

    /// The same, with another limit for a statement, and for a lock.
    pub(crate) const fn within(mut self, statement: Duration) -> Self {
        self.limits.statement = statement;
        self.limits.lock = statement;
        self
    }

    /// The same for who waits for a lock as long as for a statement.
    pub(crate) fn patient(&self) -> Self {
        self.clone().within(self.limits.statement)
    }

    /// Tells the pool from every other one that lives.
    pub(crate) fn place(&self) -> usize {
        match &self.driver {
            #[cfg(feature = "postgres")]
            Driver::Postgres(pool) => std::ptr::from_ref(pool.options()).addr(),
            #[cfg(feature = "mysql")]
            Driver::MySql(pool) => std::ptr::from_ref(pool.options()).addr(),
            #[cfg(feature = "sqlite")]
            Driver::Sqlite(pool) => std::ptr::from_ref(pool.options()).addr(),
        }
    }

    /// A connection beside the pool, which is closed at once.
    pub(crate) async fn reach(&self, place: &str) -> Result<(), SinkError> {
        let reached = match &self.driver {
            #[cfg(feature = "postgres")]
            Driver::Postgres(pool) => match pool.connect_options().connect().await {
                Ok(connection) => connection.close().await,
                Err(error) => Err(error),
            },
            #[cfg(feature = "mysql")]
            Driver::MySql(pool) => match pool.connect_options().connect().await {
                Ok(connection) => connection.close().await,
                Err(error) => Err(error),
            },
            #[cfg(feature = "sqlite")]
            Driver::Sqlite(pool) => match pool.connect_options().connect().await {
                Ok(connection) => connection.close().await,
                Err(error) => Err(error),
            },
        };
        reached.map_err(|error| from_sqlx(format!("{place} cannot be reached"), error))
    }

    /// Connections that it has at most.
    pub(crate) fn connections(&self) -> u32 {
        match &self.driver {
            #[cfg(feature = "postgres")]
            Driver::Postgres(pool) => pool.options().get_max_connections(),
            #[cfg(feature = "mysql")]
            Driver::MySql(pool) => pool.options().get_max_connections(),
            #[cfg(feature = "sqlite")]
            Driver::Sqlite(pool) => pool.options().get_max_connections(),
        }
    }

    pub(crate) const fn backend(&self) -> DbBackend {
        match &self.driver {
            #[cfg(feature = "postgres")]
            Driver::Postgres(_) => DbBackend::Postgres,
            #[cfg(feature = "mysql")]
            Driver::MySql(_) => DbBackend::MySql,
            #[cfg(feature = "sqlite")]
            Driver::Sqlite(_) => DbBackend::Sqlite,
        }
    }

    /// Opens a transaction that writes and runs the statements of `then` in it, all in one round trip. Returns their
    /// rows.
    pub(crate) async fn begin(&self, what: &str, then: &str) -> Result<(Tx, Vec<QueryResult>), SinkError> {
        let mut unheld = false;
        let session = bounded("begin", self.limits.statement, &mut unheld, async {
            match &self.driver {
                #[cfg(feature = "postgres")]
                Driver::Postgres(pool) => Held::of(pool).await.map(Session::Postgres),
                #[cfg(feature = "mysql")]
                Driver::MySql(pool) => Held::of(pool).await.map(Session::MySql),
                // A transaction that starts by reading could not become a writing one while another one writes.
                #[cfg(feature = "sqlite")]
                Driver::Sqlite(pool) => pool.begin_with("BEGIN IMMEDIATE").await.map(Session::Sqlite),
            }
        });
        let session = session.await?;
        let mut tx = Tx { session, limit: self.limits.statement, broken: false, pool: self.clone(), ended: false };
        match tx.run(what, session::begin(self.backend(), self.limits, then)).await {
            Ok(rows) => Ok((tx, rows)),
            Err(error) => {
                tx.rollback().await;
                Err(error)
            }
        }
    }

    /// The rows of a query, outside of a transaction.
    pub(crate) async fn fetch(&self, what: &str, statement: Statement) -> Result<Vec<QueryResult>, SinkError> {
        bounded(what, self.limits.statement, &mut false, async {
            match &self.driver {
                #[cfg(feature = "postgres")]
                Driver::Postgres(pool) => {
                    let args = statement.args.into_postgres().map_err(sqlx::Error::Encode)?;
                    let mut held = Held::of(pool).await?;
                    let query = sqlx::query_with(AssertSqlSafe(statement.text), args);
                    let rows = query.fetch_all(held.get()?).await;
                    self.given_back(held, rows)
                }
                #[cfg(feature = "mysql")]
                Driver::MySql(pool) => {
                    let mut held = Held::of(pool).await?;
                    let query = sqlx::query_with(AssertSqlSafe(statement.text), values(statement.args));
                    let rows = query.fetch_all(held.get()?).await;
                    self.given_back(held, rows)
                }
                #[cfg(feature = "sqlite")]
                Driver::Sqlite(pool) => {
                    let query = sqlx::query_with(AssertSqlSafe(statement.text), values(statement.args));
                    query.fetch_all(pool).await.map(results)
                }
            }
        })
        .await
    }

    /// Runs statements that have no arguments, outside of a transaction.
    pub(crate) async fn run(&self, what: &str, text: String) -> Result<(), SinkError> {
        bounded(what, self.limits.statement, &mut false, async {
            match &self.driver {
                #[cfg(feature = "postgres")]
                Driver::Postgres(pool) => {
                    let mut held = Held::of(pool).await?;
                    let rows = sqlx::raw_sql(AssertSqlSafe(text)).fetch_all(held.get()?).await;
                    self.given_back(held, rows).map(drop)
                }
                #[cfg(feature = "mysql")]
                Driver::MySql(pool) => {
                    let mut held = Held::of(pool).await?;
                    let rows = sqlx::raw_sql(AssertSqlSafe(text)).fetch_all(held.get()?).await;
                    self.given_back(held, rows).map(drop)
                }
                #[cfg(feature = "sqlite")]
                Driver::Sqlite(pool) => sqlx::raw_sql(AssertSqlSafe(text)).execute(pool).await.map(drop),
            }
        })
        .await
    }
}

impl Pool {
    /// The answer, whatever it is, was read to its end: the connection is given back, unless it failed itself or the server
    /// said that it is of no use any more.
    #[cfg(any(feature = "postgres", feature = "mysql"))]
    fn given_back<DB: sqlx::Database, R: Into<QueryResult>>(
        &self,
        held: Held<DB>,
        rows: Result<Vec<R>, sqlx::Error>,
    ) -> Result<Vec<QueryResult>, sqlx::Error> {
        match &rows {
            Ok(_) => held.give_back_unless(false),
            Err(sqlx::Error::Database(error)) => {
                let ended = error::database(error.as_ref()).ends_sessions();
                held.give_back_unless(ended);
                if ended {
                    self.begin_anew();
                }
            }
            Err(_) => {}
        }
        rows.map(results)
    }

    /// Closes the connections that nobody uses now: they were opened when the one was that is of no use any more, to a server that
    /// was the primary then, or with statements of an old schema. One by one each of them would cost a batch its try.
    fn begin_anew(&self) {
        match &self.driver {
            #[cfg(feature = "postgres")]
            Driver::Postgres(pool) => Held::close_idle(pool),
            #[cfg(feature = "mysql")]
            Driver::MySql(pool) => Held::close_idle(pool),
            // A file has no role, and its statements are prepared anew by the driver.
            #[cfg(feature = "sqlite")]
            Driver::Sqlite(_) => {}
        }
    }
}

impl Tx {
    /// Runs a statement that writes rows; `what` says what for, in errors. Returns how many rows the database counts.
    pub(crate) async fn execute(&mut self, what: &str, statement: Statement) -> Result<u64, SinkError> {
        let done = self.execute_once(what, statement).await;
        self.heard(done).map_err(error::of_rows)
    }

    /// Notices when the server says that the session is of no use any more.
    fn heard<T>(&mut self, done: Result<T, SinkError>) -> Result<T, SinkError> {
        if let Err(error) = &done
            && error::class(error).is_some_and(Class::ends_sessions)
        {
            self.ended = true;
            self.pool.begin_anew();
        }
        done
    }

    async fn execute_once(&mut self, what: &str, statement: Statement) -> Result<u64, SinkError> {
        let Self { session, limit, broken, .. } = self;
        bounded(what, *limit, broken, async {
            match session {
                #[cfg(feature = "postgres")]
                Session::Postgres(held) => {
                    let args = statement.args.into_postgres().map_err(sqlx::Error::Encode)?;
                    let query = sqlx::query_with(AssertSqlSafe(statement.text), args);
                    query.execute(held.get()?).await.map(|done| done.rows_affected())
                }
                #[cfg(feature = "mysql")]
                Session::MySql(held) => {
                    let query = sqlx::query_with(AssertSqlSafe(statement.text), values(statement.args));
                    query.execute(held.get()?).await.map(|done| done.rows_affected())
                }
                #[cfg(feature = "sqlite")]
                Session::Sqlite(tx) => {
                    let query = sqlx::query_with(AssertSqlSafe(statement.text), values(statement.args));
                    query.execute(&mut **tx).await.map(|done| done.rows_affected())
                }
            }
        })
        .await
    }

    /// The rows of a query.
    pub(crate) async fn fetch(&mut self, what: &str, statement: Statement) -> Result<Vec<QueryResult>, SinkError> {
        let Self { session, limit, broken, .. } = self;
        let rows = bounded(what, *limit, broken, async {
            match session {
                #[cfg(feature = "postgres")]
                Session::Postgres(held) => {
                    let args = statement.args.into_postgres().map_err(sqlx::Error::Encode)?;
                    let query = sqlx::query_with(AssertSqlSafe(statement.text), args);
                    query.fetch_all(held.get()?).await.map(results)
                }
                #[cfg(feature = "mysql")]
                Session::MySql(held) => {
                    let query = sqlx::query_with(AssertSqlSafe(statement.text), values(statement.args));
                    query.fetch_all(held.get()?).await.map(results)
                }
                #[cfg(feature = "sqlite")]
                Session::Sqlite(tx) => {
                    let query = sqlx::query_with(AssertSqlSafe(statement.text), values(statement.args));
                    query.fetch_all(&mut **tx).await.map(results)
                }
            }
        });
        let rows = rows.await;
        self.heard(rows)
    }

    /// Runs statements that have no arguments, in one round trip. Returns their rows.
    pub(crate) async fn run(&mut self, what: &str, text: String) -> Result<Vec<QueryResult>, SinkError> {
        let Self { session, limit, broken, .. } = self;
        let rows = bounded(what, *limit, broken, async {
            match session {
                #[cfg(feature = "postgres")]
                Session::Postgres(held) => sqlx::raw_sql(AssertSqlSafe(text)).fetch_all(held.get()?).await.map(results),
                #[cfg(feature = "mysql")]
                Session::MySql(held) => sqlx::raw_sql(AssertSqlSafe(text)).fetch_all(held.get()?).await.map(results),
                #[cfg(feature = "sqlite")]
                Session::Sqlite(tx) => sqlx::raw_sql(AssertSqlSafe(text)).fetch_all(&mut **tx).await.map(results),
            }
        });
        let rows = rows.await;
        self.heard(rows)
    }

    /// Commits. What the database has left to check until now may be a row's fault.
    pub(crate) async fn commit(self) -> Result<(), SinkError> {
        self.end("COMMIT").await.map_err(error::of_rows)
    }

    /// Rolls back. When that fails the connection is gone, and the server rolls back itself.
    pub(crate) async fn rollback(self) {
        if !self.broken
            && let Err(error) = self.end("ROLLBACK").await
        {
            let error: &dyn std::error::Error = &error;
            tracing::debug!(error, "rollback failed");
        }
    }

    async fn end(mut self, verb: &'static str) -> Result<(), SinkError> {
        let text = match &self.session {
            #[cfg(feature = "postgres")]
            Session::Postgres(_) => verb.to_owned(),
            #[cfg(feature = "mysql")]
            Session::MySql(_) => session::end_mysql(verb),
            #[cfg(feature = "sqlite")]
            Session::Sqlite(_) => String::new(),
        };
        if !text.is_empty() {
            self.run(verb, text).await?;
        }
        match self.session {
            #[cfg(feature = "postgres")]
            Session::Postgres(held) => held.give_back_unless(self.ended),
            #[cfg(feature = "mysql")]
            Session::MySql(held) => held.give_back_unless(self.ended),
            #[cfg(feature = "sqlite")]
            Session::Sqlite(tx) => {
                let commits = verb == "COMMIT";
                let end = async { if commits { tx.commit().await } else { tx.rollback().await } };
                bounded(verb, self.limit, &mut false, end).await?;
            }
        }
        Ok(())
    }
}

/// Waits for a step, a little longer than the server was told to take: its own words say more than our silence.
/// `broken` is left true by a step that was given up in the middle, by time or because its future was dropped.
async fn bounded<T>(
    what: &str,
    limit: Duration,
    broken: &mut bool,
    step: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, SinkError> {
    *broken = true;
    match tokio::time::timeout(session::patience(limit), step).await {
        Ok(done) => {
            *broken = false;
            done.map_err(|error| from_sqlx(what, error))
        }
        Err(elapsed) => {
            let text = format!("{what}: the database did not answer within {limit:?}");
            Err(SinkError::new(ErrorKind::Unavailable, text).with_source(elapsed))
        }
    }
}

fn results<R: Into<QueryResult>>(rows: Vec<R>) -> Vec<QueryResult> {
    rows.into_iter().map(Into::into).collect()
}

#[cfg(any(feature = "mysql", feature = "sqlite"))]
fn values(args: Args) -> SqlxValues {
    match args {
        Args::Values(values) => SqlxValues(sea_orm::sea_query::Values(values)),
        // Plans of these databases have no arrays.
        #[cfg(feature = "postgres")]
        Args::Arrays(_) => SqlxValues(sea_orm::sea_query::Values(Vec::new())),
    }
}
