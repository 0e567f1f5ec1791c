//! When every row of a batch is refused: what is wrong with the table, for which it would be a mistake to blame the rows. The
//! checks that refuse a start are asked again, because the table may have changed since.

use std::any::TypeId;
use std::collections::HashMap;

use tokio::time::Instant;
use wb_core::{Batch, ErrorKind, Id, Report, SinkError};

use crate::connection::error;
use crate::connection::error::Class;
use crate::connection::tx::Pool;
use crate::examine;
use crate::examine::definition;
use crate::examine::definition::Definitions;
use crate::examine::table_facts::inspect;
use crate::mapping::entity::SqlEntity;
use crate::statement::plan::Plan;

/// What came of a batch that was begun then, once it is known whether the table can take rows at all.
///
/// # Errors
/// Those of the batch; [`ErrorKind::Misconfigured`] with what is wrong with the table; those of looking at it.
pub(crate) async fn judged<E: SqlEntity>(
    (pool, plan, definitions): (&Pool, &Plan, &Definitions),
    batch: &Batch<E>,
    begun: Instant,
    written: Result<Report, SinkError>,
) -> Result<Report, SinkError> {
    let (table, entity) = (&plan.table, TypeId::of::<E>());
    let is_mapped = |column: &str| table.columns.iter().any(|mapped| mapped.name == column);
    // A value that is missing in a column which is not mapped is no mistake of the row, unless others land.
    let is_unmapped = |error: &SinkError| error::missing_value(error, &table.name).is_some_and(|c| !is_mapped(c));
    let written = doubted(written, is_unmapped);
    let Some(refusal) = all_refused(batch, &written) else {
        if let Ok(report) = &written
            && batch.upserts.len() > report.rejected.len()
            && definitions.wants_proof(entity)
            // The rows have landed, whatever comes of this.
            && let Ok(lines) = definition::look(pool, table).await
        {
            definitions.landed(entity, lines, (begun, Instant::now()));
        }
        return written;
    };
    if let Some(found) = look::<E>(pool, plan).await? {
        // As text: the error itself is another owner's.
        return Err(SinkError::new(ErrorKind::Misconfigured, found).with_source(refusal.chain()));
    }
    let lines = definition::look(pool, table).await?;
    if definitions.is_proven(entity, lines, Instant::now()) {
        return written;
    }
    doubted(written, |error| error::class(error) == Some(Class::Row))
}

/// A refusal of an upsert by the database, when no upsert landed.
fn all_refused<'e, E: SqlEntity>(batch: &Batch<E>, written: &'e Result<Report, SinkError>) -> Option<&'e SinkError> {
    let by_the_database = |error: &&SinkError| {
        matches!(error.kind(), ErrorKind::Rejected | ErrorKind::Deferred) && error::class(error).is_some()
    };
    match written {
        Err(error) => Some(error).filter(by_the_database).filter(|_| !batch.upserts.is_empty()),
        Ok(report) if report.rejected.is_empty() => None,
        Ok(report) => {
            let refused: HashMap<&Id, &SinkError> = report.rejected.iter().map(|(id, error)| (id, error)).collect();
            let errors: Option<Vec<&SinkError>> =
                batch.upserts.iter().map(|upsert| refused.get(&upsert.id).copied()).collect();
            // `None` as soon as one of them landed.
            errors?.into_iter().find(by_the_database)
        }
    }
}

/// The same, where refusals that are hit may be the table's fault.
fn doubted(written: Result<Report, SinkError>, hits: impl Fn(&SinkError) -> bool) -> Result<Report, SinkError> {
    let judged = |error: SinkError| if hits(&error) { error.ambiguous() } else { error };
    match written {
        Ok(mut report) => {
            let rejected = std::mem::take(&mut report.rejected);
            report.rejected = rejected.into_iter().map(|(id, error)| (id, judged(error))).collect();
            Ok(report)
        }
        Err(error) => Err(judged(error)),
    }
}

/// Why the table takes no row of this entity, if so.
async fn look<E: SqlEntity>(pool: &Pool, plan: &Plan) -> Result<Option<String>, SinkError> {
    match inspect(pool, E::NAME, &plan.table).await {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::Misconfigured => return Ok(Some(error.to_string())),
        Err(error) => return Err(error),
    }
    examine::refuses_all(pool, E::NAME, &plan.table).await
}
