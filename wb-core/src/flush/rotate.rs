//! rotate: closes the open epochs of the partitions that this worker holds.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use futures::future::join_all;

use crate::buffer::{PendingReport, Rotation, Stamp};
use crate::entity::Entity;
use crate::error::buffer::{BufferError, BufferErrorKind};
use crate::fault::failpoint;
use crate::fault::mechanism::Mechanism;
use crate::flush::Flusher;
use crate::ownership;
use crate::ownership::Right;
use crate::runtime::backlog::Found;
use crate::telemetry::log;

/// A closed epoch of a partition, and the right by which it is flushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Epoch {
    pub(crate) partition: u16,
    pub(crate) number: u64,
    /// Of this rotation.
    pub(crate) stamp: Stamp,
    /// Whether transactions have written any of its records.
    pub(crate) marked: bool,
    /// Older than everything that is claimed: a later right would let states pass that somebody else has overtaken.
    pub(crate) right: Right,
}

impl<E: Entity> Flusher<E> {
    /// Epochs to flush: those closed now, and those an earlier cycle or owner left behind.
    pub(crate) async fn rotate(&self) -> Result<Vec<Epoch>, BufferError> {
        if self.awaits_sink() {
            return Ok(Vec::new());
        }
        let rights = self.leases.rights();
        let losses = self.ctx.losses.load(Ordering::Acquire);
        let held: Vec<u16> = rights.keys().copied().collect();
        if self.ctx.options.transactions && held.len() < usize::from(self.ctx.scope.partitions) {
            // A part of the entity is no cut of it.
            return Ok(Vec::new());
        }
        let PendingReport { pending, failed } = self.ctx.space.pending(&held).await?;
        self.ctx.backlog.saw(&held, &pending);
        self.ctx.saw_broken(Found::ByRecords, &held, &failed);
        if !failed.is_empty() {
            // Perhaps it is this program that is out of place: see `flush_batch`.
            ownership::confirm(&self.ctx, &self.leases).await?;
            if self.ctx.options.transactions {
                // No cut of the whole entity can be made.
                return Ok(Vec::new());
            }
        }
        // From here on, keys that become dirty belong to the next epoch.
        self.ctx.trigger.reset();
        let pending = pending.into_iter().filter_map(|found| Some((found.partition, *rights.get(&found.partition)?)));
        if self.ctx.options.transactions {
            return if pending.count() == 0 { Ok(Vec::new()) } else { self.rotate_together(&rights).await };
        }
        let rotations = join_all(pending.map(|(partition, right)| async move {
            let stamp = Stamp::fresh();
            let rotation = self.ctx.space.rotate(partition, self.leases.owner(), stamp).await;
            failpoint::pass("after_rotate");
            match rotation {
                Ok(rotation) => Ok(Some((partition, right, stamp, rotation))),
                // It broke since the look: its own affair, and the next look tells.
                Err(error) if error.kind() == BufferErrorKind::Misconfigured => {
                    log::backlog_unknown(&self.ctx.scope, &error);
                    Ok(None)
                }
                Err(error) => Err(error),
            }
        }));
        let rotations: Result<Vec<_>, BufferError> = rotations.await.into_iter().collect();
        Ok(self.rotated(losses, rotations?.into_iter().flatten().collect()))
    }

    /// All partitions at one instant, so that what is flushed is the state that the whole entity had.
    async fn rotate_together(&self, rights: &BTreeMap<u16, Right>) -> Result<Vec<Epoch>, BufferError> {
        let (stamp, losses) = (Stamp::fresh(), self.ctx.losses.load(Ordering::Acquire));
        let rotations = self.ctx.space.rotate_all(self.leases.owner(), stamp).await?;
        failpoint::pass("after_rotate");
        let rotations = (0_u16..).zip(rotations);
        let held =
            rotations.filter_map(|(partition, rotation)| Some((partition, *rights.get(&partition)?, stamp, rotation)));
        Ok(self.rotated(losses, held.collect()))
    }

    fn rotated(&self, losses: u64, rotations: Vec<(u16, Right, Stamp, Rotation)>) -> Vec<Epoch> {
        let mut epochs = Vec::with_capacity(rotations.len());
        for (partition, right, stamp, rotation) in rotations {
            match rotation {
                Rotation::Epoch(number) | Rotation::Marked(number) => {
                    log::rotated(&self.ctx.scope, partition, number);
                    self.ctx.observed_epochs.saw(partition, losses, number.saturating_add(1), None);
                    let marked =
                        matches!(rotation, Rotation::Marked(_)) && !self.ctx.options.sabotage.lacks(Mechanism::Marks);
                    epochs.push(Epoch { partition, number, stamp, marked, right });
                }
                Rotation::Empty => {}
                Rotation::NotOwner => {
                    log::step_refused(&self.ctx.scope, partition, 0, "rotate");
                    self.leases.forget(std::iter::once((partition, right)));
                }
            }
        }
        epochs
    }
}
