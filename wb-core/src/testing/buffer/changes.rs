//! look and swap.

use std::time::Duration;

use super::{Bench, HERE, KEEP, LONG, OWNER, clean, dirty, id, ids, record, step};
use crate::buffer::record::{Record, Write};
use crate::buffer::{Attempts, Buffer, Clean, DeadLetter, Look, Lookup, Registration, Sight, Stored, Swap, Token};
use crate::entity::codec::Format;
use crate::entity::key::Id;
use crate::error::buffer::BufferErrorKind;

const ONCE: Attempts = Attempts { count: 1, first_ms: 1, deferrals: 0, digest: 7 };

impl Bench {
    /// A look at so few ids that it is one.
    async fn looked(&self, ids: &[Id]) -> Look {
        let looks = self.done("look", self.space.look(HERE, ids).await);
        assert_eq!(looks.len(), 1, "{}: one instant", self.check);
        looks.into_iter().next().unwrap_or_default()
    }

    async fn sight(&self, key: &str) -> Sight {
        let look = self.looked(&ids(&[key, "never seen"])).await;
        assert_eq!(look.sights.len(), 2, "{}: look: one answer per id", self.check);
        assert_eq!(look.sights.get(1), Some(&Sight::default()), "{}: what was never there", self.check);
        look.sights.into_iter().next().unwrap_or_default()
    }

    async fn swap(&self, key: &str, expected: &str, next: &str) -> Swap {
        let write = Write { partition: HERE, id: id(key), record: record(next) };
        self.done("swap", self.space.swap(&Stored::written(record(expected)), &write).await)
    }
}

/// A look tells where a key stands: open, flushing, refused, dead; and the epochs, whether it is asked for ids or not.
///
/// # Panics
/// When it tells anything else.
pub async fn looks_where_records_stand(buffer: &(impl Buffer + ?Sized)) {
    let bench = Bench::open(buffer, "looks where records stand").await;
    bench.own().await;
    let nowhere = Sight::default();
    assert_eq!(bench.sight("a").await, nowhere, "{}: before anything", bench.check);
    let epoch = bench.closed(&[("a", "1"), ("b", "1"), ("c", "1")]).await;
    let look = bench.looked(&[]).await;
    assert_eq!((look.open_epoch, look.flushed_epoch), (epoch + 1, epoch - 1), "{}: epochs", bench.check);
    assert_eq!(bench.sight("a").await, Sight { flushing: true, ..nowhere }, "{}: closed", bench.check);
    bench.put(&[("a", "2")]).await;
    assert_eq!(bench.sight("a").await, Sight { open: true, flushing: true, ..nowhere }, "{}: both", bench.check);
    let step = step(OWNER, epoch);
    for key in ["a", "b"] {
        bench.done("back", bench.space.back(&step, &[(id(key), ONCE)]).await);
        assert_eq!(bench.sight(key).await, Sight { open: true, refused: true, ..nowhere }, "{}: `{key}`", bench.check);
    }
    let letter = DeadLetter::new(&record("1"), "rejected", "no".to_owned(), 1, 1, 1);
    bench.done("bury", bench.space.bury(&step, &[(id("c"), letter)]).await);
    assert_eq!(bench.sight("c").await, Sight { dead: true, ..nowhere }, "{}: dead", bench.check);
    let look = bench.looked(&[]).await;
    assert_eq!(look.flushed_epoch, epoch, "{}: flushed", bench.check);
    let epoch = bench.rotated().await;
    bench.ack(epoch, &["a", "b"], KEEP).await;
    assert_eq!(bench.sight("a").await, nowhere, "{}: settled", bench.check);
    // More than one step can look at: each tells its own epochs, and all together one answer per id.
    let many: Vec<Id> = (0..500).map(|n| id(n.to_string())).collect();
    let looks = bench.done("look", bench.space.look(HERE, &many).await);
    let sights: usize = looks.iter().map(|look| look.sights.len()).sum();
    assert_eq!(sights, many.len(), "{}: one answer per id", bench.check);
    assert!(looks.iter().all(|look| look.open_epoch == epoch + 1), "{}: epochs of each step", bench.check);
}

