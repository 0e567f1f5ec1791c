//! PostgreSQL: one constant text per entity and verb, whose parameters are one array per column. Tables with array
//! columns use `VALUES` lists of fixed sizes, because `UNNEST` would flatten the arrays.

use sea_orm::DbBackend;
use sea_orm::sea_query::{ArrayType, ColumnType};

use crate::mapping::entity::{Column, Table};
use crate::statement::dialect::{
    HIGHEST, VERSION, is_text, keys, list, quoted, read_as, rows, saved, table_name, text_keys, updated,
};

/// A parameter takes 16 bits in the protocol.
pub(crate) const MAX_BINDS: usize = 65_535;

const QUOTE: char = '"';

/// The name, quoted.
pub(crate) fn name(name: &str) -> String {
    quoted(name, QUOTE)
}

/// The table's name, quoted.
pub(crate) fn table(table: &Table) -> String {
    table_name(table, QUOTE)
}

/// SQL type of the elements when a column's values travel as one array; `None` when they cannot.
pub(crate) fn element(column: &Column) -> Option<&'static str> {
    if matches!(column.column_type, ColumnType::Array(_)) {
        return None;
    }
    Some(match &column.array_type {
        ArrayType::Bool => "bool",
        ArrayType::TinyInt | ArrayType::SmallInt | ArrayType::TinyUnsigned => "int2",
        ArrayType::Int | ArrayType::SmallUnsigned => "int4",
        ArrayType::BigInt | ArrayType::Unsigned | ArrayType::BigUnsigned => "int8",
        ArrayType::Float => "float4",
        ArrayType::Double => "float8",
        ArrayType::String | ArrayType::Char | ArrayType::Enum(_) => "text",
        ArrayType::Bytes => "bytea",
        ArrayType::Json => "jsonb",
        ArrayType::ChronoDate | ArrayType::TimeDate => "date",
        ArrayType::ChronoTime | ArrayType::TimeTime => "time",
        ArrayType::ChronoDateTime | ArrayType::TimeDateTime => "timestamp",
        ArrayType::ChronoDateTimeUtc
        | ArrayType::ChronoDateTimeLocal
        | ArrayType::ChronoDateTimeWithTimeZone
        | ArrayType::TimeDateTimeWithTimeZone => "timestamptz",
        ArrayType::Uuid => "uuid",
        ArrayType::Decimal => "numeric",
        #[allow(unreachable_patterns, reason = "the application can switch more types of SeaORM on")]
        _ => return None,
    })
}

/// Whether all of these columns can travel as arrays.
pub(crate) fn unnests<'a>(mut columns: impl Iterator<Item = &'a Column>) -> bool {
    columns.all(|c| element(c).is_some())
}

/// The cast that an enum's text needs, as SeaORM's `save_as` makes it.
fn cast(column_type: &ColumnType) -> String {
    match column_type {
        ColumnType::Enum { name: kind, .. } => format!("::{}", name(&kind.to_string())),
        ColumnType::Array(items) => match &**items {
            ColumnType::Enum { name: kind, .. } => format!("::{}[]", name(&kind.to_string())),
            _ => String::new(),
        },
        _ => String::new(),
    }
}

/// What is stored where `value` stands for what is bound.
fn stored(column: &Column, value: &str) -> String {
    saved(DbBackend::Postgres, column, value, || format!("{value}{}", cast(&column.column_type)))
}

fn arrays<'a>(columns: impl Iterator<Item = &'a Column>) -> String {
    list(columns.enumerate(), |(i, c)| format!("${}::{}[]", i + 1, element(c).unwrap_or("text")))
}

/// Alias of the table in an upsert.
const TARGET: &str = "t";

