//! flush: a batch goes to the sink until it is settled: written, refused record by record, or given up.

use std::any::Any;
use std::collections::HashSet;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::time::Duration;

use futures::FutureExt;
use tokio::time::{Instant, timeout};

use crate::entity::Entity;
use crate::entity::key::Id;
use crate::error::sink::{ErrorKind, SinkError};
use crate::fault::failpoint;
use crate::fault::mechanism::Mechanism;
use crate::flush::Flusher;
use crate::flush::blame::{Doubts, Open};
use crate::flush::parts::{Part, Parts, divides};
use crate::flush::rotate::Epoch;
use crate::flush::units::ids;
use crate::options::retry_policy::{Tries, Verdict, isolates, probes_with_less, verdict};
use crate::sink::batch::{Batch, Report};
use crate::sink_gate::{Admission, Lot, Refused};
use crate::telemetry::{log, metrics};

/// A write that takes longer is reported, again and again. It is never given up: what it does in the sink could land
/// later, over newer states.
const SLOW: Duration = Duration::from_secs(30);

/// What became of records of a batch.
#[derive(Default)]
pub(crate) struct Flushed {
    /// In the sink.
    pub(crate) written: Vec<Id>,
    /// Left out, because the sink has newer versions of them.
    pub(crate) stale: Vec<Id>,
    /// Refused, each for a reason of its own data.
    pub(crate) refused: Vec<(Id, SinkError)>,
    /// Not written, for a reason that may pass.
    pub(crate) aside: Vec<Aside>,
    /// Refused for what may be their own fault or the configuration's: since when.
    pub(crate) doubted: Vec<(Id, Instant)>,
}

/// A record that is left for later, so that others go on.
pub(crate) struct Aside {
    /// Its id; of a unit one of them.
    pub(crate) id: Id,
    pub(crate) why: Why,
}

/// Why a record is left for later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// It failed alone: it is what others are to be tried without.
    Alone,
    /// It failed alone, and nothing that comes after it landed: it may not be what is in the way.
    Unsure,
    /// It was not tried alone.
    Untried,
    /// It was refused, and nobody knows whether that is its own fault or the configuration's.
    Doubted,
}

/// A partition of the batch is not this worker's any more, or the worker ends: nothing more may be done with it.
pub(crate) struct GivenUp;

enum Settled {
    Written(Report, Doubts),
    /// Refused; when the first write of it was begun that was.
    Refused(SinkError, Instant),
    /// The sink panics whenever it is given this.
    Panics,
    /// The sink does not take this in its time, or somebody is in its way: smaller parts may pass.
    Late(SinkError),
}

impl Flushed {
    /// All of these are in the sink.
    pub(crate) fn all(written: Vec<Id>) -> Self {
        Self { written, ..Self::default() }
    }

    fn is_empty(&self) -> bool {
        self.written.is_empty() && self.stale.is_empty() && self.refused.is_empty() && self.aside.is_empty()
    }

    /// What is flushed later is added.
    pub(crate) fn add(&mut self, more: Self) {
        self.written.extend(more.written);
        self.stale.extend(more.stale);
        self.refused.extend(more.refused);
        self.aside.extend(more.aside);
        self.doubted.extend(more.doubted);
    }

    /// What may be the configuration's fault is not counted against records.
    fn leave_open(&mut self, Doubts { since, open, .. }: Doubts) {
        self.doubted.extend(since);
        if !open.is_empty() {
            let left = self.refused.extract_if(.., |(id, _)| open.contains(id));
            self.aside.extend(left.map(|(id, _)| Aside { id, why: Why::Doubted }));
        }
    }
}