/// A swap stores if, and only if, the expected state is what a reader finds; absence and load tokens are no state.
///
/// # Panics
/// When it stores over anything else, or does not.
pub async fn swaps_what_stands(buffer: &(impl Buffer + ?Sized)) {
    let bench = Bench::open(buffer, "swaps what stands").await;
    bench.own().await;
    assert_eq!(bench.swap("a", "", "1").await, Swap::Changed, "{}: nothing is known", bench.check);
    bench.sees("a", Lookup::Absent).await;
    let token = Token::fresh();
    bench.done("token", bench.space.token(HERE, &id("a"), &token, None, LONG).await);
    assert_eq!(bench.swap("a", "", "1").await, Swap::Changed, "{}: it is being loaded", bench.check);
    bench.done("fill", bench.space.fill(HERE, &id("a"), &token, &Stored::written(Record::tombstone()), LONG).await);
    assert_eq!(bench.swap("a", "x", "1").await, Swap::Changed, "{}: there is no row", bench.check);
    assert_eq!(bench.swap("a", "", "1").await, Swap::Stored, "{}: no such row, as expected", bench.check);
    bench.sees("a", dirty("1")).await;
    assert_eq!(bench.swap("a", "", "2").await, Swap::Changed, "{}: the copy is covered by open", bench.check);
    assert_eq!(bench.swap("a", "1", "2").await, Swap::Stored, "{}: open", bench.check);
    let epoch = bench.rotated().await;
    assert_eq!(bench.swap("a", "2", "3").await, Swap::Stored, "{}: flushing", bench.check);
    assert_eq!(bench.swap("a", "2", "4").await, Swap::Changed, "{}: flushing is covered by open", bench.check);
    bench.ack(epoch, &["a"], KEEP).await;
    let epoch = bench.rotated().await;
    bench.ack(epoch, &["a"], KEEP).await;
    bench.sees("a", clean("3")).await;
    assert_eq!(bench.swap("a", "3", "").await, Swap::Stored, "{}: the copy, deleted", bench.check);
    assert_eq!(bench.swap("a", "", "5").await, Swap::Stored, "{}: a tombstone is a state", bench.check);
    let epoch = bench.rotated().await;
    bench.ack(epoch, &["a"], Clean { ttl: Duration::ZERO, negative_ttl: LONG }).await;
    assert_eq!(bench.swap("a", "5", "6").await, Swap::Changed, "{}: nothing is known any more", bench.check);
}

/// A swap of a loaded state must name who loaded it. What it becomes was written.
///
/// # Panics
/// When it stores over the same state by another loader.
pub async fn swaps_what_was_loaded_to_the_byte(buffer: &(impl Buffer + ?Sized)) {
    let bench = Bench::open(buffer, "swaps what was loaded to the byte").await;
    let swap = async |expected: Stored, next: &str| {
        let write = Write { partition: HERE, id: id("a"), record: record(next) };
        bench.done("swap", bench.space.swap(&expected, &write).await)
    };
    let token = Token::fresh();
    bench.done("token", bench.space.token(HERE, &id("a"), &token, None, LONG).await);
    let loaded = Stored::loaded(record("1"), 7);
    bench.done("fill", bench.space.fill(HERE, &id("a"), &token, &loaded, LONG).await);
    for other in [Stored::written(record("1")), Stored::loaded(record("1"), 8), Stored::loaded(record("2"), 7)] {
        assert_eq!(swap(other, "x").await, Swap::Changed, "{}: another one", bench.check);
    }
    assert_eq!(swap(loaded.clone(), "2").await, Swap::Stored, "{}: the one that stands", bench.check);
    bench.sees("a", dirty("2")).await;
    assert_eq!(swap(loaded, "x").await, Swap::Changed, "{}: it is covered by open", bench.check);
    assert_eq!(swap(Stored::written(record("2")), "3").await, Swap::Stored, "{}: what was swapped", bench.check);
}

/// Of many that expect the same state one is stored.
///
/// # Panics
/// When another number is.
pub async fn swaps_exclude(buffer: &(impl Buffer + ?Sized)) {
    let bench = Bench::open(buffer, "swaps exclude").await;
    bench.put(&[("a", "0")]).await;
    for round in 0..10_u32 {
        let (expected, next) = (round.to_string(), (round + 1).to_string());
        let swaps = futures::future::join_all((0..8).map(|_| bench.swap("a", &expected, &next))).await;
        let stored = swaps.into_iter().filter(|swap| *swap == Swap::Stored).count();
        assert_eq!(stored, 1, "{}: round {round}", bench.check);
    }
}

/// A swap that makes a key dirty keeps to the limit; one of a dirty key passes.
///
/// # Panics
/// When it does not.
pub async fn p7_swaps_keep_to_the_limit(buffer: &(impl Buffer + ?Sized)) {
    let registration = Registration { max_dirty: Some(2), ..Registration::new(super::scope(4), Format::Json) };
    let bench = Bench::of(buffer, "swaps keep to the limit", registration).await;
    bench.own().await;
    let epoch = bench.closed(&[("c", "1")]).await;
    bench.ack(epoch, &["c"], KEEP).await;
    bench.put(&[("a", "1"), ("b", "1")]).await;
    assert_eq!(bench.swap("a", "1", "2").await, Swap::Stored, "{}: a dirty key", bench.check);
    let write = Write { partition: HERE, id: id("c"), record: record("2") };
    match bench.space.swap(&Stored::written(record("1")), &write).await {
        Err(error) => assert_eq!(error.kind(), BufferErrorKind::Full, "{}: {error}", bench.check),
        Ok(swap) => panic!("{}: {swap:?} beyond the limit", bench.check),
    }
    bench.sees("c", clean("1")).await;
    let epoch = bench.rotated().await;
    bench.ack(epoch, &["a", "b"], KEEP).await;
    assert_eq!(bench.swap("c", "1", "2").await, Swap::Stored, "{}: there is room", bench.check);
}
