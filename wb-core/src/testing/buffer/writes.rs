//! put and get.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::FutureExt;

use super::{Bench, HERE, LONG, OWNER, PARTITIONS, clean, dirty, id, ids, record, scope};
use crate::buffer::flush_trigger::Pressure;
use crate::buffer::record::{Record, Write};
use crate::buffer::{Buffer, Lookup, Pending, Registration, Rotation, Stored};
use crate::entity::codec::Format;

/// What was put is read, the last write wins, a delete is a tombstone, absent keys are absent, one answer per id.
///
/// # Panics
/// When one of them is not so.
pub async fn puts_and_gets(buffer: &(impl Buffer + ?Sized)) {
    let bench = Bench::open(buffer, "puts and gets").await;
    bench.sees("a", Lookup::Absent).await;
    bench.put(&[("a", "1"), ("b", "2")]).await;
    bench.sees("a", dirty("1")).await;
    bench.put(&[("a", "3")]).await;
    bench.sees("a", dirty("3")).await;
    bench.put(&[("b", "")]).await;
    bench.sees("b", Lookup::Dirty(Record::tombstone())).await;
    bench.put(&[("b", "4")]).await;

    let found = bench.done("get", bench.space.get(HERE, &ids(&["b", "none", "a", "b"])).await);
    assert_eq!(found, [dirty("4"), Lookup::Absent, dirty("3"), dirty("4")], "{}: several ids", bench.check);
    let found = bench.done("get of nothing", bench.space.get(HERE, &[]).await);
    assert!(found.is_empty(), "{}: no ids, no answers", bench.check);
    bench.done("put of nothing", bench.space.put(Vec::new()).await);
    let elsewhere = bench.done("get", bench.space.get(HERE + 1, &ids(&["a"])).await);
    assert_eq!(elsewhere, [Lookup::Absent], "{}: partitions are apart", bench.check);
    assert!(bench.space.get(PARTITIONS, &ids(&["a"])).await.is_err(), "{}: a partition that is not", bench.check);
}

/// An id is any byte string but the empty one.
///
/// # Panics
/// When one is lost, or two are taken for one, in any state of the flow.
pub async fn takes_any_bytes_as_id(buffer: &(impl Buffer + ?Sized)) {
    let bench = Bench::open(buffer, "takes any bytes as id").await;
    let long = "k".repeat(10_000);
    let all: Vec<&[u8]> = vec![
        b"42",
        b"042",
        b"4.2e1",
        b" ",
        b"\0",
        b"\0\0",
        b"\r\n",
        b"\xff\xfe\x00\xc1",
        b"a:b",
        b"a\\:b",
        b"{a}",
        b"}",
        b"{",
        b"*",
        b"?",
        b"[a]",
        b"nil",
        b"-1",
        b"\"\"",
        b"r:a",
        b"open",
        "ключ".as_bytes(),
        "鍵🔑".as_bytes(),
        long.as_bytes(),
    ];
    let ids: Vec<_> = all.iter().map(id).collect();
    let payload = |n: usize| record(format!("value {n}"));
    let writes =
        ids.iter().enumerate().map(|(n, id)| Write { partition: HERE, id: id.clone(), record: payload(n) }).collect();
    bench.done("put", bench.space.put(writes).await);
    let expect = |make: fn(Record) -> Lookup| (0..ids.len()).map(|n| make(payload(n))).collect::<Vec<_>>();
    assert_eq!(bench.done("get", bench.space.get(HERE, &ids).await), expect(Lookup::Dirty), "{}: open", bench.check);

    bench.own().await;
    let epoch = bench.rotated().await;
    let claimed = bench.claim(3).await;
    let expected: BTreeMap<_, _> = ids.iter().cloned().enumerate().map(|(n, id)| (id, payload(n))).collect();
    assert_eq!(claimed, expected, "{}: claimed", bench.check);
    bench.done("ack", bench.space.ack(&super::step(OWNER, epoch), &ids, super::KEEP).await);
    assert_eq!(
        bench.done("get", bench.space.get(HERE, &ids).await),
        expect(|record| Lookup::Clean(Stored::written(record))),
        "{}: clean",
        bench.check
    );
}

