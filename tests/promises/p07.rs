//! P7: bounded memory.

use std::time::Duration;

use futures::future::join_all;
use write_behind::{BufferErrorKind, CacheError, Overflow};

use crate::gate::{Gate, Place};
use crate::house::House;
use crate::violation::{Kept, Sort, ensure, until, within};

const LIMIT: u64 = 10;

fn is_full(result: &Result<(), CacheError>) -> bool {
    matches!(result, Err(CacheError::Buffer(error)) if error.kind() == BufferErrorKind::Full)
}

/// At the limit a new key is refused, a dirty one passes, and what was refused never appears.
pub(crate) async fn p7_dirty_keys_never_pass_the_limit(house: &House) -> Kept {
    let limited = || house.writer().options(|o| o.max_dirty(LIMIT, Overflow::Reject));
    let (one, other) = (limited().start().await?, limited().start().await?);
    let gate = Gate::holding(Place::BeforeWrite);
    // Four times what fits, from two processes at once.
    let ids: Vec<i64> = (1..=4 * i64::try_from(LIMIT)?).collect();
    let puts = ids.iter().map(|&id| if id % 2 == 0 { one.put(id, 1) } else { other.put(id, 1) });
    let results = within("writes at the limit", join_all(puts)).await?;
    let dirty = house.dirty().await?;
    ensure(dirty <= LIMIT, Sort::Passed, || format!("{dirty} keys are dirty, {LIMIT} may be"))?;
    let (taken, refused): (Vec<_>, Vec<_>) = ids.iter().zip(&results).partition(|(_, result)| result.is_ok());
    let odd = refused.iter().find(|(_, result)| !is_full(result));
    ensure(odd.is_none(), Sort::Untrue, || format!("refused, but not as full: {odd:?}"))?;
    ensure(taken.len() as u64 == dirty, Sort::Untrue, || {
        format!("{} writes acknowledged, {dirty} keys dirty", taken.len())
    })?;
    ensure(dirty == LIMIT, Sort::Blocked, || format!("only {dirty} of {LIMIT} keys found room"))?;

    // What is dirty already takes no room.
    for &(&id, _) in &taken {
        one.put(id, 2).await.map_err(|error| {
            crate::violation::Violation::new(Sort::Blocked, format!("an update of a dirty key: {error}"))
        })?;
    }
    // Also while it is being flushed, when `open` is empty: what is in the sink's hands is dirty too.
    let worker = house.worker().gate(&gate).start().await?;
    gate.reached(Place::BeforeWrite).await?;
    let new = 1_000;
    let put = one.put(new, 1).await;
    let dirty = house.dirty().await?;
    ensure(dirty <= LIMIT, Sort::Passed, || format!("{dirty} keys are dirty during a flush, {LIMIT} may be"))?;
    let mut room = put.is_ok();
    gate.release();
    until("there is room again", async || {
        room = room || one.put(new, 1).await.is_ok();
        Ok(room)
    })
    .await?;
    house.drained().await?;
    let mut expected: Vec<(i64, Option<i64>)> = taken.iter().map(|&(&id, _)| (id, Some(2))).collect();
    expected.push((new, Some(1)));
    house.holds(Sort::Lost, &expected).await?;
    let never: Vec<(i64, Option<i64>)> = refused.iter().map(|&(&id, _)| (id, None)).collect();
    house.holds(Sort::Passed, &never).await?;
    for (id, _) in never {
        one.sees(id, None, "after it was refused").await?;
    }
    drop(worker);
    Ok(())
}

/// In the mode that waits, a write at the limit is acknowledged when there is room, and refused when there is none in time.
pub(crate) async fn p7_a_write_at_the_limit_waits_for_room(house: &House) -> Kept {
    let waits = |timeout| house.writer().options(move |o| o.max_dirty(LIMIT, Overflow::Wait { timeout }));
    let (patient, hasty) =
        (waits(Duration::from_secs(60)).start().await?, waits(Duration::from_millis(50)).start().await?);
    for id in 1..=i64::try_from(LIMIT)? {
        patient.put(id, 1).await?;
    }
    let refused = within("a hasty write ends", hasty.put(100, 1)).await?;
    ensure(is_full(&refused), Sort::Passed, || format!("no room, and the write says {refused:?}"))?;
    let waiting = patient.put(101, 1);
    let (waited, worker) = tokio::join!(waiting, async { house.worker().start().await });
    let _worker = worker?;
    waited?;
    house.drained().await?;
    house.holds(Sort::Lost, &[(1, Some(1)), (101, Some(1))]).await?;
    house.holds(Sort::Passed, &[(100, None)]).await
}
