//! P3: the sink never goes back.

use write_behind::{ErrorKind, Id, Scope, partition_of};

use crate::gate::{Fault, Gate, Place};
use crate::house::{Apart, House, PARTITIONS, Resident};
use crate::violation::{Kept, Sort, Violation, ensure};

/// A worker that is stopped with a batch in its hands: the first states of two keys.
struct Stopped {
    writer: Resident,
    worker: Apart,
    gate: Gate,
}

impl Stopped {
    async fn start(house: &House) -> Result<Self, Violation> {
        let writer = house.writer().start().await?;
        writer.put(1, 1).await?;
        writer.put(2, 1).await?;
        let gate = Gate::freezing(Place::BeforeWrite);
        let worker = house.worker().gate(&gate).start_apart().await?;
        gate.reached(Place::BeforeWrite).await?;
        Ok(Self { writer, worker, gate })
    }

    /// It goes on after it was overtaken: what it writes is fenced off.
    async fn goes_on(self, house: &House) -> Kept {
        let Self { writer: _writer, worker, gate } = self;
        house.holds(Sort::Lost, &[(1, Some(2)), (2, None)]).await?;
        worker.wake_and_finish().await?;
        ensure(!gate.log().is_empty(), Sort::Trouble, || "the paused worker never wrote".to_owned())?;
        house.holds(Sort::WentBack, &[(1, Some(2)), (2, None)]).await?;
        let fenced = gate.failures(ErrorKind::Fenced) > 0;
        ensure(fenced, Sort::Passed, || format!("a stale worker's write was not fenced: {:?}", gate.log()))
    }
}

/// A worker is stopped with a batch in its hands, overtaken, and goes on.
pub(crate) async fn p3_the_sink_never_goes_back(house: &House) -> Kept {
    let stopped = Stopped::start(house).await?;
    let _second = house.worker().start().await?;
    house.drained().await?;
    stopped.writer.put(1, 2).await?;
    stopped.writer.delete(2).await?;
    house.drained().await?;
    stopped.goes_on(house).await
}

/// A worker of the old topology is stopped with a batch in its hands. A program of another topology starts, which flushes what the worker has
/// left, and goes on with newer states; then the worker goes on.
pub(crate) async fn p3_a_change_of_topology_takes_no_row_back(house: &House) -> Kept {
    let stopped = Stopped::start(house).await?;
    let next = house.worker().options(|o| o.partitions(2 * PARTITIONS)).start().await?;
    house.holds(Sort::Lost, &[(1, Some(1)), (2, Some(1))]).await?;
    next.put(1, 2).await?;
    next.delete(2).await?;
    next.accounts.flush().await?;
    stopped.goes_on(house).await
}

/// A worker is paused, and Redis is lost as a whole meanwhile: generations are the sink's.
pub(crate) async fn p3_losing_redis_resets_no_generation(house: &House) -> Kept {
    let sink = house.store.sink().await?;
    let scope = Scope::new(house.namespace.clone(), "account", PARTITIONS);
    let writer = house.writer().start().await?;
    writer.put(1, 1).await?;
    let paused = Gate::freezing(Place::BeforeWrite);
    let first = house.worker().gate(&paused).start_apart().await?;
    paused.reached(Place::BeforeWrite).await?;
    // Not the account's own partition: that one is fenced by its workers alone.
    let other = PARTITIONS - 1 - partition_of(&Id::of(&1_i64)?, PARTITIONS);
    let before = sink.fence(&scope, other).await?;
    house.lose_redis().await?;
    let after = sink.fence(&scope, other).await?;
    let grows = before.zip(after).is_some_and(|(before, after)| before.generation < after.generation);
    ensure(grows, Sort::WentBack, || format!("the generation was {before:?}, and is {after:?} without Redis"))?;
    let _second = house.worker().start().await?;
    writer.put(1, 2).await?;
    house.drained().await?;
    first.wake_and_finish().await?;
    house.holds(Sort::WentBack, &[(1, Some(2))]).await
}

/// A refused state goes back to be tried again, while a newer one is there already.
pub(crate) async fn p3_a_refused_state_never_replaces_a_newer_one(house: &House) -> Kept {
    let writer = house.writer().start().await?;
    let gate = Gate::open();
    let _worker = house.worker().gate(&gate).start().await?;
    for (id, newer) in [(1, Some(2)), (2, None)] {
        gate.hold(Place::AfterWrite);
        gate.next(Fault::Fail(ErrorKind::Rejected));
        writer.put(id, 1).await?;
        gate.reached(Place::AfterWrite).await?;
        match newer {
            Some(state) => writer.put(id, state).await?,
            None => writer.delete(id).await?,
        }
        gate.release();
        house.drained().await?;
        ensure(gate.failures(ErrorKind::Rejected) > 0, Sort::Trouble, || "nothing was refused".to_owned())?;
        house.holds(Sort::WentBack, &[(id, newer)]).await?;
    }
    Ok(())
}
