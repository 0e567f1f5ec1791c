//! How a field becomes a bind and a row's column a field; what the derive's output calls.

use std::marker::PhantomData;

use sea_orm::sea_query::ValueType;
use sea_orm::{DbErr, QueryResult, TryGetable, Value};
use serde::Serialize;
use serde::de::DeserializeOwned;
use wb_core::Unstorable;

use crate::mapping::column::read;
use crate::mapping::entity::{Column, Columns, Reference, SqlEntity, SqlMappingError};
use crate::values::storable;

/// One value per column.
pub type Values = Vec<Value>;

/// What is said of a value before it is stored.
pub type Storable = Result<usize, Unstorable>;

/// Bytes of all columns.
#[must_use]
pub fn bytes<const COLUMNS: usize>(columns: [usize; COLUMNS]) -> usize {
    columns.iter().sum()
}

/// References of an entity.
pub type References = Vec<Reference>;

/// Those that are there.
#[must_use]
pub fn references<const FIELDS: usize>(found: [Option<Reference>; FIELDS]) -> References {
    found.into_iter().flatten().collect()
}

/// Asks at compile time whether an entity has a table: `Parent::<P>::reference` finds the function below where it has
/// one, and [`NoTable`]'s otherwise.
#[derive(Debug)]
pub struct Parent<P>(PhantomData<P>);

impl<P: SqlEntity> Parent<P> {
    /// It has.
    #[must_use]
    pub fn reference(column: &'static str) -> Option<Reference> {
        Reference::to::<P>(column)
    }
}

/// What [`Parent`] finds for entities without a table.
pub trait NoTable {
    /// There is nothing to refer to.
    #[must_use]
    fn reference(column: &'static str) -> Option<Reference> {
        let _ = column;
        None
    }
}

impl<P> NoTable for Parent<P> {}

/// The values of an array; the output has no prelude to make a `Vec` with.
#[must_use]
pub fn values<const COLUMNS: usize>(values: [Value; COLUMNS]) -> Values {
    values.into()
}

/// A field that SeaORM can store: every type that could be a field of a `Model`.
///
/// Implemented for all of them; the derive asks for it, so that one message says what is missing.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be stored in a SQL column",
    label = "no SQL column type",
    note = "store it as JSON with `#[wb(json)]`, leave it out with `#[wb(skip)]`,",
    note = "or derive SeaORM's `DeriveValueType` or `DeriveActiveEnum` for it"
)]
pub trait SqlField: Sized {
    /// The column of such a field.
    #[must_use]
    fn column(name: &'static str) -> Column;

    /// What SeaORM would bind.
    fn to_value(&self) -> Value;

    /// Bytes of the value, roughly, when this column, the table's at this place, can hold it.
    ///
    /// # Errors
    /// [`Unstorable`] when it never can.
    fn storable(&self, column: &'static str, index: usize, columns: Columns<'_>) -> Storable;

    /// Whether the column keeps less of a second than the value has.
    fn cuts(&self, column: &'static str, index: usize, columns: Columns<'_>) -> bool;

    /// Cuts that off.
    fn cut(&mut self, column: &'static str, index: usize, columns: Columns<'_>);

    /// The field of a row.
    ///
    /// # Errors
    /// When the column is missing or of another type.
    fn from_row(row: &QueryResult, name: &str) -> Result<Self, DbErr>;
}

#[diagnostic::do_not_recommend]
impl<T: Clone + Into<Value> + ValueType + TryGetable + 'static> SqlField for T {
    fn column(name: &'static str) -> Column {
        Column::of::<T>(name)
    }

    fn to_value(&self) -> Value {
        self.clone().into()
    }

    fn storable(&self, column: &'static str, index: usize, columns: Columns<'_>) -> Storable {
        let held = storable::field(self, columns.backend, columns.limit(index, column));
        held.map_err(|reason| Unstorable::new(column, reason))
    }

    fn cuts(&self, column: &'static str, index: usize, columns: Columns<'_>) -> bool {
        storable::without_rest(self, columns.limit(index, column)).is_some()
    }

    fn cut(&mut self, column: &'static str, index: usize, columns: Columns<'_>) {
        if let Some(value) = storable::without_rest(self, columns.limit(index, column)) {
            *self = value;
        }
    }

    fn from_row(row: &QueryResult, name: &str) -> Result<Self, DbErr> {
        read(row, name)
    }
}

/// A `#[wb(json)]` field: every type that serde can write and read.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be stored as JSON",
    label = "serde's `Serialize` and `Deserialize` are missing",
    note = "put `#[derive(serde::Serialize, serde::Deserialize)]` on `{Self}`"
)]
pub trait JsonField: Sized {
    /// The column of such a field.
    #[must_use]
    fn column(name: &'static str) -> Column;

    /// What is bound: null in JSON is NULL in SQL.
    ///
    /// # Errors
    /// [`SqlMappingError::Json`] when serde fails.
    fn to_value(&self, column: &'static str) -> Result<Value, SqlMappingError>;

    /// Bytes of the value, roughly, when this column, the table's at this place, can hold it.
    ///
    /// # Errors
    /// [`Unstorable`] when it never can, or when serde fails.
    fn storable(&self, column: &'static str, index: usize, columns: Columns<'_>) -> Storable;

    /// The field of a row.
    ///
    /// # Errors
    /// When the column is missing, is no JSON, or holds no such value.
    fn from_row(row: &QueryResult, name: &str) -> Result<Self, DbErr>;
}

#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned> JsonField for T {
    fn column(name: &'static str) -> Column {
        Column::json::<T>(name)
    }

    fn to_value(&self, column: &'static str) -> Result<Value, SqlMappingError> {
        match serde_json::to_value(self) {
            Ok(serde_json::Value::Null) => Ok(Value::Json(None)),
            Ok(json) => Ok(Value::Json(Some(Box::new(json)))),
            Err(source) => Err(SqlMappingError::Json { column, source }),
        }
    }

    fn storable(&self, column: &'static str, index: usize, columns: Columns<'_>) -> Storable {
        let held = storable::json(self, columns.backend, columns.limit(index, column));
        held.map_err(|reason| Unstorable::new(column, reason))
    }

    fn from_row(row: &QueryResult, name: &str) -> Result<Self, DbErr> {
        let json: Option<serde_json::Value> = row.try_get_by(name)?;
        T::deserialize(json.unwrap_or_default()).map_err(|e| DbErr::Json(format!("column `{name}`: {e}")))
    }
}
