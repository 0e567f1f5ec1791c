//! P6: bounded staleness.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use crate::house::House;
use crate::violation::{Kept, Sort, ensure, until};

/// While one key is written without a pause, it and the others reach the sink all the same.
pub(crate) async fn p6_neither_hot_nor_cold_keys_starve(house: &House) -> Kept {
    let writer = house.writer().start().await?;
    let _worker = house.worker().start().await?;
    let (acknowledged, over) = (AtomicI64::new(0), AtomicBool::new(false));
    let hot = async {
        let mut state = 0;
        while !over.load(Ordering::Relaxed) {
            state += 1;
            writer.put(1, state).await?;
            acknowledged.store(state, Ordering::Relaxed);
        }
        Ok::<_, crate::violation::Violation>(())
    };
    let watch = async {
        for cold in 2..7 {
            writer.put(cold, 1).await?;
            house.row_becomes(cold, Some(1)).await?;
            let now = acknowledged.load(Ordering::Relaxed);
            until("the hot key's state of this moment, or a later one", async || {
                Ok(house.store.rows().await?.get(&1).is_some_and(|&state| state >= now))
            })
            .await?;
        }
        over.store(true, Ordering::Relaxed);
        ensure(acknowledged.load(Ordering::Relaxed) > 50, Sort::Trouble, || "the hot key was not hot".to_owned())
    };
    let stop_first = async {
        let watched = watch.await;
        over.store(true, Ordering::Relaxed);
        watched
    };
    let (hot, watched) = tokio::join!(hot, stop_first);
    hot?;
    watched?;
    house.drained().await?;
    house.holds(Sort::Lost, &[(1, Some(acknowledged.load(Ordering::Relaxed)))]).await
}
