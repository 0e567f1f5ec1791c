//! Asks the buffer each second whether it still has the data that it had, and says so when it has not.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;

use crate::buffer::{BufferError, Lineage};
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
        let looked = tokio::select! {
            looked = look(lane) => looked,
            () = stopped(&mut phase) => return,
        };
        let pause = match looked {
            Ok(false) => return,
            Ok(true) => EVERY,
            // Whoever needs the buffer reports it.
            Err(_) => AFTER_FAILURE,
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stopped(&mut phase) => return,
        }
    }
}

/// One look: what it finds is told and counted. `false` where nothing can be lost but with the process.
pub(crate) async fn look<E: Entity>(lane: &Lane<E>) -> Result<bool, BufferError> {
    match lane.space.lineage().await? {
        Lineage::Unwatched => return Ok(false),
        Lineage::Unbroken => {}
        Lineage::Restarted { since_ms, dropped } => {
            lane.near.drop_all();
            lane.losses.fetch_add(u64::from(since_ms.is_some()), Ordering::AcqRel);
            events::buffer_restarted(&lane.scope, since_ms, dropped);
        }
        Lineage::Broken { since_ms, dropped } => {
            lane.near.drop_all();
            lane.losses.fetch_add(1, Ordering::AcqRel);
            events::buffer_lost_data(&lane.scope, since_ms, dropped);
            lane.counters.lineage_breaks.add(1);
        }
    }
    Ok(true)
}
