//! rotate: closes the open epochs of the partitions that this worker holds.

use futures::future::try_join_all;

use crate::buffer::{BufferError, Rotation};
use crate::entity::Entity;
use crate::events;
use crate::lane::Lane;

/// A closed epoch of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Epoch {
    pub(super) partition: u16,
    pub(super) number: u64,
}

impl<E: Entity> Lane<E> {
    /// Epochs to flush: those closed now, and those an earlier cycle or owner left behind.
    pub(super) async fn rotate(&self) -> Result<Vec<Epoch>, BufferError> {
        let pending = self.space.pending(&self.leases.partitions()).await?;
        // From here on, keys that become dirty belong to the next epoch.
        self.pressure.reset();
        let rotations = try_join_all(pending.into_iter().map(|partition| async move {
            let rotation = self.space.rotate(partition, self.leases.owner()).await?;
            Ok::<_, BufferError>((partition, rotation))
        }))
        .await?;
        let mut epochs = Vec::with_capacity(rotations.len());
        for (partition, rotation) in rotations {
            match rotation {
                Rotation::Epoch(number) => {
                    events::rotated(&self.scope, partition, number);
                    epochs.push(Epoch { partition, number });
                }
                Rotation::Empty => {}
                Rotation::NotOwner => {
                    events::step_refused(&self.scope, partition, 0, "rotate");
                    self.leases.forget(std::iter::once(partition));
                }
            }
        }
        Ok(epochs)
    }
}
