//! What a driver's error means for the batch, by its code and never by its text.

use sea_orm::{DbErr, RuntimeErr};
use wb_core::{ErrorKind, SinkError};

use ErrorKind::{Deferred, Misconfigured, Rejected, Transient, Unavailable};

/// Whose fault the code of an error says it is, and what to do with the session that it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// The data of a row.
    Row,
    /// What a row refers to is not there, or what refers to it still is.
    Parent,
    /// The part of a partitioned table that a row belongs to is not there. Perhaps somebody makes it in time.
    Partition,
    /// The table, the mapping, a right: it is the same for every row.
    Configuration,
    /// The row or the configuration: the code does not tell. Where there is no row, it is of this kind.
    Ambiguous(ErrorKind),
    /// The server, its role or the session: waited for, and on other connections.
    Outage,
    /// A statement that was prepared before the schema changed: passes on another connection.
    Outdated,
    /// The same may pass at once.
    Contention,
}

use Class::{Ambiguous, Configuration, Contention, Outage, Outdated, Parent, Partition, Row};

impl Class {
    /// What the failure is where no row can be at fault.
    const fn kind(self) -> ErrorKind {
        match self {
            Self::Row => Rejected,
            Self::Parent | Self::Partition => Deferred,
            Self::Configuration => Misconfigured,
            Self::Ambiguous(kind) => kind,
            Self::Outage => Unavailable,
            Self::Outdated | Self::Contention => Transient,
        }
    }

    /// Whether the session that said so is of no use any more, nor others that were opened with it.
    pub(crate) const fn ends_sessions(self) -> bool {
        matches!(self, Self::Outage | Self::Outdated)
    }
}

/// What PostgreSQL says beside the SQLSTATE.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Said {
    /// The error was raised inside a function: a trigger's, for one row perhaps.
    pub(crate) in_function: bool,
    /// It names a table.
    pub(crate) table: bool,
    /// It names a constraint.
    pub(crate) constraint: bool,
}

/// A PostgreSQL SQLSTATE.
///
/// The classes that speak of the server and of the schema are listed; what is left are data errors and the codes
/// that triggers raise, which belong to a record.
pub(crate) fn postgres(sqlstate: &str, said: Said) -> Class {
    match sqlstate {
        // No partition for the row; a check has a name.
        "23514" if !said.constraint && said.table => Partition,
        // What a trigger's own statement says of another table may be that table's fault.
        _ if sqlstate.starts_with("23") && said.in_function && said.table => Ambiguous(Misconfigured),
        // A foreign key's parent, or, for a delete, the children that must go first (23001 from PostgreSQL 18 on).
        "23001" | "23503" => Parent,
        // A plan that would return other columns than it was made for, among others; a statement that a pooler has lost, or
        // knows from another session.
        "0A000" if !said.in_function => Outdated,
        "26000" | "42P05" => Outdated,
        // The first error of the transaction is the one that counts; who sees only this one tries again.
        "25P02" => Contention,
        // Object in use, lock not available, statement canceled: by its timeout, which mostly means a lock.
        "55006" | "55P03" | "57014" => Contention,
        // A right to the table, a policy for rows, a trigger's word.
        "42501" => Ambiguous(Misconfigured),
        // A row of an index that is too large, or a database that takes no more transactions.
        "54000" => Ambiguous(Unavailable),
        _ => match sqlstate.get(..2).unwrap_or_default() {
            "40" => Contention,
            // What a trigger raises, or what it uses answers, perhaps for one row. When it is the server itself, nobody lands, or
            // the next statement says it.
            "08" | "25" | "53" | "57" | "F0" | "HV" | "72" if said.in_function => Ambiguous(Unavailable),
            // Read-only transaction (a standby after failover), idle timeouts.
            "25" => Outage,
            // Connection, resources, operator intervention, the server's configuration, foreign servers, snapshot too old.
            "08" | "53" | "57" | "F0" | "HV" | "72" => Outage,
            // Prerequisite state, system, internal: a broken page is of some rows.
            "55" | "58" | "XX" => Ambiguous(Unavailable),
            // What functions do wrong.
            "20" | "2F" | "38" | "39" => Ambiguous(Misconfigured),
            // SQL or schema that does not fit, permissions, catalogs, statement names.
            "03" | "0A" | "0B" | "0L" | "0P" | "0Z" | "24" | "26" | "28" | "2B" | "2D" | "34" | "3B" | "3D" | "3F"
            | "42"
                if said.in_function =>
            {
                Ambiguous(Misconfigured)
            }
            "03" | "0A" | "0B" | "0L" | "0P" | "0Z" | "24" | "26" | "28" | "2B" | "2D" | "34" | "3B" | "3D" | "3F"
            | "42" => Configuration,
            _ => Row,
        },
    }
}

