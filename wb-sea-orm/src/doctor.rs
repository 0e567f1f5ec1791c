//! What is wrong, or worth knowing, between an entity's mapping and the live table.

use sea_orm::DbBackend;
use wb_core::{ErrorKind, Finding, Severity, SinkError};

use crate::cascades;
use crate::entity::{Column, Table};
use crate::fence;
use crate::inspect::{fold, is_key, place, server};
use crate::kept;
use crate::live::{self, Live, LiveColumn};
use crate::plan::is_integer;
use crate::tx::Pool;

mod family;
mod keys;

use family::Fit;

/// Looks at the table of an entity and at the table of fences.
pub(crate) async fn examine(pool: &Pool, entity: &'static str, table: &Table) -> Result<Vec<Finding>, SinkError> {
    let subject = format!("entity `{entity}`");
    let mut findings = match live::look(pool, table).await? {
        Some(live) => {
            let mut findings = compare(pool.backend(), &subject, table, &live);
            let mut table = table.clone();
            kept::look(pool, &mut table).await?;
            findings.extend(keys::examine(&subject, &place(&table), &table));
            findings.extend(cascades::examine(pool, &subject, &table).await?);
            findings
        }
        None => vec![Finding::fatal("missing-table", &subject, format!("table `{}` does not exist", place(table)))],
    };
    if pool.backend() == DbBackend::MySql {
        findings.extend(mysql(pool, &subject, table).await?);
    }
    match fence::look(pool).await {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::Misconfigured && !fence::is_there(pool).await? => {
            let text = format!(
                "does not exist; start makes it, and needs the right to: `{}`",
                fence::fence_table_sql(pool.backend())
            );
            findings.push(Finding::note("fence-table", "table `wb_fence`", text));
        }
        Err(error) if error.kind() == ErrorKind::Misconfigured => findings.push(Finding::fatal(
            "fence-table",
            "table `wb_fence`",
            format!(
                "the table of fences, which keeps stale workers from writing, cannot be used ({}); have `{}` run and \
                 grant SELECT, INSERT and UPDATE on it",
                error.chain(),
                fence::fence_table_sql(pool.backend())
            ),
        )),
        Err(error) => return Err(error),
    }
    Ok(findings)
}

/// Why the table takes no row of this entity, whatever its values, if so.
pub(crate) async fn refuses_all(pool: &Pool, entity: &'static str, table: &Table) -> Result<Option<String>, SinkError> {
    let Some(live) = live::look(pool, table).await? else { return Ok(None) };
    let found = compare(pool.backend(), &format!("entity `{entity}`"), table, &live).into_iter().find(|finding| {
        let fails = ["missing-column", "not-null-unmapped", "incompatible-type", "generated-column"];
        finding.severity == Severity::Fatal && fails.contains(&finding.code)
    });
    Ok(found.map(|finding| format!("entity `{entity}`: {}", finding.text)))
}

/// Everything that the columns tell, not only the first.
fn compare(backend: DbBackend, subject: &str, table: &Table, live: &Live) -> Vec<Finding> {
    let place = place(table);
    let same = |mapped: &Column, found: &LiveColumn| fold(backend, &mapped.name) == fold(backend, &found.name);
    let mut findings = Vec::new();
    for mapped in &table.columns {
        match live.columns.iter().find(|found| same(mapped, found)) {
            Some(found) if makes_key(table, mapped, found) => {
                findings.push(Finding::fatal("generated-key", subject, generated_key(&place, mapped)));
            }
            None => findings.push(Finding::fatal(
                "missing-column",
                subject,
                format!("table `{place}` has no column `{}`: add it, or take it out of the mapping", mapped.name),
            )),
            Some(found) => findings.extend(compare_column(backend, subject, &place, mapped, found)),
        }
    }
    let unmapped = live.columns.iter().filter(|found| !table.columns.iter().any(|mapped| same(mapped, found)));
    for found in unmapped.filter(|found| !found.nullable && !found.fills && !found.generated) {
        let column = &found.name;
        findings.push(if live.prepared {
            let text = format!(
                "column `{column}` of table `{place}` is NOT NULL, has no default and is not mapped: inserts fail \
                 unless the table's trigger sets it"
            );
            Finding::warning("not-null-unmapped", subject, text)
        } else {
            let text = format!(
                "column `{column}` of table `{place}` is NOT NULL, has no default and is not mapped: inserts would \
                 fail; give it a default, or map it"
            );
            Finding::fatal("not-null-unmapped", subject, text)
        });
    }
    for columns in live.unique.values().filter(|columns| !is_key(backend, table, columns)) {
        let columns = columns.iter().map(|column| format!("`{column}`")).collect::<Vec<_>>().join(", ");
        let text = format!(
            "table `{place}` is unique by {columns}, too: a record that collides there with another row is refused \
             and becomes a dead letter"
        );
        findings.push(Finding::note("secondary-unique", subject, text));
    }
    findings
}

