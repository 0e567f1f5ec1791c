//! Asks the buffer each second whether it still has the data that it had, and says so when it has not.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;

use crate::buffer::{IdFloor, Lineage};
use crate::entity::Entity;
use crate::error::buffer::BufferError;
use crate::runtime::context::EntityContext;
use crate::runtime::lifecycle::{Phase, stopped};
use crate::telemetry::log;

/// Time between two looks: how long an old copy can be read after the buffer came back with it, and how exact the
/// window is that may be missing.
const EVERY: Duration = Duration::from_secs(1);

/// After a failure sooner: it may be the restart itself.
const AFTER_FAILURE: Duration = Duration::from_millis(100);

/// Looks until the phase ends. A buffer that has lost its data has lost the list of shapes too, and is told them again; also by
/// those who only write.
pub(crate) async fn watch<E: Entity>(ctx: &EntityContext<E>, mut phase: watch::Receiver<Phase>) {
    loop {
        let looked = tokio::select! {
            looked = look_at_all(ctx) => looked,
            () = stopped(&mut phase) => return,
        };
        let pause = match looked {
            Ok(()) => EVERY,
            // Whoever needs the buffer reports it.
            Err(_) => AFTER_FAILURE,
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stopped(&mut phase) => return,
        }
    }
}

async fn look_at_all<E: Entity>(ctx: &EntityContext<E>) -> Result<(), BufferError> {
    look(ctx).await?;
    // Who needs the list reports a failure.
    let _ = ctx.shapes.look(&*ctx.space).await.is_ok();
    Ok(())
}

/// One look: what it finds is told and counted. `false` where nothing can be lost but with the process.
///
/// One at a time: a look that another one has overtaken would find nothing new, before that one has counted what it found.
pub(crate) async fn look<E: Entity>(ctx: &EntityContext<E>) -> Result<bool, BufferError> {
    // Never closed.
    let _turn = ctx.lineage_turn.acquire().await;
    let losses = ctx.losses.load(Ordering::Acquire);
    match ctx.space.lineage().await? {
        Lineage::Unwatched => return Ok(false),
        Lineage::Unbroken => {}
        Lineage::Restarted { since_ms, dropped } => {
            ctx.near.drop_all();
            ctx.losses.fetch_add(u64::from(since_ms.is_some()), Ordering::AcqRel);
            log::buffer_restarted(&ctx.scope, since_ms, dropped);
        }
        Lineage::Broken { since_ms, dropped } => {
            ctx.near.drop_all();
            ctx.losses.fetch_add(1, Ordering::AcqRel);
            log::buffer_lost_data(&ctx.scope, since_ms, dropped);
            ctx.counters.lineage_breaks.add(1);
        }
    }
    let lost = ctx.losses.load(Ordering::Acquire);
    if lost > losses {
        // Its epochs are counted from anew.
        ctx.observe().await;
    }
    let highest = ctx.highest_id.load(Ordering::Acquire);
    if highest > 0 && lost > losses {
        // The counter may have forgotten blocks that are in use here. Who reserves the next one must not get them; where this
        // fails, the blocks that it leaves out itself are all there is.
        let floor = IdFloor { above: highest, leap: false };
        let _ = ctx.space.reserve_ids(1, Some(floor)).await;
    }
    Ok(true)
}
