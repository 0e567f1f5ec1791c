//! Which rows of a batch the database has newer versions of.

use std::collections::{HashMap, HashSet};

use sea_orm::DbBackend;
use wb_core::{Batch, ErrorKind, Id, SinkError};

use crate::connection::error::from_sea_orm;
use crate::connection::tx::Tx;
use crate::mapping::entity::SqlEntity;
use crate::statement::dialect::VERSION;
use crate::statement::plan::Plan;
use crate::write::rows;

/// Whether rows may have been left out of upserts, of whose `rows` the database counted `counted`.
///
/// MySQL counts a row that stays like one that is written, so there it is never known.
pub(crate) fn suspects(plan: &Plan, rows: u64, counted: u64) -> bool {
    plan.table.version().is_some() && rows > 0 && (plan.backend == DbBackend::MySql || counted != rows)
}

/// Why a batch that is all or nothing is not written: the database has a newer version of one of its records.
pub(crate) fn conflict<E: SqlEntity>(batch: &Batch<E>, stale: &[Id]) -> Option<SinkError> {
    let id = stale.first().filter(|_| batch.whole)?;
    let text = format!("record `{id}` of entity `{}` has a newer version in the database", E::NAME);
    Some(SinkError::new(ErrorKind::Rejected, text))
}

/// The upserts of a batch that were left out, because the database has a newer version of them; but for `refused` ones,
/// which are reported as such. Asked in the transaction after all of its upserts, which have locked their rows: so one
/// view of the table holds for all of them.
pub(crate) async fn find<E: SqlEntity>(
    tx: &mut Tx,
    plan: &Plan,
    batch: &Batch<E>,
    refused: &[(Id, SinkError)],
    statements: &mut u64,
) -> Result<Vec<Id>, SinkError> {
    let refused: HashSet<&Id> = refused.iter().map(|(id, _)| id).collect();
    let mut written: HashMap<&Id, i64> = HashMap::with_capacity(batch.upserts.len());
    let mut keys = Vec::with_capacity(batch.upserts.len());
    for upsert in batch.upserts.iter().filter(|upsert| !refused.contains(&upsert.id)) {
        if let Some(version) = upsert.value.version()
            && let Some(key) = rows::key::<E>(plan, &upsert.value.key())?
        {
            written.insert(&upsert.id, version);
            keys.push(key);
        }
    }
    let what = format!("looking for newer rows of entity `{}` in table `{}`", E::NAME, plan.table.name);
    let mut stale = Vec::new();
    let mut keys = keys.into_iter();
    while let Some(statement) = plan.versions(&mut keys) {
        *statements += 1;
        for row in tx.fetch(&what, statement?).await? {
            let unreadable = |error| from_sea_orm(what.clone(), error);
            let Some(found) = row.try_get_by::<Option<i64>, _>(VERSION).map_err(unreadable)? else { continue };
            let key = E::key_of_row(&row).map_err(unreadable)?;
            let id = Id::of(&key).map_err(|e| SinkError::new(ErrorKind::Rejected, what.clone()).with_source(e))?;
            // A collation finds rows of other records, too.
            if let Some((id, version)) = written.get_key_value(&id)
                && found > *version
            {
                stale.push((*id).clone());
            }
        }
    }
    stale.sort_unstable();
    // A key that a statement lists twice, for its size, is found once; two rows cannot have one key.
    stale.dedup();
    Ok(stale)
}
