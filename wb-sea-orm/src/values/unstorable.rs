//! What a database cannot hold, found before it is sent: the record that carries it is named and the rest of its
//! batch lands. Without this, SeaORM's binding panics, or another value than the record's is stored.

use sea_orm::sea_query::OptionEnum;
use sea_orm::{DbBackend, Value};

use crate::mapping::entity::Column;
use crate::values::fits::{Reason, fits};
use crate::values::limit::Limit;
use crate::values::moment::{as_bound, cut};

/// A value as it will be bound, and its size in bytes, roughly.
pub(crate) struct Checked {
    pub(crate) value: Value,
    pub(crate) bytes: usize,
}

/// The value as it can be bound, or why `backend` cannot hold it in this column. A fraction of a second that is finer than the
/// column's is cut off: what comes by [`Sink::cut`](wb_core::Sink::cut) has none any more, and what comes another way was
/// acknowledged already.
pub(crate) fn check(backend: DbBackend, column: &Column, limit: &Limit, value: Value) -> Result<Checked, Reason> {
    let value = flatten_json_array(column, value);
    let value = match limit.fraction().filter(|_| !column.key).and_then(|digits| cut(&value, digits)) {
        Some(cut) => cut,
        None => value,
    };
    let bytes = inspect(backend, limit, &value)?;
    Ok(Checked { value: as_bound(backend, without_char(backend, value)), bytes })
}

/// SeaORM binds one-byte integers as PostgreSQL's type `"char"`, which no column of integers takes.
fn without_char(backend: DbBackend, value: Value) -> Value {
    if backend != DbBackend::Postgres {
        return value;
    }
    match value {
        Value::TinyInt(number) => Value::SmallInt(number.map(i16::from)),
        #[cfg(feature = "postgres")]
        Value::Array(sea_orm::sea_query::ArrayType::TinyInt, items) => Value::Array(
            sea_orm::sea_query::ArrayType::SmallInt,
            items.map(|items| Box::new(items.into_iter().map(|item| without_char(backend, item)).collect())),
        ),
        value => value,
    }
}

/// SeaORM stores a `Vec` of JSON values in a JSON column as one JSON array.
#[cfg(feature = "postgres")]
fn flatten_json_array(column: &Column, value: Value) -> Value {
    use sea_orm::sea_query::{ArrayType, ColumnType};

    match (&column.column_type, value) {
        (ColumnType::Json | ColumnType::JsonBinary, Value::Array(ArrayType::Json, items)) => {
            Value::Json(items.map(|items| {
                let items = items.into_iter().map(|item| match item {
                    Value::Json(Some(item)) => *item,
                    _ => serde_json::Value::Null,
                });
                Box::new(items.collect())
            }))
        }
        (_, value) => value,
    }
}

#[cfg(not(feature = "postgres"))]
fn flatten_json_array(_: &Column, value: Value) -> Value {
    value
}

/// Bytes of a value, roughly, or why `backend` cannot hold it in a column that keeps so much.
pub(crate) fn inspect(backend: DbBackend, limit: &Limit, value: &Value) -> Result<usize, Reason> {
    let bytes = held(backend, value)?;
    fits(backend, limit, value)?;
    Ok(bytes)
}

