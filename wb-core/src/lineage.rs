//! Asks the buffer each second whether it still has the data that it had, and says so when it has not.

use std::time::Duration;

use tokio::sync::watch;

use crate::buffer::Lineage;
use crate::entity::Entity;
use crate::events;
use crate::lane::{Lane, Phase, stopped};

/// Time between two looks: how long an old copy can be read after the buffer came back with it, and how exact the
/// window is that may be missing.
const EVERY: Duration = Duration::from_secs(1);

/// After a failure sooner: it may be the restart itself.
const AFTER_FAILURE: Duration = Duration::from_millis(100);

/// Looks until the phase ends, or at once no more where there is nothing to be lost.
pub(crate) async fn watch<E: Entity>(lane: &Lane<E>, mut phase: watch::Receiver<Phase>) {
    loop {
        let found = tokio::select! {
            found = lane.space.lineage() => found,
            () = stopped(&mut phase) => return,
        };
        let pause = match found {
            Ok(Lineage::Unwatched) => return,
            Ok(Lineage::Unbroken) => EVERY,
            Ok(Lineage::Restarted { since_ms, dropped }) => {
                events::buffer_restarted(&lane.scope, since_ms, dropped);
                EVERY
            }
            Ok(Lineage::Broken { since_ms, dropped }) => {
                events::buffer_lost_data(&lane.scope, since_ms, dropped);
                lane.counters.lineage_breaks.add(1);
                EVERY
            }
            // Whoever needs the buffer reports it.
            Err(_) => AFTER_FAILURE,
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stopped(&mut phase) => return,
        }
    }
}
