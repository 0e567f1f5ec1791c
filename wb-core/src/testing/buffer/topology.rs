//! Topology and the end.

use std::sync::Arc;

use super::{Bench, HERE, KEEP, LONG, OWNER, PARTITIONS, clean, id, record, scope, step};
use crate::buffer::{Buffer, BufferErrorKind, Lookup, Registration};
use crate::codec::Format;
use crate::record::Write;
use crate::sink::Scope;

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
