//! Definitions of columns: the usual one of each field first.

use sea_orm::DbBackend;

/// A column's type.
pub(crate) type Definition = &'static str;

/// What a field may be stored in, or not; the first one is what `create_table` would make, or nearly.
pub(crate) fn definitions(backend: DbBackend, field: usize) -> &'static [Definition] {
    const INTEGERS: usize = 8;
    match (backend, field) {
        (DbBackend::Postgres, ..INTEGERS) => {
            &["bigint", "integer", "smallint", "numeric", "numeric(6,2)", "double precision", "real", "text"]
        }
        (DbBackend::MySql, ..INTEGERS) => &[
            "bigint",
            "bigint unsigned",
            "int",
            "int unsigned",
            "mediumint",
            "smallint",
            "smallint unsigned",
            "tinyint",
            "tinyint unsigned",
            "double",
            "decimal(30,0)",
            "varchar(30)",
        ],
        (_, ..INTEGERS) => &["bigint", "integer", "numeric", "blob", "real", "text", "decimal(10,2)"],
        (DbBackend::Postgres, 8 | 9) => {
            &["double precision", "real", "numeric", "numeric(10,3)", "bigint", "smallint", "text"]
        }
        (DbBackend::MySql, 8 | 9) => &["double", "float", "double(12,3)", "float(7,2)", "decimal(20,6)", "bigint"],
        (_, 8 | 9) => &["double", "float", "numeric", "blob", "integer", "text"],
        (DbBackend::MySql, 10) => &["bool", "tinyint", "int"],
        (_, 10) => &["boolean"],
        (DbBackend::Postgres, 11) => &["text", "varchar", "varchar(5)", "char(3)", "name", "bigint"],
        (DbBackend::MySql, 11) => &[
            "longtext",
            "varchar(5)",
            "char(3)",
            "tinytext",
            "text",
            "varchar(9) character set utf8mb3",
            "varchar(9) character set ascii",
            "char(4) character set utf8mb3",
            "int",
        ],
        (_, 11) => &["text", "varchar(3)", "string", "blob", "integer", "numeric", "clob"],
        (DbBackend::Postgres, 12) => &["bytea", "text"],
        (DbBackend::MySql, 12) => &["longblob", "varbinary(4)", "binary(3)", "tinyblob", "blob"],
        (_, 12) => &["blob", "numeric", "text", "integer"],
        (DbBackend::Postgres, 13) => &["uuid", "text", "bytea"],
        (DbBackend::MySql, 13) => &["binary(16)", "varbinary(16)", "binary(20)", "blob"],
        (_, 13) => &["uuid_text", "blob", "numeric"],
        (DbBackend::Postgres, 14) => {
            &["numeric", "numeric(10,1)", "numeric(20,4)", "numeric(3,3)", "numeric(5,0)", "double precision"]
        }
        (DbBackend::MySql, 14) => {
            &["decimal(57,28)", "decimal(10,0)", "decimal(20,4)", "decimal(3,3)", "decimal", "double"]
        }
        (_, 14) => &["decimal_text", "real", "numeric", "decimal(10,2)", "blob"],
        (DbBackend::Postgres, 15 | 16) => &["date", "timestamp"],
        (DbBackend::MySql, 15 | 16) => &["date", "datetime(6)"],
        (_, 15 | 16) => &["date_text", "date", "text"],
        (DbBackend::Postgres, 17 | 18) => &["time", "time(0)", "time(3)"],
        (DbBackend::MySql, 17 | 18) => &["time(6)", "time", "time(3)"],
        (_, 17 | 18) => &["time_text", "time", "text"],
        (DbBackend::Postgres, 19 | 20) => &["timestamp", "timestamp(0)", "timestamp(4)", "timestamptz"],
        (DbBackend::Postgres, 21..=24) => &["timestamptz", "timestamptz(0)", "timestamptz(3)", "timestamp"],
        (DbBackend::MySql, 19..=24) => &["datetime(6)", "datetime", "datetime(3)", "timestamp(6)", "timestamp", "date"],
        (_, 19..=24) => &["timestamp_text", "datetime", "timestamp", "text"],
        (DbBackend::Postgres, _) => &["json", "jsonb"],
        (DbBackend::MySql, _) => &["json", "longtext", "tinytext", "varchar(20)"],
        (_, _) => &["json_text", "json", "text", "blob"],
    }
}