impl<E: Entity> Flusher<E> {
    /// Writes a batch. While parts of it are looked for that can land, this returns with each: what has landed is to be
    /// settled, since the next try may take long. `None`: nothing is left.
    pub(crate) async fn flush(&self, parts: &mut Parts<'_, E>, epochs: &[Epoch]) -> Result<Option<Flushed>, GivenUp> {
        if parts.is_empty() && parts.panicked.is_empty() && parts.open.is_empty() {
            return Ok(None);
        }
        let mut flushed = Flushed::default();
        while let Some(part) = parts.next() {
            if part.batch.is_empty() {
                continue;
            }
            let rows = part.batch.len();
            match self.settle_part_of_batch(&part, parts, epochs).await? {
                Settled::Written(report, doubts) => {
                    if let Some((_, error)) =
                        report.rejected.iter().find(|(_, error)| error.kind() == ErrorKind::Fenced)
                    {
                        return Err(self.fenced(epochs, error));
                    }
                    if parts.search.landed(rows) {
                        parts.limit.landed(rows);
                    }
                    self.sink_gate.landed(parts.lot, rows);
                    flushed.written_but(&part.batch, report);
                    flushed.leave_open(doubts);
                    parts.any |= !flushed.written.is_empty() || !flushed.stale.is_empty();
                    // What comes after them landed: it is them.
                    flushed.aside.extend(parts.blamed(Why::Alone));
                }
                Settled::Refused(error, since) => {
                    parts.search.landed(rows);
                    match parts.split(part.batch, part.again) {
                        // Whose fault it is shows when the others were tried.
                        Err(batch) if error.is_ambiguous() => parts.open.extend(Open::of(&batch, error, since)),
                        // The first record stands for all of its unit.
                        Err(batch) => flushed.refused.extend(ids(&batch).next().cloned().map(|id| (id, error))),
                        Ok(records) => log::isolating(&self.ctx.scope, records, &error),
                    }
                }
                Settled::Panics => {
                    parts.splitting |= divides(&part.batch, parts.ties);
                    if let Err(batch) = parts.split(part.batch, part.again) {
                        parts.panicked.extend(ids(&batch).next().cloned());
                    }
                }
                Settled::Late(error) => self.late(parts, &mut flushed, part.batch, &error),
            }
            if parts.search.is_on() && !flushed.is_empty() {
                return Ok(Some(flushed));
            }
        }
        // A sink that takes the others panics for the record's sake; one that takes nothing, for its own.
        let kind = if parts.any { ErrorKind::Rejected } else { ErrorKind::Unavailable };
        let error = || SinkError::new(kind, "the sink panics when it is given this record");
        flushed.aside.extend(parts.blamed(Why::Unsure));
        self.blame(std::mem::take(&mut parts.open), &mut flushed);
        flushed.refused.extend(std::mem::take(&mut parts.panicked).into_iter().map(|id| (id, error())));
        Ok(Some(flushed))
    }

    /// A part was not written for a reason that may pass: its halves are next, and what is one record is left for later. So is
    /// the rest, when the search has taken long enough.
    fn late(&self, parts: &mut Parts<'_, E>, flushed: &mut Flushed, batch: Batch<E>, error: &SinkError) {
        let rows = batch.len();
        if error.kind() == ErrorKind::Unavailable || parts.search.failed(rows) {
            parts.limit.too_large(rows);
            self.sink_gate.too_large(parts.lot, rows);
        }
        let mut over = false;
        match parts.split(batch, true) {
            Err(batch) => {
                log::set_aside(&self.ctx.scope, batch.len(), error);
                over = ids(&batch).next().is_some_and(|id| !parts.failed_alone(id));
                if parts.lot == Lot::Ordinary {
                    // A single record is not too many: other batches need not be small.
                    self.sink_gate.restore(parts.lot, parts.before);
                }
            }
            Ok(records) => log::halving(&self.ctx.scope, records, error),
        }
        if !E::APPEND {
            flushed.aside.extend(parts.blamed(Why::Alone));
        }
        if over || parts.search.is_over(parts.rows.min(parts.before.rows())) {
            if let Some(smallest) =
                parts.search.smallest().filter(|smallest| *smallest > 1 || parts.lot == Lot::Suspects)
            {
                self.sink_gate.too_large(parts.lot, smallest);
            }
            flushed.aside.extend(parts.blamed(Why::Unsure));
            let rest = parts.rest().flat_map(|batch| ids(&batch).cloned().collect::<Vec<_>>());
            let before = flushed.aside.len();
            flushed.aside.extend(rest.map(|id| Aside { id, why: Why::Untried }));
            log::set_aside(&self.ctx.scope, flushed.aside.len() - before, error);
        }
    }

