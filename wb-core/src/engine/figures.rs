//! Figures: what waits, and what was counted.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::entity::Entity;
use crate::entity_runtime::EntityRuntime;
use crate::runtime::lifecycle::{Phase, stopped};

/// Time between two looks. Flush cycles look too; this is for when one of them takes long.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Looks at what waits and publishes the figures, until the phase ends.
pub(crate) async fn watch<E: Entity>(runtime: &EntityRuntime<E>, mut phase: watch::Receiver<Phase>) {
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stopped(&mut phase) => break,
        }
        runtime.flusher.look().await;
        runtime.publish();
    }
    runtime.publish();
}
