//! Blocks of ids.

use std::sync::Arc;

use futures::future::join_all;

use super::{Bench, PARTITIONS, scope};
use crate::buffer::{Buffer, IdFloor, Registration};
use crate::entity::codec::Format;
use crate::telemetry::scope::Scope;

const fn floor(above: i64) -> Option<IdFloor> {
    Some(IdFloor { above, leap: false })
}

/// Blocks of ids never overlap and never go below a floor; there is no counter before the first floor; a new layout of the
/// partitions keeps it.
///
/// # Panics
/// When a block is given twice, begins at or below its floor, or a counter is made up.
pub async fn reserves_ids(buffer: &(impl Buffer + ?Sized)) {
    let check = "reserves ids";
    let four = scope(PARTITIONS);
    let bench = Bench::of(buffer, check, Registration::new(four.clone(), Format::Json)).await;
    let reserve = async |count, floor| bench.done("reserve ids", bench.space.reserve_ids(count, floor).await);
    for _ in 0..2 {
        assert_eq!(reserve(10, None).await, None, "{check}: without a counter");
    }
    assert_eq!(reserve(10, floor(0)).await, Some(10), "{check}: the first block");
    assert_eq!(reserve(1, None).await, Some(11), "{check}: a block of one");
    assert_eq!(reserve(10, floor(9)).await, Some(21), "{check}: a floor with fewer digits");
    assert_eq!(reserve(10, floor(20)).await, Some(31), "{check}: a floor below the counter");
    assert_eq!(reserve(10, floor(100)).await, Some(110), "{check}: a floor above the counter");
    assert_eq!(reserve(10, floor(-5)).await, Some(120), "{check}: a floor below zero");
    let wide = reserve(50, None).await;
    assert_eq!(wide, Some(170), "{check}: a larger block");
    let leapt = reserve(10, Some(IdFloor { above: 5, leap: true })).await;
    assert_eq!(leapt, Some(170 + 50 * IdFloor::LEAP + 10), "{check}: blocks of the largest size are left out");
    let blocks = join_all((0..50).map(|_| reserve(7, None))).await;
    let mut blocks: Vec<i64> = blocks.into_iter().flatten().collect();
    blocks.sort_unstable();
    let expected: Vec<i64> = (1..=50).map(|n| leapt.unwrap_or(0) + 7 * n).collect();
    assert_eq!(blocks, expected, "{check}: 50 at the same time");

    let eight = Arc::new(Scope::new(four.namespace.clone(), four.entity, 8));
    let wide = Bench::of(buffer, check, Registration::new(eight, Format::Json)).await;
    let last = wide.done("reserve ids", wide.space.reserve_ids(1, None).await);
    assert_eq!(last, leapt.map(|last| last + 351), "{check}: after a new layout");
    // Above what a float can count.
    let high = i64::MAX - 1_001;
    assert_eq!(wide.done("reserve ids", wide.space.reserve_ids(1, floor(high)).await), Some(high + 1), "{check}: high");
    assert_eq!(
        wide.done("reserve ids", wide.space.reserve_ids(1_000, None).await),
        Some(i64::MAX),
        "{check}: the last"
    );
    assert!(wide.space.reserve_ids(1, None).await.is_err(), "{check}: the counter passes its end");
}