/// Whether the database is meant to fill in a column of the key, and nobody has said that it does not.
fn makes_key(table: &Table, mapped: &Column, found: &LiveColumn) -> bool {
    // Of a key that is no integer SeaORM says `auto_increment` when nothing is said, but no database makes one.
    mapped.key && !table.client_keys && (found.makes || (table.auto_increment && is_integer(mapped)))
}

fn generated_key(place: &str, mapped: &Column) -> String {
    format!(
        "column `{}` of table `{place}` is part of the key, and the database is meant to make it, but a write is answered \
         before the database has seen it: make keys that are UUIDs (`ids::uuid_v7`), ULIDs (`ids::ulid`) or integers \
         from a block (`Engine::ids`); if the application makes them already, say `#[wb(client_keys)]` on the struct, or \
         take the default (a sequence, an identity, AUTO_INCREMENT) off the column",
        mapped.name
    )
}

fn compare_column(
    backend: DbBackend,
    subject: &str,
    place: &str,
    mapped: &Column,
    found: &LiveColumn,
) -> Option<Finding> {
    let column = format!("column `{}` of table `{place}`", mapped.name);
    if found.generated {
        let text = format!("{column} is generated by the database, which takes no value for it: do not map it");
        return Some(Finding::fatal("generated-column", subject, text));
    }
    match family::fit(backend, mapped, &found.kind) {
        Fit::Clash(wanted) => {
            let text = format!("{column} is of type `{}`, but the mapping writes and reads {wanted}", found.kind);
            Some(Finding::fatal("incompatible-type", subject, text))
        }
        Fit::Narrow(limits) => {
            let text = format!(
                "{column} is of type `{}`, narrower than the mapping: a value {limits} will be refused",
                found.kind
            );
            Some(Finding::warning("narrow-type", subject, text))
        }
        Fit::Fits if mapped.nullable && !found.nullable && !mapped.key => {
            let text = format!("{column} is NOT NULL, but the mapping has an `Option`: `None` will be refused");
            Some(Finding::warning("not-null-mapped", subject, text))
        }
        Fit::Fits => None,
    }
}

/// What only MySQL and MariaDB can have wrong.
async fn mysql(pool: &Pool, subject: &str, table: &Table) -> Result<Vec<Finding>, SinkError> {
    let mut findings = Vec::new();
    if !server(pool).await?.strict {
        let text = "sql_mode is not strict: values that do not fit are cut without an error; add STRICT_ALL_TABLES";
        findings.push(Finding::warning("sql-mode", subject, text));
    }
    let query = "SELECT CAST(table_name AS CHAR) AS t, CAST(engine AS CHAR) AS e FROM information_schema.tables \
                 WHERE (table_schema = COALESCE(?, DATABASE()) AND table_name = ?) \
                 OR (table_schema = DATABASE() AND table_name = 'wb_fence')";
    let values = vec![table.schema.as_deref().into(), (&*table.name).into()];
    let engines = live::ask(pool, query, values, |row| {
        Ok((row.try_get_by::<String, _>("t")?, row.try_get_by::<Option<String>, _>("e")?.unwrap_or_default()))
    });
    for (name, engine) in engines.await? {
        // No engine: a view. Whatever else is not known to lack transactions is not judged.
        if !["MyISAM", "Aria", "MEMORY", "CSV", "ARCHIVE"].iter().any(|lacks| lacks.eq_ignore_ascii_case(&engine)) {
            continue;
        }
        let text = format!("table `{name}` is kept by {engine}, which has no transactions: use InnoDB");
        findings.push(if name == "wb_fence" {
            Finding::fatal("fence-table", "table `wb_fence`", text)
        } else {
            Finding::warning("no-transactions", subject, text)
        });
    }
    Ok(findings)
}