fn held(backend: DbBackend, value: &Value) -> Result<usize, &'static str> {
    Ok(match value {
        Value::Bool(_) | Value::TinyInt(_) | Value::TinyUnsigned(_) => 1,
        Value::SmallInt(_) | Value::SmallUnsigned(_) => 2,
        Value::Int(_) | Value::Unsigned(_) => 4,
        Value::BigInt(_) => 8,
        Value::BigUnsigned(number) => {
            if backend != DbBackend::MySql && number.is_some_and(|n| i64::try_from(n).is_err()) {
                return Err("is larger than the largest signed 64-bit integer, which is all that the database has");
            }
            8
        }
        Value::Float(number) => number.map_or(Ok(4), |n| float(backend, f64::from(n)).map(|()| 4))?,
        Value::Double(number) => number.map_or(Ok(8), |n| float(backend, n).map(|()| 8))?,
        Value::String(Some(text)) => characters(backend, text)?,
        Value::Enum(OptionEnum::Some(variant)) => characters(backend, &variant.value)?,
        Value::Char(Some(letter)) => characters(backend, letter.encode_utf8(&mut [0; 4]))?,
        Value::String(None) | Value::Enum(OptionEnum::None(_)) | Value::Char(None) => 1,
        Value::Bytes(bytes) => bytes.as_ref().map_or(1, Vec::len),
        Value::Json(Some(json)) => self::json(backend, json)?,
        Value::Json(None) => 1,
        Value::ChronoDate(_)
        | Value::ChronoDateTime(_)
        | Value::ChronoDateTimeUtc(_)
        | Value::ChronoDateTimeLocal(_)
        | Value::ChronoDateTimeWithTimeZone(_)
        | Value::TimeDate(_)
        | Value::TimeDateTime(_)
        | Value::TimeDateTimeWithTimeZone(_) => 12,
        Value::ChronoTime(_) | Value::TimeTime(_) => 8,
        Value::Uuid(_) | Value::Decimal(_) => 16,
        #[cfg(feature = "postgres")]
        Value::Array(_, None) => array(backend, 1)?,
        #[cfg(feature = "postgres")]
        Value::Array(_, Some(items)) => {
            let mut bytes = array(backend, 20)?;
            for item in items.iter() {
                if *item == item.as_null() {
                    return Err("is an array with a NULL element, which SeaORM does not bind");
                }
                bytes += held(backend, item)? + 4;
            }
            bytes
        }
        // Types of features that the application switches on in SeaORM itself.
        #[allow(unreachable_patterns, reason = "the application can switch more types of SeaORM on")]
        other => foreign(backend, other)?,
    })
}

#[cfg(feature = "postgres")]
fn array(backend: DbBackend, bytes: usize) -> Result<usize, &'static str> {
    if backend == DbBackend::Postgres { Ok(bytes) } else { Err("is an array, which only PostgreSQL has") }
}

fn float(backend: DbBackend, number: f64) -> Result<(), &'static str> {
    match backend {
        DbBackend::Postgres => Ok(()),
        DbBackend::MySql if !number.is_finite() => Err("is not a finite number, which MySQL cannot store"),
        // SQLite would store NULL.
        _ if number.is_nan() => Err("is not a number, which the database would store as NULL"),
        _ => Ok(()),
    }
}

pub(crate) fn characters(backend: DbBackend, text: &str) -> Result<usize, &'static str> {
    if backend == DbBackend::Postgres && text.as_bytes().contains(&0) {
        return Err("has a NUL character, which PostgreSQL cannot store");
    }
    Ok(text.len())
}

pub(crate) fn json(backend: DbBackend, json: &serde_json::Value) -> Result<usize, &'static str> {
    if backend == DbBackend::Postgres && json_has_nul(json) {
        return Err("has a NUL character in its JSON, which PostgreSQL cannot store");
    }
    Ok(json_bytes(json))
}

fn json_has_nul(json: &serde_json::Value) -> bool {
    match json {
        serde_json::Value::String(text) => text.as_bytes().contains(&0),
        serde_json::Value::Array(items) => items.iter().any(json_has_nul),
        serde_json::Value::Object(map) => map.iter().any(|(k, v)| k.as_bytes().contains(&0) || json_has_nul(v)),
        _ => false,
    }
}

fn json_bytes(json: &serde_json::Value) -> usize {
    match json {
        serde_json::Value::String(text) => text.len() + 2,
        serde_json::Value::Array(items) => 2 + items.iter().map(|v| json_bytes(v) + 1).sum::<usize>(),
        serde_json::Value::Object(map) => 2 + map.iter().map(|(k, v)| k.len() + 4 + json_bytes(v)).sum::<usize>(),
        _ => 8,
    }
}

