//! Barriers: until everything is in the sink that was dirty at one moment.

use std::sync::atomic::Ordering;

use crate::buffer::Held;
use crate::entity::Entity;
use crate::error::CacheError;
use crate::error::buffer::BufferError;
use crate::receipts::Receipts;
use crate::runtime::backoff::LOOK_AGAIN;
use crate::runtime::context::{Dirty, EpochOf, lost};
use crate::runtime::data_loss;

impl<E: Entity> Receipts<E> {
    /// Waits until everything is in the sink (or refused by it) that these partitions held when this was called.
    ///
    /// # Errors
    /// [`BufferErrorKind::Lost`] when the buffer lost data meanwhile: nobody can say that it reached the sink.
    pub(crate) async fn barrier(&self, partitions: &[u16]) -> Result<(), BufferError> {
        let Dirty { epochs, unknown } = self.outlast_epochs(partitions).await?;
        self.outlast_holds(epochs, |_| true).await?;
        unknown.into_iter().next().map_or(Ok(()), |(_, error)| Err(error))
    }

    /// The barrier for who is about to end: what only a newer program can flush is left to that.
    pub(crate) async fn barrier_at_the_end(&self, partitions: &[u16]) -> Result<(), BufferError> {
        let Dirty { epochs, unknown } = self.outlast_epochs(partitions).await?;
        self.outlast_holds(epochs, |held| !held.attempts.waits_for_newer()).await?;
        unknown.into_iter().next().map_or(Ok(()), |(_, error)| Err(error))
    }

    /// The error of a partition that holds the whole entity up: transactions are flushed as a cut over all of them.
    pub(crate) async fn nothing_holds_up_all(&self) -> Result<(), BufferError> {
        if !self.ctx.options.transactions {
            return Ok(());
        }
        let failed = self.ctx.space.pending(&self.ctx.all_partitions()).await?.failed;
        failed.into_iter().next().map_or(Ok(()), |(_, error)| Err(error))
    }

    /// Waits until the epochs are flushed that are dirty now; returns them. What cannot be looked at is not waited for.
    pub(crate) async fn outlast_epochs(&self, partitions: &[u16]) -> Result<Dirty, BufferError> {
        let Dirty { epochs, unknown } = self.ctx.dirty_epochs(partitions).await?;
        let mut waiting = epochs.clone();
        let mut cycles = self.ctx.cycles.subscribe();
        let mut pause = LOOK_AGAIN.0;
        let owned = self.leases.owned();
        if waiting.iter().any(|(partition, _)| !owned.contains(partition)) {
            // Another process has it. When nobody hears this, the interval comes all the same.
            let _ = self.ctx.space.nudge().await;
        }
        while !waiting.is_empty() {
            self.ctx.trigger.nudge();
            // Either this process flushes and says so, or another one does and has to be asked.
            let _ = tokio::time::timeout(LOOK_AGAIN.1, cycles.changed()).await;
            waiting = self.ctx.not_flushed(waiting).await?;
            if !waiting.is_empty() {
                self.nothing_holds_up_all().await?;
                // This process's cycles end at once when the partitions are another one's.
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LOOK_AGAIN.1);
            }
        }
        Ok(Dirty { epochs, unknown })
    }

    /// Waits for what came out of these epochs, which are flushed, because it is held. What is refused is not waited for.
    pub(crate) async fn outlast_holds(
        &self,
        epochs: Vec<EpochOf>,
        counts: fn(&Held) -> bool,
    ) -> Result<(), BufferError> {
        let partitions: Vec<u16> = epochs.iter().map(|(partition, _)| *partition).collect();
        let mut held = self.ctx.space.held(&partitions).await?;
        held.retain(counts);
        let mut cycles = self.ctx.cycles.subscribe();
        let mut pause = LOOK_AGAIN.0;
        while !held.is_empty() {
            self.relations.children().for_each(|child| child.nudge());
            self.ctx.trigger.nudge();
            let _ = tokio::time::timeout(LOOK_AGAIN.1, cycles.changed()).await;
            held = self.ctx.not_settled(held).await?;
            if held.is_empty() {
                // It may be gone because all is.
                self.ctx.not_flushed(epochs).await?;
                break;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LOOK_AGAIN.1);
        }
        Ok(())
    }

    /// The barrier over all partitions, for who may wait longer than this engine lives.
    pub(crate) async fn flush_all(&self) -> Result<(), CacheError> {
        let (all, told) = (self.ctx.all_partitions(), self.ctx.losses_told.load(Ordering::Acquire));
        let barrier = async {
            self.barrier(&all).await?;
            // A buffer that lost data counts its epochs from anew, and may have come to the awaited one. Only a look that
            // comes after says that it has not.
            data_loss::look(&self.ctx).await?;
            let losses = self.ctx.losses.load(Ordering::Acquire);
            if losses == told {
                return Ok(());
            }
            // What was acknowledged before the loss, by whatever process, may never come to the sink: the flush after it is the
            // one to say so. That this process has written nothing, or flushed all of it, says nothing of the others.
            self.ctx.losses_told.fetch_max(losses, Ordering::AcqRel);
            Err(lost())
        };
        tokio::select! {
            biased;
            flushed = barrier => flushed.map_err(CacheError::from),
            // What is left is another worker's: perhaps there is none.
            reason = self.ctx.intake.over() => Err(reason),
        }
    }
}
