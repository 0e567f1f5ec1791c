//! rotate and claim.

use std::collections::BTreeMap;

use super::{Bench, HERE, KEEP, LONG, OTHER, OWNER, dirty, id, ids, record, step};
use crate::buffer::record::{Record, Write};
use crate::buffer::{Attempts, Buffer, DeadLetter, Done, Rotation, Stamp, Status, Step};
use crate::entity::key::Id;

/// Only the holder of the lease closes an epoch.
///
/// # Panics
/// When somebody else does, or the owner cannot.
pub async fn rotates_for_the_owner_only(buffer: &(impl Buffer + ?Sized)) {
    let bench = Bench::open(buffer, "rotates for the owner only").await;
    bench.put(&[("a", "1")]).await;
    assert_eq!(bench.rotate(OWNER).await, Rotation::NotOwner, "{}: nobody holds the lease", bench.check);
    bench.own().await;
    assert_eq!(bench.rotate(OTHER).await, Rotation::NotOwner, "{}: another holds the lease", bench.check);
    bench.sees("a", dirty("1")).await;
    assert_eq!(bench.status().await.open, 1, "{}: nothing was rotated", bench.check);
    assert_eq!(bench.rotate(OWNER).await, Rotation::Epoch(1), "{}: the owner rotates", bench.check);
    bench.sees("a", dirty("1")).await;
}

/// Rotating an empty partition finds nothing; rotating again before the epoch is flushed gives the same epoch.
///
/// # Panics
/// When an epoch is left behind or skipped.
pub async fn rotates_once_until_flushed(buffer: &(impl Buffer + ?Sized)) {
    let bench = Bench::open(buffer, "rotates once until flushed").await;
    bench.own().await;
    assert_eq!(bench.rotate(OWNER).await, Rotation::Empty, "{}: nothing is dirty", bench.check);
    assert_eq!(bench.closed(&[("a", "1"), ("b", "1")]).await, 1, "{}: the first epoch", bench.check);
    bench.put(&[("c", "1")]).await;
    assert_eq!(bench.rotate(OWNER).await, Rotation::Epoch(1), "{}: not flushed yet", bench.check);
    assert_eq!(bench.ack(1, &["a"], KEEP).await, Done::More, "{}: one of two", bench.check);
    assert_eq!(bench.rotate(OWNER).await, Rotation::Epoch(1), "{}: one is left", bench.check);
    assert_eq!(bench.claim(10).await.into_keys().collect::<Vec<_>>(), ids(&["b"]), "{}: what is left", bench.check);
    // The next owner goes on with it.
    bench.release(OWNER).await;
    assert_eq!(bench.take(OTHER, LONG).await, [true], "{}: the lease is free", bench.check);
    assert_eq!(bench.rotate(OTHER).await, Rotation::Epoch(1), "{}: the next owner goes on", bench.check);
    let done = bench.done("ack", bench.space.ack(&step(OTHER, 1), &ids(&["b"]), KEEP).await);
    assert_eq!(done, Done::Epoch, "{}: the last one", bench.check);
    assert_eq!(bench.rotate(OTHER).await, Rotation::Epoch(2), "{}: the second epoch", bench.check);
    assert_eq!(bench.claim(10).await.into_keys().collect::<Vec<_>>(), ids(&["c"]), "{}: its records", bench.check);
}

/// A write that lands while its key is being flushed stays dirty.
///
/// # Panics
/// When the ack of the older state clears it.
pub async fn p4_a_write_after_rotation_survives_the_ack(buffer: &(impl Buffer + ?Sized)) {
    let bench = Bench::open(buffer, "a write after rotation survives the ack").await;
    bench.own().await;
    let epoch = bench.closed(&[("a", "old"), ("b", "old"), ("c", "old")]).await;
    bench.put(&[("a", "new"), ("b", "")]).await;
    bench.sees("a", dirty("new")).await;
    bench.sees("c", dirty("old")).await;
    let claimed = bench.claim(10).await;
    assert_eq!(claimed.get(&id("a")), Some(&record("old")), "{}: the epoch is closed", bench.check);
    assert_eq!(bench.ack(epoch, &["a", "b", "c"], KEEP).await, Done::Epoch, "{}: ack", bench.check);
    bench.sees("a", dirty("new")).await;
    bench.sees("b", dirty("")).await;
    let next = bench.rotated().await;
    assert_eq!(next, epoch + 1, "{}: the newer states are the next epoch", bench.check);
    let expected = BTreeMap::from([(id("a"), record("new")), (id("b"), Record::tombstone())]);
    assert_eq!(bench.claim(10).await, expected, "{}: the newer states are flushed", bench.check);
}

