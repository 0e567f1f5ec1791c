//! P11: shutdown tells the truth.

use std::time::Duration;

use write_behind::CacheError;

use crate::gate::{Gate, Place};
use crate::house::House;
use crate::violation::{Kept, Sort, ensure, within};

/// With the sink held, the deadline ends it with the exact count; the next worker flushes what is left.
pub(crate) async fn p11_what_remains_is_counted_and_flushed_by_the_next(house: &House) -> Kept {
    let gate = Gate::holding(Place::BeforeWrite);
    let first = house.worker().gate(&gate).start().await?;
    let ids: Vec<i64> = (1..=30).collect();
    for &id in &ids {
        first.put(id, 1).await?;
    }
    gate.reached(Place::BeforeWrite).await?;
    // Some are being flushed, some wait.
    for id in 31..=37 {
        first.put(id, 1).await?;
    }
    let expected = house.dirty().await?;
    let ended = within("shutdown ends", first.engine.shutdown(Duration::from_millis(150))).await??;
    ensure(ended.remaining == expected, Sort::Untrue, || format!("{expected} are left, and it says {ended:?}"))?;
    ensure(ended.by_entity.get("account") == Some(&expected), Sort::Untrue, || format!("by entity: {ended:?}"))?;
    let rows = house.store.rows().await?;
    ensure(rows.is_empty(), Sort::Trouble, || format!("the sink was held, and has {rows:?}"))?;
    let closed = first.accounts.put(&crate::account::Account::new(100, 1)).await;
    ensure(matches!(closed, Err(CacheError::Closed)), Sort::Untrue, || {
        format!("after shutdown a write says {closed:?}")
    })?;
    let _second = house.worker().start().await?;
    house.drained().await?;
    house.holds(Sort::Lost, &(1..=37).map(|id| (id, Some(1))).collect::<Vec<_>>()).await?;
    house.holds(Sort::Passed, &[(100, None)]).await
}

/// With a healthy sink nothing remains, and everything is there when it returns.
pub(crate) async fn p11_a_healthy_shutdown_leaves_nothing(house: &House) -> Kept {
    let engine = house.worker().options(|o| o.flush_every(Duration::from_secs(3_600))).start().await?;
    for id in 1..=50 {
        engine.put(id, 1).await?;
    }
    let ended = within("shutdown ends", engine.engine.shutdown(Duration::from_secs(15))).await??;
    ensure(ended.remaining == 0, Sort::Untrue, || format!("a healthy shutdown says {ended:?}"))?;
    ensure(house.dirty().await? == 0, Sort::Untrue, || "it says that nothing is left, and something is".to_owned())?;
    house.holds(Sort::Untrue, &(1..=50).map(|id| (id, Some(1))).collect::<Vec<_>>()).await
}