    /// Writes a batch as often as it takes, while the partitions are this worker's.
    async fn settle_part_of_batch(
        &self,
        part: &Part<E>,
        parts: &mut Parts<'_, E>,
        epochs: &[Epoch],
    ) -> Result<Settled, GivenUp> {
        let batch = &part.batch;
        let Parts { ties, splitting, doubtful, refused, doubted, .. } = parts;
        let fenced = !self.ctx.options.sabotage.lacks(Mechanism::Fence);
        let (mut failures, mut panics) = (0_u32, 0_u32);
        loop {
            let mine = |epoch: &Epoch| self.leases.holds(epoch.partition, epoch.right, *doubtful);
            let holds = || !fenced || epochs.iter().all(mine);
            let admission = match self.sink_gate.admit(batch.len(), holds).await {
                Ok(admission) => admission,
                Err(Refused::Over) => return Err(GivenUp),
                Err(Refused::NotOwner) => {
                    if let Some(epoch) = epochs.iter().find(|epoch| !mine(epoch)) {
                        log::step_refused(&self.ctx.scope, epoch.partition, epoch.number, "flush");
                    }
                    return Err(GivenUp);
                }
            };
            failpoint::pass("before_write");
            let begun = Instant::now();
            let result = self.write_seen_through(batch, begun).await;
            failpoint::pass("after_write");
            let took = begun.elapsed();
            self.ctx.counters.flushed(took);
            metrics::flushed(&self.ctx.scope, took);
            let panicked = result.is_err();
            let error = match result {
                Ok(Ok(report)) => {
                    failpoint::pass("after_commit");
                    let doubts = self.weigh(batch, &report, begun, doubted);
                    if doubts.open.is_empty() {
                        self.answered(admission);
                    } else {
                        let failed = admission.doubted(&self.ctx.options.retry, rand::random());
                        self.tell_doubt(failed, doubts.open.len(), &doubts.said);
                    }
                    self.load_gate.write_landed();
                    self.count(batch, &report, begun);
                    return Ok(Settled::Written(report, doubts));
                }
                Ok(Err(error)) => error,
                Err(_) => {
                    panics += 1;
                    *doubtful = true;
                    log::write_panicked(&self.ctx.scope, batch.len(), panics);
                    // Of a part, one panic says on which side the record is.
                    if isolates(panics) || (*splitting && batch.len() > 1) {
                        // Whether the sink is well is for the parts to find out, not faster than for an outage.
                        admission.failed(ErrorKind::Unavailable, &self.ctx.options.retry, rand::random());
                        self.ctx.counters.failed.of(ErrorKind::Unavailable).add(1);
                        return Ok(Settled::Panics);
                    }
                    SinkError::new(ErrorKind::Unavailable, "the sink panicked")
                }
            };
            failures = failures.saturating_add(1);
            *doubtful |= !matches!(error.kind(), ErrorKind::Rejected | ErrorKind::Deferred);
            self.ctx.counters.failed.of(error.kind()).add(1);
            let tries = Tries { failures, took, part: part.again };
            match verdict(error.kind(), tries, &self.ctx.options.retry, rand::random()) {
                (Verdict::Isolate, _) => {
                    let first = *refused.get_or_insert(begun);
                    // What may be the configuration's fault does not say that the sink is well, nor that it is not.
                    if error.is_ambiguous() {
                        drop(admission);
                    } else {
                        self.answered(admission);
                    }
                    let since = ids(batch).filter_map(|id| doubted.get(id)).min().copied();
                    return Ok(Settled::Refused(error, since.unwrap_or(first)));
                }
                (Verdict::GiveUp, _) => {
                    self.answered(admission);
                    return Err(self.fenced(epochs, &error));
                }
                (Verdict::Outage, _) => {
                    let failed = admission.failed(error.kind(), &self.ctx.options.retry, rand::random());
                    // A panic is taken for an outage by this batch alone.
                    if !panicked {
                        self.load_gate.write_failed(begun, &error);
                    }
                    // Once a pause, not at every retry and for every batch: whoever is woken by it reads it once.
                    if failed.paused {
                        log::paused(&self.ctx.scope, &error);
                    } else {
                        log::retrying(&self.ctx.scope, batch.len(), failed.failures, failed.wait, &error);
                    }
                    if probes_with_less(error.kind(), tries) && divides(batch, ties) {
                        return Ok(Settled::Late(error));
                    }
                }
                (Verdict::Halve, _) => {
                    self.answered(admission);
                    return Ok(Settled::Late(error));
                }
                (Verdict::Again, wait) => {
                    self.answered(admission);
                    log::retrying(&self.ctx.scope, batch.len(), failures, wait, &error);
                    self.sink_gate.pause(wait).await;
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
        let mut write = pin!(AssertUnwindSafe(self.ctx.sink.write(batch)).catch_unwind());
        loop {
            match timeout(SLOW, &mut write).await {
                Ok(result) => return result,
                Err(_) => log::slow_write(&self.ctx.scope, batch.len(), begun.elapsed()),
            }
        }
    }

    fn answered(&self, admission: Admission<'_>) {
        if let Some(outage) = admission.answered() {
            log::resumed(&self.ctx.scope, outage.failures, outage.lasted(Instant::now()), outage.paused);
        }
    }

    fn fenced(&self, epochs: &[Epoch], error: &SinkError) -> GivenUp {
        log::fenced(&self.ctx.scope, error);
        self.ctx.counters.fenced.add(1);
        self.leases.forget(epochs.iter().map(|epoch| (epoch.partition, epoch.right)));
        GivenUp
    }

    fn count(&self, batch: &Batch<E>, report: &Report, begun: Instant) {
        let refused: HashSet<&Id> = report.rejected.iter().map(|(id, _)| id).collect();
        let stale: HashSet<&Id> = report.stale.iter().filter(|id| !refused.contains(id)).collect();
        let left_out = |id: &Id| refused.contains(id) || stale.contains(id);
        let upserts = batch.upserts.iter().filter(|upsert| !left_out(&upsert.id)).count();
        let deletes = batch.deletes.iter().filter(|delete| !refused.contains(&delete.id)).count();
        self.ctx.counters.batches.add(1);
        self.ctx.counters.statements.add(report.statements);
        self.ctx.counters.rows_upserted.add(upserts as u64);
        self.ctx.counters.rows_deleted.add(deletes as u64);
        log::flushed(&self.ctx.scope, upserts, deletes, report.statements, begun.elapsed());
    }
}

impl Flushed {
    /// A batch was written, but for what the report names.
    fn written_but<E: Entity>(&mut self, batch: &Batch<E>, report: Report) {
        let refused: HashSet<&Id> = report.rejected.iter().map(|(id, _)| id).collect();
        let stale: HashSet<&Id> = report.stale.iter().filter(|id| !refused.contains(id)).collect();
        let written = ids(batch).filter(|id| !refused.contains(id) && !stale.contains(id));
        self.written.extend(written.cloned());
        self.stale.extend(ids(batch).filter(|id| stale.contains(id)).cloned());
        let mut unseen: HashSet<Id> = refused.into_iter().cloned().collect();
        // A sink may name a record more than once: the first reason is the record's.
        self.refused.extend(report.rejected.into_iter().filter(|(id, _)| unseen.remove(id)));
    }
}
