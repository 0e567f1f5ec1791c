//! Notices that the entity is laid out anew while this engine runs.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::entity::Entity;
use crate::error::buffer::{BufferError, BufferErrorKind};
use crate::ownership::Ownership;
use crate::ownership::leases::{Leases, Suspension};
use crate::runtime::context::EntityContext;
use crate::runtime::lifecycle::{Phase, stopped};
use crate::telemetry::log;

/// Shortest time between two looks; also of an engine with very short leases.
const SHORTEST: Duration = Duration::from_secs(1);

/// Looks whether the topology is still this engine's, three times in a lease's life, at most once a second. When it is
/// not, this engine takes no more writes, because nobody would flush them, and gives its partitions up; when it is again, it
/// goes on.
pub(crate) async fn watch<E: Entity>(ownership: &Ownership<E>, mut phase: watch::Receiver<Phase>) {
    let mut ticks = tokio::time::interval((ownership.leases.ttl() / 3).max(SHORTEST));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first tick is at once, and start has just looked.
    ticks.tick().await;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stopped(&mut phase) => return,
        }
        // An outage says nothing about the topology.
        if confirm(&ownership.ctx, &ownership.leases).await.is_err() {
            continue;
        }
        // The shape is known before anything is written again, and nothing that was kept is older than the shutting.
        if ownership.ctx.intake.is_shut() && ownership.ctx.shapes.look(&*ownership.ctx.space).await.is_ok() {
            ownership.ctx.near.drop_all();
            ownership.ctx.intake.reopen();
            ownership.leases.resume(Suspension::Topology);
            log::topology_restored(&ownership.ctx.scope);
        }
    }
}

/// Looks whether the topology is still this engine's.
pub(crate) async fn confirm<E: Entity>(ctx: &EntityContext<E>, leases: &Leases) -> Result<(), BufferError> {
    let confirmed = ctx.space.confirm().await;
    if let Err(error) = &confirmed
        && error.kind() == BufferErrorKind::Topology
        && ctx.intake.shut(error.clone())
    {
        log::topology_changed(&ctx.scope, error);
        leases.suspend(Suspension::Topology);
    }
    confirmed
}
