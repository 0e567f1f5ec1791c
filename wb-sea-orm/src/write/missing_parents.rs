//! Rows whose parents are missing, found by asking for the parents: one statement for each reference, where trying would
//! take two for each such row.

use std::collections::BTreeMap;

use sea_orm::{DbBackend, Value};
use wb_core::SinkError;

use crate::connection::error;
use crate::connection::error::from_sea_orm;
use crate::connection::tx::Tx;
use crate::mapping::entity::{Column, Reference, Table};
use crate::statement::bind::{Args, Statement};
use crate::statement::dialect::{mysql, postgres, sqlite};
use crate::statement::plan::Row;

/// Parents that a statement asks for at most, where each is a question of its own; a power of two.
const MOST: usize = 256;

/// A reference as a plan knows it.
pub(crate) struct Link {
    reference: Reference,
    /// Where its column stands among the entity's.
    position: usize,
    column: Column,
}

impl Link {
    /// The references that can be asked for. One to the entity's own table is not: the parent may be in the same batch.
    pub(crate) fn all(table: &Table, references: Vec<Reference>) -> Vec<Self> {
        let own = |parent: &Table| parent.name == table.name && parent.schema == table.schema;
        let link = |reference: Reference| {
            let position = table.columns.iter().position(|column| column.name == reference.column)?;
            let column = table.columns.get(position)?.clone();
            (!own(&reference.parent)).then_some(Self { reference, position, column })
        };
        references.into_iter().filter_map(link).collect()
    }

    /// What is said of a row without this parent.
    pub(crate) fn missing(&self) -> String {
        let Reference { column, parent } = &self.reference;
        format!("column `{column}` refers to a row that table `{}` does not have", parent.name)
    }
}

/// Rows without parents, by the links whose parents are missing: of those in one group, all are refused or none.
pub(crate) type Orphans = BTreeMap<Vec<usize>, Vec<usize>>;

/// Finds the rows whose parents are missing.
pub(crate) async fn find(
    tx: &mut Tx,
    backend: DbBackend,
    links: &[Link],
    rows: &[Row],
    statements: &mut u64,
) -> Result<Orphans, SinkError> {
    let mut missing = BTreeMap::<usize, Vec<usize>>::new();
    for (number, link) in links.iter().enumerate() {
        let values = rows.iter().enumerate().filter_map(|(row, Row { values, .. })| {
            let value = values.get(link.position)?;
            // NULL refers to nothing.
            (*value != value.as_null()).then(|| (row, value.clone()))
        });
        let asked: Vec<(usize, Value)> = values.collect();
        let found = match ask(tx, backend, link, asked, statements).await {
            // One value cannot be compared with the parents' keys: the rows are tried one by one.
            Err(error) if error::is_incomparable(&error) => continue,
            found => found?,
        };
        for row in found {
            missing.entry(row).or_default().push(number);
        }
    }
    let mut orphans = Orphans::new();
    for (row, links) in missing {
        orphans.entry(links).or_default().push(row);
    }
    Ok(orphans)
}

async fn ask(
    tx: &mut Tx,
    backend: DbBackend,
    link: &Link,
    asked: Vec<(usize, Value)>,
    statements: &mut u64,
) -> Result<Vec<usize>, SinkError> {
    let what = format!("look for parents in table `{}`", link.reference.parent.name);
    let unread = |error| from_sea_orm(what.clone(), error);
    let mut missing = Vec::new();
    if backend == DbBackend::Postgres {
        let Some(statement) = whole(link, &asked) else { return Ok(missing) };
        *statements += 1;
        for found in tx.fetch(&what, statement).await? {
            let place: i64 = found.try_get_by_index(0).map_err(unread)?;
            let place = usize::try_from(place).ok().and_then(|place| asked.get(place.checked_sub(1)?));
            missing.extend(place.map(|(row, _)| *row));
        }
        return Ok(missing);
    }
    for asked in asked.chunks(MOST) {
        let size = asked.len().next_power_of_two();
        let text = match backend {
            DbBackend::MySql => mysql::parents(&link.reference.parent, size),
            _ => sqlite::parents(&link.reference.parent, size),
        };
        // Asked for twice, a parent is found twice: padding keeps the texts few.
        let last = asked.last().into_iter().cycle();
        let values = asked.iter().chain(last).take(size).map(|(_, value)| value.clone()).collect();
        *statements += 1;
        for found in tx.fetch(&what, Statement { text: text.into(), args: Args::Values(values) }).await? {
            for (index, (row, _)) in asked.iter().enumerate() {
                let exists: i64 = found.try_get_by_index(index).map_err(unread)?;
                if exists == 0 {
                    missing.push(*row);
                }
            }
        }
    }
    Ok(missing)
}

/// One question for all parents; `None` when they cannot travel as one array.
#[cfg(feature = "postgres")]
fn whole(link: &Link, asked: &[(usize, Value)]) -> Option<Statement> {
    let text = postgres::parents(&link.reference.parent, &link.column)?;
    let mut array = crate::statement::bind::PgColumn::new(&link.column, asked.len())?;
    let fits = asked.iter().all(|(_, value)| array.push(value.clone()));
    fits.then(|| Statement { text: text.into(), args: Args::Arrays(vec![array]) })
}

#[cfg(not(feature = "postgres"))]
fn whole(link: &Link, _: &[(usize, Value)]) -> Option<Statement> {
    let _ = postgres::parents(&link.reference.parent, &link.column);
    None
}