/// A MySQL or MariaDB error number, with the SQLSTATE for numbers that are not listed.
pub(crate) fn mysql(number: u16, sqlstate: Option<&str>) -> Class {
    // The class of what a trigger raises by SIGNAL, whatever number it says.
    if sqlstate == Some("45000") {
        return Row;
    }
    match number {
        // Record changed, lock wait timeout, deadlock, XA deadlock, NOWAIT lock; a schema that changed under the
        // transaction; statement timeouts of MariaDB and MySQL; lost against another node.
        1020 | 1205 | 1213 | 1297 | 1412 | 1614 | 1689 | 1969 | 3024 | 3101 | 3572 => Contention,
        // A prepared statement that the server does not know, or that the schema changed under.
        1243 | 1615 => Outdated,
        // Too many connections, out of memory or disk, shutdown, network, killed, limits, read-only, cluster not ready.
        1021
        | 1036
        | 1037
        | 1038
        | 1040
        | 1041
        | 1043
        | 1047
        | 1053
        | 1077
        | 1078
        | 1079
        | 1080
        | 1114
        | 1129
        | 1152
        | 1156..=1161
        | 1180
        | 1184
        | 1189
        | 1190
        | 1203
        | 1206
        | 1226
        | 1290
        | 1317
        | 1461
        | 1792
        | 1836
        | 1927
        | 2002
        | 2003
        | 2006
        | 2013
        | 2055
        | 3168
        | 3169
        | 4031 => Outage,
        // Child without parent, parent with children; 1216 and 1217 are their short forms.
        1216 | 1217 | 1451 | 1452 => Parent,
        // No partition for the row.
        1526 => Partition,
        // Not null, duplicate, too long, truncated, out of range, wrong value, check, signal, packet, our guard (1242).
        1048
        | 1062
        | 1118
        | 1153
        | 1169
        | 1242
        | 1264
        | 1265
        | 1292
        | 1300
        | 1301
        | 1366
        | 1367
        | 1406
        | 1411
        | 1416
        | 1586
        | 1644
        | 1690
        | 1748
        | 1761
        | 1762
        | 3140..=3158
        | 3819
        | 4025 => Row,
        // Hosts, passwords, definers, views that cannot be written, character sets and collations that the session cannot have.
        1044
        | 1045
        | 1049
        | 1054
        | 1064
        | 1130
        | 1115
        | 1136
        | 1141..=1143
        | 1146
        | 1147
        | 1227
        | 1251
        | 1253
        | 1273
        | 1275
        | 1288
        | 1356
        | 1370
        | 1449
        | 1471
        | 1698
        | 1820
        | 1862
        | 1906
        | 3105 => Configuration,
        // Collations or types that cannot be compared: of this key, or of the column. No default for a column that is not
        // given: of this table, or of one that a trigger fills.
        1267 | 1270 | 1271 | 1364 | 4078 | 4079 => Ambiguous(Misconfigured),
        _ => match sqlstate.and_then(|s| s.get(..2)).unwrap_or_default() {
            "40" => Contention,
            "08" => Outage,
            "21" | "22" | "23" | "44" | "45" => Row,
            "28" | "3D" => Configuration,
            "42" => Ambiguous(Misconfigured),
            // Engines (1030) and the server (1105) use one number for many things, and there are those that nobody knows here.
            _ => Ambiguous(Unavailable),
        },
    }
}

