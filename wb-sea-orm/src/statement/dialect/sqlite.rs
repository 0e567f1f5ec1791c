//! SQLite: lists of rows in a few fixed sizes.

use sea_orm::DbBackend;

use crate::mapping::entity::{Column, Table};
use crate::statement::dialect::{
    HIGHEST, VERSION, is_text, keys, list, quoted, read_as, row, rows, saved, table_name, text_keys, updated,
};

/// `SQLITE_MAX_VARIABLE_NUMBER`.
pub(crate) const MAX_BINDS: usize = 32_766;

const QUOTE: char = '"';

/// The name, quoted.
pub(crate) fn name(name: &str) -> String {
    quoted(name, QUOTE)
}

/// The table's name, quoted.
pub(crate) fn table(table: &Table) -> String {
    table_name(table, QUOTE)
}

/// Upsert of `count` rows.
pub(crate) fn upsert(entity: &Table, count: usize) -> String {
    let row = row(DbBackend::Sqlite, &entity.columns);
    // Whatever the table says of its other constraints: REPLACE would delete another record's row, IGNORE leave this one out.
    format!(
        "INSERT OR ABORT INTO {} AS t ({}) VALUES {} ON CONFLICT ({}) DO {}",
        table(entity),
        list(&entity.columns, |c| name(&c.name)),
        rows(count, |_| row.clone()),
        list(keys(entity), |c| name(&c.name)),
        action(entity),
    )
}

/// What is done with a row that is there: the upsert's own, or another one whose key the column's collation takes for equal.
fn action(entity: &Table) -> String {
    let mut set = list(updated(entity), |c| format!("{0} = excluded.{0}", name(&c.name)));
    // A row without a version (NULL) is older than every other.
    let mut passes = entity.version().map(|c| format!("(t.{0} > excluded.{0}) IS NOT TRUE", name(&c.name)));
    let texts: Vec<String> = text_keys(entity).map(|c| name(&c.name)).collect();
    if set.is_empty() {
        let Some(key) = texts.first() else { return "NOTHING".to_owned() };
        (set, passes) = (format!("{key} = t.{key}"), Some("0".to_owned()));
    }
    let Some(key) = texts.first() else {
        return format!("UPDATE SET {set}{}", passes.map_or_else(String::new, |passes| format!(" WHERE {passes}")));
    };
    let same = texts.iter().map(|key| format!("t.{key} = excluded.{key} COLLATE BINARY"));
    format!(
        // More bytes than any value can have fail the statement (SQLITE_TOOBIG). Not a constant: those are made beforehand.
        "UPDATE SET {set} WHERE CASE WHEN {} THEN {} ELSE zeroblob(4294967296 + length(t.{key})) END",
        same.collect::<Vec<_>>().join(" AND "),
        passes.as_deref().unwrap_or("1"),
    )
}

/// The condition that picks `count` keys, with one numbered placeholder per key column and key, key by key. Texts once more
/// by their bytes: the column's collation, by which its index finds them, may take others for equal.
fn picked(entity: &Table, count: usize) -> String {
    let plain = picked_by(entity, &keys(entity).map(|c| name(&c.name)).collect::<Vec<_>>(), count);
    if text_keys(entity).next().is_none() {
        return plain;
    }
    let bytes = keys(entity).map(|c| format!("{}{}", name(&c.name), if is_text(c) { " COLLATE BINARY" } else { "" }));
    format!("{plain} AND {}", picked_by(entity, &bytes.collect::<Vec<_>>(), count))
}

/// `columns` are what the keys are compared with, in their order.
fn picked_by(entity: &Table, columns: &[String], count: usize) -> String {
    let width = columns.len();
    let row = |row: usize| {
        list(keys(entity).enumerate(), |(at, key)| {
            let mark = format!("?{}", row * width + at + 1);
            saved(DbBackend::Sqlite, key, &mark, || mark.clone())
        })
    };
    match columns {
        [column] => format!("{column} IN ({})", rows(count, row)),
        columns => {
            format!("({}) IN (VALUES {})", columns.join(", "), rows(count, |number| format!("({})", row(number))))
        }
    }
}

/// Delete of `count` keys.
pub(crate) fn delete(entity: &Table, count: usize) -> String {
    format!("DELETE FROM {} WHERE {}", table(entity), picked(entity, count))
}

/// Select of `count` keys.
pub(crate) fn select(entity: &Table, count: usize) -> String {
    format!("SELECT {} FROM {} WHERE {}", list(&entity.columns, selected), table(entity), picked(entity, count))
}

fn selected(column: &Column) -> String {
    read_as(DbBackend::Sqlite, column, name, "", || name(&column.name))
}

