//! Topology and the end.

use std::sync::Arc;

use super::{Bench, HERE, KEEP, LONG, OWNER, PARTITIONS, clean, id, ids, record, scope, step};
use crate::buffer::record::Write;
use crate::buffer::{Buffer, DeadLetter, Done, Guarded, Lookup, Mark, Registration, Stamp, Stored, Token};
use crate::entity::codec::Format;
use crate::error::buffer::BufferErrorKind;
use crate::telemetry::scope::Scope;

impl Bench {
    /// Takes [`HERE`] for [`OWNER`], perhaps again; also in a layout in which it means nothing.
    async fn own_again(&self) {
        let _ = self.space.take(&[HERE], OWNER, LONG).await;
    }
}

/// Partitions and format cannot change while anything is dirty, and the error names both sides; when nothing is, they
/// can, and clean copies of the old layout are gone for good.
///
/// # Panics
/// When they change under dirty records, or an old copy comes back.
pub async fn topology_is_fixed_while_dirty(buffer: &(impl Buffer + ?Sized)) {
    let check = "topology is fixed while dirty";
    let four = scope(PARTITIONS);
    let eight = Arc::new(Scope::new(four.namespace.clone(), four.entity, 8));
    let bench = Bench::of(buffer, check, Registration::new(four.clone(), Format::Json)).await;
    bench.put(&[("a", "1")]).await;
    let refused = async |when: &str| {
        for (scope, format, word) in
            [(&eight, Format::Json, "partitions=8"), (&four, Format::MessagePack, "format=msgpack")]
        {
            match buffer.space(Registration::new(scope.clone(), format)).await {
                Ok(_) => panic!("{check}: {when}: {word} is accepted"),
                Err(error) => {
                    assert_eq!(error.kind(), BufferErrorKind::Topology, "{check}: {when}: {error}");
                    let text = error.to_string();
                    for side in ["partitions=4", "format=json", word] {
                        assert!(text.contains(side), "{check}: {when}: `{text}` does not name {side}");
                    }
                }
            }
        }
    };
    refused("while open").await;
    // The same topology again is no change.
    let again = Bench::of(buffer, check, Registration::new(four.clone(), Format::Json)).await;
    again.sees("a", super::dirty("1")).await;
    bench.own().await;
    let epoch = bench.rotated().await;
    refused("while flushing").await;
    bench.ack(epoch, &["a"], KEEP).await;
    bench.sees("a", clean("1")).await;

    let wide = Bench::of(buffer, check, Registration::new(eight.clone(), Format::Json)).await;
    for partition in 0..8 {
        let found = wide.done("get", wide.space.get(partition, &[id("a")]).await);
        assert_eq!(found, [Lookup::Absent], "{check}: an old copy in partition {partition}");
    }
    let there = vec![Write { partition: 7, id: id("a"), record: record("2") }];
    wide.done("put", wide.space.put(there).await);
    assert_eq!(wide.done("take", wide.space.take(&[7], OWNER, LONG).await), [true], "{check}: the last partition");
    let epoch = match wide.done("rotate", wide.space.rotate(7, OWNER, crate::buffer::Stamp::default()).await) {
        crate::buffer::Rotation::Epoch(epoch) => epoch,
        other => panic!("{check}: the last partition: {other:?}"),
    };
    let step = crate::buffer::Step { partition: 7, ..step(OWNER, epoch) };
    wide.done("ack", wide.space.ack(&step, &[id("a")], KEEP).await);

    // Back to the old layout: what was clean there before must not be read.
    let back = Bench::of(buffer, check, Registration::new(four, Format::Json)).await;
    back.sees("a", Lookup::Absent).await;
}

