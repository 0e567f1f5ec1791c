//! How an entity is written to a database: its texts, made once, and how many rows go into one statement.

use std::sync::{Arc, OnceLock};
use std::vec::IntoIter;

use sea_orm::{DbBackend, Value};
use wb_core::{ErrorKind, SinkError};

use crate::examine::table_facts::Facts;
use crate::mapping::entity::{Column, Columns, Reference, Table};
use crate::options::SqlOptions;
use crate::statement::bind::{Args, Statement};
use crate::statement::dialect::{keys, mysql, postgres, sqlite};
use crate::write::missing_parents::Link;

/// Rows in the largest list. Sizes are powers of two, so an entity has eleven texts per verb at most: a server keeps
/// prepared texts (PostgreSQL megabytes of them), and a driver's cache holds a hundred.
const MAX_LIST: usize = 1_024;

/// The values of one row or key, and their size in bytes, roughly.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Row {
    pub(crate) values: Vec<Value>,
    pub(crate) bytes: usize,
}

/// How an entity is written to a database.
pub(crate) struct Plan {
    pub(crate) backend: DbBackend,
    pub(crate) table: Table,
    pub(crate) facts: Facts,
    pub(crate) links: Vec<Link>,
    max_rows: usize,
    max_bytes: usize,
    upsert: Form,
    delete: Form,
    select: Form,
    versions: Form,
}

/// How the rows of a statement travel.
enum Form {
    /// One array per column, in one text for any number of rows.
    #[cfg(feature = "postgres")]
    Arrays(Arc<str>),
    /// One placeholder per value.
    Lists(Box<Lists>),
}

/// Boxed, because it is much larger than the other form.
struct Lists {
    text: fn(&Table, usize) -> String,
    /// Rows in the largest text; a power of two.
    largest: usize,
    /// The placeholders of all rows occur twice.
    twice: bool,
    texts: [OnceLock<Arc<str>>; MAX_LIST.ilog2() as usize + 1],
}

impl Lists {
    fn new(text: fn(&Table, usize) -> String, rows: usize) -> Box<Self> {
        let largest = 1 << rows.clamp(1, MAX_LIST).ilog2();
        Box::new(Self { text, largest, twice: false, texts: [const { OnceLock::new() }; _] })
    }

    /// The text for `rows` rows, a power of two.
    fn text(&self, table: &Table, rows: usize) -> Arc<str> {
        let make = || Arc::from((self.text)(table, rows));
        self.texts.get(rows.ilog2() as usize).map_or_else(make, |text| Arc::clone(text.get_or_init(make)))
    }
}

impl Plan {
    pub(crate) fn new(backend: DbBackend, table: Table, facts: Facts, options: &SqlOptions) -> Result<Self, SinkError> {
        let misconfigured =
            |what: &str| Err(SinkError::new(ErrorKind::Misconfigured, format!("table `{}` {what}", table.name)));
        let key_width = keys(&table).count();
        if key_width == 0 {
            return misconfigured("has no key column in its mapping");
        }
        if let Some(version) = table.version()
            && !is_integer(version)
        {
            return misconfigured(&format!("has its version in column `{}`, which is no integer", version.name));
        }
        let (upsert, delete, select, versions) = match backend {
            DbBackend::Postgres if !postgres::unnests(keys(&table)) => {
                return misconfigured("has a key of a type that the sink cannot look up");
            }
            DbBackend::Postgres => postgres_forms(&table, options),
            _ if table.columns.iter().any(|c| matches!(c.column_type, sea_orm::sea_query::ColumnType::Array(_))) => {
                return misconfigured("has an array column, which only PostgreSQL has");
            }
            DbBackend::MySql => {
                let rows = |width: usize| (mysql::MAX_BINDS / width).min(options.max_rows);
                let twice = mysql::binds_keys_twice(&table);
                let mut delete = Lists::new(mysql::delete, rows(if twice { key_width * 2 } else { key_width }));
                delete.twice = twice;
                (
                    Form::Lists(Lists::new(mysql::upsert, rows(table.columns.len()))),
                    Form::Lists(delete),
                    Form::Lists(Lists::new(mysql::select, rows(key_width))),
                    Form::Lists(Lists::new(mysql::versions, rows(key_width))),
                )
            }
            DbBackend::Sqlite => {
                let rows = |width: usize| (sqlite::MAX_BINDS / width).min(options.max_rows);
                (
                    Form::Lists(Lists::new(sqlite::upsert, rows(table.columns.len()))),
                    Form::Lists(Lists::new(sqlite::delete, rows(key_width))),
                    Form::Lists(Lists::new(sqlite::select, rows(key_width))),
                    Form::Lists(Lists::new(sqlite::versions, rows(key_width))),
                )
            }
            _ => return misconfigured("is in a database of an unknown kind"),
        };
        // Half of the packet leaves room for what the protocol adds to the values.
        let max_bytes = facts.max_packet.map_or(options.max_bytes, |packet| options.max_bytes.min(packet / 2)).max(1);
        let links = Vec::new();
        let max_rows = options.max_rows;
        Ok(Self { backend, table, facts, links, max_rows, max_bytes, upsert, delete, select, versions })
    }

