//! flush: a batch goes to the sink until it is settled: written, refused record by record, or given up.

use std::any::Any;
use std::collections::{HashSet, VecDeque};
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::time::Duration;

use futures::FutureExt;
use tokio::time::{Instant, timeout};

use crate::entity::Entity;
use crate::events;
use crate::failpoint;
use crate::key::Id;
use crate::lane::Lane;
use crate::metrics;
use crate::passage::{Admission, Refused};
use crate::retry::{Verdict, isolates, verdict};
use crate::sabotage::Mechanism;
use crate::sink::{Batch, ErrorKind, Report, SinkError};

use super::rotate::Epoch;
use super::units::{Ties, ids};

/// A write that takes longer is reported, again and again. It is never given up: what it does in the sink could land
/// later, over newer states.
const SLOW: Duration = Duration::from_secs(30);

/// What became of the records of a batch.
pub(super) struct Flushed {
    /// In the sink.
    pub(super) written: Vec<Id>,
    /// Left out, because the sink has newer versions of them.
    pub(super) stale: Vec<Id>,
    /// Refused, each for a reason of its own data.
    pub(super) refused: Vec<(Id, SinkError)>,
}

/// A partition of the batch is not this worker's any more, or the worker ends: nothing more may be done with it.
pub(super) struct GivenUp;

enum Settled {
    Written(Report),
    Refused(SinkError),
    /// The sink panics whenever it is given this.
    Panics,
}

impl Flushed {
    /// Nothing is settled yet of `records`.
    fn nothing(records: usize) -> Self {
        Self { written: Vec::with_capacity(records), stale: Vec::new(), refused: Vec::new() }
    }

    /// All of these are in the sink.
    pub(super) const fn all(written: Vec<Id>) -> Self {
        Self { written, stale: Vec::new(), refused: Vec::new() }
    }
}

impl<E: Entity> Lane<E> {
    pub(super) async fn flush(&self, batch: Batch<E>, epochs: &[Epoch], ties: &Ties) -> Result<Flushed, GivenUp> {
        let mut flushed = Flushed::nothing(batch.len());
        let mut panicked = Vec::new();
        let mut doubtful = false;
        let mut batches = VecDeque::from([batch]);
        let mut splitting = false;
        while let Some(batch) = batches.pop_front() {
            if batch.is_empty() {
                continue;
            }
            match self.settle_batch(&batch, epochs, &mut doubtful, splitting).await? {
                Settled::Written(report) => {
                    if let Some((_, error)) =
                        report.rejected.iter().find(|(_, error)| error.kind() == ErrorKind::Fenced)
                    {
                        return Err(self.fenced(epochs, error));
                    }
                    let refused: HashSet<&Id> = report.rejected.iter().map(|(id, _)| id).collect();
                    let stale: HashSet<&Id> = report.stale.iter().filter(|id| !refused.contains(id)).collect();
                    let written = ids(&batch).filter(|id| !refused.contains(id) && !stale.contains(id));
                    flushed.written.extend(written.cloned());
                    flushed.stale.extend(ids(&batch).filter(|id| stale.contains(id)).cloned());
                    let mut unseen: HashSet<Id> = refused.into_iter().cloned().collect();
                    // A sink may name a record more than once: the first reason is the record's.
                    flushed.refused.extend(report.rejected.into_iter().filter(|(id, _)| unseen.remove(id)));
                }
                Settled::Refused(error) => match parts(batch, ties) {
                    // The first record stands for all of its unit.
                    Err(batch) => flushed.refused.extend(ids(&batch).next().cloned().map(|id| (id, error))),
                    Ok(parts) => {
                        let records = parts.iter().map(Batch::len).sum();
                        events::isolating(&self.scope, records, &error);
                        queue::<E>(&mut batches, parts);
                    }
                },
                Settled::Panics => match parts(batch, ties) {
                    Err(batch) => panicked.extend(ids(&batch).next().cloned()),
                    Ok(parts) => {
                        splitting = true;
                        queue::<E>(&mut batches, parts);
                    }
                },
            }
        }
        // A sink that takes the others panics for the record's sake; one that takes nothing, for its own.
        let kind = if flushed.written.is_empty() && flushed.stale.is_empty() {
            ErrorKind::Unavailable
        } else {
            ErrorKind::Rejected
        };
        let error = || SinkError::new(kind, "the sink panics when it is given this record");
        flushed.refused.extend(panicked.into_iter().map(|id| (id, error())));
        Ok(flushed)
    }