/// Pages together are the epoch as it was at the rotation, although records are acked and overwritten between pages.
///
/// # Panics
/// When a record is missing, or a later state is in it.
pub async fn p13_pages_are_the_cut(buffer: &(impl Buffer + ?Sized)) {
    let bench = Bench::open(buffer, "pages are the cut").await;
    let keys: Vec<String> = (0..5_000).map(|n| format!("key {n}")).collect();
    let write = |key: &String, value: &str| Write { partition: HERE, id: id(key), record: record(value) };
    bench.done("put", bench.space.put(keys.iter().map(|key| write(key, key)).collect()).await);
    bench.own().await;
    let epoch = bench.rotated().await;
    let expected: BTreeMap<Id, Record> = keys.iter().map(|key| (id(key), record(key))).collect();
    // Without removal first: small pages, all records.
    assert!(bench.claim(37).await == expected, "{}: a scan without removal", bench.check);

    let (mut seen, mut cursor, mut unacked) = (BTreeMap::new(), 0, Vec::new());
    loop {
        let page = bench.done("claim", bench.space.claim(HERE, cursor, 37).await);
        assert!(page.records.len() < keys.len() / 4, "{}: a page is a page", bench.check);
        bench.done("put", bench.space.put(keys.iter().step_by(997).map(|key| write(key, "later")).collect()).await);
        // What was read two pages ago is in the sink now; it shrinks the epoch under the scan.
        // A page may name a record again; a worker settles it once.
        let fresh = page.records.iter().map(|(id, _)| id).filter(|id| !seen.contains_key(*id));
        unacked.push(fresh.cloned().collect::<Vec<_>>());
        if unacked.len() > 2 {
            bench.done("ack", bench.space.ack(&step(OWNER, epoch), &unacked.remove(0), KEEP).await);
        }
        seen.extend(page.records);
        cursor = page.cursor;
        if cursor == 0 {
            break;
        }
    }
    assert_eq!(seen.len(), expected.len(), "{}: a scan with removal misses records", bench.check);
    assert!(seen == expected, "{}: a scan with removal reads other states", bench.check);
    let last = unacked.concat();
    let done = bench.done("ack", bench.space.ack(&step(OWNER, epoch), &last, KEEP).await);
    assert_eq!(done, Done::Epoch, "{}: all are acked", bench.check);
}

/// ack, back and bury do nothing for whoever lost the lease, and nothing for an epoch that is not the closed one.
///
/// # Panics
/// When anything moves.
pub async fn refuses_strangers(buffer: &(impl Buffer + ?Sized)) {
    let bench = Bench::open(buffer, "refuses strangers").await;
    bench.own().await;
    let first = bench.closed(&[("a", "1")]).await;
    bench.ack(first, &["a"], KEEP).await;
    let epoch = bench.closed(&[("a", "2"), ("b", "2")]).await;
    let attempts = Attempts { count: 1, first_ms: 5, ..Attempts::default() };
    let letter = DeadLetter::new(&record("2"), "rejected", "no".to_owned(), 1, 5, 5);
    for (who, epoch, why) in
        [(OTHER, epoch, "another owner"), (OWNER, first, "an older epoch"), (OWNER, epoch + 1, "the open epoch")]
    {
        let step = step(who, epoch);
        let done = bench.done("ack", bench.space.ack(&step, &ids(&["a"]), KEEP).await);
        assert_eq!(done, Done::NotOwner, "{}: ack by {why}", bench.check);
        let done = bench.done("back", bench.space.back(&step, &[(id("a"), attempts)]).await);
        assert_eq!(done, Done::NotOwner, "{}: back by {why}", bench.check);
        let done = bench.done("bury", bench.space.bury(&step, &[(id("a"), letter.clone())]).await);
        assert_eq!(done, Done::NotOwner, "{}: bury by {why}", bench.check);
    }
    // The lease is gone, the name is the same.
    bench.release(OWNER).await;
    assert_eq!(bench.ack(epoch, &["a"], KEEP).await, Done::NotOwner, "{}: ack without a lease", bench.check);
    bench.sees("a", dirty("2")).await;
    let status = bench.status().await;
    assert_eq!((status.open, status.flushing, status.dead), (0, 2, 0), "{}: nothing moved", bench.check);
    assert_eq!(status.flushed_epoch, first, "{}: nothing ended", bench.check);
}

