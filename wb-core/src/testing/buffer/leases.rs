//! Leases.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Bench, HERE, LONG, OTHER, OWNER, PARTITIONS, PATIENCE, scope};
use crate::buffer::{Buffer, Holder, Registration, Roll, Rotation};
use crate::entity::codec::Format;
use crate::error::buffer::BufferErrorKind;
use crate::telemetry::scope::Scope;

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

impl Bench {
    async fn heartbeat(&self, worker: &str, ttl: Duration) -> Roll {
        let roll = self.done("heartbeat", self.space.heartbeat(worker, ttl).await);
        assert_eq!(roll.leases.len(), usize::from(PARTITIONS), "{}: one answer a partition", self.check);
        roll
    }

    async fn retire(&self, worker: &str) {
        self.done("retire", self.space.retire(worker).await);
    }
}

/// Workers of an entity see each other from their first heartbeat until they retire, or send none for as long as they
/// said that they live.
///
/// # Panics
/// When somebody is missing, or a ghost.
pub async fn heartbeats_list_the_living(buffer: &(impl Buffer + ?Sized)) {
    let check = "heartbeats list the living";
    let mine = scope(PARTITIONS);
    let other = Arc::new(Scope::new(mine.namespace.clone(), "neighbour", PARTITIONS));
    let bench = Bench::of(buffer, check, Registration::new(mine, Format::Json)).await;
    let neighbour = Bench::of(buffer, check, Registration::new(other, Format::Json)).await;
    assert_eq!(bench.heartbeat(OWNER, LONG).await.workers, [OWNER], "{check}: alone");
    assert_eq!(bench.heartbeat(OTHER, LONG).await.workers, [OWNER, OTHER], "{check}: sorted");
    assert_eq!(neighbour.heartbeat("neighbour", LONG).await.workers, ["neighbour"], "{check}: each entity has its own");
    bench.retire(OTHER).await;
    bench.retire("nobody").await;
    neighbour.retire(OWNER).await;
    assert_eq!(bench.heartbeat(OWNER, LONG).await.workers, [OWNER], "{check}: retired, from one entity");
    // One that lives short beside one that lives long: each is judged by what it said itself.
    let ttl = Duration::from_millis(300);
    // Before it is sent: the answer may be late.
    let begun = Instant::now();
    assert_eq!(bench.heartbeat(OTHER, ttl).await.workers, [OWNER, OTHER], "{check}: back");
    while bench.heartbeat(OWNER, LONG).await.workers != [OWNER] {
        assert!(begun.elapsed() < PATIENCE, "{check}: a worker that is gone never ages out");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // The server's clock ticks in milliseconds.
    assert!(begun.elapsed() + Duration::from_millis(2) >= ttl, "{check}: aged out early");
    assert_eq!(bench.heartbeat(OTHER, ttl).await.workers, [OWNER, OTHER], "{check}: the other one is still there");
}

/// A heartbeat renews what its worker holds, takes nothing, and tells what is free.
///
/// # Panics
/// When it takes, loses or misses a lease.
pub async fn heartbeats_renew(buffer: &(impl Buffer + ?Sized)) {
    let bench = Bench::open(buffer, "heartbeats renew").await;
    let (nobody, caller, other) = (Holder::Nobody, Holder::Caller, Holder::Other);
    assert_eq!(bench.heartbeat(OWNER, LONG).await.leases, [nobody; PARTITIONS as usize], "{}: none taken", bench.check);
    let ttl = Duration::from_millis(300);
    let at = |holder| (0..PARTITIONS).map(|p| if p == HERE { holder } else { nobody }).collect::<Vec<_>>();
    loop {
        let begun = Instant::now();
        assert_eq!(bench.take(OWNER, ttl).await, [true], "{}: free", bench.check);
        // Renewed for longer than it was taken for.
        let renewed = bench.heartbeat(OWNER, LONG).await.leases;
        // A machine that stalls for a lease's length proves nothing about the buffer.
        if begun.elapsed() < ttl {
            assert_eq!(renewed, at(caller), "{}: renewed", bench.check);
            break;
        }
        bench.release(OWNER).await;
    }
    assert_eq!(bench.heartbeat(OTHER, LONG).await.leases, at(other), "{}: another's", bench.check);
    tokio::time::sleep(2 * ttl).await;
    assert_eq!(bench.heartbeat(OTHER, ttl).await.leases, at(other), "{}: renewed, not free", bench.check);
    assert_eq!(bench.take(OTHER, ttl).await, [false], "{}: renewed, not to be taken", bench.check);
    bench.put(&[("a", "1")]).await;
    assert_eq!(bench.rotate(OWNER).await, Rotation::Epoch(1), "{}: held", bench.check);
    // Renewed for shorter: it ends, and does not come back.
    assert_eq!(bench.heartbeat(OWNER, ttl).await.leases, at(caller), "{}: renewed", bench.check);
    let begun = Instant::now();
    while bench.heartbeat(OTHER, LONG).await.leases != at(nobody) {
        assert!(begun.elapsed() < PATIENCE, "{}: the lease never ends", bench.check);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(bench.heartbeat(OWNER, LONG).await.leases, at(nobody), "{}: lost", bench.check);
    assert_eq!(bench.rotate(OWNER).await, Rotation::NotOwner, "{}: lost", bench.check);
}

/// A program that was started with a topology notices that another one holds now.
///
/// # Panics
/// When it does not, or when it does without reason.
pub async fn topology_changes_are_noticed(buffer: &(impl Buffer + ?Sized)) {
    let check = "topology changes are noticed";
    let four = scope(PARTITIONS);
    let eight = Arc::new(Scope::new(four.namespace.clone(), four.entity, 8));
    let old = Bench::of(buffer, check, Registration::new(four.clone(), Format::Json)).await;
    old.done("confirm", old.space.confirm().await);
    let new = Bench::of(buffer, check, Registration::new(eight, Format::Json)).await;
    new.done("confirm", new.space.confirm().await);
    let Err(error) = old.space.confirm().await else { panic!("{check}: not noticed") };
    assert_eq!(error.kind(), BufferErrorKind::Topology, "{check}: {error}");
    let text = error.to_string();
    assert!(
        text.contains("partitions=4") && text.contains("partitions=8"),
        "{check}: `{text}` does not name both sides"
    );
    let again = Bench::of(buffer, check, Registration::new(four, Format::Json)).await;
    again.done("confirm", again.space.confirm().await);
}
