//! flush: a batch goes to the sink until it is settled: written, refused record by record, or given up.

use tokio::time::Instant;

use crate::entity::Entity;
use crate::events;
use crate::failpoint;
use crate::key::Id;
use crate::lane::Lane;
use crate::metrics;
use crate::retry::{Verdict, verdict};
use crate::sink::{Batch, Report, SinkError};

use super::rotate::Epoch;

/// What became of the records of a batch.
pub(super) struct Flushed {
    /// In the sink.
    pub(super) written: Vec<Id>,
    /// Refused, each for a reason of its own data.
    pub(super) refused: Vec<(Id, SinkError)>,
}

/// A partition of the batch is not this worker's any more: nothing more may be done with it.
pub(super) struct GivenUp;

enum Settled {
    Written(Report),
    Refused(SinkError),
}

impl<E: Entity> Lane<E> {
    pub(super) async fn flush(&self, batch: Batch<E>, epochs: &[Epoch]) -> Result<Flushed, GivenUp> {
        let mut flushed = Flushed { written: Vec::with_capacity(batch.len()), refused: Vec::new() };
        let mut batches = vec![batch];
        while let Some(batch) = batches.pop() {
            if batch.is_empty() {
                continue;
            }
            match self.settle_batch(&batch, epochs).await? {
                Settled::Written(report) => {
                    let refused = |id: &Id| report.rejected.iter().any(|(other, _)| other == id);
                    flushed.written.extend(ids(&batch).filter(|id| !refused(id)).cloned());
                    flushed.refused.extend(report.rejected);
                }
                Settled::Refused(error) if batch.len() == 1 => {
                    flushed.refused.extend(ids(&batch).next().cloned().map(|id| (id, error)));
                }
                Settled::Refused(error) => {
                    events::isolating(&self.scope, batch.len(), &error);
                    batches.extend(halves(batch));
                }
            }
        }
        Ok(flushed)
    }

    /// Writes a batch as often as it takes, while the partitions are this worker's.
    async fn settle_batch(&self, batch: &Batch<E>, epochs: &[Epoch]) -> Result<Settled, GivenUp> {
        let mut failures = 0_u32;
        loop {
            // An outage may have cost the lease meanwhile. A sink that fences would refuse; others have only this.
            if let Some(epoch) = epochs.iter().find(|epoch| !self.leases.holds(epoch.partition, epoch.right)) {
                events::step_refused(&self.scope, epoch.partition, epoch.number, "flush");
                return Err(GivenUp);
            }
            failpoint::pass("before_write");
            let begun = Instant::now();
            let result = self.sink.write(batch).await;
            failpoint::pass("after_write");
            self.counters.flushed(begun.elapsed());
            metrics::flushed(&self.scope, begun.elapsed());
            let error = match result {
                Ok(report) => {
                    failpoint::pass("after_commit");
                    self.count(batch, &report, begun);
                    return Ok(Settled::Written(report));
                }
                Err(error) => error,
            };
            failures = failures.saturating_add(1);
            self.counters.failed(error.kind());
            match verdict(error.kind(), failures, &self.options.retry, rand::random()) {
                (Verdict::Isolate, _) => return Ok(Settled::Refused(error)),
                (Verdict::GiveUp, _) => {
                    events::fenced(&self.scope, &error);
                    self.leases.forget(epochs.iter().map(|epoch| (epoch.partition, epoch.right)));
                    return Err(GivenUp);
                }
                (Verdict::WaitForPerson, wait) => {
                    // Once, not at every retry: whoever is woken by it reads it once.
                    if failures == 1 {
                        events::paused(&self.scope, &error);
                    }
                    tokio::time::sleep(wait).await;
                }
                (Verdict::Wait, wait) => {
                    events::retrying(&self.scope, batch.len(), failures, wait, &error);
                    tokio::time::sleep(wait).await;
                }
            }
        }
    }

    fn count(&self, batch: &Batch<E>, report: &Report, begun: Instant) {
        let (upserts, deletes) = (batch.upserts.len(), batch.deletes.len());
        let refused = report.rejected.len() as u64;
        self.counters.batches.add(1);
        self.counters.statements.add(report.statements);
        self.counters.rows_upserted.add((upserts as u64).saturating_sub(refused));
        self.counters.rows_deleted.add(deletes as u64);
        events::flushed(&self.scope, upserts, deletes, report.statements, begun.elapsed());
    }
}

fn ids<E: Entity>(batch: &Batch<E>) -> impl Iterator<Item = &Id> {
    batch.upserts.iter().map(|upsert| &upsert.id).chain(batch.deletes.iter().map(|delete| &delete.id))
}

/// Two batches of half the records each; a refused record is found in about log2(n) writes.
fn halves<E: Entity>(batch: Batch<E>) -> [Batch<E>; 2] {
    let Batch { scope, fences, mut upserts, mut deletes } = batch;
    // Upserts and deletes apart first: the kinds rarely fail for the same reason.
    let (more_upserts, more_deletes) = if upserts.is_empty() || deletes.is_empty() {
        (upserts.split_off(upserts.len() / 2), deletes.split_off(deletes.len() / 2))
    } else {
        (Vec::new(), std::mem::take(&mut deletes))
    };
    [
        Batch { scope: scope.clone(), fences: fences.clone(), upserts: more_upserts, deletes: more_deletes },
        Batch { scope, fences, upserts, deletes },
    ]
}
