//! Loading values by their keys.

use std::collections::HashSet;
use std::time::Duration;

use wb_core::{ErrorKind, Id, SinkError};

use crate::classify::from_sea_orm;
use crate::entity::SqlEntity;
use crate::loads::Loads;
use crate::plan::Plan;
use crate::rows;
use crate::tx::Pool;

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
    let mut rows = rows.into_iter();
    let what = format!("load of entity `{}` from table `{}`", E::NAME, plan.table.name);
    while let Some(statement) = plan.select(&mut rows) {
        for row in loads.fetch(pool, limit, &what, statement?).await? {
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
