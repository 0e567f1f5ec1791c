//! Leases.

use std::time::Duration;

use tokio::time::Instant;

use super::{Bench, LONG, OTHER, OWNER, PATIENCE};
use crate::buffer::{Buffer, Rotation};

/// One worker at a time holds a partition, until it gives it up; partitions are held one by one.
///
/// # Panics
/// When two hold it, or nobody can.
pub async fn leases_exclude(buffer: &(impl Buffer + ?Sized)) {
    let bench = Bench::open(buffer, "leases exclude").await;
    assert_eq!(bench.take(OWNER, LONG).await, [true], "{}: free", bench.check);
    assert_eq!(bench.take(OTHER, LONG).await, [false], "{}: held", bench.check);
    assert_eq!(bench.take(OWNER, LONG).await, [true], "{}: renewed", bench.check);
    let all = bench.done("take", bench.space.take(&[0, 1, 2, 3], OTHER, LONG).await);
    assert_eq!(all, [true, false, true, true], "{}: one by one", bench.check);
    // Giving up what another holds changes nothing.
    bench.release(OTHER).await;
    assert_eq!(bench.take(OTHER, LONG).await, [false], "{}: still held", bench.check);
    bench.release(OWNER).await;
    assert_eq!(bench.take(OTHER, LONG).await, [true], "{}: given up", bench.check);
    assert_eq!(bench.take(OWNER, LONG).await, [false], "{}: the other's now", bench.check);
    let none = bench.done("take", bench.space.take(&[], OTHER, LONG).await);
    assert!(none.is_empty(), "{}: nothing taken", bench.check);
}

/// A lease ends with its TTL unless it is renewed; whoever lost it cannot rotate.
///
/// # Panics
/// When it ends earlier, or never.
pub async fn leases_end(buffer: &(impl Buffer + ?Sized)) {
    let bench = Bench::open(buffer, "leases end").await;
    bench.put(&[("a", "1")]).await;
    let ttl = Duration::from_millis(300);
    // Renewed several times over its own length.
    let begun = Instant::now();
    let mut renewed = begun;
    assert_eq!(bench.take(OWNER, ttl).await, [true], "{}: free", bench.check);
    while begun.elapsed() < 2 * ttl {
        // A machine that stalls for a lease's length proves nothing about the buffer.
        let (before, taken) = (renewed, bench.take(OTHER, ttl).await);
        if before.elapsed() < ttl {
            assert_eq!(taken, [false], "{}: renewed, not free", bench.check);
        } else if taken == [true] {
            bench.release(OTHER).await;
        }
        renewed = Instant::now();
        assert_eq!(bench.take(OWNER, ttl).await, [true], "{}: renewed", bench.check);
        tokio::time::sleep(ttl / 6).await;
    }
    while bench.take(OTHER, ttl).await != [true] {
        assert!(renewed.elapsed() < PATIENCE, "{}: the lease never ends", bench.check);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // The server's clock ticks in milliseconds.
    assert!(renewed.elapsed() + Duration::from_millis(2) >= ttl, "{}: ended early", bench.check);
    assert_eq!(bench.rotate(OWNER).await, Rotation::NotOwner, "{}: lost", bench.check);
    assert_eq!(bench.take(OTHER, LONG).await, [true], "{}: renewed for long", bench.check);
    assert_eq!(bench.rotate(OTHER).await, Rotation::Epoch(1), "{}: held", bench.check);
}
