//! A Redis that is full refuses writes, and workers empty it all the same. On a server of its own, which is small.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use write_behind::buffer::{
    Attempts, Clean, DeadLetter, Done, Holder, Lineage, Lookup, Registration, Rotation, Stamp, Step,
};
use write_behind::{Buffer, BufferErrorKind, Format, Id, Record, RedisBuffer, Scope, Write};
use write_behind_tests::OwnRedis;

#[tokio::test]
async fn p7_a_full_redis_is_emptied_by_its_workers() {
    // What has a TTL may be evicted under the others.
    for policy in ["noeviction", "volatile-lru", "volatile-lfu", "volatile-ttl", "volatile-random"] {
        println!("{policy}");
        let settings = ["--save", "", "--appendonly", "no", "--maxmemory-policy", policy];
        let Some(server) = OwnRedis::start(&settings).await else { return };
        is_emptied(&server).await;
    }
}

async fn is_emptied(server: &OwnRedis) {
    let buffer = RedisBuffer::connect(&server.url()).await.unwrap();
    let scope = Arc::new(Scope::new("small", "specimen", 1));
    let space = buffer.space(Registration::new(scope, Format::Json)).await.unwrap();
    let mut registration = Registration::new(Arc::new(Scope::new("small", "limited", 1)), Format::Json);
    registration.max_dirty = Some(1_000_000);
    let limited = buffer.space(registration).await.unwrap();
    let id = |n: u32| Id::of(&n).unwrap();
    let write = |n: u32| Write { partition: 0, id: id(n), record: Record::from_bytes(vec![b'x'; 1_000]) };
    for n in 0..1_000 {
        space.put(vec![write(n)]).await.unwrap();
    }
    let mut admin = server.plain().await;
    redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg("1mb").exec_async(&mut admin).await.unwrap();
    let refused = space.put(vec![write(1_001)]).await.unwrap_err();
    assert_eq!(refused.kind(), BufferErrorKind::Full, "{refused}");
    let refused = limited.put(vec![write(1), write(2)]).await.unwrap_err();
    assert_eq!(refused.kind(), BufferErrorKind::Full, "far from its limit: {refused}");
    assert_eq!(limited.get(0, &[id(1), id(2)]).await.unwrap(), [Lookup::Absent, Lookup::Absent]);
    // The watch of what Redis has goes on.
    assert_eq!(space.lineage().await.unwrap(), Lineage::Unbroken);
    assert_eq!(space.lineage().await.unwrap(), Lineage::Unbroken);

    let ttl = Duration::from_secs(60);
    assert_eq!(space.take(&[0], "worker", ttl).await.unwrap(), [true]);
    assert_eq!(space.take(&[0], "worker", ttl).await.unwrap(), [true]);
    let roll = space.heartbeat("worker", ttl).await.unwrap();
    assert_eq!((roll.workers, roll.leases), (vec!["worker".to_owned()], vec![Holder::Caller]));
    space.retire("worker").await.unwrap();
    let Rotation::Epoch(epoch) = space.rotate(0, "worker", Stamp::default()).await.unwrap() else {
        panic!("nothing to flush")
    };
    let status = space.status(0).await.unwrap();
    assert_eq!((status.open_epoch, status.flushing), (epoch + 1, 1_000), "rotated whole");
    let step = Step { partition: 0, owner: "worker", epoch, stamp: Stamp::default() };
    let letter = DeadLetter::new(&Record::from_bytes("x"), "rejected", "no".to_owned(), 1, 1, 1);
    assert_eq!(space.bury(&step, &[(id(0), letter)]).await.unwrap(), Done::More);
    let attempts = Attempts { count: 1, first_ms: 1, ..Attempts::default() };
    assert_eq!(space.back(&step, &[(id(1), attempts)]).await.unwrap(), Done::More);
    let rest: Vec<Id> = (2..1_000).map(id).collect();
    let clean = Clean { ttl: Duration::from_millis(1), negative_ttl: Duration::from_millis(1) };
    assert_eq!(space.ack(&step, &rest, clean).await.unwrap(), Done::Epoch);
    // Room again: the records went with their clean copies, and the server's own share of memory is not theirs.
    redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg("8mb").exec_async(&mut admin).await.unwrap();
    space.put(vec![write(1_001)]).await.unwrap();
    buffer.close().await;
}