/// Select of the keys and versions of `count` keys.
pub(crate) fn versions(entity: &Table, count: usize) -> String {
    let version = entity.version().map_or_else(|| "NULL".to_owned(), |c| name(&c.name));
    format!(
        "SELECT {}, CAST({version} AS INTEGER) AS {} FROM {} WHERE {}",
        list(keys(entity), selected),
        name(VERSION),
        table(entity),
        picked(entity, count)
    )
}

/// For each of `count` values: is it a key of this table?
pub(crate) fn parents(parent: &Table, count: usize) -> String {
    let key = list(keys(parent).take(1), |c| name(&c.name));
    let table = table(parent);
    format!("SELECT {}", list(0..count, |i| format!("EXISTS (SELECT 1 FROM {table} WHERE {key} = ?) AS e{i}")))
}

/// Select of the highest value of a key column.
pub(crate) fn highest(entity: &Table, key: &Column) -> String {
    format!("SELECT MAX({}) AS {} FROM {}", name(&key.name), name(HIGHEST), table(entity))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statement::dialect::fixture::{follows, orders, versioned};

    #[test]
    fn upserts() {
        assert_eq!(
            upsert(&orders(), 1),
            "INSERT OR ABORT INTO \"shop\".\"Orders\" AS t (\"tenantId\", \"order\", \"we\"\"ird`\", \"kind\", \"made\") \
             VALUES (?, ?, ?, ?, ?) ON CONFLICT (\"tenantId\", \"order\") DO UPDATE SET \
             \"we\"\"ird`\" = excluded.\"we\"\"ird`\", \"kind\" = excluded.\"kind\" \
             WHERE CASE WHEN t.\"order\" = excluded.\"order\" COLLATE BINARY THEN 1 \
             ELSE zeroblob(4294967296 + length(t.\"order\")) END"
        );
        assert!(upsert(&follows(), 2).ends_with("VALUES (?), (?) ON CONFLICT (\"id\") DO NOTHING"));
    }

    #[test]
    fn a_row_with_a_version_is_not_replaced_by_an_older_one() {
        let text = upsert(&versioned(), 1);
        let guard = "\"kind\" = excluded.\"kind\" WHERE CASE WHEN t.\"order\" = excluded.\"order\" COLLATE BINARY \
                     THEN (t.\"we\"\"ird`\" > excluded.\"we\"\"ird`\") IS NOT TRUE \
                     ELSE zeroblob(4294967296 + length(t.\"order\")) END";
        assert!(text.ends_with(guard), "{text}");
        assert_eq!(
            versions(&versioned(), 1),
            "SELECT \"tenantId\", \"order\", CAST(\"we\"\"ird`\" AS INTEGER) AS \"wb_version\" \
             FROM \"shop\".\"Orders\" WHERE (\"tenantId\", \"order\") IN (VALUES (?1, ?2)) \
             AND (\"tenantId\", \"order\" COLLATE BINARY) IN (VALUES (?1, ?2))"
        );
    }

    /// Asked of the library itself, for one key column and for two, whatever their collation.
    #[test]
    #[cfg(feature = "sqlite")]
    fn keys_are_found_through_their_index() {
        use sea_orm::{ConnectionTrait, Database, DbBackend, Statement};

        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let composite = Table { schema: None, ..orders() };
        let mut single = composite.clone();
        if let Some(column) = single.columns.first_mut() {
            column.key = false;
        }
        runtime.block_on(async {
            for (table, primary) in [(composite, "\"tenantId\", \"order\""), (single, "\"order\"")] {
                for collation in ["", "COLLATE NOCASE"] {
                    let db = Database::connect("sqlite::memory:").await.unwrap();
                    let create = format!(
                        "CREATE TABLE \"Orders\" (\"tenantId\" bigint, \"order\" text {collation}, \"we\"\"ird`\" int, \
                         kind text, made text, PRIMARY KEY ({primary}))"
                    );
                    db.execute_unprepared(&create).await.unwrap();
                    for text in [select(&table, 4), delete(&table, 4), versions(&table, 4)] {
                        let explain = Statement::from_string(DbBackend::Sqlite, format!("EXPLAIN QUERY PLAN {text}"));
                        let rows = db.query_all_raw(explain).await.unwrap();
                        let plan: Vec<String> = rows.iter().map(|row| row.try_get("", "detail").unwrap()).collect();
                        assert!(plan.iter().any(|step| step.starts_with("SEARCH Orders")), "{text}\n{plan:?}");
                    }
                }
            }
        });
    }

    #[test]
    fn keys_are_picked_through_the_index() {
        assert_eq!(delete(&follows(), 2), "DELETE FROM \"follows\" WHERE \"id\" IN (?1, ?2)");
        assert!(delete(&orders(), 2).ends_with(
            "WHERE (\"tenantId\", \"order\") IN (VALUES (?1, ?2), (?3, ?4)) \
             AND (\"tenantId\", \"order\" COLLATE BINARY) IN (VALUES (?1, ?2), (?3, ?4))"
        ));
    }
}
