//! rotate: closes the open epochs of the partitions that this worker holds.

use futures::future::try_join_all;

use crate::buffer::{BufferError, Rotation, Stamp};
use crate::entity::Entity;
use crate::events;
use crate::failpoint;
use crate::lane::Lane;
use crate::lease::Right;

/// A closed epoch of a partition, and the right by which it is flushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Epoch {
    pub(super) partition: u16,
    pub(super) number: u64,
    /// Of this rotation.
    pub(super) stamp: Stamp,
    /// Older than everything that is claimed: a later right would let states pass that somebody else has overtaken.
    pub(super) right: Right,
}

impl<E: Entity> Lane<E> {
    /// Epochs to flush: those closed now, and those an earlier cycle or owner left behind.
    pub(super) async fn rotate(&self) -> Result<Vec<Epoch>, BufferError> {
        let rights = self.leases.rights();
        let held: Vec<u16> = rights.keys().copied().collect();
        let pending = self.space.pending(&held).await?;
        self.backlog.saw(&held, &pending);
        // From here on, keys that become dirty belong to the next epoch.
        self.pressure.reset();
        let pending = pending.into_iter().filter_map(|found| Some((found.partition, *rights.get(&found.partition)?)));
        let rotations = try_join_all(pending.map(|(partition, right)| async move {
            let stamp = Stamp::fresh();
            let rotation = self.space.rotate(partition, self.leases.owner(), stamp).await?;
            failpoint::pass("after_rotate");
            Ok::<_, BufferError>((partition, right, stamp, rotation))
        }))
        .await?;
        let mut epochs = Vec::with_capacity(rotations.len());
        for (partition, right, stamp, rotation) in rotations {
            match rotation {
                Rotation::Epoch(number) | Rotation::Marked(number) => {
                    events::rotated(&self.scope, partition, number);
                    epochs.push(Epoch { partition, number, stamp, right });
                }
                Rotation::Empty => {}
                Rotation::NotOwner => {
                    events::step_refused(&self.scope, partition, 0, "rotate");
                    self.leases.forget(std::iter::once((partition, right)));
                }
            }
        }
        Ok(epochs)
    }
}
