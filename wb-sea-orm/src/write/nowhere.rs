//! Keys that the database cannot compare with its own: no row has such a key.
//!
//! MySQL and MariaDB refuse to compare a text that the column's character set does not have (error 1267): in a `utf8mb3` column no row
//! has a key with a four-byte character. The code alone does not say that it is about the key: a trigger may compare texts too. So
//! the key is looked up by itself, which fires no trigger.

use wb_core::SinkError;

use crate::connection::error;
use crate::connection::tx::Tx;
use crate::statement::plan::{Plan, Row};

/// Whether a delete that failed with `error` had nothing to delete.
pub(crate) async fn is(tx: &mut Tx, plan: &Plan, key: &Row, error: &SinkError) -> Result<bool, SinkError> {
    if !error::is_incomparable(error) {
        return Ok(false);
    }
    let what = format!("looking for a key in table `{}`", plan.table.name);
    let mut key = vec![key.clone()].into_iter();
    while let Some(statement) = plan.select(&mut key) {
        match tx.fetch(&what, statement?).await {
            Err(error) if error::is_incomparable(&error) => return Ok(true),
            Err(error) => return Err(error),
            Ok(_) => {}
        }
    }
    Ok(false)
}
