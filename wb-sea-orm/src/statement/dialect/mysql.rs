//! MySQL and MariaDB: lists of rows in a few fixed sizes.
//!
//! `ON DUPLICATE KEY UPDATE` fires on *any* unique key and would overwrite another record that has the same value
//! under a second one. So each update first compares the keys of the row it found with those of the row it brings;
//! when they differ, a subquery of two rows where one is allowed fails the statement (error 1242) and nothing is
//! written. This holds for unique keys that are added later, too.

use sea_orm::DbBackend;

use crate::mapping::entity::{Column, Table};
use crate::statement::dialect::{
    HIGHEST, VERSION, is_text, keys, list, quoted, read_as, row, rows, saved, table_name, text_keys, updated,
};

/// A parameter takes 16 bits in the protocol.
pub(crate) const MAX_BINDS: usize = 65_535;

const QUOTE: char = '`';

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
    let row = row(DbBackend::MySql, &entity.columns);
    let target = table(entity);
    let same = keys(entity)
        .map(|c| {
            let column = name(&c.name);
            let binary = if is_text(c) { "BINARY " } else { "" };
            format!("{binary}{target}.{column} = {binary}VALUES({column})")
        })
        .collect::<Vec<_>>()
        .join(" AND ");
    let guard = keys(entity).next().map(|c| {
        let column = name(&c.name);
        // The column stays as it is, and has no part in the check: MariaDB's own types (UUID, INET6) go with no number.
        format!("{column} = IF(IF({same}, 1, (SELECT 1 UNION ALL SELECT 2)), {target}.{column}, {target}.{column})")
    });
    let (version, others): (Vec<&Column>, Vec<&Column>) = updated(entity).partition(|c| c.version);
    // Assignments see what those before them have set, so the version comes last. A row without one (NULL) is older
    // than every other.
    let newer = version.first().map(|c| format!("{target}.{0} > VALUES({0})", name(&c.name)));
    let set = others.into_iter().chain(version).map(|c| {
        let column = name(&c.name);
        match &newer {
            Some(newer) => format!("{column} = IF({newer}, {target}.{column}, VALUES({column}))"),
            None => format!("{column} = VALUES({column})"),
        }
    });
    format!(
        "INSERT INTO {target} ({}) VALUES {} ON DUPLICATE KEY UPDATE {}",
        list(&entity.columns, |c| name(&c.name)),
        rows(count, |_| row.clone()),
        list(guard.into_iter().chain(set), |assignment| assignment),
    )
}

/// The condition that picks `count` keys, with one placeholder per key column and key, key by key. A list of
/// alternatives, because rows of values are not looked up through the index.
fn picked(entity: &Table, count: usize) -> String {
    let columns: Vec<String> = keys(entity).map(|c| name(&c.name)).collect();
    picked_by(entity, &columns, count)
}

/// `columns` are what the keys are compared with, in their order.
fn picked_by(entity: &Table, columns: &[String], count: usize) -> String {
    let values: Vec<String> = keys(entity).map(|key| saved(DbBackend::MySql, key, "?", || "?".to_owned())).collect();
    match (columns, values.as_slice()) {
        ([column], [value]) => format!("{column} IN ({})", rows(count, |_| value.clone())),
        (columns, values) => {
            let one = columns.iter().zip(values).map(|(c, value)| format!("{c} = {value}"));
            vec![format!("({})", one.collect::<Vec<_>>().join(" AND ")); count].join(" OR ")
        }
    }
}

/// The condition that picks `count` keys to the byte. Where the keys are texts it has the placeholders of all keys
/// twice: the first time for the index, whose collation may find more than what was asked for. The second time as bytes: there is
/// no collation that both MySQL and MariaDB have under which spaces at the end count.
fn picked_exactly(entity: &Table, count: usize) -> String {
    let loose = picked(entity, count);
    if !binds_keys_twice(entity) {
        return loose;
    }
    let columns: Vec<String> = keys(entity)
        .map(|c| {
            let column = name(&c.name);
            if is_text(c) { format!("CAST(CONVERT({column} USING utf8mb4) AS BINARY)") } else { column }
        })
        .collect();
    format!("({loose}) AND ({})", picked_by(entity, &columns, count))
}

/// Whether a delete has the placeholders of its keys twice.
pub(crate) fn binds_keys_twice(entity: &Table) -> bool {
    text_keys(entity).next().is_some()
}

