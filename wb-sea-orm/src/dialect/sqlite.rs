//! SQLite: lists of rows in a few fixed sizes.

use super::{HIGHEST, VERSION, keys, list, marks, quoted, rows, table_name, updated};
use crate::entity::{Column, Table};

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
    let row = format!("({})", marks(entity.columns.len()));
    let set = list(updated(entity), |c| format!("{0} = excluded.{0}", name(&c.name)));
    // A row without a version (NULL) is older than every other.
    let guard = entity
        .version()
        .map_or_else(String::new, |c| format!(" WHERE (t.{0} > excluded.{0}) IS NOT TRUE", name(&c.name)));
    let action = if set.is_empty() { "NOTHING".to_owned() } else { format!("UPDATE SET {set}{guard}") };
    format!(
        "INSERT INTO {} AS t ({}) VALUES {} ON CONFLICT ({}) DO {action}",
        table(entity),
        list(&entity.columns, |c| name(&c.name)),
        rows(count, |_| row.clone()),
        list(keys(entity), |c| name(&c.name)),
    )
}

/// The condition that picks `count` keys, with one placeholder per key column and key, key by key.
fn picked(entity: &Table, count: usize) -> String {
    let columns: Vec<String> = keys(entity).map(|c| name(&c.name)).collect();
    match columns.as_slice() {
        [column] => format!("{column} IN ({})", marks(count)),
        columns => {
            let row = format!("({})", marks(columns.len()));
            format!("({}) IN (VALUES {})", columns.join(", "), rows(count, |_| row.clone()))
        }
    }
}

/// Delete of `count` keys.
pub(crate) fn delete(entity: &Table, count: usize) -> String {
    format!("DELETE FROM {} WHERE {}", table(entity), picked(entity, count))
}

/// Select of `count` keys.
pub(crate) fn select(entity: &Table, count: usize) -> String {
    format!(
        "SELECT {} FROM {} WHERE {}",
        list(&entity.columns, |c| name(&c.name)),
        table(entity),
        picked(entity, count)
    )
}

/// Select of the keys and versions of `count` keys.
pub(crate) fn versions(entity: &Table, count: usize) -> String {
    let version = entity.version().map_or_else(|| "NULL".to_owned(), |c| name(&c.name));
    format!(
        "SELECT {}, CAST({version} AS INTEGER) AS {} FROM {} WHERE {}",
        list(keys(entity), |c| name(&c.name)),
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
    use super::super::fixture::{follows, orders, versioned};
    use super::*;

    #[test]
    fn upserts() {
        assert_eq!(
            upsert(&orders(), 1),
            "INSERT INTO \"shop\".\"Orders\" AS t (\"tenantId\", \"order\", \"we\"\"ird`\", \"kind\", \"made\") \
             VALUES (?, ?, ?, ?, ?) ON CONFLICT (\"tenantId\", \"order\") DO UPDATE SET \
             \"we\"\"ird`\" = excluded.\"we\"\"ird`\", \"kind\" = excluded.\"kind\""
        );
        assert!(upsert(&follows(), 2).ends_with("VALUES (?), (?) ON CONFLICT (\"id\") DO NOTHING"));
    }

    #[test]
    fn a_row_with_a_version_is_not_replaced_by_an_older_one() {
        let text = upsert(&versioned(), 1);
        let guard = "\"kind\" = excluded.\"kind\" WHERE (t.\"we\"\"ird`\" > excluded.\"we\"\"ird`\") IS NOT TRUE";
        assert!(text.ends_with(guard), "{text}");
        assert_eq!(
            versions(&versioned(), 1),
            "SELECT \"tenantId\", \"order\", CAST(\"we\"\"ird`\" AS INTEGER) AS \"wb_version\" \
             FROM \"shop\".\"Orders\" WHERE (\"tenantId\", \"order\") IN (VALUES (?, ?))"
        );
    }

    #[test]
    fn keys_are_picked_through_the_index() {
        assert_eq!(delete(&follows(), 2), "DELETE FROM \"follows\" WHERE \"id\" IN (?, ?)");
        assert!(delete(&orders(), 2).ends_with("WHERE (\"tenantId\", \"order\") IN (VALUES (?, ?), (?, ?))"));
    }
}