fn on_conflict(entity: &Table) -> String {
    let target = list(keys(entity), |c| name(&c.name));
    let mut set = list(updated(entity), |c| format!("{0} = excluded.{0}", name(&c.name)));
    // A row without a version (NULL) is older than every other.
    let mut passes = entity.version().map(|c| format!("({TARGET}.{0} > excluded.{0}) IS NOT TRUE", name(&c.name)));
    if set.is_empty() {
        // Who only inserts needs no right to update, unless a key may meet another one's row.
        let loose = text_keys(entity).any(|c| c.kept.compares.is_some() || c.casts.is_some());
        let Some(left) = entity.columns.iter().min_by_key(|c| c.key).filter(|_| loose) else {
            return format!("ON CONFLICT ({target}) DO NOTHING");
        };
        (set, passes) = (format!("{0} = {TARGET}.{0}", name(&left.name)), Some("FALSE".to_owned()));
    }
    let guard = match (same_texts(entity), passes) {
        (None, None) => String::new(),
        (None, Some(passes)) => format!(" WHERE {passes}"),
        (Some(same), passes) => format!(
            " WHERE CASE WHEN {same} THEN {} ELSE (SELECT TRUE UNION ALL SELECT TRUE) END",
            passes.as_deref().unwrap_or("TRUE")
        ),
    };
    format!("ON CONFLICT ({target}) DO UPDATE SET {set}{guard}")
}

/// Whether the row that an upsert met has its own key, to the byte; `None` when the keys are no texts, which the index
/// compares by what they are.
fn same_texts(entity: &Table) -> Option<String> {
    // Also of what the program casts: both are what was stored.
    let same = text_keys(entity).map(|c| format!("{} = excluded.{}::text", bytes(c), name(&c.name)));
    let same = same.collect::<Vec<_>>().join(" AND ");
    (!same.is_empty()).then_some(same)
}

/// A text column of the table, for a comparison by bytes.
fn bytes(column: &Column) -> String {
    format!("{TARGET}.{}::text COLLATE \"C\"", name(&column.name))
}

/// Upsert of any number of rows: one array per column.
pub(crate) fn upsert_arrays(entity: &Table) -> String {
    format!(
        "INSERT INTO {} AS {TARGET} ({}) SELECT {} FROM UNNEST({}) AS u({}) {}",
        table(entity),
        list(&entity.columns, |c| name(&c.name)),
        list(entity.columns.iter().enumerate(), |(i, c)| stored(c, &format!("u.c{i}"))),
        arrays(entity.columns.iter()),
        list(0..entity.columns.len(), |i| format!("c{i}")),
        on_conflict(entity),
    )
}

/// Upsert of `count` rows: one parameter per value.
pub(crate) fn upsert_values(entity: &Table, count: usize) -> String {
    let width = entity.columns.len();
    let row = |r: usize| {
        let values = list(entity.columns.iter().enumerate(), |(i, c)| stored(c, &format!("${}", r * width + i + 1)));
        format!("({values})")
    };
    format!(
        "INSERT INTO {} AS {TARGET} ({}) VALUES {} {}",
        table(entity),
        list(&entity.columns, |c| name(&c.name)),
        rows(count, row),
        on_conflict(entity),
    )
}

/// `t.a = k.c0 AND t.b = k.c1`, texts in the column's own type for its index, and once more by their bytes.
fn matching(entity: &Table) -> String {
    let pairs = keys(entity).enumerate().flat_map(|(i, c)| {
        let value = of_own_type(c, &format!("k.c{i}"));
        let found = format!("t.{} = {value}", name(&c.name));
        // Of what the program casts, what that makes of it.
        let same = || match c.casts {
            Some(_) => format!("{} = ({value})::text", bytes(c)),
            None => format!("{} = k.c{i}", bytes(c)),
        };
        [Some(found), is_text(c).then(same)].into_iter().flatten()
    });
    pairs.collect::<Vec<_>>().join(" AND ")
}

/// A text as the type that the column has; without a length, which would cut it.
fn of_own_type(column: &Column, value: &str) -> String {
    saved(DbBackend::Postgres, column, value, || match &column.kept.cast {
        Some(own) => format!("{value}::{own}"),
        None => format!("{value}{}", cast(&column.column_type)),
    })
}

fn key_arrays(entity: &Table) -> String {
    format!("UNNEST({}) AS k({})", arrays(keys(entity)), list(0..keys(entity).count(), |i| format!("c{i}")))
}

/// Delete of any number of keys: one array per key column.
pub(crate) fn delete(entity: &Table) -> String {
    format!("DELETE FROM {} AS t USING {} WHERE {}", table(entity), key_arrays(entity), matching(entity))
}

/// Select of any number of keys: one array per key column.
pub(crate) fn select(entity: &Table) -> String {
    format!(
        "SELECT {} FROM {} AS t JOIN {} ON {}",
        list(&entity.columns, selected),
        table(entity),
        key_arrays(entity),
        matching(entity),
    )
}