/// A payload of 1 MiB with every byte in it survives all states, as does one that looks like a number.
///
/// # Panics
/// When a byte is changed.
pub async fn takes_large_payloads(buffer: &(impl Buffer + ?Sized)) {
    let bench = Bench::open(buffer, "takes large payloads").await;
    let large = Record::from_bytes((0..1 << 18).flat_map(u32::to_le_bytes).collect::<Vec<u8>>());
    let number = record("12345678901234567890.10");
    let write = |key, record: &Record| Write { partition: HERE, id: id(key), record: record.clone() };
    bench.done("put", bench.space.put(vec![write("large", &large), write("number", &number)]).await);
    bench.sees("large", Lookup::Dirty(large.clone())).await;
    bench.own().await;
    let epoch = bench.rotated().await;
    assert_eq!(bench.claim(10).await.get(&id("large")), Some(&large), "{}: claimed", bench.check);
    bench.ack(epoch, &["large", "number"], super::KEEP).await;
    bench.sees("large", Lookup::Clean(Stored::written(large))).await;
    bench.sees("number", Lookup::Clean(Stored::written(number))).await;
}

/// Thousands of writes over all partitions in one call; of one id in one call the last wins.
///
/// # Panics
/// When one is missing or an earlier one won.
pub async fn takes_many_writes_in_one_call(buffer: &(impl Buffer + ?Sized)) {
    let bench = Bench::open(buffer, "takes many writes in one call").await;
    let keys = 3_000_u16;
    let mut writes = Vec::new();
    for round in 0..2 {
        for n in 0..keys {
            writes.push(Write {
                partition: n % PARTITIONS,
                id: id(n.to_string()),
                record: record(format!("{n}@{round}")),
            });
        }
    }
    bench.done("put", bench.space.put(writes).await);
    for partition in 0..PARTITIONS {
        let mine: Vec<u16> = (0..keys).filter(|n| n % PARTITIONS == partition).collect();
        let ids: Vec<_> = mine.iter().map(|n| id(n.to_string())).collect();
        let found = bench.done("get", bench.space.get(partition, &ids).await);
        for (n, found) in mine.iter().zip(found) {
            assert_eq!(found, dirty(&format!("{n}@1")), "{}: key {n}", bench.check);
        }
        let status = bench.done("status", bench.space.status(partition).await);
        assert_eq!(status.open, ids.len() as u64, "{}: dirty keys of partition {partition}", bench.check);
    }
    let found = bench.done("pending", bench.space.pending(&[0, 1, 2, 3]).await).pending;
    assert_eq!(found.iter().map(Pending::dirty).sum::<u64>(), u64::from(keys), "{}: dirty keys", bench.check);
    let mut pending: Vec<u16> = found.iter().map(|found| found.partition).collect();
    pending.sort_unstable();
    assert_eq!(pending, [0, 1, 2, 3], "{}: pending", bench.check);
}

/// The registration's pressure counts keys that become dirty, each once.
///
/// # Panics
/// When it wakes too early or not at all.
pub async fn counts_keys_that_become_dirty(buffer: &(impl Buffer + ?Sized)) {
    let pressure = Arc::new(Pressure::new(4));
    let registration =
        Registration { pressure: pressure.clone(), ..Registration::new(scope(PARTITIONS), Format::Json) };
    let bench = Bench::of(buffer, "counts keys that become dirty", registration).await;
    bench.put(&[("a", "1")]).await;
    bench.put(&[("a", "2"), ("b", "1"), ("c", "1")]).await;
    bench.put(&[("b", ""), ("c", "2")]).await;
    assert!(pressure.wait().now_or_never().is_none(), "{}: three keys are dirty, not four", bench.check);
    bench.put(&[("d", "")]).await;
    assert!(pressure.wait().now_or_never().is_some(), "{}: four keys are dirty", bench.check);
    // In the next epoch they become dirty anew.
    pressure.reset();
    bench.own().await;
    bench.rotated().await;
    bench.put(&[("a", "3"), ("b", "3"), ("c", "3"), ("d", "3")]).await;
    assert!(pressure.wait().now_or_never().is_some(), "{}: four keys are dirty again", bench.check);
}

/// Spaces of other namespaces and entities share nothing.
///
/// # Panics
/// When one sees, flushes or locks the other's.
pub async fn keeps_spaces_apart(buffer: &(impl Buffer + ?Sized)) {
    let check = "keeps spaces apart";
    let (one, two) = (Bench::open(buffer, check).await, Bench::open(buffer, check).await);
    one.put(&[("a", "one")]).await;
    two.sees("a", Lookup::Absent).await;
    two.put(&[("a", "two")]).await;
    one.own().await;
    assert_eq!(two.take("another", LONG).await, [true], "{check}: leases");
    assert_eq!(one.rotate(OWNER).await, Rotation::Epoch(1), "{check}: rotate");
    one.ack(1, &["a"], super::KEEP).await;
    one.sees("a", clean("one")).await;
    two.sees("a", dirty("two")).await;
}
