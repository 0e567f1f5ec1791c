//! The worker of an entity: waits until a flush is due, then takes what is dirty through the flow.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use tokio::sync::watch;
use tokio::time::Instant;

use super::claim::{Claim, Claimed};
use super::decode::{Decoded, decode};
use super::flush::Flushed;
use crate::buffer::BufferError;
use crate::entity::Entity;
use crate::events;
use crate::lane::{Lane, Phase, stopped};
use crate::sink::Batch;

/// Wait after a failed cycle before the next one.
const AFTER_FAILURE: Duration = Duration::from_millis(200);

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
        // A sink or codec that panics must not end the worker: nothing was acknowledged, all of it is tried again.
        match AssertUnwindSafe(lane.cycle()).catch_unwind().await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                events::cycle_failed(&lane.scope, &error);
                tokio::time::sleep(AFTER_FAILURE).await;
            }
            Err(_) => {
                events::cycle_panicked(&lane.scope);
                tokio::time::sleep(AFTER_FAILURE).await;
            }
        }
        lane.cycles.send_modify(|count| *count += 1);
    }
}

impl<E: Entity> Lane<E> {
    /// rotate → claim → flush → settle, for everything that is dirty now in the partitions held.
    async fn cycle(&self) -> Result<(), BufferError> {
        let begun = Instant::now();
        let epochs = self.rotate().await?;
        if epochs.is_empty() {
            return Ok(());
        }
        let options = &self.options;
        let claim = Claim::new(self.space.clone(), epochs, options.max_batch, options.max_batch_bytes);
        let batches = stream::try_unfold(claim, |mut claim| async move {
            Ok::<_, BufferError>(claim.next().await?.map(|batch| (batch, claim)))
        });
        batches
            .map(|batch| async move { self.flush_batch(batch?).await })
            .buffer_unordered(options.flush_concurrency)
            .try_collect::<()>()
            .await?;
        self.counters.cycle(begun.elapsed());
        Ok(())
    }

    async fn flush_batch(&self, claimed: Vec<Claimed>) -> Result<(), BufferError> {
        let Decoded { upserts, deletes, unreadable } = decode::<E>(&self.scope, &claimed);
        let mut partitions: Vec<u16> = claimed.iter().map(|claimed| claimed.epoch.partition).collect();
        partitions.sort_unstable();
        partitions.dedup();
        let fences = self.leases.fences(partitions.iter().copied());
        let batch = Batch::new(self.scope.clone(), fences, upserts, deletes);
        let flushed = if batch.is_empty() {
            Flushed { written: Vec::new(), refused: Vec::new() }
        } else {
            match self.flush(batch).await {
                Ok(flushed) => flushed,
                Err(_given_up) => {
                    self.leases.forget(partitions.into_iter());
                    return Ok(());
                }
            }
        };
        self.settle(&claimed, flushed, unreadable).await
    }
}