/// Delete of `count` keys.
pub(crate) fn delete(entity: &Table, count: usize) -> String {
    format!("DELETE FROM {} WHERE {}", table(entity), picked_exactly(entity, count))
}

/// Select of `count` keys; a collation may find more rows than were asked for.
pub(crate) fn select(entity: &Table, count: usize) -> String {
    format!("SELECT {} FROM {} WHERE {}", list(&entity.columns, selected), table(entity), picked(entity, count))
}

fn selected(column: &Column) -> String {
    read_as(DbBackend::MySql, column, name, "", || name(&column.name))
}

/// Select of the keys and versions of `count` keys; a collation may find more rows than were asked for.
pub(crate) fn versions(entity: &Table, count: usize) -> String {
    let version = entity.version().map_or_else(|| "NULL".to_owned(), |c| name(&c.name));
    format!(
        "SELECT {}, CAST(LEAST({version}, {}) AS SIGNED) AS {} FROM {} WHERE {}",
        list(keys(entity), selected),
        i64::MAX,
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
    format!(
        "SELECT CAST(LEAST(MAX({}), {}) AS SIGNED) AS {} FROM {}",
        name(&key.name),
        i64::MAX,
        name(HIGHEST),
        table(entity)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statement::dialect::fixture::{follows, orders, versioned};

    #[test]
    fn an_upsert_compares_the_keys_before_it_updates() {
        assert_eq!(
            upsert(&orders(), 2),
            "INSERT INTO `shop`.`Orders` (`tenantId`, `order`, `we\"ird```, `kind`, `made`) \
             VALUES (?, ?, ?, ?, ?), (?, ?, ?, ?, ?) ON DUPLICATE KEY UPDATE \
             `tenantId` = IF(IF(`shop`.`Orders`.`tenantId` = VALUES(`tenantId`) \
             AND BINARY `shop`.`Orders`.`order` = BINARY VALUES(`order`), 1, (SELECT 1 UNION ALL SELECT 2)), \
             `shop`.`Orders`.`tenantId`, `shop`.`Orders`.`tenantId`), \
             `we\"ird``` = VALUES(`we\"ird```), `kind` = VALUES(`kind`)"
        );
    }

    #[test]
    fn a_table_of_keys_only_still_compares_them() {
        assert!(upsert(&follows(), 1).ends_with(
            "ON DUPLICATE KEY UPDATE `id` = IF(IF(`follows`.`id` = VALUES(`id`), 1, (SELECT 1 UNION ALL SELECT 2)), \
             `follows`.`id`, `follows`.`id`)"
        ));
    }

    #[test]
    fn the_version_is_compared_before_it_is_set() {
        let text = upsert(&versioned(), 1);
        let newer = "`shop`.`Orders`.`we\"ird``` > VALUES(`we\"ird```)";
        let set = format!(
            "(SELECT 1 UNION ALL SELECT 2)), `shop`.`Orders`.`tenantId`, `shop`.`Orders`.`tenantId`), `kind` = IF({newer}, `shop`.`Orders`.`kind`, VALUES(`kind`)), \
             `we\"ird``` = IF({newer}, `shop`.`Orders`.`we\"ird```, VALUES(`we\"ird```))"
        );
        assert!(text.ends_with(&set), "{text}");
        assert_eq!(
            versions(&versioned(), 1),
            "SELECT `tenantId`, `order`, CAST(LEAST(`we\"ird```, 9223372036854775807) AS SIGNED) AS `wb_version` \
             FROM `shop`.`Orders` WHERE (`tenantId` = ? AND `order` = ?)"
        );
    }

    #[test]
    fn keys_are_picked_through_the_index() {
        assert_eq!(delete(&follows(), 3), "DELETE FROM `follows` WHERE `id` IN (?, ?, ?)");
        assert!(
            select(&orders(), 2)
                .ends_with("WHERE (`tenantId` = ? AND `order` = ?) OR (`tenantId` = ? AND `order` = ?)")
        );
    }

    #[test]
    fn a_delete_of_text_keys_is_exact() {
        assert!(binds_keys_twice(&orders()));
        assert_eq!(
            delete(&orders(), 1),
            "DELETE FROM `shop`.`Orders` WHERE ((`tenantId` = ? AND `order` = ?)) AND \
             ((`tenantId` = ? AND CAST(CONVERT(`order` USING utf8mb4) AS BINARY) = ?))"
        );
    }
}