    /// Writes a batch as often as it takes, while the partitions are this worker's. `doubtful`: a try failed, and may still
    /// be under way in the sink. `splitting`: it is a part of one that makes the sink panic.
    async fn settle_batch(
        &self,
        batch: &Batch<E>,
        epochs: &[Epoch],
        doubtful: &mut bool,
        splitting: bool,
    ) -> Result<Settled, GivenUp> {
        let fenced = !self.options.sabotage.lacks(Mechanism::Fence);
        let (mut failures, mut panics) = (0_u32, 0_u32);
        loop {
            let mine = |epoch: &Epoch| self.leases.holds(epoch.partition, epoch.right, *doubtful);
            let holds = || !fenced || epochs.iter().all(mine);
            let admission = match self.passage.admit(batch.len(), holds).await {
                Ok(admission) => admission,
                Err(Refused::Over) => return Err(GivenUp),
                Err(Refused::NotOwner) => {
                    if let Some(epoch) = epochs.iter().find(|epoch| !mine(epoch)) {
                        events::step_refused(&self.scope, epoch.partition, epoch.number, "flush");
                    }
                    return Err(GivenUp);
                }
            };
            failpoint::pass("before_write");
            let begun = Instant::now();
            let result = self.write_seen_through(batch, begun).await;
            failpoint::pass("after_write");
            self.counters.flushed(begun.elapsed());
            metrics::flushed(&self.scope, begun.elapsed());
            let error = match result {
                Ok(Ok(report)) => {
                    failpoint::pass("after_commit");
                    self.answered(admission);
                    self.count(batch, &report, begun);
                    return Ok(Settled::Written(report));
                }
                Ok(Err(error)) => error,
                Err(_) => {
                    panics += 1;
                    *doubtful = true;
                    events::write_panicked(&self.scope, batch.len(), panics);
                    // Of a part, one panic says on which side the record is.
                    if isolates(panics) || (splitting && batch.len() > 1) {
                        // Whether the sink is well is for the parts to find out, not faster than for an outage.
                        admission.failed(ErrorKind::Unavailable, &self.options.retry, rand::random());
                        self.counters.failed.of(ErrorKind::Unavailable).add(1);
                        return Ok(Settled::Panics);
                    }
                    SinkError::new(ErrorKind::Unavailable, "the sink panicked")
                }
            };
            failures = failures.saturating_add(1);
            *doubtful |= !matches!(error.kind(), ErrorKind::Rejected | ErrorKind::Deferred);
            self.counters.failed.of(error.kind()).add(1);
            match verdict(error.kind(), failures, &self.options.retry, rand::random()) {
                (Verdict::Isolate, _) => {
                    self.answered(admission);
                    return Ok(Settled::Refused(error));
                }
                (Verdict::GiveUp, _) => {
                    self.answered(admission);
                    return Err(self.fenced(epochs, &error));
                }
                (Verdict::Outage, _) => {
                    let failed = admission.failed(error.kind(), &self.options.retry, rand::random());
                    // Once a pause, not at every retry and for every batch: whoever is woken by it reads it once.
                    if failed.paused {
                        events::paused(&self.scope, &error);
                    } else {
                        events::retrying(&self.scope, batch.len(), failed.failures, failed.wait, &error);
                    }
                }
                (Verdict::Again, wait) => {
                    self.answered(admission);
                    events::retrying(&self.scope, batch.len(), failures, wait, &error);
                    self.passage.pause(wait).await;
                }
            }
        }
    }

