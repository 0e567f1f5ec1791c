//! One batch, one transaction: the fences are checked, then everything is written; when the database refuses a row,
//! the transaction is run again so that the row is found and the others land.

pub(crate) mod collisions;
pub(crate) mod isolate;
pub(crate) mod missing_parents;
pub(crate) mod nowhere;
pub(crate) mod passes;
pub(crate) mod rows;
pub(crate) mod stale;
pub(crate) mod unique;

use wb_core::{Batch, ErrorKind, Id, Report, SinkError};

use crate::connection::error;
use crate::connection::tx::{Pool, Tx};
use crate::fence;
use crate::mapping::entity::SqlEntity;
use crate::statement::plan::Plan;
use crate::write::isolate::isolate;
use crate::write::rows::Rows;

/// Writes a batch. A batch without a refused row costs one round trip to begin, one for each statement, one to commit,
/// and for an entity with a version on MySQL one to look for rows that were left out.
pub(crate) async fn batch<E: SqlEntity>(pool: &Pool, plan: &Plan, batch: &Batch<E>) -> Result<Report, SinkError> {
    let mut rows = Rows::of(plan, batch)?;
    let mut rejected = std::mem::take(&mut rows.rejected);
    if batch.whole && !rejected.is_empty() {
        return Err(rejected.swap_remove(0).1);
    }
    if rows.len() == 0 {
        return Ok(Report::default().with_rejected(rejected));
    }
    let only = rows.only();
    let mut statements = 0;
    let mut stale = Vec::new();
    let written = straight(pool, plan, batch, rows, &rejected, &mut statements).await;
    // Of a key that cannot be compared it is to be found out whether it can have a row.
    let only = only.filter(|_| !matches!(&written, Err(error) if error::is_incomparable(error)));
    match (written, only) {
        (Ok(found), _) => {
            if let Some(error) = stale::conflict::<E>(batch, &found) {
                return Err(error);
            }
            stale = found;
        }
        (Err(error), Some(id)) if refuses(&error) && batch.whole => {
            return Err(named::<E>(id, collisions::explained(plan, error)));
        }
        (Err(error), Some(id)) if refuses(&error) => rejected.push((id.clone(), error)),
        (Err(error), None) if refuses(&error) => {
            tracing::debug!(entity = E::NAME, records = batch.len(), error = %error.chain(), "isolating refused rows");
            let rows = Rows::of(plan, batch)?;
            let isolated = isolate(pool, plan, batch, rows, &error, &mut statements).await?;
            stale = isolated.stale;
            if batch.whole {
                // Nothing is refused when the rows only had to wait for each other: then all of them are written.
                if let Some(error) = cause(isolated.refused).or_else(|| stale::conflict::<E>(batch, &stale)) {
                    return Err(collisions::explained(plan, error));
                }
            } else {
                rejected.extend(isolated.refused);
            }
        }
        (Err(error), _) => return Err(error),
    }
    tracing::trace!(entity = E::NAME, records = batch.len(), statements, "batch written");
    let rejected = rejected.into_iter().map(|(id, error)| (id, collisions::explained(plan, error))).collect();
    Ok(Report::written(statements).with_rejected(rejected).with_stale(stale))
}

/// The refusal of the only row of a batch, with its name.
fn named<E: SqlEntity>(id: &Id, error: SinkError) -> SinkError {
    error.within(format!("record `{id}` of entity `{}` is refused", E::NAME))
}

/// Why a batch is refused as a whole: what is wrong in itself goes before what waits for others, perhaps for that.
fn cause(refused: Vec<(Id, SinkError)>) -> Option<SinkError> {
    let errors = refused.into_iter().map(|(_, error)| error);
    errors.min_by_key(|error| error.kind() != ErrorKind::Rejected)
}

/// Whether an error is about the data, so that other rows may pass.
pub(crate) fn refuses(error: &SinkError) -> bool {
    matches!(error.kind(), ErrorKind::Rejected | ErrorKind::Deferred)
}

/// Opens the transaction of a batch: from here on no other owner can take one of its partitions.
pub(crate) async fn begin<E: SqlEntity>(pool: &Pool, batch: &Batch<E>, first: &str) -> Result<Tx, SinkError> {
    let check = fence::check_text(pool.backend(), &batch.scope, &batch.fences);
    let text = format!("{first}{check}");
    let begun = match pool.begin("begin", &text).await {
        // A table of fences that was dropped knows no owner when it is there again: this batch will be fenced, and its
        // worker asks for a new generation, instead of waiting for somebody who repairs it.
        Err(error) if error.kind() == ErrorKind::Misconfigured && !batch.fences.is_empty() => {
            fence::prepare(pool).await?;
            pool.begin("begin", &text).await
        }
        begun => begun,
    };
    let (tx, found) = begun?;
    match fence::check(&batch.scope, &batch.fences, &found) {
        Ok(()) => Ok(tx),
        Err(error) => {
            tx.rollback().await;
            Err(error)
        }
    }
}

/// Writes everything, or nothing. Returns the rows that were left out, because the database has newer ones; of a batch that
/// is all or nothing, those for which it was rolled back.
async fn straight<E: SqlEntity>(
    pool: &Pool,
    plan: &Plan,
    batch: &Batch<E>,
    rows: Rows<'_>,
    rejected: &[(Id, SinkError)],
    statements: &mut u64,
) -> Result<Vec<Id>, SinkError> {
    let mut tx = begin(pool, batch, "").await?;
    let what = |verb: &str| format!("{verb} of entity `{}` in table `{}`", E::NAME, plan.table.name);
    let written = async {
        let (sent, mut counted) = (rows.upserts.rows.len() as u64, 0);
        let mut upserts = rows.upserts.rows.into_iter();
        while let Some(statement) = plan.upsert(&mut upserts) {
            *statements += 1;
            counted += tx.execute(&what("upsert"), statement?).await?;
        }
        let mut deletes = rows.deletes.rows.into_iter();
        while let Some(statement) = plan.delete(&mut deletes) {
            *statements += 1;
            tx.execute(&what("delete"), statement?).await?;
        }
        if !stale::suspects(plan, sent, counted) {
            return Ok(Vec::new());
        }
        stale::find(&mut tx, plan, batch, rejected, statements).await
    };
    match written.await {
        Ok(stale) if batch.whole && !stale.is_empty() => {
            tx.rollback().await;
            Ok(stale)
        }
        Ok(stale) => {
            tx.commit().await?;
            Ok(stale)
        }
        Err(error) => {
            tx.rollback().await;
            Err(error)
        }
    }
}