/// Select of the keys and versions of any number of keys.
pub(crate) fn versions(entity: &Table) -> String {
    let version = entity.version().map_or_else(|| "NULL".to_owned(), |c| format!("t.{}", name(&c.name)));
    format!(
        "SELECT {}, {version}::int8 AS {} FROM {} AS t JOIN {} ON {}",
        list(keys(entity), selected),
        name(VERSION),
        table(entity),
        key_arrays(entity),
        matching(entity),
    )
}

/// The places, from 1, of the values in an array that are no keys of this table; `None` when the values of `column`, which
/// refers to it, cannot travel as one array. NULL refers to nothing.
pub(crate) fn parents(parent: &Table, column: &Column) -> Option<String> {
    let key = keys(parent).next()?;
    Some(format!(
        "SELECT k.n FROM UNNEST($1::{}[]) WITH ORDINALITY AS k(c0, n) WHERE k.c0 IS NOT NULL AND NOT EXISTS \
         (SELECT 1 FROM {} AS p WHERE p.{} = {})",
        element(column)?,
        table(parent),
        name(&key.name),
        of_own_type(column, "k.c0"),
    ))
}

/// A column as SeaORM reads it, which takes the very type only: enums as text, `i8` as the one-byte type, and numbers
/// in the width of the mapping, whatever the table's.
fn selected(column: &Column) -> String {
    let plain = name(&column.name);
    let cast = match (&column.column_type, &column.array_type) {
        // A `char` comes without the spaces that fill it up.
        _ if column.kept.cast.is_some() => "::text",
        (ColumnType::Enum { .. }, _) => "::text",
        (ColumnType::Array(items), _) if matches!(**items, ColumnType::Enum { .. }) => "::text[]",
        // The driver reads the very type only, and a domain over it is another one.
        (ColumnType::Array(_), ArrayType::TinyInt) => "::int4[]::\"char\"[]",
        (ColumnType::Array(_), ArrayType::SmallInt) => "::int2[]",
        (ColumnType::Array(_), ArrayType::Int) => "::int4[]",
        (ColumnType::Array(_), ArrayType::BigInt) => "::int8[]",
        (ColumnType::Array(_), ArrayType::Float) => "::float4[]",
        (ColumnType::Array(_), ArrayType::Double) => "::float8[]",
        (ColumnType::Array(_), ArrayType::Decimal) => "::numeric[]",
        (ColumnType::Array(_), ArrayType::String | ArrayType::Char) => "::text[]",
        (ColumnType::Array(_), ArrayType::ChronoDateTime | ArrayType::TimeDateTime) => "::timestamp[]",
        (
            ColumnType::Array(_),
            ArrayType::ChronoDateTimeUtc
            | ArrayType::ChronoDateTimeLocal
            | ArrayType::ChronoDateTimeWithTimeZone
            | ArrayType::TimeDateTimeWithTimeZone,
        ) => "::timestamptz[]",
        (ColumnType::Array(_), _) => "",
        (_, ArrayType::TinyInt) => "::int4::\"char\"",
        (_, ArrayType::SmallInt | ArrayType::TinyUnsigned) => "::int2",
        (_, ArrayType::Int | ArrayType::SmallUnsigned) => "::int4",
        (_, ArrayType::BigInt | ArrayType::Unsigned | ArrayType::BigUnsigned) => "::int8",
        (_, ArrayType::Float) => "::float4",
        (_, ArrayType::Double) => "::float8",
        _ => "",
    };
    read_as(DbBackend::Postgres, column, name, "t.", || match cast {
        "" => format!("t.{plain}"),
        cast => format!("t.{plain}{cast} AS {plain}"),
    })
}