/// A SQLite (extended) result code.
pub(crate) fn sqlite(code: i32) -> Class {
    const CONSTRAINT_FOREIGNKEY: i32 = 787;
    match code {
        CONSTRAINT_FOREIGNKEY => Parent,
        _ => match code & 0xff {
            // Rolled back by another statement, busy, locked, schema changed under a prepared statement.
            4..=6 | 17 => Contention,
            // Too big, constraint, datatype mismatch.
            18..=20 => Row,
            // A missing table, and what a function in a trigger or a check says of a row; a broken page.
            1 | 11 => Ambiguous(Misconfigured),
            // Permission, read-only, misuse, authorization, bind index, not a database.
            3 | 8 | 21 | 23 | 25 | 26 => Configuration,
            // Memory, interrupted, IO, disk full, cannot open, lock protocol, no large files.
            7 | 9 | 10 | 13..=15 | 22 => Outage,
            _ => Ambiguous(Unavailable),
        },
    }
}

/// An error of the driver.
#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
pub(crate) fn sqlx(error: &sea_orm::sqlx::Error) -> ErrorKind {
    use sea_orm::sqlx::Error;
    match error {
        Error::Database(error) => database(error.as_ref()).kind(),
        Error::Encode(_) => Rejected,
        Error::Configuration(_)
        | Error::InvalidArgument(_)
        | Error::TypeNotFound { .. }
        | Error::ColumnIndexOutOfBounds { .. }
        | Error::ColumnNotFound(_)
        | Error::ColumnDecode { .. }
        | Error::Decode(_) => Misconfigured,
        // IO, TLS, protocol, pool, crashed worker.
        _ => Unavailable,
    }
}

#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
pub(crate) fn database(error: &dyn sea_orm::sqlx::error::DatabaseError) -> Class {
    #[cfg(feature = "postgres")]
    if let Some(error) = error.try_downcast_ref::<sea_orm::sqlx::postgres::PgDatabaseError>() {
        let said = Said {
            in_function: error.r#where().is_some(),
            table: error.table().is_some(),
            constraint: error.constraint().is_some(),
        };
        return postgres(error.code(), said);
    }
    #[cfg(feature = "mysql")]
    if let Some(error) = error.try_downcast_ref::<sea_orm::sqlx::mysql::MySqlDatabaseError>() {
        return mysql(error.number(), error.code());
    }
    #[cfg(feature = "sqlite")]
    if error.try_downcast_ref::<sea_orm::sqlx::sqlite::SqliteError>().is_some() {
        return error.code().and_then(|code| code.parse().ok()).map_or(Ambiguous(Unavailable), sqlite);
    }
    let _ = error;
    Ambiguous(Unavailable)
}

/// What the database itself has said, below whatever was made of it.
#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
fn said(error: &SinkError) -> Option<&dyn sea_orm::sqlx::error::DatabaseError> {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(sea_orm::sqlx::Error::Database(said)) = error.downcast_ref::<sea_orm::sqlx::Error>() {
            return Some(said.as_ref());
        }
        next = error.source();
    }
    None
}

/// What the code says that the database gave; `None` where it gave none.
#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
pub(crate) fn class(error: &SinkError) -> Option<Class> {
    said(error).map(database)
}

#[cfg(not(any(feature = "postgres", feature = "mysql", feature = "sqlite")))]
pub(crate) const fn class(_: &SinkError) -> Option<Class> {
    None
}

