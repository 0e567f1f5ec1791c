//! The worker of an entity: waits until a flush is due, then takes what is dirty through the flow.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::{FutureExt, StreamExt, stream};
use tokio::sync::watch;
use tokio::time::Instant;

use super::claim::{Claim, Claimed};
use super::decode::{Decoded, decode};
use super::flush::{Flushed, GivenUp};
use super::rotate::Epoch;
use crate::buffer::BufferError;
use crate::entity::Entity;
use crate::events;
use crate::lane::{Lane, Phase, stopped};
use crate::sink::Batch;

/// Wait after a failed cycle before the next one.
const AFTER_FAILURE: Duration = Duration::from_millis(200);

/// Why a cycle did not flush everything that it closed. Nothing is lost: what was not acknowledged is tried again.
enum Interrupted {
    Buffer(BufferError),
    Panicked,
}

impl From<BufferError> for Interrupted {
    fn from(error: BufferError) -> Self {
        Self::Buffer(error)
    }
}

/// Flushes until the phase ends. Cycles do not overlap: every batch of an epoch is settled before the next rotation,
/// so that a late write of an old state cannot meet a newer one.
pub(crate) async fn run<E: Entity>(lane: &Lane<E>, mut phase: watch::Receiver<Phase>) {
    let mut due = Instant::now() + lane.options.flush_every;
    loop {
        tokio::select! {
            () = tokio::time::sleep_until(due) => {}
            () = lane.pressure.wait() => {}
            () = stopped(&mut phase) => return,
        }
        due = Instant::now() + lane.options.flush_every;
        // A sink or codec that panics must not end the worker.
        let cycle = AssertUnwindSafe(lane.cycle()).catch_unwind().await.unwrap_or(Err(Interrupted::Panicked));
        if let Err(interrupted) = cycle {
            match interrupted {
                Interrupted::Buffer(error) => events::cycle_failed(&lane.scope, &error),
                Interrupted::Panicked => events::cycle_panicked(&lane.scope),
            }
            tokio::select! {
                () = tokio::time::sleep(AFTER_FAILURE) => {}
                () = stopped(&mut phase) => return,
            }
            // What was closed is late already, however long the interval is.
            due = Instant::now();
        }
        lane.cycles.send_modify(|count| *count += 1);
    }
}

impl<E: Entity> Lane<E> {
    /// rotate → claim → flush → settle, for everything that is dirty now in the partitions held.
    async fn cycle(&self) -> Result<(), Interrupted> {
        let begun = Instant::now();
        let _at_work = self.leases.at_work();
        let epochs = self.rotate().await?;
        if epochs.is_empty() {
            return Ok(());
        }
        self.flush_epochs(epochs).await?;
        self.look().await;
        self.counters.cycle(begun.elapsed());
        Ok(())
    }

    /// Claims batches and flushes several at a time. A failure ends the claiming, never a batch that is on its way: a
    /// write that is dropped here may still land in the sink, after the next cycle has written newer states there.
    async fn flush_epochs(&self, epochs: Vec<Epoch>) -> Result<(), Interrupted> {
        let options = &self.options;
        let failed = Arc::new(AtomicBool::new(false));
        let over = failed.clone();
        let claim = Claim::new(self.space.clone(), epochs, options.max_batch, options.max_batch_bytes);
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
                let ids: Vec<_> = batch.iter().map(|claimed| claimed.id.clone()).collect();
                let settled = AssertUnwindSafe(self.flush_batch(batch)).catch_unwind().await;
                flying.landed(&ids);
                match settled {
                    Ok(settled) => Ok(settled?),
                    Err(_) => Err(Interrupted::Panicked),
                }
            })
            .buffer_unordered(options.flush_concurrency);
        let mut settled = pin!(settled);
        let mut outcome = Ok(());
        while let Some(settled) = settled.next().await {
            failed.fetch_or(settled.is_err(), Ordering::Relaxed);
            outcome = outcome.and(settled);
        }
        outcome
    }

    async fn flush_batch(&self, claimed: Vec<Claimed>) -> Result<(), BufferError> {
        let Decoded { upserts, deletes, unreadable } = decode::<E>(&self.scope, &claimed);
        let mut epochs: Vec<Epoch> = claimed.iter().map(|claimed| claimed.epoch).collect();
        epochs.sort_unstable_by_key(|epoch| epoch.partition);
        epochs.dedup();
        let fences = epochs.iter().filter_map(|epoch| epoch.right.fence).collect();
        let batch = Batch::new(self.scope.clone(), fences, upserts, deletes);
        let flushed = if batch.is_empty() {
            Flushed { written: Vec::new(), refused: Vec::new() }
        } else {
            match self.flush(batch, &epochs).await {
                Ok(flushed) => flushed,
                Err(GivenUp) => return Ok(()),
            }
        };
        self.settle(&claimed, flushed, unreadable).await
    }
}
