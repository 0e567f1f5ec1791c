//! The connection pools and transactions of the drivers. Statements run on the drivers' own transactions, because
//! SeaORM's take no typed arrays. A transaction that is dropped without a commit is rolled back.

use std::convert::Infallible;

use sea_orm::{DatabaseConnection, DatabaseConnectionType, DbBackend, QueryResult};
use wb_core::{ErrorKind, SinkError};

use crate::bind::Statement;

#[cfg(any(feature = "mysql", feature = "sqlite"))]
use {crate::bind::Args, sea_query_sqlx::SqlxValues};
#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
use {
    crate::classify::from_sqlx,
    sea_orm::sqlx::{self, AssertSqlSafe},
};

/// The pool of a driver.
#[derive(Clone)]
pub(crate) enum Pool {
    #[cfg(feature = "postgres")]
    Postgres(sqlx::PgPool),
    #[cfg(feature = "mysql")]
    MySql(sqlx::MySqlPool),
    #[cfg(feature = "sqlite")]
    Sqlite(sqlx::SqlitePool),
    /// There is always a variant, so that the crate builds without drivers.
    #[allow(dead_code, reason = "constructed nowhere: it has no value")]
    None(Infallible),
}

/// An open transaction.
pub(crate) enum Tx {
    #[cfg(feature = "postgres")]
    Postgres(sqlx::Transaction<'static, sqlx::Postgres>),
    #[cfg(feature = "mysql")]
    MySql(MySqlTx),
    #[cfg(feature = "sqlite")]
    Sqlite(sqlx::Transaction<'static, sqlx::Sqlite>),
    #[allow(dead_code, reason = "constructed nowhere: it has no value")]
    None(Infallible),
}

impl Pool {
    pub(crate) fn of(db: &DatabaseConnection) -> Result<Self, SinkError> {
        let misconfigured = |text: &str| Err(SinkError::new(ErrorKind::Misconfigured, text));
        match &db.inner {
            #[cfg(feature = "postgres")]
            DatabaseConnectionType::SqlxPostgresPoolConnection(_) => {
                Ok(Self::Postgres(db.get_postgres_connection_pool().clone()))
            }
            #[cfg(feature = "mysql")]
            DatabaseConnectionType::SqlxMySqlPoolConnection(_) => {
                Ok(Self::MySql(db.get_mysql_connection_pool().clone()))
            }
            #[cfg(feature = "sqlite")]
            DatabaseConnectionType::SqlxSqlitePoolConnection(_) => {
                Ok(Self::Sqlite(db.get_sqlite_connection_pool().clone()))
            }
            DatabaseConnectionType::Disconnected => misconfigured("the database connection was never opened"),
            #[allow(unreachable_patterns, reason = "other variants exist when the application switches them on")]
            _ => misconfigured(
                "the sink writes through the drivers of the features `postgres`, `mysql` and `sqlite`; switch the \
                 one of this connection on",
            ),
        }
    }

    pub(crate) const fn backend(&self) -> DbBackend {
        match self {
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => DbBackend::Postgres,
            #[cfg(feature = "mysql")]
            Self::MySql(_) => DbBackend::MySql,
            #[cfg(feature = "sqlite")]
            Self::Sqlite(_) => DbBackend::Sqlite,
            Self::None(never) => match *never {},
        }
    }

    /// Opens a transaction that writes.
    pub(crate) async fn begin(&self) -> Result<Tx, SinkError> {
        match self {
            #[cfg(feature = "postgres")]
            Self::Postgres(pool) => pool.begin().await.map(Tx::Postgres).map_err(|e| from_sqlx("begin", e)),
            #[cfg(feature = "mysql")]
            Self::MySql(pool) => MySqlTx::begin(pool).await.map(Tx::MySql).map_err(|e| from_sqlx("begin", e)),
            // A transaction that starts by reading could not become a writing one while another one writes.
            #[cfg(feature = "sqlite")]
            Self::Sqlite(pool) => {
                let mut tx = pool.begin_with("BEGIN IMMEDIATE").await.map_err(|e| from_sqlx("begin", e))?;
                // The connection may know an old schema and miss, say, an index that another one has made since: it
                // looks again when a statement reads. From here on nobody else changes it.
                let look = sqlx::query("SELECT 1 FROM sqlite_schema LIMIT 1").execute(&mut *tx).await;
                look.map(|_| Tx::Sqlite(tx)).map_err(|e| from_sqlx("begin", e))
            }
            Self::None(never) => match *never {},
        }
    }

    /// The rows of a query, outside of a transaction.
    pub(crate) async fn fetch(&self, statement: Statement) -> Result<Vec<QueryResult>, SinkError> {
        match self {
            #[cfg(feature = "postgres")]
            Self::Postgres(pool) => {
                let args = statement.args.into_postgres().map_err(unbindable)?;
                let rows = sqlx::query_with(AssertSqlSafe(statement.text), args).fetch_all(pool).await;
                rows.map(|rows| rows.into_iter().map(Into::into).collect()).map_err(|e| from_sqlx("load", e))
            }
            #[cfg(feature = "mysql")]
            Self::MySql(pool) => {
                let rows =
                    sqlx::query_with(AssertSqlSafe(statement.text), values(statement.args)).fetch_all(pool).await;
                rows.map(|rows| rows.into_iter().map(Into::into).collect()).map_err(|e| from_sqlx("load", e))
            }
            #[cfg(feature = "sqlite")]
            Self::Sqlite(pool) => {
                let rows =
                    sqlx::query_with(AssertSqlSafe(statement.text), values(statement.args)).fetch_all(pool).await;
                rows.map(|rows| rows.into_iter().map(Into::into).collect()).map_err(|e| from_sqlx("load", e))
            }
            Self::None(never) => {
                drop(statement);
                match *never {}
            }
        }
    }
}

impl Tx {
    /// Runs a statement; `what` says what for, in errors.
    pub(crate) async fn execute(&mut self, what: &str, statement: Statement) -> Result<(), SinkError> {
        match self {
            #[cfg(feature = "postgres")]
            Self::Postgres(tx) => {
                let args = statement.args.into_postgres().map_err(unbindable)?;
                let done = sqlx::query_with(AssertSqlSafe(statement.text), args).execute(&mut **tx).await;
                done.map(drop).map_err(|e| from_sqlx(what, e))
            }
            #[cfg(feature = "mysql")]
            Self::MySql(tx) => tx.execute(statement).await.map_err(|e| from_sqlx(what, e)),
            #[cfg(feature = "sqlite")]
            Self::Sqlite(tx) => {
                let query = sqlx::query_with(AssertSqlSafe(statement.text), values(statement.args));
                query.execute(&mut **tx).await.map(drop).map_err(|e| from_sqlx(what, e))
            }
            Self::None(never) => {
                let _ = (what, statement);
                match *never {}
            }
        }
    }

    pub(crate) async fn commit(self) -> Result<(), SinkError> {
        match self {
            #[cfg(feature = "postgres")]
            Self::Postgres(tx) => tx.commit().await.map_err(|e| from_sqlx("commit", e)),
            #[cfg(feature = "mysql")]
            Self::MySql(tx) => tx.end("COMMIT").await.map_err(|e| from_sqlx("commit", e)),
            #[cfg(feature = "sqlite")]
            Self::Sqlite(tx) => tx.commit().await.map_err(|e| from_sqlx("commit", e)),
            Self::None(never) => match never {},
        }
    }

    /// Rolls back. When that fails the connection is gone, and the server rolls back itself.
    pub(crate) async fn rollback(self) {
        #[allow(unused_variables, reason = "without drivers there is nothing to roll back")]
        let done = match self {
            #[cfg(feature = "postgres")]
            Self::Postgres(tx) => tx.rollback().await,
            #[cfg(feature = "mysql")]
            Self::MySql(tx) => tx.end("ROLLBACK").await,
            #[cfg(feature = "sqlite")]
            Self::Sqlite(tx) => tx.rollback().await,
            Self::None(never) => match never {},
        };
        #[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
        if let Err(error) = done {
            let error: &dyn std::error::Error = &error;
            tracing::debug!(error, "rollback failed");
        }
    }
}

#[cfg(feature = "postgres")]
fn unbindable(error: sqlx::error::BoxDynError) -> SinkError {
    from_sqlx("values cannot be bound", sqlx::Error::Encode(error))
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

/// A transaction whose connection is closed unless it was ended: the driver's own transaction returns the connection
/// to the pool with an open transaction when it is dropped while `BEGIN` is on its way.
#[cfg(feature = "mysql")]
pub(crate) struct MySqlTx {
    connection: Option<sqlx::pool::PoolConnection<sqlx::MySql>>,
}

#[cfg(feature = "mysql")]
impl MySqlTx {
    async fn begin(pool: &sqlx::MySqlPool) -> Result<Self, sqlx::Error> {
        use sqlx::Executor;

        let mut tx = Self { connection: Some(pool.acquire().await?) };
        tx.connection()?.execute("BEGIN").await?;
        Ok(tx)
    }

    fn connection(&mut self) -> Result<&mut sqlx::MySqlConnection, sqlx::Error> {
        self.connection.as_deref_mut().ok_or(sqlx::Error::PoolClosed)
    }

    async fn execute(&mut self, statement: Statement) -> Result<(), sqlx::Error> {
        let query = sqlx::query_with(AssertSqlSafe(statement.text), values(statement.args));
        query.execute(self.connection()?).await.map(drop)
    }

    async fn end(mut self, verb: &'static str) -> Result<(), sqlx::Error> {
        use sqlx::Executor;

        self.connection()?.execute(verb).await?;
        // Back to the pool.
        self.connection.take();
        Ok(())
    }
}

#[cfg(feature = "mysql")]
impl Drop for MySqlTx {
    fn drop(&mut self) {
        if let Some(connection) = &mut self.connection {
            connection.close_on_drop();
        }
    }
}
