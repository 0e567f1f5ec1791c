//! What a driver's error means for the batch, by its code and never by its text.

use sea_orm::{DbErr, RuntimeErr};
use wb_core::{ErrorKind, SinkError};

use ErrorKind::{Deferred, Misconfigured, Rejected, Transient, Unavailable};

/// A PostgreSQL SQLSTATE.
///
/// The classes that speak of the server and of the schema are listed; what is left are data errors and the codes
/// that triggers raise, which belong to a record.
pub(crate) fn postgres(sqlstate: &str) -> ErrorKind {
    match sqlstate {
        // A foreign key's parent, or, for a delete, the children that must go first (23001 from PostgreSQL 18 on).
        "23001" | "23503" => Deferred,
        // The first error of the transaction is the one that counts; who sees only this one tries again.
        "25P02" => Transient,
        // Object in use, lock not available, statement canceled: by its timeout, which mostly means a lock.
        "55006" | "55P03" | "57014" => Transient,
        _ => match sqlstate.get(..2).unwrap_or_default() {
            "40" => Transient,
            // Read-only transaction (a standby after failover), idle timeouts.
            "25" => Unavailable,
            // Connection, resources, prerequisite state, operator intervention, system, internal, foreign server.
            "08" | "53" | "55" | "57" | "58" | "F0" | "HV" | "XX" | "72" => Unavailable,
            // SQL or schema that does not fit, permissions, catalogs, statement names.
            "03" | "0A" | "0B" | "0L" | "0P" | "0Z" | "20" | "24" | "26" | "28" | "2B" | "2D" | "34" | "3B" | "3D"
            | "3F" | "42" => Misconfigured,
            _ => Rejected,
        },
    }
}

/// A MySQL or MariaDB error number, with the SQLSTATE for numbers that are not listed.
pub(crate) fn mysql(number: u16, sqlstate: Option<&str>) -> ErrorKind {
    match number {
        // Record changed, lock wait timeout, deadlock, XA deadlock, NOWAIT lock; a schema that changed under the
        // transaction or a prepared statement; statement timeouts of MariaDB and MySQL; lost against another node.
        1020 | 1205 | 1213 | 1243 | 1297 | 1412 | 1614 | 1615 | 1689 | 1969 | 3024 | 3101 | 3572 => Transient,
        // Too many connections, out of memory or disk, shutdown, network, killed, limits, read-only, cluster not ready.
        1021
        | 1030
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
        | 1105
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
        | 4031 => Unavailable,
        // Child without parent, parent with children; 1216 and 1217 are their short forms.
        1216 | 1217 | 1451 | 1452 => Deferred,
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
        | 1526
        | 1586
        | 1644
        | 1690
        | 1748
        | 1761
        | 1762
        | 3140..=3158
        | 3819
        | 4025 => Rejected,
        // A column that is not mapped has no default: every record of the entity fails alike.
        // Hosts, passwords, definers, views that cannot be written.
        1044
        | 1045
        | 1049
        | 1054
        | 1064
        | 1130
        | 1136
        | 1141..=1143
        | 1146
        | 1147
        | 1227
        | 1251
        | 1275
        | 1288
        | 1356
        | 1364
        | 1370
        | 1449
        | 1471
        | 1698
        | 1820
        | 1862
        | 1906
        | 3105 => Misconfigured,
        _ => match sqlstate.and_then(|s| s.get(..2)).unwrap_or_default() {
            "40" => Transient,
            "21" | "22" | "23" | "44" | "45" => Rejected,
            "28" | "3D" | "42" => Misconfigured,
            _ => Unavailable,
        },
    }
}

/// A SQLite (extended) result code.
pub(crate) fn sqlite(code: i32) -> ErrorKind {
    const CONSTRAINT_FOREIGNKEY: i32 = 787;
    match code {
        CONSTRAINT_FOREIGNKEY => Deferred,
        _ => match code & 0xff {
            // Rolled back by another statement, busy, locked, schema changed under a prepared statement.
            4..=6 | 17 => Transient,
            // Too big, constraint, datatype mismatch.
            18..=20 => Rejected,
            // SQL (a missing table too), permission, read-only, a broken file, misuse, authorization, bind index, not a
            // database.
            1 | 3 | 8 | 11 | 21 | 23 | 25 | 26 => Misconfigured,
            // Memory, interrupted, IO, disk full, cannot open, lock protocol.
            _ => Unavailable,
        },
    }
}

/// An error of the driver.
#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
pub(crate) fn sqlx(error: &sea_orm::sqlx::Error) -> ErrorKind {
    use sea_orm::sqlx::Error;
    match error {
        Error::Database(error) => database(error.as_ref()),
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
fn database(error: &dyn sea_orm::sqlx::error::DatabaseError) -> ErrorKind {
    #[cfg(feature = "postgres")]
    if let Some(error) = error.try_downcast_ref::<sea_orm::sqlx::postgres::PgDatabaseError>() {
        return postgres(error.code());
    }
    #[cfg(feature = "mysql")]
    if let Some(error) = error.try_downcast_ref::<sea_orm::sqlx::mysql::MySqlDatabaseError>() {
        return mysql(error.number(), error.code());
    }
    #[cfg(feature = "sqlite")]
    if error.try_downcast_ref::<sea_orm::sqlx::sqlite::SqliteError>().is_some() {
        return error.code().and_then(|code| code.parse().ok()).map_or(Unavailable, sqlite);
    }
    let _ = error;
    Unavailable
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
            ("54000", Rejected),
            ("P0001", Rejected),
            ("ABC01", Rejected),
            ("42P01", Misconfigured),
            ("42703", Misconfigured),
            ("42P10", Misconfigured),
            ("42501", Misconfigured),
            ("428C9", Misconfigured),
            ("42804", Misconfigured),
            ("3F000", Misconfigured),
            ("0A000", Misconfigured),
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
        ] {
            assert_eq!(postgres(code), kind, "{code}");
        }
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
            assert_eq!(mysql(number, None), kind, "{number}");
        }
        assert_eq!(mysql(9999, Some("23000")), Rejected);
        assert_eq!(mysql(9999, Some("42000")), Misconfigured);
        assert_eq!(mysql(9999, Some("HY000")), Unavailable);
        assert_eq!(mysql(9999, None), Unavailable);
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
            assert_eq!(sqlite(code), kind, "{code}");
        }
    }

    #[test]
    fn a_closed_or_exhausted_pool_is_unavailable() {
        assert_eq!(sea_orm(&DbErr::ConnectionAcquire(sea_orm::ConnAcquireErr::Timeout)), Unavailable);
        assert_eq!(sea_orm(&DbErr::Type("a text is no number".into())), Misconfigured);
    }
}