    /// One call of the sink, seen through to its end, with what it panics with.
    async fn write_seen_through(
        &self,
        batch: &Batch<E>,
        begun: Instant,
    ) -> Result<Result<Report, SinkError>, Box<dyn Any + Send>> {
        let mut write = pin!(AssertUnwindSafe(self.sink.write(batch)).catch_unwind());
        loop {
            match timeout(SLOW, &mut write).await {
                Ok(result) => return result,
                Err(_) => events::slow_write(&self.scope, batch.len(), begun.elapsed()),
            }
        }
    }

    fn answered(&self, admission: Admission<'_>) {
        if let Some(outage) = admission.answered() {
            events::resumed(&self.scope, outage.failures, outage.lasted(Instant::now()), outage.paused);
        }
    }

    fn fenced(&self, epochs: &[Epoch], error: &SinkError) -> GivenUp {
        events::fenced(&self.scope, error);
        self.counters.fenced.add(1);
        self.leases.forget(epochs.iter().map(|epoch| (epoch.partition, epoch.right)));
        GivenUp
    }

    fn count(&self, batch: &Batch<E>, report: &Report, begun: Instant) {
        let refused: HashSet<&Id> = report.rejected.iter().map(|(id, _)| id).collect();
        let stale: HashSet<&Id> = report.stale.iter().filter(|id| !refused.contains(id)).collect();
        let left_out = |id: &Id| refused.contains(id) || stale.contains(id);
        let upserts = batch.upserts.iter().filter(|upsert| !left_out(&upsert.id)).count();
        let deletes = batch.deletes.iter().filter(|delete| !refused.contains(&delete.id)).count();
        self.counters.batches.add(1);
        self.counters.statements.add(report.statements);
        self.counters.rows_upserted.add(upserts as u64);
        self.counters.rows_deleted.add(deletes as u64);
        events::flushed(&self.scope, upserts, deletes, report.statements, begun.elapsed());
    }
}

/// Two parts of a batch, to be tried one by one; the batch itself when it is a single record or unit.
fn parts<E: Entity>(batch: Batch<E>, ties: &Ties) -> Result<[Batch<E>; 2], Batch<E>> {
    if ties.tie(&batch) {
        ties.split(batch)
    } else if batch.len() > 1 {
        Ok(halves(batch))
    } else {
        Err(batch)
    }
}

/// Parts are tried one by one. The rows of an append-only entity keep their order: what comes later waits until what comes
/// earlier is settled. Other records have none: first in, first out, so that between two parts that fail others land, and
/// show that the sink is well.
fn queue<E: Entity>(batches: &mut VecDeque<Batch<E>>, parts: [Batch<E>; 2]) {
    if E::APPEND {
        parts.into_iter().rev().for_each(|part| batches.push_front(part));
    } else {
        batches.extend(parts);
    }
}

/// Two batches of half the records each, in order; a refused record is found in about log2(n) writes.
fn halves<E: Entity>(batch: Batch<E>) -> [Batch<E>; 2] {
    let Batch { scope, fences, mut upserts, mut deletes, whole } = batch;
    // Upserts and deletes apart first: the kinds rarely fail for the same reason. Deletes may make room for upserts.
    let (later_upserts, later_deletes) = if upserts.is_empty() || deletes.is_empty() {
        (upserts.split_off(upserts.len() / 2), deletes.split_off(deletes.len() / 2))
    } else {
        (std::mem::take(&mut upserts), Vec::new())
    };
    [
        Batch { scope: scope.clone(), fences: fences.clone(), upserts, deletes, whole },
        Batch { scope, fences, upserts: later_upserts, deletes: later_deletes, whole },
    ]
}
