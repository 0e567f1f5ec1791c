//! What waits and nobody flushes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{Bench, HERE, KEEP, LONG, OWNER, PARTITIONS, id, scope, step};
use crate::buffer::{Buffer, DeadLetter, Orphan, Registration, Topology};
use crate::entity::codec::Format;
use crate::telemetry::scope::Scope;

/// Records of an entity that the caller does not have, and that has no worker which is alive, are named and counted; so are
/// dead letters. They are not while a worker of it is alive, nor what the caller has itself.
///
/// # Panics
/// When they are not, or when something else is.
pub async fn names_what_nobody_flushes(buffer: &(impl Buffer + ?Sized)) {
    let check = "names what nobody flushes";
    let scope = scope(PARTITIONS);
    let other = Arc::new(Scope::new(scope.namespace.clone(), "other", 2));
    let registration = Registration::new(scope.clone(), Format::Json);
    let topology = registration.topology();
    let left = Bench::of(buffer, check, registration).await;
    let mine = Bench::of(buffer, check, Registration::new(other.clone(), Format::Json)).await;
    let own = BTreeMap::from([(other.entity, Registration::new(other, Format::Json).topology())]);
    let mut both = own.clone();
    both.insert(scope.entity, topology.clone());
    let found = async |own: &BTreeMap<&'static str, Topology>| {
        mine.done("orphans", buffer.orphans(&scope.namespace, own).await)
    };
    mine.put(&[("m", "1")]).await;
    assert_eq!(found(&own).await, [], "{check}: nothing waits");

    left.put(&[("a", "1"), ("b", "2"), ("c", "3")]).await;
    let orphan = |dirty, letters| Orphan::new(scope.entity, topology.clone(), true, dirty, letters);
    assert_eq!(found(&own).await, [orphan(3, 0)], "{check}: open");
    assert_eq!(found(&both).await, [], "{check}: the caller's own");
    left.own().await;
    let epoch = left.rotated().await;
    left.put(&[("d", "4")]).await;
    assert_eq!(found(&own).await, [orphan(4, 0)], "{check}: closed and open");
    let letter = DeadLetter::new(&super::record("1"), "rejected", "no".into(), 1, 1, 1);
    left.done("bury", left.space.bury(&step(OWNER, epoch), &[(id("a"), letter)]).await);
    assert_eq!(found(&own).await, [orphan(3, 1)], "{check}: a dead letter");

    left.done("heartbeat", left.space.heartbeat(OWNER, LONG).await);
    assert_eq!(found(&own).await, [], "{check}: a worker of it is alive");
    left.done("retire", left.space.retire(OWNER).await);
    assert_eq!(found(&own).await, [orphan(3, 1)], "{check}: the worker is gone");
    left.done("heartbeat", left.space.heartbeat(OWNER, Duration::from_millis(1)).await);
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert_eq!(found(&own).await, [orphan(3, 1)], "{check}: the worker is dead");
    left.done("release", left.space.release(&[HERE], OWNER).await);
    left.own().await;
    left.ack(epoch, &["b", "c"], KEEP).await;
    assert_eq!(found(&own).await, [orphan(1, 1)], "{check}: two are flushed");
    left.done("discard", left.space.discard(HERE, &[id("a")]).await);
    let epoch = left.rotated().await;
    left.ack(epoch, &["d"], KEEP).await;
    assert_eq!(found(&own).await, [], "{check}: nothing is left");
}
