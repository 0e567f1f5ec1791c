//! Notices that the entity is laid out anew while this engine runs.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::hold::Suspension;
use crate::buffer::{BufferError, BufferErrorKind};
use crate::entity::Entity;
use crate::events;
use crate::lane::{Lane, Phase, stopped};

/// Shortest time between two looks; also of an engine with very short leases.
const SHORTEST: Duration = Duration::from_secs(1);

/// Looks whether the topology is still this engine's, three times in a lease's life, at most once a second. When it is
/// not, this engine takes no more writes, because nobody would flush them, and gives its partitions up; when it is again, it
/// goes on.
pub(crate) async fn watch<E: Entity>(lane: &Lane<E>, mut phase: watch::Receiver<Phase>) {
    let mut ticks = tokio::time::interval((lane.leases.ttl() / 3).max(SHORTEST));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first tick is at once, and start has just looked.
    ticks.tick().await;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stopped(&mut phase) => return,
        }
        // An outage says nothing about the topology.
        if confirm(lane).await.is_err() {
            continue;
        }
        // The shape is known before anything is written again, and nothing that was kept is older than the shutting.
        if lane.gate.is_shut() && lane.shapes.look(&*lane.space).await.is_ok() {
            lane.near.drop_all();
            lane.gate.reopen();
            lane.leases.resume(Suspension::Topology);
            events::topology_restored(&lane.scope);
        }
    }
}

/// Looks whether the topology is still this engine's.
pub(crate) async fn confirm<E: Entity>(lane: &Lane<E>) -> Result<(), BufferError> {
    let confirmed = lane.space.confirm().await;
    if let Err(error) = &confirmed
        && error.kind() == BufferErrorKind::Topology
        && lane.gate.shut(error.clone())
    {
        events::topology_changed(&lane.scope, error);
        lane.leases.suspend(Suspension::Topology);
    }
    confirmed
}
