//! The worker of an entity: waits until a flush is due, then takes what is dirty through the flow.

use std::collections::{BTreeSet, HashSet};
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::{FutureExt, StreamExt, stream};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::buffer::Attempts;
use crate::entity::Entity;
use crate::entity::key::Id;
use crate::error::buffer::BufferError;
use crate::fault::mechanism::Mechanism;
use crate::flush::Flusher;
use crate::flush::claim::{Claim, Claimed, Place};
use crate::flush::decode::{Decoded, MISPLACED, decode};
use crate::flush::parts::Parts;
use crate::flush::relation_order::Children;
use crate::flush::rotate::Epoch;
use crate::flush::taken::Taken;
use crate::flush::units::marks::{keep_together, tie};
use crate::flush::write_batch::{Flushed, GivenUp};
use crate::ownership;
use crate::runtime::lifecycle::{Phase, stopped};
use crate::sink::batch::Batch;
use crate::sink_gate::Lot;
use crate::telemetry::log;

/// Wait after a failed cycle before the next one.
const AFTER_FAILURE: Duration = Duration::from_millis(200);

/// Why a cycle did not flush everything that it closed. Nothing is lost here: what was not acknowledged is tried again.
pub(crate) enum Interrupted {
    Buffer(BufferError),
    Panicked,
    /// Somebody has taken records out of an epoch while it was flushed; told where it was seen.
    Vanished,
}

impl From<BufferError> for Interrupted {
    fn from(error: BufferError) -> Self {
        Self::Buffer(error)
    }
}

/// Flushes until the phase ends. Cycles do not overlap: every batch of an epoch is settled before the next rotation,
/// so that a late write of an old state cannot meet a newer one.
pub(crate) async fn run<E: Entity>(flusher: &Flusher<E>, mut phase: watch::Receiver<Phase>) {
    let mut due = Instant::now() + flusher.ctx.options.flush_every;
    loop {
        tokio::select! {
            () = tokio::time::sleep_until(due) => {}
            () = flusher.ctx.trigger.wait() => {}
            () = stopped(&mut phase) => return,
        }
        due = Instant::now() + flusher.ctx.options.flush_every;
        // A sink or codec that panics must not end the worker.
        let mut cycle = pin!(AssertUnwindSafe(flusher.cycle()).catch_unwind());
        let cycle = tokio::select! {
            cycle = &mut cycle => cycle,
            // A batch that waits gives up; one that is on its way to the sink is seen through.
            () = stopped(&mut phase) => {
                flusher.sink_gate.end();
                cycle.await
            }
        };
        let cycle = cycle.unwrap_or(Err(Interrupted::Panicked));
        if let Err(interrupted) = cycle {
            match interrupted {
                Interrupted::Buffer(error) => log::cycle_failed(&flusher.ctx.scope, &error),
                Interrupted::Panicked => log::cycle_panicked(&flusher.ctx.scope),
                Interrupted::Vanished => {}
            }
            tokio::select! {
                () = tokio::time::sleep(AFTER_FAILURE) => {}
                () = stopped(&mut phase) => return,
            }
            // What was closed is late already, however long the interval is.
            due = Instant::now();
        }
        flusher.ctx.cycles.send_modify(|count| *count += 1);
        flusher.relations.parents().for_each(|parent| parent.child_flushed());
    }
}

/// Partitions whose epoch was seen to end, or was given up.
#[derive(Default)]
pub(crate) struct Ended {
    partitions: BTreeSet<u16>,
    /// Some batch was given up: epochs may stay as they are.
    given_up: bool,
}

impl Ended {
    pub(crate) fn given_up() -> Self {
        Self { given_up: true, ..Self::default() }
    }

    pub(crate) fn insert(&mut self, partition: u16) {
        self.partitions.insert(partition);
    }

    pub(crate) const fn is_given_up(&self) -> bool {
        self.given_up
    }

    pub(crate) fn add(&mut self, mut other: Self) {
        self.partitions.append(&mut other.partitions);
        self.given_up |= other.given_up;
    }

    fn has(&self, epoch: &Epoch) -> bool {
        self.given_up || self.partitions.contains(&epoch.partition)
    }
}