/// A space of a topology that is not the stored one any more reads and writes nothing, whatever is asked of it; when the
/// topology is its own again, it goes on, without anything of its earlier life.
///
/// # Panics
/// When it is served, or leaves something behind, or does not go on.
pub async fn p1_a_topology_that_is_left_is_sealed(buffer: &(impl Buffer + ?Sized)) {
    let check = "a topology that is left is sealed";
    let four = Registration::new(scope(PARTITIONS), Format::Json);
    let eight = Arc::new(Scope::new(four.scope.namespace.clone(), four.scope.entity, 8));
    let old = Bench::of(buffer, check, four.clone()).await;
    old.own().await;
    let epoch = old.closed(&[("a", "1")]).await;
    old.ack(epoch, &["a"], KEEP).await;
    let late = Token::fresh();
    assert!(
        old.done("token", old.space.token(HERE, &id("late"), &late, None, LONG).await),
        "{check}: nothing is there"
    );
    let new = Bench::of(buffer, check, Registration::new(eight, Format::Json)).await;

    let here = [id("a")];
    let write = || Write { partition: HERE, id: id("a"), record: record("2") };
    let guarded = [Guarded { write: write(), expected: None }];
    old.own_again().await;
    let answers = [
        ("put", old.space.put(vec![write()]).await.err()),
        ("get", old.space.get(HERE, &here).await.err()),
        ("swap", old.space.swap(&Stored::written(record("1")), &write()).await.err()),
        ("transact", old.space.transact(Mark::fresh(), &guarded).await.err()),
        ("get_together", old.space.get_together(&[(HERE, here.to_vec())]).await.err()),
        ("token", old.space.token(HERE, &id("b"), &Token::fresh(), None, LONG).await.err()),
        ("fill", old.space.fill(HERE, &id("late"), &late, &Stored::written(record("1")), LONG).await.err()),
        ("rotate", old.space.rotate(HERE, OWNER, Stamp::default()).await.err()),
        ("look", old.space.look(HERE, &here).await.err()),
        ("pending", old.space.pending(&[HERE]).await.err()),
        ("status", old.space.status(HERE).await.err()),
        ("confirm", old.space.confirm().await.err()),
        ("put, after all that", old.space.put(vec![write()]).await.err()),
    ];
    for (verb, error) in answers {
        let Some(error) = error else { panic!("{check}: {verb} is served") };
        assert_eq!(error.kind(), BufferErrorKind::Topology, "{check}: {verb}: {error}");
        let text = error.to_string();
        assert!(text.contains("partitions=4") && text.contains("partitions=8"), "{check}: {verb}: {text}");
    }
    new.put(&[("a", "2")]).await;
    new.sees("a", super::dirty("2")).await;
    new.own().await;
    let epoch = new.rotated().await;
    new.ack(epoch, &["a"], KEEP).await;

    // The same space goes on. What is clean is of the other layout now, and what was clean here is old.
    buffer.agree(&[four]).await.unwrap_or_else(|error| panic!("{check}: back: {error}"));
    old.done("confirm", old.space.confirm().await);
    old.sees("a", Lookup::Absent).await;
    let filled = old.space.fill(HERE, &id("late"), &late, &Stored::written(record("1")), LONG).await;
    assert!(!old.done("fill", filled), "{check}: a load of its earlier life");
    old.own_again().await;
    let epoch = old.closed(&[("a", "3")]).await;
    assert_eq!(old.ack(epoch, &["a"], KEEP).await, Done::Epoch, "{check}: it flushes again");
    old.sees("a", clean("3")).await;
    assert!(new.space.put(vec![write()]).await.is_err(), "{check}: the other one is sealed now");
}

/// A topology with dead letters does not change: they would stay behind, and replay older states later. The error says how many.
///
/// # Panics
/// When it changes.
pub async fn p3_a_topology_with_dead_letters_does_not_change(buffer: &(impl Buffer + ?Sized)) {
    let check = "a topology with dead letters does not change";
    let four = Registration::new(scope(PARTITIONS), Format::Json);
    let eight =
        Registration::new(Arc::new(Scope::new(four.scope.namespace.clone(), four.scope.entity, 8)), Format::Json);
    let bench = Bench::of(buffer, check, four.clone()).await;
    bench.own().await;
    let epoch = bench.closed(&[("a", "1"), ("b", "1")]).await;
    let letters = ["a", "b"].map(|key| (id(key), DeadLetter::new(&record("1"), "rejected", "no".into(), 1, 1, 1)));
    bench.done("bury", bench.space.bury(&step(OWNER, epoch), &letters).await);
    for asked in [buffer.agree(std::slice::from_ref(&eight)).await.err(), buffer.space(eight.clone()).await.err()] {
        let Some(error) = asked else { panic!("{check}: it changes") };
        assert_eq!(error.kind(), BufferErrorKind::Topology, "{check}: {error}");
        assert!(error.to_string().contains("2 dead letters"), "{check}: {error}");
    }
    bench.done("confirm", bench.space.confirm().await);
    assert_eq!(bench.done("discard", bench.space.discard(HERE, &ids(&["a", "b"])).await), 2, "{check}");
    Bench::of(buffer, check, eight).await;
}

/// After `close` a write fails as [`BufferErrorKind::Closed`]; those acknowledged before are kept. The last check: the
/// buffer is over afterwards.
///
/// # Panics
/// When a write is accepted, or fails as something else.
pub async fn closes(buffer: &(impl Buffer + ?Sized)) {
    let bench = Bench::open(buffer, "closes").await;
    bench.put(&[("a", "1")]).await;
    buffer.close().await;
    for count in [1, 2] {
        let writes = (0..count).map(|n| Write { partition: HERE, id: id(format!("late {n}")), record: record("2") });
        match bench.space.put(writes.collect()).await {
            Ok(()) => panic!("{}: a write is accepted", bench.check),
            Err(error) => assert_eq!(error.kind(), BufferErrorKind::Closed, "{}: {error}", bench.check),
        }
    }
    bench.sees("a", super::dirty("1")).await;
    bench.sees("late 0", Lookup::Absent).await;
    // Closing again is no harm.
    buffer.close().await;
}