/// The error of a statement that writes rows: what may be a row's fault is refused, so that the row is looked for.
pub(crate) fn of_rows(error: SinkError) -> SinkError {
    match class(&error) {
        Some(Ambiguous(_)) => error.with_kind(Rejected).ambiguous(),
        Some(Partition) => error.ambiguous(),
        // It returns no columns, so it is not its plan that is outdated.
        Some(Outdated) if is_unsupported(&error) => error.with_kind(Rejected).ambiguous(),
        _ => error,
    }
}

/// Whether PostgreSQL says that it cannot do something.
fn is_unsupported(error: &SinkError) -> bool {
    #[cfg(feature = "postgres")]
    if let Some(said) = said(error)
        && let Some(said) = said.try_downcast_ref::<sea_orm::sqlx::postgres::PgDatabaseError>()
    {
        return said.code() == "0A000";
    }
    let _ = error;
    false
}

/// The error of a statement that reads rows: what may be a row's fault says nothing about other loads.
pub(crate) fn of_load(error: SinkError) -> SinkError {
    match class(&error) {
        Some(Ambiguous(_)) => error.with_kind(Misconfigured),
        _ => error,
    }
}

/// Whether the database cannot compare a value with a column at all.
pub(crate) fn is_incomparable(error: &SinkError) -> bool {
    #[cfg(feature = "mysql")]
    if let Some(said) = said(error)
        && let Some(said) = said.try_downcast_ref::<sea_orm::sqlx::mysql::MySqlDatabaseError>()
    {
        return matches!(said.number(), 1267 | 1270 | 1271);
    }
    let _ = error;
    false
}

/// The column of this table that a row has no value for, where the database names it.
pub(crate) fn missing_value<'e>(error: &'e SinkError, table: &str) -> Option<&'e str> {
    #[cfg(feature = "postgres")]
    if let Some(said) = said(error)
        && let Some(said) = said.try_downcast_ref::<sea_orm::sqlx::postgres::PgDatabaseError>()
        && said.code() == "23502"
        && said.table() == Some(table)
    {
        return said.column();
    }
    let _ = (error, table);
    None
}

/// An error of SeaORM.
pub(crate) fn sea_orm(error: &DbErr) -> ErrorKind {
    match error {
        DbErr::ConnectionAcquire(_) => Unavailable,
        DbErr::Conn(RuntimeErr::Internal(_)) => Misconfigured,
        #[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
        DbErr::Conn(RuntimeErr::SqlxError(error))
        | DbErr::Exec(RuntimeErr::SqlxError(error))
        | DbErr::Query(RuntimeErr::SqlxError(error)) => sqlx(error),
        // A row that is no value of the struct, an operation that the backend lacks.
        _ => Misconfigured,
    }
}

/// The sink's error for an error of the driver.
#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
pub(crate) fn from_sqlx(context: impl Into<String>, error: sea_orm::sqlx::Error) -> SinkError {
    SinkError::new(sqlx(&error), context).with_source(error)
}