/// Select of the highest value of a key column.
pub(crate) fn highest(entity: &Table, key: &Column) -> String {
    format!("SELECT MAX({})::int8 AS {} FROM {}", name(&key.name), name(HIGHEST), table(entity))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statement::dialect::fixture::{column, follows, orders, versioned};

    #[test]
    fn the_upsert_is_one_text_of_arrays() {
        assert_eq!(
            upsert_arrays(&orders()),
            "INSERT INTO \"shop\".\"Orders\" AS t (\"tenantId\", \"order\", \"we\"\"ird`\", \"kind\", \"made\") \
             SELECT u.c0, u.c1, u.c2, u.c3::\"acct_kind\", u.c4 \
             FROM UNNEST($1::int8[], $2::text[], $3::int4[], $4::text[], $5::date[]) AS u(c0, c1, c2, c3, c4) \
             ON CONFLICT (\"tenantId\", \"order\") DO UPDATE SET \
             \"we\"\"ird`\" = excluded.\"we\"\"ird`\", \"kind\" = excluded.\"kind\" \
             WHERE CASE WHEN t.\"order\"::text COLLATE \"C\" = excluded.\"order\"::text THEN TRUE \
             ELSE (SELECT TRUE UNION ALL SELECT TRUE) END"
        );
    }

    #[test]
    fn a_table_of_keys_only_updates_nothing() {
        assert!(upsert_arrays(&follows()).ends_with("ON CONFLICT (\"id\") DO NOTHING"));
        let mut table = follows();
        if let Some(key) = table.columns.first_mut() {
            *key = column("id", ColumnType::Text, ArrayType::String);
            (key.key, key.kept.compares) = (true, Some("type `citext`".to_owned()));
        }
        assert!(upsert_arrays(&table).ends_with(
            "ON CONFLICT (\"id\") DO UPDATE SET \"id\" = t.\"id\" WHERE CASE WHEN t.\"id\"::text COLLATE \"C\" = \
             excluded.\"id\"::text THEN FALSE ELSE (SELECT TRUE UNION ALL SELECT TRUE) END"
        ));
    }

    #[test]
    fn a_key_is_looked_up_in_the_type_that_its_column_has() {
        let mut table = orders();
        if let Some(key) = table.columns.get_mut(1) {
            key.kept.cast = Some("pg_catalog.bpchar".to_owned());
        }
        let text = select(&table);
        assert!(text.contains("t.\"order\"::text AS \"order\""), "{text}");
        let found = "t.\"order\" = k.c1::pg_catalog.bpchar AND t.\"order\"::text COLLATE \"C\" = k.c1";
        assert!(text.ends_with(found) && delete(&table).ends_with(found), "{text}");
    }

    #[test]
    fn a_row_with_a_version_is_not_replaced_by_an_older_one() {
        let guard = "DO UPDATE SET \"we\"\"ird`\" = excluded.\"we\"\"ird`\", \"kind\" = excluded.\"kind\" \
                     WHERE CASE WHEN t.\"order\"::text COLLATE \"C\" = excluded.\"order\"::text \
                     THEN (t.\"we\"\"ird`\" > excluded.\"we\"\"ird`\") IS NOT TRUE \
                     ELSE (SELECT TRUE UNION ALL SELECT TRUE) END";
        assert!(upsert_arrays(&versioned()).ends_with(guard), "{}", upsert_arrays(&versioned()));
        assert!(upsert_values(&versioned(), 1).ends_with(guard));
        assert_eq!(
            versions(&versioned()),
            "SELECT t.\"tenantId\"::int8 AS \"tenantId\", t.\"order\", t.\"we\"\"ird`\"::int8 AS \"wb_version\" \
             FROM \"shop\".\"Orders\" AS t JOIN UNNEST($1::int8[], $2::text[]) AS k(c0, c1) \
             ON t.\"tenantId\" = k.c0 AND t.\"order\" = k.c1 AND t.\"order\"::text COLLATE \"C\" = k.c1"
        );
    }

    #[test]
    fn values_are_numbered_row_by_row() {
        let text = upsert_values(&orders(), 2);
        assert!(text.contains("VALUES ($1, $2, $3, $4::\"acct_kind\", $5), ($6, $7, $8, $9::\"acct_kind\", $10) ON"));
    }

    #[test]
    fn deletes_and_selects_join_the_keys() {
        assert_eq!(
            delete(&orders()),
            "DELETE FROM \"shop\".\"Orders\" AS t USING UNNEST($1::int8[], $2::text[]) AS k(c0, c1) \
             WHERE t.\"tenantId\" = k.c0 AND t.\"order\" = k.c1 AND t.\"order\"::text COLLATE \"C\" = k.c1"
        );
        assert_eq!(
            select(&follows()),
            "SELECT t.\"id\"::int8 AS \"id\" FROM \"follows\" AS t JOIN UNNEST($1::int8[]) AS k(c0) ON t.\"id\" = k.c0"
        );
        assert!(select(&orders()).contains("t.\"kind\"::text AS \"kind\""));
    }
}
