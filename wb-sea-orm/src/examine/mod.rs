//! What is wrong, or worth knowing, between an entity's mapping and the live table.

pub(crate) mod cascades;
pub(crate) mod definition;
pub(crate) mod live_table;
pub(crate) mod table_facts;
pub(crate) mod unfit;

use std::collections::BTreeMap;

use sea_orm::DbBackend;
use wb_core::{ErrorKind, Finding, Severity, SinkError};

use crate::connection::tx::Pool;
use crate::examine::live_table::{Live, LiveColumn};
use crate::examine::table_facts::{fold, is_key, place, server};
use crate::fence;
use crate::mapping::entity::{Column, Table};
use crate::statement::plan::is_integer;
use crate::values::kept;
use crate::values::limit::MICROSECONDS;

pub(crate) mod column_types;
pub(crate) mod keys;

use self::column_types::Fit;

/// Looks at the table of an entity and at the table of fences.
pub(crate) async fn examine(pool: &Pool, entity: &'static str, table: &Table) -> Result<Vec<Finding>, SinkError> {
    let subject = format!("entity `{entity}`");
    let mut findings = match live_table::look(pool, table).await? {
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
    let Some(live) = live_table::look(pool, table).await? else { return Ok(None) };
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
    findings.extend(fractions(backend, subject, table, live));
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
    match column_types::fit(backend, mapped, &found.kind) {
        Fit::Clash(wanted) => {
            let text = format!("{column} is of type `{}`, but the mapping writes and reads {wanted}", found.kind);
            Some(Finding::fatal("incompatible-type", subject, text))
        }
        Fit::Narrow(limits) => {
            let text = format!(
                "{column} is of type `{}`, narrower than the mapping: a value {limits} is refused when it is written",
                found.kind
            );
            Some(Finding::warning("narrow-type", subject, text))
        }
        Fit::Fits if mapped.nullable && !found.nullable && !mapped.key => {
            let text = format!("{column} is NOT NULL, but the mapping has an `Option`: `None` will be refused");
            Some(Finding::warning("not-null-mapped", subject, text))
        }
        // Of keys it is said elsewhere.
        Fit::Fits if mapped.key => None,
        Fit::Fits => column_types::narrow(mapped, &found.limit).map(|what| {
            let text = format!(
                "{column} is of type `{}`, narrower than the mapping: a value {what} is refused when it is written",
                found.kind
            );
            Finding::warning("narrow-type", subject, text)
        }),
    }
}

/// Times of which less is kept than their types have.
fn fractions(backend: DbBackend, subject: &str, table: &Table, live: &Live) -> Vec<Finding> {
    let mut cut: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    for mapped in &table.columns {
        let found = live.columns.iter().find(|found| fold(backend, &mapped.name) == fold(backend, &found.name));
        if let Some(digits) = found.and_then(|found| column_types::fraction(mapped, &found.limit)) {
            cut.entry(digits).or_default().push(format!("`{}`", mapped.name));
        }
    }
    let finding = |(digits, columns): (u32, Vec<String>)| {
        let (columns, place) = (columns.join(", "), place(table));
        let what = "of a second: what is finer is cut off when it is written, in the buffer as in the row";
        // No column of these databases keeps more.
        if digits == MICROSECONDS {
            let text = format!("{columns} of table `{place}` keep microseconds {what}");
            return Finding::note("time-precision", subject, text);
        }
        let text = format!(
            "{columns} of table `{place}` keep {digits} digits {what}; six are the most that a column can have"
        );
        Finding::warning("time-precision", subject, text)
    };
    cut.into_iter().map(finding).collect()
}

/// What only MySQL and MariaDB can have wrong.
async fn mysql(pool: &Pool, subject: &str, table: &Table) -> Result<Vec<Finding>, SinkError> {
    let mut findings = Vec::new();
    if !server(pool).await?.utc
        && let Some(live) = live_table::look(pool, table).await?
    {
        let moved = table.columns.iter().filter(|mapped| column_types::is_moment(mapped)).filter(|mapped| {
            let same =
                |found: &&LiveColumn| fold(DbBackend::MySql, &found.name) == fold(DbBackend::MySql, &mapped.name);
            live.columns.iter().find(same).is_some_and(|found| found.kind == "timestamp")
        });
        findings.extend(moved.map(|mapped| {
            let text = format!(
                "column `{}` of table `{}` is a TIMESTAMP, and the session's `time_zone` is not UTC, in which moments are \
                 sent: each would be stored as another one; leave the connection's time zone at `+00:00`, or make the \
                 column a DATETIME(6)",
                mapped.name,
                place(table)
            );
            Finding::fatal("time-zone", subject, text)
        }));
    }
    let query = "SELECT CAST(table_name AS CHAR) AS t, CAST(engine AS CHAR) AS e FROM information_schema.tables \
                 WHERE (table_schema = COALESCE(?, DATABASE()) AND table_name = ?) \
                 OR (table_schema = DATABASE() AND table_name = 'wb_fence')";
    let values = vec![table.schema.as_deref().into(), (&*table.name).into()];
    let engines = live_table::ask(pool, query, values, |row| {
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
