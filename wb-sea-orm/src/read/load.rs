//! Loading values by their keys.

use std::collections::HashSet;
use std::time::Duration;

use sea_orm::QueryResult;
use wb_core::{ErrorKind, Id, SinkError};

use crate::connection::error;
use crate::connection::error::{Class, from_sea_orm};
use crate::connection::tx::Pool;
use crate::mapping::entity::SqlEntity;
use crate::read::loads::Loads;
use crate::statement::plan::{Plan, Row};
use crate::write::rows;

/// The values of `keys`, without those that are absent.
///
/// # Errors
/// Those of the database; [`ErrorKind::Transient`] when other loads took all of `limit`.
pub(crate) async fn load<E: SqlEntity>(
    (pool, loads): (&Pool, &Loads),
    plan: &Plan,
    keys: &[E::Key],
    limit: Duration,
) -> Result<Vec<E>, SinkError> {
    let id = |key: &E::Key| Id::of(key).map_err(|e| SinkError::new(ErrorKind::Rejected, "load").with_source(e));
    let mut wanted = HashSet::with_capacity(keys.len());
    let mut rows = Vec::with_capacity(keys.len());
    for key in keys {
        if let Some(row) = rows::key::<E>(plan, key)?
            && wanted.insert(id(key)?)
        {
            rows.push(row);
        }
    }
    let mut values = Vec::with_capacity(rows.len());
    let what = format!("load of entity `{}` from table `{}`", E::NAME, plan.table.name);
    let mut parts = vec![rows];
    while let Some(part) = parts.pop() {
        let found = match fetch((pool, loads), plan, &what, part.clone(), limit).await {
            Ok(found) => found,
            // Of one key of them the database cannot say whether it has it: others it has.
            Err(error) if error::is_incomparable(&error) => {
                parts.extend(halves(part));
                continue;
            }
            Err(error) => return Err(error),
        };
        for row in found {
            let unreadable = |error| {
                let context = format!("a row of table `{}` is no value of entity `{}`", plan.table.name, E::NAME);
                from_sea_orm(context, error)
            };
            // A collation that takes different texts for equal finds rows of other records, which are nobody's matter here.
            if wanted.remove(&id(&E::key_of_row(&row).map_err(unreadable)?)?) {
                values.push(E::from_row(&row).map_err(unreadable)?);
            }
        }
    }
    Ok(values)
}

/// How often the same keys are asked for when a connection has a plan of an old schema. The first time closes those that nobody
/// uses; one that another load has used meanwhile may come after it.
const TRIES: usize = 3;

async fn fetch(
    (pool, loads): (&Pool, &Loads),
    plan: &Plan,
    what: &str,
    keys: Vec<Row>,
    limit: Duration,
) -> Result<Vec<QueryResult>, SinkError> {
    let mut found = Vec::new();
    let mut keys = keys.into_iter();
    while !keys.as_slice().is_empty() {
        let mut tries = 1;
        let rows = loop {
            let mut some = keys.clone();
            let Some(statement) = plan.select(&mut some) else { return Ok(found) };
            match loads.fetch(pool, limit, what, statement?).await {
                Err(error) if error::class(&error) == Some(Class::Outdated) && tries < TRIES => tries += 1,
                rows => {
                    keys = some;
                    break rows?;
                }
            }
        };
        found.extend(rows);
    }
    Ok(found)
}

/// Two parts of these keys; none of a single one, which no row has.
fn halves(mut keys: Vec<Row>) -> Vec<Vec<Row>> {
    if keys.len() < 2 {
        return Vec::new();
    }
    let rest = keys.split_off(keys.len().next_power_of_two() / 2);
    vec![rest, keys]
}