impl<E: Entity> Flusher<E> {
    /// rotate → claim → flush → settle, for everything that is dirty now in the partitions held.
    async fn cycle(&self) -> Result<(), Interrupted> {
        let begun = Instant::now();
        let _at_work = self.leases.at_work();
        let epochs = self.rotate().await?;
        if epochs.is_empty() {
            self.held_no_more();
            return Ok(());
        }
        if !self.after_parents(&epochs).await? {
            return Ok(());
        }
        self.look_at_shapes().await?;
        let epochs = if E::APPEND { self.flush_logs_of(epochs).await? } else { epochs };
        self.flush_epochs(epochs).await?;
        self.held_no_more();
        self.look().await;
        self.ctx.counters.cycle(begun.elapsed());
        Ok(())
    }

    /// Flushes the logs of these epochs. Returns those that have more than that: entries that were refused earlier.
    async fn flush_logs_of(&self, mut epochs: Vec<Epoch>) -> Result<Vec<Epoch>, Interrupted> {
        let ended = self.flush_logs(&epochs).await?;
        epochs.retain(|epoch| !ended.has(epoch));
        Ok(epochs)
    }

    /// Rows of a batch at most. With a limit it is at most what may go in a second, so that rows flow evenly.
    pub(crate) fn max_rows(&self) -> usize {
        let limit = self.ctx.options.rate_limit.map_or(usize::MAX, |rows| usize::try_from(rows).unwrap_or(usize::MAX));
        self.ctx.options.max_batch.min(limit)
    }

    /// Claims batches and flushes several at a time. A failure ends the claiming, never a batch that is on its way: a
    /// write that is dropped here may still land in the sink, after the next cycle has written newer states there.
    async fn flush_epochs(&self, epochs: Vec<Epoch>) -> Result<(), Interrupted> {
        let options = &self.ctx.options;
        let failed = Arc::new(AtomicBool::new(false));
        let over = failed.clone();
        let children = &Children::default();
        let taken = &Taken::default();
        if self.relations.has_children() {
            self.deferred_deletes.begin().await?;
        }
        let units = self.marked_units(&epochs).await?;
        let claim = Claim::new(self.ctx.space.clone(), epochs.clone(), units, self.max_rows(), options.max_batch_bytes);
        let flying = &claim.flying();
        let batches = stream::try_unfold((claim, over), |(mut claim, over)| async move {
            if over.load(Ordering::Relaxed) {
                return Ok(None);
            }
            Ok::<_, BufferError>(claim.next().await?.map(|batch| (batch, (claim, over))))
        });
        let settled = batches
            .map(|batch| async move {
                let batch = batch?;
                let mut places: Vec<_> = batch.iter().map(Claimed::place).collect();
                let settled = AssertUnwindSafe(self.flush_batch(batch, children, taken)).catch_unwind().await;
                places.retain(|place| !taken.has(place));
                flying.landed(&places);
                settled.unwrap_or(Err(Interrupted::Panicked))
            })
            .buffer_unordered(options.flush_concurrency);
        let mut settled = pin!(settled);
        let mut outcome = Ok(());
        let mut ended = Ended::default();
        let mut batches = 0_usize;
        while let Some(settled) = settled.next().await {
            batches += 1;
            // At the engine's end nothing more is written: no need to read it all.
            failed.fetch_or(settled.is_err() || self.sink_gate.is_over(), Ordering::Relaxed);
            outcome = match settled {
                Ok(batch) => {
                    ended.add(batch);
                    outcome
                }
                Err(interrupted) => outcome.and(Err(interrupted)),
            };
        }
        outcome?;
        if self.sink_gate.is_over() {
            return Ok(());
        }
        if !ended.is_given_up() {
            ended.add(self.flush_taken(taken, batches, children).await?);
            if self.sink_gate.is_over() {
                return Ok(());
            }
        }
        let mut vanished = false;
        for epoch in epochs.iter().filter(|epoch| !ended.has(epoch)) {
            // Every record was settled, and nobody was told that it was the last: there must have been others.
            let missing = self.ctx.space.status(epoch.partition).await.map_or(0, |status| status.missing);
            self.ctx.counters.vanished.add(missing);
            log::vanished(&self.ctx.scope, epoch.partition, epoch.number, missing);
            vanished = true;
        }
        if vanished {
            return Err(Interrupted::Vanished);
        }
        if !ended.given_up {
            self.deferred_deletes.end();
        }
        Ok(())
    }