    /// What is known of the columns.
    pub(crate) fn columns(&self) -> Columns<'_> {
        self.facts.columns(self.backend)
    }

    /// The same, for an entity that refers to others.
    pub(crate) fn with_references(self, references: Vec<Reference>) -> Self {
        Self { links: Link::all(&self.table, references), ..self }
    }

    /// The next statement that writes some of `rows`; `None` when none is left.
    pub(crate) fn upsert(&self, rows: &mut IntoIter<Row>) -> Option<Result<Statement, SinkError>> {
        self.next(&self.upsert, rows, false)
    }

    /// The next statement that deletes some of the keys in `rows`.
    pub(crate) fn delete(&self, rows: &mut IntoIter<Row>) -> Option<Result<Statement, SinkError>> {
        self.next(&self.delete, rows, true)
    }

    /// The next statement that selects some of the keys in `rows`.
    pub(crate) fn select(&self, rows: &mut IntoIter<Row>) -> Option<Result<Statement, SinkError>> {
        self.next(&self.select, rows, true)
    }

    /// The next statement that selects the versions of some of the keys in `rows`.
    pub(crate) fn versions(&self, rows: &mut IntoIter<Row>) -> Option<Result<Statement, SinkError>> {
        self.next(&self.versions, rows, true)
    }

    fn next(&self, form: &Form, rows: &mut IntoIter<Row>, keyed: bool) -> Option<Result<Statement, SinkError>> {
        if rows.as_slice().is_empty() {
            return None;
        }
        Some(match form {
            #[cfg(feature = "postgres")]
            Form::Arrays(text) => {
                let count = within(rows.as_slice(), self.max_rows, self.max_bytes);
                self.arrays(rows.by_ref().take(count), count, keyed)
                    .map(|args| Statement { text: Arc::clone(text), args })
            }
            Form::Lists(lists) => {
                let count = within(rows.as_slice(), lists.largest, self.max_bytes);
                let (count, size) =
                    if keyed { (count, count.next_power_of_two()) } else { (floor(count), floor(count)) };
                let mut values: Vec<Value> = Vec::with_capacity(size * self.table.columns.len());
                let mut last = 0;
                for row in rows.by_ref().take(count) {
                    last = values.len();
                    values.extend(row.values);
                }
                // A key that is listed twice is found once: padding keeps the texts few.
                let padding = values.get(last..).unwrap_or_default().to_vec();
                for _ in count..size {
                    values.extend_from_slice(&padding);
                }
                if lists.twice {
                    values.extend_from_within(..);
                }
                Ok(Statement { text: lists.text(&self.table, size), args: Args::Values(values) })
            }
        })
    }

    #[cfg(feature = "postgres")]
    fn arrays(&self, rows: impl Iterator<Item = Row>, count: usize, keyed: bool) -> Result<Args, SinkError> {
        use crate::statement::bind::PgColumn;

        let columns = || self.table.columns.iter().filter(|c| c.key || !keyed);
        let mut arrays: Vec<PgColumn> = columns().filter_map(|c| PgColumn::new(c, count)).collect();
        for row in rows {
            for ((array, value), column) in arrays.iter_mut().zip(row.values).zip(columns()) {
                if !array.push(value) {
                    let text = format!(
                        "the mapping of column `{}` of table `{}` gives values of another type than it says",
                        column.name, self.table.name
                    );
                    return Err(SinkError::new(ErrorKind::Misconfigured, text));
                }
            }
        }
        Ok(Args::Arrays(arrays))
    }
}

