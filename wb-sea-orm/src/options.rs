//! What an operator tunes of the SQL sink.

use std::time::Duration;

use crate::connection::session::Limits;

/// Settings of a [`SqlSink`](crate::SqlSink). A zero counts as one.
///
/// ```
/// use std::time::Duration;
/// use wb_sea_orm::SqlOptions;
///
/// let options = SqlOptions::new().max_connections(4).connect_timeout(Duration::from_secs(2));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqlOptions {
    pub(crate) max_rows: usize,
    pub(crate) max_bytes: usize,
    pub(crate) connect_timeout: Duration,
    pub(crate) statement_timeout: Duration,
    pub(crate) lock_timeout: Duration,
    pub(crate) load_timeout: Duration,
    pub(crate) idle_in_transaction_timeout: Duration,
    pub(crate) max_connections: u32,
}

impl SqlOptions {
    /// The defaults.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            max_rows: 8_192,
            max_bytes: 8 * 1024 * 1024,
            connect_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(30),
            lock_timeout: Duration::from_secs(2),
            load_timeout: Duration::from_secs(5),
            idle_in_transaction_timeout: Duration::from_secs(10),
            max_connections: 8,
        }
    }

    /// Rows in one statement, at most. Default: 8192. Where every row has binds of its own (MySQL, SQLite, and
    /// PostgreSQL tables with array columns) a statement has at most 1024 rows, and no more than the database's limit
    /// of binds allows. More rows become more statements of the same transaction.
    #[must_use]
    pub const fn max_rows(mut self, rows: usize) -> Self {
        self.max_rows = if rows == 0 { 1 } else { rows };
        self
    }

    /// Bytes of values in one statement, roughly, at most. Default: 8 MiB; on MySQL never more than half of the
    /// server's `max_allowed_packet`. A row that is larger travels alone.
    #[must_use]
    pub const fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = if bytes == 0 { 1 } else { bytes };
        self
    }

    /// How long connecting, waiting for a connection of the pool, and the checks of
    /// [`open`](wb_core::Sink::open) may take. Default: 5 s.
    #[must_use]
    pub const fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long one statement may take, waiting for locks included. Default: 30 s; below 1 ms counts as 1 ms.
    ///
    /// In the sink's transactions PostgreSQL gets it as `statement_timeout`. What a server ends by itself is
    /// [`Transient`](wb_core::ErrorKind::Transient). A server that says nothing is given a second and a tenth of the
    /// time more; then its connection is closed, and the error is [`Unavailable`](wb_core::ErrorKind::Unavailable).
    #[must_use]
    pub const fn statement_timeout(mut self, timeout: Duration) -> Self {
        self.statement_timeout = timeout;
        self
    }

    /// How long a batch waits for one lock that somebody else holds, of a row or of the table. Default: 2 s; never more than
    /// [`statement_timeout`](Self::statement_timeout), and below 1 ms counts as 1 ms.
    ///
    /// Then the batch is [`Transient`](wb_core::ErrorKind::Transient): it is tried again in smaller parts, so that what is not locked
    /// lands meanwhile. A limit below the time for which other programs usually hold their locks costs tries, and nothing else.
    /// PostgreSQL gets it as `lock_timeout`, in place of the session's own, MySQL and MariaDB as `innodb_lock_wait_timeout` and `lock_wait_timeout`, in whole seconds,
    /// unless the session's own are lower. SQLite locks the whole file: there
    /// [`SqlSink::connect`](crate::SqlSink::connect) sets a `busy_timeout` of 5 s. Who takes a partition over waits for the locks of
    /// its fence as long as for a statement.
    #[must_use]
    pub const fn lock_timeout(mut self, timeout: Duration) -> Self {
        self.lock_timeout = timeout;
        self
    }

    /// How long one load of rows may take, waiting for its turn included: loads take half of the pool's connections at most, one
    /// at least. Default: 5 s; below 1 ms counts as 1 ms.
    ///
    /// A load that waited in vain for other loads is [`Transient`](wb_core::ErrorKind::Transient). A server that does not answer
    /// is given a second and a tenth of the time more; then the connection is closed, and the error is
    /// [`Unavailable`](wb_core::ErrorKind::Unavailable). For a minute after that PostgreSQL gets the limit as `statement_timeout`,
    /// in a transaction of each load (two more round trips): so a locked table does not pile up waiting processes in the server.
    #[must_use]
    pub const fn load_timeout(mut self, timeout: Duration) -> Self {
        self.load_timeout = timeout;
        self
    }

    /// How long a worker may be silent inside a transaction before the database ends it. Default: 10 s; below 1 ms
    /// counts as 1 ms.
    ///
    /// A worker whose process is stopped or whose host is lost in the middle of a batch keeps the locks of its rows and
    /// of its fences for that long, and the next owner waits. It should be shorter than
    /// [`statement_timeout`](Self::statement_timeout), which is how long the next owner waits at a time. Nothing of the
    /// ended transaction is written; the worker finds its connection closed
    /// ([`Unavailable`](wb_core::ErrorKind::Unavailable)) and takes another one.
    ///
    /// PostgreSQL gets it as `idle_in_transaction_session_timeout`; MySQL and MariaDB as `wait_timeout`, in whole
    /// seconds, unless the session's own is lower (on MariaDB an `idle_transaction_timeout` or
    /// `idle_write_transaction_timeout` of the server's own counts instead). SQLite needs none: a file's lock ends with
    /// the process.
    #[must_use]
    pub const fn idle_in_transaction_timeout(mut self, timeout: Duration) -> Self {
        self.idle_in_transaction_timeout = timeout;
        self
    }

    pub(crate) const fn limits(&self) -> Limits {
        Limits { statement: self.statement_timeout, lock: self.lock_timeout, idle: self.idle_in_transaction_timeout }
    }

    /// Connections of the pool that [`SqlSink::connect`](crate::SqlSink::connect) opens, at most. Default: 8. A
    /// SQLite database in memory gets one, because each connection would be a database of its own.
    #[must_use]
    pub const fn max_connections(mut self, connections: u32) -> Self {
        self.max_connections = if connections == 0 { 1 } else { connections };
        self
    }
}

impl Default for SqlOptions {
    fn default() -> Self {
        Self::new()
    }
}
