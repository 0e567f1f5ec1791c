//! A Redis that loses data under a running worker: the flush ends with a report, nothing is called flushed that is not,
//! and the worker goes on.

use crate::events::Events;
use crate::gate::{Gate, Place};
use crate::house::{House, PARTITIONS};
use crate::violation::{Kept, Sort, Violation, ensure, until};
use crate::wire::{About, Wire};

async fn flushed_epochs(house: &House) -> Result<u64, Violation> {
    let mut flushed = 0;
    for partition in 0..PARTITIONS {
        let epoch: Option<u64> = house.ask("HGET", &[house.key(partition, "meta"), "flushed".to_owned()]).await?;
        flushed = flushed.max(epoch.unwrap_or(0));
    }
    Ok(flushed)
}

/// The worker has said that something is wrong with an epoch.
async fn reported(events: &Events) -> Kept {
    let reported = until("a report", async || Ok(events.have("epoch="))).await;
    reported.map_err(|Violation { sort, text }| Violation { sort, text: format!("{text}; heard: {:?}", events.all()) })
}

/// `flushing` is gone between the rotation and the claim: its records never reached the sink.
pub(crate) async fn an_epoch_that_vanishes_is_not_flushed(house: &House) -> Kept {
    let wire = Wire::to(&house.redis).await?;
    let writer = house.writer().start().await?;
    writer.put(1, 1).await?;
    wire.watch(&["HSCAN"], About::Key("flushing"));
    let vanish = async {
        wire.next().await?;
        house.ask::<u64>("DEL", &[house.key_of(1, "flushing")?]).await?;
        wire.unwatch();
        wire.step();
        Ok::<_, Violation>(())
    };
    let (worker, vanished) = tokio::join!(house.worker().redis(&wire.url).start_apart(), vanish);
    let worker = worker?;
    vanished?;
    reported(&worker.events).await?;
    let flushed = flushed_epochs(house).await?;
    ensure(flushed == 0, Sort::Untrue, || format!("nothing was flushed, and epoch {flushed} is said to be"))?;
    // The worker goes on with what comes next.
    writer.put(1, 2).await?;
    house.drained().await?;
    house.holds(Sort::Lost, &[(1, Some(2))]).await
}

/// All of Redis is lost while the sink is held: lease, epochs, records.
pub(crate) async fn losing_all_of_redis_ends_a_flush_with_a_report(house: &House) -> Kept {
    let writer = house.writer().start().await?;
    writer.put(1, 1).await?;
    let gate = Gate::freezing(Place::AfterWrite);
    let worker = house.worker().gate(&gate).start_apart().await?;
    gate.reached(Place::AfterWrite).await?;
    house.lose_redis().await?;
    gate.release();
    reported(&worker.events).await?;
    let flushed = flushed_epochs(house).await?;
    ensure(flushed == 0, Sort::Untrue, || format!("epoch {flushed} is said to be flushed, which nobody has"))?;
    writer.put(2, 1).await?;
    house.row_becomes(2, Some(1)).await?;
    house.drained().await
}
