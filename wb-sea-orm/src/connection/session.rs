//! How transactions begin and end, and how long the server lets their statements take.

use std::time::Duration;

use sea_orm::DbBackend;

/// How long the server waits in a transaction before it ends it.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    /// For one statement, waiting for locks included.
    pub(crate) statement: Duration,
    /// For one lock; no longer than for a statement.
    pub(crate) lock: Duration,
    /// For the next statement: who was stopped or lost inside its transaction keeps its locks no longer.
    pub(crate) idle: Duration,
}

/// The `sql_mode` of the sink's transactions on MySQL, whatever the session's: there a value that does not fit is an error, and not
/// another value; a zero is no number to be made, an empty text is not NULL, and `||` joins texts, as the driver has it.
pub(crate) const SQL_MODE: &str =
    "STRICT_ALL_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_AUTO_VALUE_ON_ZERO,NO_ENGINE_SUBSTITUTION,PIPES_AS_CONCAT";

/// What a session of MySQL that the sink opened begins with: the server's settings are for others. `CHAR`s are read without what fills
/// them up, a query has all of its rows and sees what is committed.
#[cfg(feature = "mysql")]
pub(crate) fn open_mysql() -> String {
    format!(
        "SET sql_mode = '{SQL_MODE}', autocommit = 1, completion_type = 0, sql_select_limit = 18446744073709551615, \
         sql_big_selects = 1, sql_safe_updates = 0, sql_auto_is_null = 0"
    )
}

/// Begins a transaction within these limits and runs `then` in it.
///
/// MySQL has no limits of a transaction: those of the session are lowered, and restored by [`end_mysql`]; so are its `sql_mode`, for
/// [`SQL_MODE`], and what it does after the end of a transaction. Its
/// `wait_timeout` counts inside transactions, too; MariaDB's own variables for that do not exist on MySQL, and go before
/// it where the operator has set them.
pub(crate) fn begin(backend: DbBackend, limits: Limits, then: &str) -> String {
    let lock = limits.lock.min(limits.statement);
    match backend {
        DbBackend::Postgres => format!(
            "BEGIN; SET LOCAL statement_timeout = {}; SET LOCAL lock_timeout = {}; \
             SET LOCAL idle_in_transaction_session_timeout = {}; {then}",
            milliseconds(limits.statement),
            milliseconds(lock),
            milliseconds(limits.idle),
        ),
        DbBackend::MySql => {
            let (seconds, idle) = (whole_seconds(lock), whole_seconds(limits.idle));
            format!(
                "SET @wb_row_wait = @@innodb_lock_wait_timeout, @wb_table_wait = @@lock_wait_timeout, \
                 @wb_idle = @@wait_timeout, @wb_mode = @@sql_mode, @wb_completion = @@completion_type, \
                 sql_mode = '{SQL_MODE}', completion_type = 0, \
                 innodb_lock_wait_timeout = LEAST(@@innodb_lock_wait_timeout, {seconds}), \
                 lock_wait_timeout = LEAST(@@lock_wait_timeout, {seconds}), \
                 wait_timeout = LEAST(@@wait_timeout, {idle}); START TRANSACTION; {then}"
            )
        }
        // The driver has begun it. The connection may know an old schema and miss, say, an index that another one has
        // made since: it looks again when a statement reads. From here on nobody else changes it.
        _ => format!("SELECT 1 FROM sqlite_schema LIMIT 0; {then}"),
    }
}

/// Ends a transaction of MySQL by `verb` and gives the session its own limits back.
pub(crate) fn end_mysql(verb: &str) -> String {
    format!(
        "{verb}; SET innodb_lock_wait_timeout = @wb_row_wait, lock_wait_timeout = @wb_table_wait, wait_timeout = @wb_idle, \
         sql_mode = @wb_mode, completion_type = @wb_completion"
    )
}

/// How long to wait for a server that was told to take `limit`.
pub(crate) fn patience(limit: Duration) -> Duration {
    limit.saturating_add(limit / 10).saturating_add(Duration::from_secs(1))
}

/// PostgreSQL takes zero for no limit.
fn milliseconds(limit: Duration) -> u128 {
    limit.as_millis().clamp(1, 2_147_483_647)
}

/// MySQL waits whole seconds, at least one.
fn whole_seconds(limit: Duration) -> u64 {
    (limit.as_secs() + u64::from(limit.subsec_nanos() > 0)).clamp(1, 31_536_000)
}

/// Text as a literal that means the same in every mode of the server.
pub(crate) fn literal(backend: DbBackend, text: &str) -> String {
    match backend {
        DbBackend::Postgres => format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''")),
        DbBackend::MySql => {
            let hex: String = text.bytes().map(|byte| format!("{byte:02X}")).collect();
            format!("_utf8mb4 X'{hex}'")
        }
        _ => format!("'{}'", text.replace('\'', "''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_cannot_be_left() {
        let text = "a'b\\'; DROP TABLE x; --";
        assert_eq!(literal(DbBackend::Postgres, text), "E'a''b\\\\''; DROP TABLE x; --'");
        assert_eq!(literal(DbBackend::Sqlite, text), "'a''b\\''; DROP TABLE x; --'");
        assert_eq!(literal(DbBackend::MySql, "a'"), "_utf8mb4 X'6127'");
    }

    #[test]
    fn mysql_waits_whole_seconds_and_we_longer_than_the_server() {
        for (limit, seconds) in [(0, 1), (1, 1), (999, 1), (1_000, 1), (1_001, 2), (30_000, 30)] {
            let limit = Duration::from_millis(limit);
            assert_eq!(whole_seconds(limit), seconds);
            assert!(patience(limit) >= Duration::from_secs(seconds), "{limit:?}");
        }
    }
}
