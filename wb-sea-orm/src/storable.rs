//! Whether a database can hold the value of a field, looked at where it is: before each write, so nothing is copied unless
//! its type asks for it. What `check` says of a bound value is the last word.

use std::any::Any;
use std::borrow::Cow;
use std::mem::{needs_drop, size_of};

use sea_orm::sea_query::{ArrayType, ValueType};
use sea_orm::{DbBackend, Value};
use serde::Serialize;
use wb_core::codec::walk::walk;

use crate::check::{characters, inspect, json as check_json};

/// Bytes of a value that SeaORM binds, or why `backend` cannot hold it.
pub(crate) fn field<T: Clone + Into<Value> + ValueType + 'static>(
    value: &T,
    backend: DbBackend,
) -> Result<usize, &'static str> {
    let any: &dyn Any = value;
    if let Some(text) = any.downcast_ref::<String>() {
        return characters(backend, text);
    }
    if let Some(text) = any.downcast_ref::<Option<String>>() {
        return text.as_ref().map_or(Ok(1), |text| characters(backend, text));
    }
    if let Some(bytes) = any.downcast_ref::<Vec<u8>>() {
        return Ok(bytes.len());
    }
    if let Some(bytes) = any.downcast_ref::<Option<Vec<u8>>>() {
        return Ok(bytes.as_ref().map_or(1, Vec::len));
    }
    if let Some(value) = any.downcast_ref::<serde_json::Value>() {
        return check_json(backend, value);
    }
    if let Some(value) = any.downcast_ref::<Option<serde_json::Value>>() {
        return value.as_ref().map_or(Ok(1), |value| check_json(backend, value));
    }
    match T::array_type() {
        // Every value of these fits, wherever the type of the column does. An array of them owns memory.
        ArrayType::Bool
        | ArrayType::TinyInt
        | ArrayType::SmallInt
        | ArrayType::Int
        | ArrayType::BigInt
        | ArrayType::TinyUnsigned
        | ArrayType::SmallUnsigned
        | ArrayType::Unsigned
        | ArrayType::ChronoTime
        | ArrayType::TimeTime
        | ArrayType::Uuid
        | ArrayType::Decimal
        // An enum of the program's own words.
        | ArrayType::String
        | ArrayType::Enum(_)
            if !needs_drop::<T>() =>
        {
            Ok(size_of::<T>())
        }
        // A list of JSON values is one JSON array in a JSON column; which column it is the plan knows.
        ArrayType::Json if needs_drop::<T>() => match value.clone().into() {
            Value::Json(Some(value)) => check_json(backend, &value),
            _ => Ok(1),
        },
        _ => inspect(backend, &value.clone().into()),
    }
}

/// Bytes of a value that is stored as JSON, or why `backend` cannot hold it.
pub(crate) fn json<T: Serialize>(value: &T, backend: DbBackend) -> Result<usize, Cow<'static, str>> {
    let seen = walk(value, true);
    let suspect = seen.odd || (seen.nul && backend == DbBackend::Postgres);
    if !suspect {
        return Ok(seen.bytes);
    }
    match serde_json::to_value(value) {
        Ok(value) => Ok(check_json(backend, &value)?),
        Err(error) => Err(format!("does not serialize as JSON: {error}").into()),
    }
}
