//! One batch, one transaction: the fences are checked, then everything is written; when the database refuses a row,
//! the transaction is run again so that the row is found and the others land.

use wb_core::{Batch, ErrorKind, Report, SinkError};

use crate::entity::SqlEntity;
use crate::fence;
use crate::isolate::isolate;
use crate::plan::Plan;
use crate::rows::Rows;
use crate::tx::{Pool, Tx};

/// Writes a batch. A batch without a refused row costs one round trip to begin, one for each statement, one to commit.
pub(crate) async fn batch<E: SqlEntity>(pool: &Pool, plan: &Plan, batch: &Batch<E>) -> Result<Report, SinkError> {
    let mut rows = Rows::of(plan, batch)?;
    let mut rejected = std::mem::take(&mut rows.rejected);
    if rows.len() == 0 {
        return Ok(Report::default().with_rejected(rejected));
    }
    let only = rows.only();
    let mut statements = 0;
    match (straight(pool, plan, batch, rows, &mut statements).await, only) {
        (Ok(()), _) => {}
        (Err(error), Some(id)) if refuses(&error) => rejected.push((id.clone(), error)),
        (Err(error), None) if refuses(&error) => {
            tracing::debug!(entity = E::NAME, records = batch.len(), error = %error.chain(), "isolating refused rows");
            let rows = Rows::of(plan, batch)?;
            rejected.extend(isolate(pool, plan, batch, rows, error.kind(), &mut statements).await?);
        }
        (Err(error), _) => return Err(error),
    }
    tracing::trace!(entity = E::NAME, records = batch.len(), statements, "batch written");
    Ok(Report::written(statements).with_rejected(rejected))
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

/// Writes everything, or nothing.
async fn straight<E: SqlEntity>(
    pool: &Pool,
    plan: &Plan,
    batch: &Batch<E>,
    rows: Rows<'_>,
    statements: &mut u64,
) -> Result<(), SinkError> {
    let mut tx = begin(pool, batch, "").await?;
    let what = |verb: &str| format!("{verb} of entity `{}` in table `{}`", E::NAME, plan.table.name);
    let written = async {
        let mut upserts = rows.upserts.rows.into_iter();
        while let Some(statement) = plan.upsert(&mut upserts) {
            *statements += 1;
            tx.execute(&what("upsert"), statement?).await?;
        }
        let mut deletes = rows.deletes.rows.into_iter();
        while let Some(statement) = plan.delete(&mut deletes) {
            *statements += 1;
            tx.execute(&what("delete"), statement?).await?;
        }
        Ok(())
    };
    match written.await {
        Ok(()) => tx.commit().await,
        Err(error) => {
            tx.rollback().await;
            Err(error)
        }
    }
}