/// The status says where a partition stands, at every step.
///
/// # Panics
/// When a number is wrong.
pub async fn counts_where_it_stands(buffer: &(impl Buffer + ?Sized)) {
    let bench = Bench::open(buffer, "counts where it stands").await;
    let stands = async |when: &str, open_epoch, flushed_epoch, open, flushing, dead| {
        let expected = Status { open_epoch, flushed_epoch, vanished_epoch: 0, open, flushing, dead, missing: 0 };
        assert_eq!(bench.status().await, expected, "{}: {when}", bench.check);
        let pending = bench.done("pending", bench.space.pending(&[HERE]).await).pending;
        let found: Vec<_> = pending.iter().map(|found| (found.partition, found.open, found.flushing)).collect();
        let expected = if open + flushing > 0 { vec![(HERE, open, flushing)] } else { Vec::new() };
        assert_eq!(found, expected, "{}: pending {when}", bench.check);
        // Before the first rotation nobody knows since when.
        assert!(
            pending.iter().all(|found| found.age.is_some() == (open_epoch > 1)),
            "{}: {pending:?} {when}",
            bench.check
        );
    };
    stands("at first", 1, 0, 0, 0, 0).await;
    bench.put(&[("a", "1"), ("b", ""), ("c", "1")]).await;
    bench.put(&[("a", "2")]).await;
    stands("after put", 1, 0, 3, 0, 0).await;
    bench.own().await;
    bench.rotated().await;
    stands("after rotate", 2, 0, 0, 3, 0).await;
    bench.put(&[("a", "3")]).await;
    stands("after put while flushing", 2, 0, 1, 3, 0).await;
    bench.ack(1, &["a"], KEEP).await;
    stands("after ack", 2, 0, 1, 2, 0).await;
    let attempts = Attempts { count: 1, first_ms: 5, ..Attempts::default() };
    let done = bench.done("back", bench.space.back(&step(OWNER, 1), &[(id("b"), attempts)]).await);
    assert_eq!(done, Done::More, "{}: one is left", bench.check);
    stands("after back", 2, 0, 2, 1, 0).await;
    let letter = DeadLetter::new(&record("1"), "rejected", "no".to_owned(), 1, 5, 5);
    let done = bench.done("bury", bench.space.bury(&step(OWNER, 1), &[(id("c"), letter)]).await);
    assert_eq!(done, Done::Epoch, "{}: none is left", bench.check);
    stands("after bury", 2, 1, 2, 0, 1).await;
    bench.rotated().await;
    stands("after the second rotate", 3, 1, 0, 2, 1).await;
    bench.ack(2, &["a", "b"], KEEP).await;
    stands("at last", 3, 2, 0, 0, 1).await;
    bench.sees("c", super::clean("1")).await;
}

/// A step that carries the stamp of an earlier rotation does nothing, though lease and number are right: the buffer may
/// have lost its data in between, and count epochs from anew.
///
/// # Panics
/// When it does something.
pub async fn p4_steps_of_an_earlier_rotation_do_nothing(buffer: &(impl Buffer + ?Sized)) {
    let bench = Bench::open(buffer, "steps of an earlier rotation").await;
    bench.own().await;
    let epoch = bench.closed(&[("a", "1"), ("b", "1"), ("c", "1")]).await;
    let now = Stamp::fresh();
    assert_eq!(bench.done("rotate", bench.space.rotate(HERE, OWNER, now).await), Rotation::Epoch(epoch));
    assert_eq!(bench.ack(epoch, &["a"], KEEP).await, Done::NotOwner, "{}: ack", bench.check);
    assert_eq!(bench.status().await.flushing, 3, "{}: nothing was taken out", bench.check);
    let step = Step { stamp: now, ..step(OWNER, epoch) };
    assert_eq!(bench.done("ack", bench.space.ack(&step, &ids(&["a", "b", "c"]), KEEP).await).done, Done::Epoch);
}
