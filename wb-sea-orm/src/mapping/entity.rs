//! What the SQL sink knows of an entity: its table, its columns, and how values become binds and rows values.

use std::borrow::Cow;

use sea_orm::sea_query::{ArrayType, ColumnType, ValueType};
use sea_orm::{DbBackend, DbErr, QueryResult, Value};
use serde::de::DeserializeOwned;
use wb_core::{Entity, Unstorable};

use crate::mapping::casts::Casts;
use crate::values::kept::Kept;
use crate::values::limit::Limit;
use crate::values::unstorable::check;

/// An entity with a table; derived where `#[wb(table = "...")]` is given or the struct is a SeaORM `Model`.
pub trait SqlEntity: Entity {
    /// The table and its columns. Called once per sink.
    fn table() -> Table;

    /// Columns that refer to the key of another entity's table; the derive makes one for each field with `belongs_to`
    /// whose parent has a table with a key of one column. With them the rows whose parents are missing are found by one
    /// statement; without, by trying. Called once per sink.
    #[must_use]
    fn references() -> Vec<Reference> {
        Vec::new()
    }

    /// One value per column of [`table`](SqlEntity::table), in the same order: exactly what SeaORM would bind.
    ///
    /// # Errors
    /// When a value has no SQL form (for example a `#[wb(json)]` field that does not serialize).
    fn bind(&self) -> Result<Vec<Value>, SqlMappingError>;

    /// Bytes of this value, roughly, when its columns can hold it as it is; [`SqlSink`](crate::SqlSink) asks before each write. The
    /// derive looks at the fields where they are; this one binds them.
    ///
    /// # Errors
    /// [`Unstorable`] for a value that its column can never hold.
    fn storable(&self, columns: Columns<'_>) -> Result<usize, Unstorable> {
        let values = self.bind().map_err(|error| mapping_failed(&error))?;
        let mut bytes = 0;
        for (index, (column, value)) in Self::table().columns.iter().zip(values).enumerate() {
            let unstorable = |reason| Unstorable::new(column.name.clone(), reason);
            let limit = columns.limit(index, &column.name);
            bytes += check(columns.backend, column, limit, value).map_err(unstorable)?.bytes;
        }
        Ok(bytes)
    }

    /// Whether a time of this value has a finer fraction of a second than its column keeps, so that [`cut`](SqlEntity::cut)
    /// would change it. An entity of your own that says neither has such times cut when they are flushed, and not before.
    fn cuts(&self, columns: Columns<'_>) -> bool {
        let _ = columns;
        false
    }

    /// Cuts off what [`cuts`](SqlEntity::cuts) finds: never rounds, so that a time never becomes a later one.
    fn cut(&mut self, columns: Columns<'_>) {
        let _ = columns;
    }

    /// One value per key column, in the order of the key columns in [`table`](SqlEntity::table).
    fn bind_key(key: &Self::Key) -> Vec<Value>;

    /// The key of a row that was selected with the names of the key columns.
    ///
    /// # Errors
    /// When a column is missing or of another type.
    fn key_of_row(row: &QueryResult) -> Result<Self::Key, DbErr>;

    /// The value of a row that was selected with the column names of [`table`](SqlEntity::table).
    ///
    /// # Errors
    /// When a column is missing or of another type.
    fn from_row(row: &QueryResult) -> Result<Self, DbErr>;
}

/// What is known of the columns that a value goes to.
#[derive(Clone, Copy, Debug)]
pub struct Columns<'a> {
    pub(crate) backend: DbBackend,
    /// One for each column of the table, in the same order; none where the table was not looked at yet.
    pub(crate) limits: &'a [(Cow<'static, str>, Limit)],
}

impl<'a> Columns<'a> {
    /// The kind of database.
    #[must_use]
    pub const fn backend(&self) -> DbBackend {
        self.backend
    }

    /// What the column keeps that is mapped at this place, or has this name.
    pub(crate) fn limit(&self, index: usize, name: &str) -> &'a Limit {
        let here = self.limits.get(index).filter(|(known, _)| known == name);
        let found = here.or_else(|| self.limits.iter().find(|(known, _)| known == name));
        found.map_or_else(|| Limit::unseen(self.backend), |(_, limit)| limit)
    }
}

