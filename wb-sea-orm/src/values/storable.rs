//! Whether a column can hold the value of a field, looked at where it is: before each write, so nothing is copied unless
//! its type asks for it. What `check` says of a bound value is the last word.

use std::any::Any;
use std::borrow::Cow;
use std::mem::{needs_drop, size_of};

use sea_orm::sea_query::{ArrayType, ValueType};
use sea_orm::{DbBackend, Value};
use serde::Serialize;
use wb_core::codec::walk::walk;

use crate::values::fits::{Reason, bytes_fit, looks_numeric, text_fits};
use crate::values::limit::{Charset, Limit};
use crate::values::moment::cut;
use crate::values::unstorable::{characters, inspect, json as check_json};

fn text(value: &str, backend: DbBackend, limit: &Limit) -> Result<usize, Reason> {
    let bytes = characters(backend, value)?;
    match limit {
        Limit::Text(limit) => text_fits(limit, value)?,
        Limit::Spelled(change) => change.spares_text(value)?,
        // Said by `fits`, in its words.
        Limit::Affinity(affinity) if affinity.makes_numbers() && looks_numeric(value) => {
            return inspect(backend, limit, &Value::from(value));
        }
        _ => {}
    }
    Ok(bytes)
}

fn blob(value: &[u8], limit: &Limit) -> Result<usize, Reason> {
    if let Limit::Bytes { most, filled } = limit {
        bytes_fit(*most, *filled, value.len() as u64)?;
    }
    Ok(value.len())
}

/// Whether a column that keeps so much is looked at value by value, where it is one of JSON.
fn judges_json(limit: &Limit) -> bool {
    match limit {
        // What is longer than the longest text is no packet either.
        Limit::Text(text) => {
            text.characters.is_some()
                || text.bytes.is_some_and(|most| most < u64::from(u32::MAX))
                || text.charset != Charset::All
        }
        Limit::Affinity(affinity) => affinity.makes_numbers(),
        _ => false,
    }
}

fn whole_json(value: &serde_json::Value, backend: DbBackend, limit: &Limit) -> Result<usize, Reason> {
    if judges_json(limit) {
        return inspect(backend, limit, &Value::from(value.clone()));
    }
    Ok(check_json(backend, value)?)
}

/// Bytes of a value that SeaORM binds, or why its column cannot hold it.
pub(crate) fn field<T: Clone + Into<Value> + ValueType + 'static>(
    value: &T,
    backend: DbBackend,
    limit: &Limit,
) -> Result<usize, Reason> {
    let any: &dyn Any = value;
    if let Some(value) = any.downcast_ref::<String>() {
        return text(value, backend, limit);
    }
    if let Some(value) = any.downcast_ref::<Option<String>>() {
        return value.as_ref().map_or(Ok(1), |value| text(value, backend, limit));
    }
    if let Some(bytes) = any.downcast_ref::<Vec<u8>>() {
        return blob(bytes, limit);
    }
    if let Some(bytes) = any.downcast_ref::<Option<Vec<u8>>>() {
        return bytes.as_ref().map_or(Ok(1), |bytes| blob(bytes, limit));
    }
    if let Some(value) = any.downcast_ref::<serde_json::Value>() {
        return whole_json(value, backend, limit);
    }
    if let Some(value) = any.downcast_ref::<Option<serde_json::Value>>() {
        return value.as_ref().map_or(Ok(1), |value| whole_json(value, backend, limit));
    }
    match T::array_type() {
        // An array of these owns memory.
        ArrayType::Bool => Ok(size_of::<T>()),
        // Every value fits a column of the same type, and nothing else was found.
        ArrayType::TinyInt
        | ArrayType::SmallInt
        | ArrayType::Int
        | ArrayType::BigInt
        | ArrayType::TinyUnsigned
        | ArrayType::SmallUnsigned
        | ArrayType::Unsigned
        | ArrayType::Uuid
        | ArrayType::Decimal
        // An enum of the program's own words.
        | ArrayType::String
        | ArrayType::Enum(_)
            if !needs_drop::<T>() && holds_all::<T>(limit) =>
        {
            Ok(size_of::<T>())
        }
        // A list of JSON values is one JSON array in a JSON column; which column it is the plan knows.
        ArrayType::Json if needs_drop::<T>() => match value.clone().into() {
            Value::Json(Some(value)) => whole_json(&value, backend, limit),
            _ => Ok(1),
        },
        _ => inspect(backend, limit, &value.clone().into()),
    }
}

/// Whether the column keeps every value of an integer type, or of another that fits what it fits.
fn holds_all<T: ValueType>(limit: &Limit) -> bool {
    let bits = |bits: u32| (-(1_i128 << (bits - 1)), (1_i128 << (bits - 1)) - 1);
    let (low, high) = match T::array_type() {
        ArrayType::TinyInt => bits(8),
        ArrayType::SmallInt => bits(16),
        ArrayType::Int => bits(32),
        ArrayType::BigInt => bits(64),
        ArrayType::TinyUnsigned => (0, u8::MAX.into()),
        ArrayType::SmallUnsigned => (0, u16::MAX.into()),
        ArrayType::Unsigned => (0, u32::MAX.into()),
        _ => return matches!(limit, Limit::Unknown | Limit::Time { .. }),
    };
    match limit {
        Limit::Integers { least, most } => low >= *least && high <= *most,
        Limit::Unknown | Limit::Time { .. } | Limit::Affinity(_) => true,
        _ => false,
    }
}

/// The value without what its column does not keep of a second; `None` where nothing is cut.
pub(crate) fn without_rest<T: Clone + Into<Value> + ValueType>(value: &T, limit: &Limit) -> Option<T> {
    if !is_time::<T>() {
        return None;
    }
    T::try_from(cut(&value.clone().into(), limit.fraction()?)?).ok()
}

/// Whether values of this type, or of its elements, have a time in them.
fn is_time<T: ValueType>() -> bool {
    matches!(
        T::array_type(),
        ArrayType::ChronoTime
            | ArrayType::ChronoDateTime
            | ArrayType::ChronoDateTimeUtc
            | ArrayType::ChronoDateTimeLocal
            | ArrayType::ChronoDateTimeWithTimeZone
            | ArrayType::TimeTime
            | ArrayType::TimeDateTime
            | ArrayType::TimeDateTimeWithTimeZone
    )
}

/// Bytes of a value that is stored as JSON, or why its column cannot hold it.
pub(crate) fn json<T: Serialize>(value: &T, backend: DbBackend, limit: &Limit) -> Result<usize, Cow<'static, str>> {
    let seen = walk(value, true);
    if seen.not_finite {
        return Err("has a number that is not finite, which JSON does not have".into());
    }
    let suspect = seen.odd || (seen.nul && backend == DbBackend::Postgres) || judges_json(limit);
    if !suspect {
        return Ok(seen.bytes);
    }
    match serde_json::to_value(value) {
        Ok(serde_json::Value::Null) => Ok(1),
        Ok(value) => whole_json(&value, backend, limit),
        Err(error) => Err(format!("does not serialize as JSON: {error}").into()),
    }
}