/// The sink's error for an error of SeaORM.
pub(crate) fn from_sea_orm(context: impl Into<String>, error: DbErr) -> SinkError {
    SinkError::new(sea_orm(&error), context).with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn postgres_codes() {
        for (code, kind) in [
            ("23503", Deferred),
            ("23001", Deferred),
            ("44000", Rejected),
            ("23P01", Rejected),
            ("23505", Rejected),
            ("23502", Rejected),
            ("23514", Rejected),
            ("22001", Rejected),
            ("22003", Rejected),
            ("22021", Rejected),
            ("22P05", Rejected),
            ("21000", Rejected),
            ("54011", Rejected),
            ("P0001", Rejected),
            ("ABC01", Rejected),
            ("42P01", Misconfigured),
            ("42703", Misconfigured),
            ("42P10", Misconfigured),
            ("42501", Misconfigured),
            ("428C9", Misconfigured),
            ("42804", Misconfigured),
            ("3F000", Misconfigured),
            ("3D000", Misconfigured),
            ("28P01", Misconfigured),
            ("40001", Transient),
            ("40P01", Transient),
            ("55P03", Transient),
            ("25P02", Transient),
            ("25006", Unavailable),
            ("25P03", Unavailable),
            ("57P02", Unavailable),
            ("57P05", Unavailable),
            ("53200", Unavailable),
            ("08001", Unavailable),
            ("72000", Unavailable),
            ("57014", Transient),
            ("57P01", Unavailable),
            ("57P03", Unavailable),
            ("53300", Unavailable),
            ("53100", Unavailable),
            ("58030", Unavailable),
            ("08006", Unavailable),
            ("XX000", Unavailable),
            ("0A000", Transient),
            ("26000", Transient),
            ("54000", Unavailable),
        ] {
            assert_eq!(postgres(code, Said::default()).kind(), kind, "{code}");
        }
    }

    /// A trigger raises what it likes for one row: others are tried first.
    #[test]
    fn codes_of_the_server_out_of_a_trigger_may_be_of_one_row() {
        let raised = Said { in_function: true, ..Said::default() };
        for code in ["53100", "57P01", "25006", "08006", "F0000", "HV000", "72000"] {
            assert_eq!(postgres(code, raised), Ambiguous(Unavailable), "{code}");
            assert_eq!(postgres(code, Said::default()), Outage, "{code}");
        }
        assert_eq!(postgres("40001", raised), Contention);
        for number in [1290, 1836, 1040, 1053, 1205, 1142, 1644] {
            assert_eq!(mysql(number, Some("45000")), Row, "{number}");
        }
        assert_eq!(mysql(1290, Some("HY000")), Outage);
        assert_eq!(mysql(1273, Some("HY000")), Configuration);
    }

    #[test]
    fn mysql_numbers() {
        for (number, kind) in [
            (1213, Transient),
            (1205, Transient),
            (1020, Transient),
            (1412, Transient),
            (1615, Transient),
            (1969, Transient),
            (3024, Transient),
            (3101, Transient),
            (3572, Transient),
            (1040, Unavailable),
            (1021, Unavailable),
            (1047, Unavailable),
            (1114, Unavailable),
            (1317, Unavailable),
            (1792, Unavailable),
            (1836, Unavailable),
            (1927, Unavailable),
            (4031, Unavailable),
            (1053, Unavailable),
            (2006, Unavailable),
            (2013, Unavailable),
            (1290, Unavailable),
            (1062, Rejected),
            (1048, Rejected),
            (1406, Rejected),
            (1242, Rejected),
            (1366, Rejected),
            (1153, Rejected),
            (4025, Rejected),
            (3819, Rejected),
            (1264, Rejected),
            (1644, Rejected),
            (1216, Deferred),
            (1217, Deferred),
            (1452, Deferred),
            (1451, Deferred),
            (1054, Misconfigured),
            (1146, Misconfigured),
            (1064, Misconfigured),
            (1364, Misconfigured),
            (1045, Misconfigured),
            (1142, Misconfigured),
            (1227, Misconfigured),
            (1449, Misconfigured),
            (1820, Misconfigured),
        ] {
            assert_eq!(mysql(number, None).kind(), kind, "{number}");
        }
        assert_eq!(mysql(9999, Some("23000")), Row);
        assert_eq!(mysql(9999, Some("42000")), Ambiguous(Misconfigured));
        assert_eq!(mysql(9999, Some("HY000")), Ambiguous(Unavailable));
        assert_eq!(mysql(9999, None), Ambiguous(Unavailable));
    }

    /// No single record may stop an entity for a code that does not tell whose fault it is.
    #[test]
    fn codes_that_do_not_tell_whose_fault_it_is_are_ambiguous() {
        let trigger = Said { in_function: true, table: true, constraint: true };
        let raised = Said { in_function: true, ..Said::default() };
        for (code, said) in [
            // A right to the table, a policy for rows.
            ("42501", Said::default()),
            // SQL that a trigger makes for a row, and what it says of another table.
            ("42P01", raised),
            ("42883", raised),
            ("0A000", raised),
            ("20000", raised),
            ("23502", trigger),
            ("23505", trigger),
            // A row of an index that is too large, or no more transactions; a page that is broken.
            ("54000", Said::default()),
            ("XX000", Said::default()),
            ("XX001", Said::default()),
            ("58030", Said::default()),
            ("55000", Said::default()),
        ] {
            assert!(matches!(postgres(code, said), Ambiguous(_)), "{code}: {:?}", postgres(code, said));
        }
        for (number, sqlstate) in
            [(1267, "HY000"), (4078, "HY000"), (1364, "HY000"), (1030, "HY000"), (1105, "HY000"), (9999, "42000")]
        {
            assert!(matches!(mysql(number, Some(sqlstate)), Ambiguous(_)), "{number}");
        }
        for code in [1, 11, 779, 2, 12, 99] {
            assert!(matches!(sqlite(code), Ambiguous(_)), "{code}");
        }
        // What a trigger raises to refuse a row is about the row, whatever its code.
        for code in ["P0001", "23514", "22023", "ABC01"] {
            assert_eq!(postgres(code, raised), Row, "{code}");
        }
    }

    #[test]
    fn a_row_without_a_partition_is_told_from_a_check() {
        let table = Said { table: true, ..Said::default() };
        assert_eq!(postgres("23514", table), Partition);
        assert_eq!(postgres("23514", Said { constraint: true, ..table }), Row);
        assert_eq!(mysql(1526, Some("HY000")), Partition);
    }

    #[test]
    fn what_is_said_of_the_server_or_the_session_ends_sessions() {
        for code in [
            "08000", "08003", "08006", "25006", "25P03", "53300", "57P01", "57P02", "57P03", "57P05", "0A000", "26000",
            "42P05",
        ] {
            assert!(postgres(code, Said::default()).ends_sessions(), "{code}");
        }
        for number in [1047, 1053, 1243, 1290, 1615, 1792, 1836, 1927, 4031] {
            assert!(mysql(number, None).ends_sessions(), "{number}");
        }
        for code in ["40001", "40P01", "55P03", "57014", "23505", "42501", "42P01", "25P02"] {
            assert!(!postgres(code, Said::default()).ends_sessions(), "{code}");
        }
        for number in [1205, 1213, 1062, 1142, 1146, 1267] {
            assert!(!mysql(number, None).ends_sessions(), "{number}");
        }
    }

    #[test]
    fn sqlite_codes() {
        for (code, kind) in [
            (5, Transient),
            (6, Transient),
            (517, Transient),
            (261, Transient),
            (516, Transient),
            (17, Transient),
            (787, Deferred),
            (1555, Rejected),
            (2067, Rejected),
            (1299, Rejected),
            (275, Rejected),
            (18, Rejected),
            (20, Rejected),
            (1, Misconfigured),
            (3, Misconfigured),
            (8, Misconfigured),
            (1032, Misconfigured),
            (11, Misconfigured),
            (23, Misconfigured),
            (26, Misconfigured),
            (7, Unavailable),
            (9, Unavailable),
            (10, Unavailable),
            (522, Unavailable),
            (13, Unavailable),
            (14, Unavailable),
        ] {
            assert_eq!(sqlite(code).kind(), kind, "{code}");
        }
    }

    #[test]
    fn a_closed_or_exhausted_pool_is_unavailable() {
        assert_eq!(sea_orm(&DbErr::ConnectionAcquire(sea_orm::ConnAcquireErr::Timeout)), Unavailable);
        assert_eq!(sea_orm(&DbErr::Type("a text is no number".into())), Misconfigured);
    }
}