    async fn flush_batch(
        &self,
        claimed: Vec<Claimed>,
        children: &Children,
        taken: &Taken,
    ) -> Result<Ended, Interrupted> {
        let (due, suspects, early) = self.due(claimed).await?;
        let mut ended = self.flush_lot(due, early, Lot::Ordinary, children, taken).await?;
        // After the others are settled, because each of these may take as long as the sink waits for a lock.
        if !suspects.is_empty() && !ended.is_given_up() {
            ended.add(self.flush_lot(suspects, Vec::new(), Lot::Suspects, children, taken).await?);
        }
        Ok(ended)
    }

    /// Flushes a batch and settles it, but for what `taken` keeps.
    pub(crate) async fn flush_lot(
        &self,
        due: Vec<Claimed>,
        mut early: Vec<(Claimed, Attempts)>,
        lot: Lot,
        children: &Children,
        taken: &Taken,
    ) -> Result<Ended, Interrupted> {
        let (mut due, deletes_held) = self.after_children(due, children).await?;
        let mut held = self.hold_newer(&mut due);
        let mut decoded = decode::<E>(&self.ctx.scope, due.iter());
        held.extend(self.hold_undecodable(&mut decoded.unreadable));
        if let Some(with) = keep_together(&mut due, held.iter().chain(deletes_held.iter().map(|(held, _)| held))) {
            held.extend(with);
            decoded = decode::<E>(&self.ctx.scope, due.iter());
        }
        early.extend(deletes_held);
        early.extend(self.counted_as_held(held).await?);
        let skipped = self.transform(&mut decoded, &due);
        let ties = tie(&due, &mut decoded);
        let Decoded { upserts, deletes, unreadable } = decoded;
        if unreadable.iter().any(|unreadable| unreadable.kind == MISPLACED) {
            // Perhaps it is this program that is out of place: others lay the entity out anew, and the record is theirs.
            ownership::confirm(&self.ctx, &self.leases).await?;
        }
        let mut epochs: Vec<Epoch> = due.iter().map(|claimed| claimed.epoch).collect();
        epochs.sort_unstable_by_key(|epoch| epoch.partition);
        epochs.dedup();
        let fenced = !self.ctx.options.sabotage.lacks(Mechanism::Fence);
        let fences = epochs.iter().filter_map(|epoch| epoch.right.fence.filter(|_| fenced)).collect();
        let batch = Batch::new(self.ctx.scope.clone(), fences, upserts, deletes);
        let batch = if ties.tie(&batch) { batch.whole() } else { batch };
        if self.ctx.options.sabotage.lacks(Mechanism::CommitFirst) {
            let written = due.iter().map(|claimed| claimed.id.clone()).collect();
            self.settle(&due, Flushed::all(written), Vec::new(), Vec::new()).await?;
        }
        let strange: HashSet<Place> = unreadable.iter().map(|unreadable| unreadable.claimed.place()).collect();
        let mut unreadable = unreadable;
        let mut first = Some(Flushed::all(skipped));
        let mut parts = Parts::new(batch, &ties, lot, self.sink_gate.batch_limit(lot));
        parts.doubted = self.known_doubts(due.iter());
        let mut ended = Ended::default();
        loop {
            let mut flushed = match self.flush(&mut parts, &epochs).await {
                Ok(Some(flushed)) => flushed,
                Ok(None) if first.is_some() => Flushed::default(),
                Ok(None) => return Ok(ended),
                Err(GivenUp) => {
                    ended.add(Ended::given_up());
                    return Ok(ended);
                }
            };
            if let Some(skipped) = first.take() {
                self.ctx.counters.skipped.add(skipped.written.len() as u64);
                flushed.add(skipped);
            }
            self.remember_doubts(due.iter(), std::mem::take(&mut flushed.doubted));
            taken.keep(due.iter().filter(|claimed| !strange.contains(&claimed.place())), &mut flushed, parts.divided);
            early.extend(self.put_aside(&due, std::mem::take(&mut flushed.aside)).await?);
            if lot == Lot::Suspects || !parts.doubted.is_empty() {
                self.cleared(&due, &flushed);
            }
            let settled = self.settle(&due, flushed, std::mem::take(&mut unreadable), std::mem::take(&mut early));
            ended.add(settled.await?);
        }
    }

    /// What was written is suspected no more, nor doubted.
    fn cleared(&self, due: &[Claimed], flushed: &Flushed) {
        let written: HashSet<&Id> = flushed.written.iter().chain(&flushed.stale).collect();
        for claimed in due.iter().filter(|claimed| written.contains(&claimed.id)) {
            self.retry_schedule.forget(&claimed.id, &claimed.record);
        }
    }
}