/// The variant cannot be named here (its feature may be off), and binding panics where the driver lacks the type.
fn foreign(backend: DbBackend, value: &Value) -> Result<usize, &'static str> {
    let text = format!("{value:?}");
    let variant = text.split('(').next().unwrap_or_default();
    let held = match variant {
        "BigDecimal" => true,
        "IpNetwork" | "MacAddress" | "Vector" => backend == DbBackend::Postgres,
        name if name.starts_with("Jiff") => backend == DbBackend::Sqlite,
        _ => false,
    };
    if held { Ok(text.len()) } else { Err("is of a type that the database's driver does not bind") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sea_orm::sea_query::prelude::chrono;
    use sea_orm::sea_query::{ArrayType, ColumnType};

    fn column(column_type: ColumnType) -> Column {
        Column {
            name: "c".into(),
            column_type,
            array_type: ArrayType::String,
            key: false,
            nullable: true,
            insert_only: false,
            version: false,
            kept: crate::values::kept::Kept::default(),
            casts: None,
        }
    }

    fn holds(backend: DbBackend, value: impl Into<Value>) -> bool {
        check(backend, &column(ColumnType::Text), Limit::unseen(backend), value.into()).is_ok()
    }

    #[test]
    fn unsigned_integers_end_where_the_database_ends() {
        for backend in [DbBackend::Postgres, DbBackend::Sqlite] {
            assert!(holds(backend, i64::MAX as u64));
            assert!(!holds(backend, i64::MAX as u64 + 1));
        }
        assert!(holds(DbBackend::MySql, u64::MAX));
    }

    #[test]
    fn floats_that_would_become_null_are_refused() {
        assert!(holds(DbBackend::Postgres, f64::NAN));
        assert!(!holds(DbBackend::MySql, f64::NAN));
        assert!(!holds(DbBackend::MySql, f32::INFINITY));
        assert!(!holds(DbBackend::Sqlite, f32::NAN));
        assert!(holds(DbBackend::Sqlite, f64::INFINITY));
    }

    #[test]
    fn a_nul_character_is_refused_by_postgres_only() {
        for text in ["a\0", "\0"] {
            assert!(!holds(DbBackend::Postgres, text));
            assert!(!holds(DbBackend::Postgres, serde_json::json!({ "k": [text] })));
            assert!(holds(DbBackend::MySql, text));
            assert!(holds(DbBackend::Sqlite, text));
        }
    }

    #[test]
    fn dates_end_where_the_database_ends() {
        let far = chrono::NaiveDate::from_ymd_opt(10_000, 1, 1).unwrap();
        assert!(!holds(DbBackend::MySql, far));
        assert!(holds(DbBackend::Postgres, far));
        assert!(!holds(DbBackend::Postgres, chrono::NaiveDateTime::MIN));
    }

    #[test]
    #[cfg(feature = "postgres")]
    fn arrays_are_for_postgres_and_without_null() {
        assert!(holds(DbBackend::Postgres, vec![1, 2]));
        let with_null = vec![Value::Int(Some(1)), Value::Int(None)];
        assert!(!holds(DbBackend::Postgres, Value::Array(ArrayType::Int, Some(Box::new(with_null)))));
        assert!(!holds(DbBackend::MySql, vec![1, 2]));
    }

    #[test]
    #[cfg(feature = "postgres")]
    fn a_list_of_json_in_a_json_column_is_one_array() {
        let list = vec![serde_json::json!(1), serde_json::json!({"a": 2})];
        let json = column(ColumnType::Json);
        let checked = check(DbBackend::Postgres, &json, &Limit::Unknown, list.clone().into()).unwrap();
        assert_eq!(checked.value, Value::from(serde_json::Value::Array(list)));
    }
}
