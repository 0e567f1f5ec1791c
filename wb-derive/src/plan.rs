//! What is to be written, when nothing is wrong: the checks' result, and all that the expansion needs.

use syn::{LitStr, Type};

use crate::ast::{Field, Input};
use crate::attr::Format;

/// An entity without mistakes.
pub(crate) struct Plan<'a> {
    pub(crate) input: &'a Input<'a>,
    pub(crate) name: LitStr,
    pub(crate) format: Format,
    /// One to six.
    pub(crate) keys: Vec<&'a Field<'a>>,
    pub(crate) version: Option<&'a Field<'a>>,
    /// What decides the partition instead of the whole key.
    pub(crate) place: Option<&'a Field<'a>>,
    pub(crate) sql: Option<Sql<'a>>,
    pub(crate) mongo: Option<Mongo<'a>>,
}

/// Where the SQL mapping comes from.
pub(crate) enum Sql<'a> {
    /// From the struct's own words.
    Table(Table<'a>),
    /// From SeaORM's metadata of the `Model`, at run time.
    Model,
}

pub(crate) struct Table<'a> {
    pub(crate) schema: Option<LitStr>,
    pub(crate) name: LitStr,
    /// One per field, in declaration order.
    pub(crate) columns: Vec<Column<'a>>,
}

pub(crate) struct Column<'a> {
    pub(crate) field: &'a Field<'a>,
    /// Name of the column.
    pub(crate) name: LitStr,
    pub(crate) stored: Stored,
}

/// How a field is stored in SQL.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stored {
    Value { key: bool, insert_only: bool },
    Json { insert_only: bool },
    Not,
}

pub(crate) struct Mongo<'a> {
    pub(crate) collection: LitStr,
    pub(crate) rules: Vec<Rule<'a>>,
    /// The fields of others in the document stay.
    pub(crate) merge: bool,
    /// The stored fields and their names in serde's document.
    pub(crate) fields: Vec<(LitStr, &'a Field<'a>)>,
    /// Name of the version field in serde's document.
    pub(crate) version: Option<LitStr>,
    /// Name and form of each key field, in the order of the keys.
    pub(crate) id: Vec<(LitStr, &'a Type, Form)>,
}

/// A field whose stored form is, or may be, not serde's.
pub(crate) struct Rule<'a> {
    pub(crate) field: &'a Field<'a>,
    /// Name of the field in serde's document.
    pub(crate) name: LitStr,
    pub(crate) kind: RuleKind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum RuleKind {
    Skip,
    Native,
    /// Native if the type has a native form: said for the whole struct.
    NativeIfAny,
}

/// The form of a key part in the document.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Serde,
    Native,
    NativeIfAny,
}
