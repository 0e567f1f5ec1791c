//! The highest key of a table: the floor of ids that are made elsewhere.

use sea_orm::DbBackend;
use wb_core::{Entity, SinkError};

use crate::connection::error::from_sea_orm;
use crate::connection::tx::Pool;
use crate::statement::bind::{Args, Statement};
use crate::statement::dialect::{HIGHEST, keys, mysql, postgres, sqlite};
use crate::statement::plan::{Plan, is_integer};

/// The highest key; `None` when the table is empty, or its key is not one integer.
pub(crate) async fn key<E: Entity>(pool: &Pool, plan: &Plan) -> Result<Option<i64>, SinkError> {
    let table = &plan.table;
    let mut columns = keys(table);
    let (Some(key), None) = (columns.next(), columns.next()) else { return Ok(None) };
    if !is_integer(key) {
        return Ok(None);
    }
    let text = match plan.backend {
        DbBackend::Postgres => postgres::highest(table, key),
        DbBackend::MySql => mysql::highest(table, key),
        _ => sqlite::highest(table, key),
    };
    let what = format!("looking for the highest key of entity `{}` in table `{}`", E::NAME, table.name);
    let rows = pool.fetch(&what, Statement { text: text.into(), args: Args::Values(Vec::new()) }).await?;
    let highest = rows.first().map(|row| row.try_get_by::<Option<i64>, _>(HIGHEST)).transpose();
    highest.map(Option::flatten).map_err(|error| from_sea_orm(what, error))
}