#[cfg(feature = "postgres")]
fn postgres_forms(table: &Table, options: &SqlOptions) -> (Form, Form, Form, Form) {
    let upsert = if postgres::unnests(table.columns.iter()) {
        Form::Arrays(postgres::upsert_arrays(table).into())
    } else {
        let rows = (postgres::MAX_BINDS / table.columns.len().max(1)).min(options.max_rows);
        Form::Lists(Lists::new(postgres::upsert_values, rows))
    };
    let arrays = |text: String| Form::Arrays(text.into());
    (upsert, arrays(postgres::delete(table)), arrays(postgres::select(table)), arrays(postgres::versions(table)))
}

/// Without the driver no connection exists that could be asked for these.
#[cfg(not(feature = "postgres"))]
fn postgres_forms(_: &Table, _: &SqlOptions) -> (Form, Form, Form, Form) {
    let form = || Form::Lists(Lists::new(postgres::upsert_values, 1));
    (form(), form(), form(), form())
}

/// Whether the database orders the column's values as numbers.
pub(crate) fn is_integer(column: &Column) -> bool {
    use sea_orm::sea_query::ArrayType;
    matches!(
        column.array_type,
        ArrayType::TinyInt
            | ArrayType::SmallInt
            | ArrayType::Int
            | ArrayType::BigInt
            | ArrayType::TinyUnsigned
            | ArrayType::SmallUnsigned
            | ArrayType::Unsigned
            | ArrayType::BigUnsigned
    )
}

/// The largest power of two that is not larger than `count`.
fn floor(count: usize) -> usize {
    1 << count.max(1).ilog2()
}

