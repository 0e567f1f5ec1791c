//! The statements of each database: pure functions from an entity's columns to text.

pub(crate) mod mysql;
pub(crate) mod postgres;
pub(crate) mod sqlite;

use sea_orm::DbBackend;
use sea_orm::sea_query::ArrayType;

use crate::mapping::entity::{Column, Table};

/// What is stored in a column where `value` stands for what is bound: SeaORM's `save_as`, or else `plain`.
fn saved(backend: DbBackend, column: &Column, value: &str, plain: impl FnOnce() -> String) -> String {
    column.casts.as_ref().and_then(|casts| casts.saved(backend, value)).unwrap_or_else(plain)
}

/// What is read of a column, under its own name: SeaORM's `select_as`, or else `plain`.
fn read_as(
    backend: DbBackend,
    column: &Column,
    name: impl Fn(&str) -> String,
    from: &str,
    plain: impl FnOnce() -> String,
) -> String {
    let quoted = name(&column.name);
    let cast = column.casts.as_ref().and_then(|casts| casts.selected(backend, &format!("{from}{quoted}")));
    cast.map_or_else(plain, |cast| format!("{cast} AS {quoted}"))
}

/// A comma-separated list.
pub(crate) fn list<T>(items: impl IntoIterator<Item = T>, text: impl FnMut(T) -> String) -> String {
    items.into_iter().map(text).collect::<Vec<_>>().join(", ")
}

/// The name between `quote`s, each `quote` inside it doubled.
fn quoted(name: &str, quote: char) -> String {
    let mut text = String::with_capacity(name.len() + 2);
    text.push(quote);
    for letter in name.chars() {
        if letter == quote {
            text.push(quote);
        }
        text.push(letter);
    }
    text.push(quote);
    text
}

/// The table's name with its schema, quoted.
pub(crate) fn table_name(table: &Table, quote: char) -> String {
    match &table.schema {
        Some(schema) => format!("{}.{}", quoted(schema, quote), quoted(&table.name, quote)),
        None => quoted(&table.name, quote),
    }
}

/// The key columns.
pub(crate) fn keys(table: &Table) -> impl Iterator<Item = &Column> {
    table.columns.iter().filter(|c| c.key)
}

/// The key columns that are texts, which the database may compare otherwise than by their bytes.
pub(crate) fn text_keys(table: &Table) -> impl Iterator<Item = &Column> {
    keys(table).filter(|c| is_text(c))
}

/// Whether the column's values are compared under a collation, which may take different texts for equal.
pub(crate) fn is_text(column: &Column) -> bool {
    matches!(column.array_type, ArrayType::String | ArrayType::Char | ArrayType::Enum(_))
}

/// The columns that an update sets.
pub(crate) fn updated(table: &Table) -> impl Iterator<Item = &Column> {
    table.columns.iter().filter(|c| !c.key && !c.insert_only)
}

/// The name of the version in what [`versions`](postgres::versions) and its siblings select.
pub(crate) const VERSION: &str = "wb_version";

/// The name of the highest key in what [`highest`](postgres::highest) and its siblings select.
pub(crate) const HIGHEST: &str = "wb_highest";

/// `(?, ?, ?)` for the values of one row of all columns, or of the keys alone.
fn row<'a>(backend: DbBackend, columns: impl IntoIterator<Item = &'a Column>) -> String {
    format!("({})", list(columns, |column| saved(backend, column, "?", || "?".to_owned())))
}

/// `(?, ?), (?, ?)` with the placeholders of one row made by `row`.
fn rows(count: usize, row: impl FnMut(usize) -> String) -> String {
    (0..count).map(row).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
pub(crate) mod fixture {
    use sea_orm::sea_query::{ArrayType, ColumnType};

    use crate::mapping::entity::{Column, Table};
    use crate::values::kept::Kept;

    pub(crate) fn column(name: &'static str, column_type: ColumnType, array_type: ArrayType) -> Column {
        Column {
            name: name.into(),
            column_type,
            array_type,
            key: false,
            nullable: false,
            insert_only: false,
            version: false,
            kept: Kept::default(),
            casts: None,
        }
    }

    /// A composite key, a reserved word, a mixed-case name, a quote in a name, an insert-only column, an enum.
    pub(crate) fn orders() -> Table {
        let kind = ColumnType::Enum { name: "acct_kind".into(), variants: vec!["a".into(), "b".into()] };
        Table {
            schema: Some("shop".into()),
            name: "Orders".into(),
            columns: vec![
                Column { key: true, ..column("tenantId", ColumnType::BigInteger, ArrayType::BigInt) },
                Column { key: true, ..column("order", ColumnType::Text, ArrayType::String) },
                column("we\"ird`", ColumnType::Integer, ArrayType::Int),
                column("kind", kind, ArrayType::String),
                Column { insert_only: true, ..column("made", ColumnType::Date, ArrayType::ChronoDate) },
            ],
            client_keys: false,
            auto_increment: false,
        }
    }

    /// Nothing but its key.
    pub(crate) fn follows() -> Table {
        Table {
            schema: None,
            name: "follows".into(),
            columns: vec![Column { key: true, ..column("id", ColumnType::BigInteger, ArrayType::BigInt) }],
            client_keys: false,
            auto_increment: false,
        }
    }

    /// Two keys and a version that is not the last column.
    pub(crate) fn versioned() -> Table {
        let mut table = orders();
        if let Some(column) = table.columns.get_mut(2) {
            *column = Column { version: true, ..column.clone() };
        }
        table
    }
}
