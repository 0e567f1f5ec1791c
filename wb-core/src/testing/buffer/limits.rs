//! The limit of dirty keys.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::future::join_all;

use super::{Bench, HERE, KEEP, OWNER, PARTITIONS, dirty, id, ids, record, scope};
use crate::buffer::record::Write;
use crate::buffer::{Buffer, Lookup, Registration};
use crate::entity::codec::Format;
use crate::error::buffer::BufferErrorKind;
use crate::telemetry::scope::Scope;

fn limited(scope: Arc<Scope>, keys: u64) -> Registration {
    Registration { max_dirty: Some(keys), ..Registration::new(scope, Format::Json) }
}

fn write(partition: u16, key: &str, payload: &str) -> Write {
    Write { partition, id: id(key), record: record(payload) }
}

impl Bench {
    /// Whether these writes are stored; the only other answer is that there is no room.
    async fn gets_in(&self, writes: Vec<Write>) -> bool {
        match self.space.put(writes).await {
            Ok(()) => true,
            Err(error) => {
                assert_eq!(error.kind(), BufferErrorKind::Full, "{}: {error}", self.check);
                false
            }
        }
    }
}

/// At `max_dirty` a new key is refused, in whatever partition, and stays absent; keys that are dirty, open or being
/// flushed, are written and deleted all the same; a flush makes room.
///
/// # Panics
/// When one of them is not so.
pub async fn p7_only_dirty_keys_are_written_at_the_limit(buffer: &(impl Buffer + ?Sized)) {
    let bench = Bench::of(buffer, "only dirty keys are written at the limit", limited(scope(PARTITIONS), 3)).await;
    let check = bench.check;
    bench.put(&[("a", "1"), ("b", "1")]).await;
    assert!(bench.gets_in(vec![write(HERE + 1, "c", "1")]).await, "{check}: three keys of three");
    for (partition, key) in [(HERE, "d"), (HERE + 1, "d"), (HERE + 2, "d"), (HERE + 1, "a")] {
        assert!(!bench.gets_in(vec![write(partition, key, "1")]).await, "{check}: a fourth key, in {partition}");
        // A delete of a key that is not dirty makes it dirty.
        assert!(!bench.gets_in(vec![write(partition, key, "")]).await, "{check}: a fourth key, deleted");
        let found = bench.done("get", bench.space.get(partition, &[id(key)]).await);
        assert_eq!(found, [Lookup::Absent], "{check}: what was refused is not there");
    }
    bench.put(&[("a", "2"), ("b", "")]).await;
    bench.sees("a", dirty("2")).await;
    bench.sees("b", dirty("")).await;

    bench.own().await;
    let epoch = bench.rotated().await;
    assert!(!bench.gets_in(vec![write(HERE, "d", "1")]).await, "{check}: closed epochs are dirty too");
    bench.put(&[("a", "3"), ("b", "3")]).await;
    bench.sees("a", dirty("3")).await;
    assert!(!bench.gets_in(vec![write(HERE, "d", "1")]).await, "{check}: still three keys");
    assert_eq!(bench.ack(epoch, &["a", "b"], KEEP).await, crate::buffer::Done::Epoch, "{check}");
    assert!(!bench.gets_in(vec![write(HERE, "d", "1")]).await, "{check}: a and b are dirty again");
    let epoch = bench.rotated().await;
    bench.ack(epoch, &["a", "b"], KEEP).await;
    bench.sees("d", Lookup::Absent).await;
    assert!(bench.gets_in(vec![write(HERE, "d", "2"), write(HERE + 2, "e", "2")]).await, "{check}: room for two");
    assert!(!bench.gets_in(vec![write(HERE, "a", "4")]).await, "{check}: clean keys are new keys");
    assert_eq!(bench.rotate(OWNER).await, crate::buffer::Rotation::Epoch(epoch + 1), "{check}: d is what is dirty");
    assert_eq!(bench.claim(10).await.into_keys().collect::<Vec<_>>(), ids(&["d"]), "{check}: nothing that was refused");
}

/// Writes of one call are stored all or not at all; keys that are dirty among them do not count, nor does a key twice.
///
/// # Panics
/// When a part of them is stored, or too few are let in.
pub async fn p7_a_call_gets_in_whole_or_not_at_all(buffer: &(impl Buffer + ?Sized)) {
    let bench = Bench::of(buffer, "a call gets in whole or not at all", limited(scope(PARTITIONS), 4)).await;
    let check = bench.check;
    bench.put(&[("a", "1"), ("b", "1")]).await;
    let many = ["a", "c", "d", "e"].map(|key| write(HERE, key, "2")).to_vec();
    assert!(!bench.gets_in(many).await, "{check}: three new keys, two have room");
    bench.sees("a", dirty("1")).await;
    for key in ["c", "d", "e"] {
        bench.sees(key, Lookup::Absent).await;
    }
    let twice = vec![write(HERE, "c", "1"), write(HERE, "a", "2"), write(HERE + 1, "d", "1"), write(HERE, "c", "2")];
    assert!(bench.gets_in(twice).await, "{check}: two new keys");
    bench.sees("a", dirty("2")).await;
    bench.sees("c", dirty("2")).await;
    let more = (0..500).map(|n| write(n % PARTITIONS, &format!("key {n}"), "1")).collect();
    assert!(!bench.gets_in(more).await, "{check}: more than could ever be dirty");
    assert_eq!(bench.status().await.open, 3, "{check}");
}

/// However many write at once, through two spaces, exactly as many keys get in as are allowed, and each caller is told
/// what became of its own.
///
/// # Panics
/// When more or fewer get in, or somebody is told wrong.
pub async fn p7_concurrent_writers_stay_within_the_limit(buffer: &(impl Buffer + ?Sized)) {
    let (check, scope) = ("concurrent writers stay within the limit", scope(PARTITIONS));
    let spaces = [
        Bench::of(buffer, check, limited(scope.clone(), 250)).await,
        Bench::of(buffer, check, limited(scope, 250)).await,
    ];
    let puts = (0..1_000_u16).map(|n| {
        let bench = spaces.get(usize::from(n % 2)).unwrap_or_else(|| panic!("{check}: two spaces"));
        async move { (n, bench.gets_in(vec![write(n % PARTITIONS, &n.to_string(), "1")]).await) }
    });
    let told: BTreeSet<u16> = join_all(puts).await.into_iter().filter(|(_, stored)| *stored).map(|(n, _)| n).collect();
    assert_eq!(told.len(), 250, "{check}: as many as allowed");
    let [bench, _] = &spaces;
    for n in 0..1_000_u16 {
        let found = bench.done("get", bench.space.get(n % PARTITIONS, &[id(n.to_string())]).await);
        let expected = if told.contains(&n) { dirty("1") } else { Lookup::Absent };
        assert_eq!(found, [expected], "{check}: key {n}");
    }
}