/// How many of the first rows stay within both limits; at least one.
fn within(rows: &[Row], max_rows: usize, max_bytes: usize) -> usize {
    let mut bytes = 0_usize;
    let fitting = rows.iter().take(max_rows).take_while(|row| {
        bytes = bytes.saturating_add(row.bytes);
        bytes <= max_bytes
    });
    fitting.count().max(1)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::statement::dialect::fixture::{follows, orders};

    fn plan(backend: DbBackend, table: Table, options: &SqlOptions) -> Plan {
        Plan::new(backend, table, Facts::default(), options).unwrap()
    }

    fn rows(count: usize, width: usize) -> IntoIter<Row> {
        let values: Vec<Value> = (0..width).map(|_| Value::BigInt(Some(1))).collect();
        vec![Row { values, bytes: 8 * width }; count].into_iter()
    }

    #[cfg(feature = "postgres")]
    fn len(args: &Args) -> usize {
        match args {
            Args::Values(values) => values.len(),
            Args::Arrays(columns) => columns.len(),
        }
    }

    #[cfg(not(feature = "postgres"))]
    fn len(args: &Args) -> usize {
        let Args::Values(values) = args;
        values.len()
    }

    #[test]
    fn a_thousand_batch_sizes_have_eleven_texts() {
        for backend in [DbBackend::MySql, DbBackend::Sqlite] {
            let plan = plan(backend, follows(), &SqlOptions::new());
            let (mut upserts, mut deletes, mut selects) = (HashSet::new(), HashSet::new(), HashSet::new());
            for size in 1..=1_000 {
                let mut left = rows(size, 1);
                while let Some(statement) = plan.upsert(&mut left) {
                    upserts.insert(statement.unwrap().text);
                }
                let mut left = rows(size, 1);
                while let Some(statement) = plan.delete(&mut left) {
                    deletes.insert(statement.unwrap().text);
                }
                let mut left = rows(size, 1);
                while let Some(statement) = plan.select(&mut left) {
                    selects.insert(statement.unwrap().text);
                }
            }
            assert!(upserts.len() <= 11 && deletes.len() <= 11 && selects.len() <= 11, "{}", upserts.len());
        }
    }

    #[test]
    #[cfg(feature = "postgres")]
    fn postgres_has_one_text_per_verb_whatever_the_size() {
        let plan = plan(DbBackend::Postgres, follows(), &SqlOptions::new());
        let mut texts = HashSet::new();
        for size in [1, 2, 3, 500, 8_192, 20_000] {
            let (mut upserts, mut deletes) = (rows(size, 1), rows(size, 1));
            while let Some(statement) = plan.upsert(&mut upserts) {
                texts.insert(statement.unwrap().text);
            }
            while let Some(statement) = plan.delete(&mut deletes) {
                texts.insert(statement.unwrap().text);
            }
        }
        assert_eq!(texts.len(), 2);
    }

    #[test]
    fn a_statement_keeps_within_the_limit_of_binds_and_every_row_goes_once() {
        for (backend, limit) in [(DbBackend::MySql, mysql::MAX_BINDS), (DbBackend::Sqlite, sqlite::MAX_BINDS)] {
            let mut table = orders();
            let wide = table.columns.last().unwrap().clone();
            table.columns.extend(vec![wide; 95]);
            let plan = plan(backend, table, &SqlOptions::new().max_rows(100_000));
            let (mut left, mut sent) = (rows(5_000, 100), 0);
            while let Some(statement) = plan.upsert(&mut left) {
                let binds = len(&statement.unwrap().args);
                assert!(binds <= limit, "{binds}");
                sent += binds;
            }
            assert_eq!(sent, 5_000 * 100);
        }
    }

    #[test]
    fn a_statement_keeps_within_the_limit_of_bytes_but_a_large_row_still_goes() {
        let plan = plan(DbBackend::Sqlite, follows(), &SqlOptions::new().max_bytes(100));
        let row = |bytes| Row { values: vec![Value::BigInt(Some(1))], bytes };
        let mut left = vec![row(40), row(40), row(40), row(500), row(1)].into_iter();
        let mut sizes = Vec::new();
        while let Some(statement) = plan.upsert(&mut left) {
            sizes.push(len(&statement.unwrap().args));
        }
        assert_eq!(sizes, [2, 1, 1, 1]);
    }

    #[test]
    fn keys_are_padded_to_the_next_size() {
        let plan = plan(DbBackend::Sqlite, follows(), &SqlOptions::new());
        let mut left = rows(5, 1);
        assert_eq!(len(&plan.delete(&mut left).unwrap().unwrap().args), 8);
        assert!(plan.delete(&mut left).is_none());
    }

    #[test]
    fn text_keys_are_bound_twice_by_a_delete_of_mysql() {
        let plan = plan(DbBackend::MySql, orders(), &SqlOptions::new());
        let statement = plan.delete(&mut rows(3, 2)).unwrap().unwrap();
        assert_eq!(len(&statement.args), 4 * 2 * 2);
        assert_eq!(statement.text.matches('?').count(), 4 * 2 * 2);
    }

    #[test]
    fn a_mapping_without_a_key_is_misconfigured() {
        let mut table = follows();
        table.columns.iter_mut().for_each(|c| c.key = false);
        let error = Plan::new(DbBackend::Sqlite, table, Facts::default(), &SqlOptions::new()).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Misconfigured);
    }
}