fn mapping_failed(error: &SqlMappingError) -> Unstorable {
    match error {
        SqlMappingError::Json { column, source } => {
            Unstorable::new(*column, format!("does not serialize as JSON: {source}"))
        }
    }
}

/// A table as an entity maps it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Table {
    /// Schema, if the entity names one.
    pub schema: Option<Cow<'static, str>>,
    /// Name of the table.
    pub name: Cow<'static, str>,
    /// The mapped columns.
    pub columns: Vec<Column>,
    /// The application makes the keys, although the database, or SeaORM, could (`#[wb(client_keys)]`).
    pub client_keys: bool,
    /// SeaORM says that the database makes the keys (`auto_increment`).
    pub auto_increment: bool,
}

impl Table {
    /// A table; columns that are part of the key stand in the order of the key's parts.
    pub fn new(schema: Option<&'static str>, name: &'static str, columns: impl Into<Vec<Column>>) -> Self {
        Self {
            schema: schema.map(Cow::Borrowed),
            name: Cow::Borrowed(name),
            columns: columns.into(),
            client_keys: false,
            auto_increment: false,
        }
    }

    /// The application makes the keys, although the database could.
    #[must_use]
    pub fn client_keys(self) -> Self {
        Self { client_keys: true, ..self }
    }

    /// The column that holds the version of a row.
    #[must_use]
    pub fn version(&self) -> Option<&Column> {
        self.columns.iter().find(|column| column.version)
    }
}

/// A column as an entity maps it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Column {
    /// Name of the column.
    pub name: Cow<'static, str>,
    /// SQL type, as SeaORM's schema builder would make it.
    pub column_type: ColumnType,
    /// Type of the elements when many rows' values travel as one array.
    pub array_type: ArrayType,
    /// Part of the key.
    pub key: bool,
    /// May be NULL.
    pub nullable: bool,
    /// Written on insert, left alone on update.
    pub insert_only: bool,
    /// The version: a row is updated only by one whose version is not lower. A row without one (NULL) is older than all.
    pub version: bool,
    /// What the table does to its values.
    pub(crate) kept: Kept,
    /// What SeaORM's `save_as` and `select_as` make of a value on its way.
    pub(crate) casts: Option<Box<Casts>>,
}

impl Column {
    /// A column that stores values of `T`, nullable if `T` is an `Option`.
    #[must_use]
    pub fn of<T: ValueType>(name: &'static str) -> Self {
        Self {
            name: Cow::Borrowed(name),
            column_type: T::column_type(),
            array_type: T::array_type(),
            key: false,
            nullable: T::is_option(),
            insert_only: false,
            version: false,
            kept: Kept::default(),
            casts: None,
        }
    }

    /// A JSON column that stores what serde makes of `T`, nullable if serde reads a `T` from null.
    #[must_use]
    pub fn json<T: DeserializeOwned>(name: &'static str) -> Self {
        let nullable = T::deserialize(serde_json::Value::Null).is_ok();
        Self { nullable, ..Self::of::<serde_json::Value>(name) }
    }

    /// Part of the key.
    #[must_use]
    pub fn key(self) -> Self {
        Self { key: true, ..self }
    }

    /// Written on insert, left alone on update.
    #[must_use]
    pub fn insert_only(self) -> Self {
        Self { insert_only: true, ..self }
    }

    /// The version of the row.
    #[must_use]
    pub fn version(self) -> Self {
        Self { version: true, ..self }
    }
}

/// A column that refers to the key of another table.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Reference {
    /// Name of the column.
    pub column: Cow<'static, str>,
    /// The table that it refers to, with its key column alone.
    pub parent: Table,
}

impl Reference {
    /// A reference of `column` to the key of `P`; `None` when that has several columns.
    #[must_use]
    pub fn to<P: SqlEntity>(column: &'static str) -> Option<Self> {
        let mut parent = P::table();
        parent.columns.retain(|column| column.key);
        (parent.columns.len() == 1).then_some(Self { column: Cow::Borrowed(column), parent })
    }
}

/// A value that has no SQL form.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SqlMappingError {
    /// A `#[wb(json)]` field does not serialize.
    #[error("field of column `{column}` does not serialize as JSON")]
    Json {
        /// The column.
        column: &'static str,
        /// What serde said.
        source: serde_json::Error,
    },
}
