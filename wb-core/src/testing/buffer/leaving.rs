//! A layout that is being left: announced, closed with its epochs, and left or not after all.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Bench, HERE, KEEP, LONG, OWNER, PARTITIONS, PATIENCE, clean, dirty, id, record, scope, step};
use crate::buffer::record::Write;
use crate::buffer::{
    Attempts, Buffer, Done, Guarded, Lookup, Mark, Registration, Rotation, Settled, Stamp, Status, Step, Stored, Token,
    Topology,
};
use crate::entity::codec::Format;
use crate::error::buffer::{BufferError, BufferErrorKind};
use crate::telemetry::scope::Scope;

/// A partition beside [`HERE`].
const THERE: u16 = 2;

/// The layout that is to be left, and the one that it is to be left for.
struct Change {
    from: Registration,
    to: Registration,
    stored: Topology,
}

impl Change {
    fn of(from: Registration) -> Self {
        let eight = Scope::new(from.scope.namespace.clone(), from.scope.entity, 2 * PARTITIONS);
        let to = Registration { scope: Arc::new(eight), ..from.clone() };
        Self { stored: from.topology(), from, to }
    }

    fn plain() -> Self {
        Self::of(Registration::new(scope(PARTITIONS), Format::Json))
    }

    async fn announce(&self, buffer: &(impl Buffer + ?Sized), lasts: Duration) {
        let announced = buffer.announce(&self.to, &self.stored, lasts).await;
        announced.unwrap_or_else(|error| panic!("a change is announced: {error}"));
    }

    async fn cancel(&self, buffer: &(impl Buffer + ?Sized)) {
        let cancelled = buffer.cancel(&self.to, &self.stored).await;
        cancelled.unwrap_or_else(|error| panic!("a change is cancelled: {error}"));
    }
}

impl Bench {
    async fn write(&self, partition: u16, key: &str, payload: &str) -> Result<(), BufferError> {
        self.space.put(vec![Write { partition, id: id(key), record: record(payload) }]).await
    }

    /// A write is refused, by an error that names both layouts.
    async fn is_closed(&self, partition: u16, when: &str) {
        self.refused(self.write(partition, "late", "0").await, when);
    }

    fn refused<T>(&self, result: Result<T, BufferError>, when: &str) {
        let check = self.check;
        let Err(error) = result else { panic!("{check}: {when}: a write is taken") };
        assert_eq!(error.kind(), BufferErrorKind::Topology, "{check}: {when}: {error}");
        let text = error.to_string();
        assert!(text.contains("partitions=4") && text.contains("partitions=8"), "{check}: {when}: {text}");
    }
}

/// A layout that is being left takes no writes any more once its epoch is closed, or at once where nothing is open; it is read and
/// flushed as ever. A record that goes back opens its partition until the next rotation.
///
/// # Panics
/// When it takes writes, or is not read, or cannot be flushed.
pub async fn p1_a_topology_that_is_being_left_closes_with_its_epochs(buffer: &(impl Buffer + ?Sized)) {
    let check = "a topology that is being left closes with its epochs";
    let change = Change::plain();
    let old = Bench::of(buffer, check, change.from.clone()).await;
    old.own().await;
    old.put(&[("a", "1")]).await;
    change.announce(buffer, LONG).await;
    old.put(&[("a", "2"), ("b", "2")]).await;
    old.is_closed(THERE, "nothing is open there").await;
    assert_eq!(old.done("get", old.space.get(THERE, &[id("x")]).await), [Lookup::Absent], "{check}: it is read");
    let token = Token::fresh();
    assert!(old.done("token", old.space.token(THERE, &id("x"), &token, None, LONG).await), "{check}: a load");
    let loaded = Stored::loaded(record("0"), 7);
    assert!(old.done("fill", old.space.fill(THERE, &id("x"), &token, &loaded, LONG).await), "{check}: a load");

    let epoch = old.rotated().await;
    old.is_closed(HERE, "closed with its epoch").await;
    old.sees("a", dirty("2")).await;
    let there = old.done("get_together", old.space.get_together(&[(HERE, vec![id("b")])]).await);
    assert_eq!(there, [[dirty("2")]], "{check}");
    let pending = old.done("pending", old.space.pending(&[HERE, THERE]).await);
    assert!(pending.failed.is_empty() && pending.pending.len() == 1, "{check}: {pending:?}");
    let Status { open, flushing, .. } = old.status().await;
    assert_eq!((open, flushing), (0, 2), "{check}: what waits");
    let look = old.done("look", old.space.look(HERE, &[id("a")]).await);
    assert!(look.iter().flat_map(|look| &look.sights).all(|sight| sight.flushing && !sight.open), "{check}: {look:?}");
    assert_eq!(old.rotated().await, epoch, "{check}: left behind");

    let attempts = Attempts { count: 1, first_ms: 5, deferrals: 0, digest: 7 };
    old.done("back", old.space.back(&step(OWNER, epoch), &[(id("a"), attempts)]).await);
    old.put(&[("a", "3")]).await;
    assert_eq!(old.ack(epoch, &["b"], KEEP).await, Done::Epoch, "{check}: the epoch ends");
    let epoch = old.rotated().await;
    old.is_closed(HERE, "closed again").await;
    assert!(buffer.agree(std::slice::from_ref(&change.to)).await.is_err(), "{check}: not while anything is dirty");
    assert_eq!(old.ack(epoch, &["a"], KEEP).await, Done::Epoch, "{check}: the epoch ends");
    old.sees("a", clean("3")).await;
    assert_eq!(old.rotate(OWNER).await, Rotation::Empty, "{check}: nothing is dirty");
    old.is_closed(HERE, "clean").await;

    let new = Bench::of(buffer, check, change.to.clone()).await;
    old.is_closed(HERE, "left").await;
    assert!(old.space.get(HERE, &[id("a")]).await.is_err(), "{check}: nobody reads what was left");
    change.cancel(buffer).await;
    change.announce(buffer, LONG).await;
    old.is_closed(HERE, "left, whatever is said of it").await;
    new.put(&[("a", "4")]).await;
    new.own().await;
    let epoch = new.rotated().await;
    new.put(&[("a", "5")]).await;
    new.ack(epoch, &["a"], KEEP).await;
    let epoch = new.rotated().await;
    new.ack(epoch, &["a"], KEEP).await;
    let back = Bench::of(buffer, check, change.from).await;
    back.put(&[("a", "6")]).await;
    back.sees("a", dirty("6")).await;
}

/// A change that was announced and comes to nothing leaves nothing closed: it is cancelled, or the mark runs out and whoever looks opens
/// the layout again; so does a program that starts with it. What was written meanwhile is there.
///
/// # Panics
/// When anything stays closed, or is opened early.
pub async fn a_change_of_topology_that_comes_to_nothing_leaves_nothing_closed(buffer: &(impl Buffer + ?Sized)) {
    let check = "a change of topology that comes to nothing leaves nothing closed";
    let change = Change::plain();
    let old = Bench::of(buffer, check, change.from.clone()).await;
    old.own().await;
    let found = old.done("change", buffer.change(&change.from).await);
    assert_eq!(found, None, "{check}: it is as it is");
    for (round, end) in ["cancel", "confirm", "agree", "another one cancels"].into_iter().enumerate() {
        let text = round.to_string();
        old.put(&[("a", &text)]).await;
        let lasts = if end.contains("cancel") { LONG } else { Duration::from_millis(100) };
        change.announce(buffer, lasts).await;
        let found = old.done("change", buffer.change(&change.to).await);
        let found = found.unwrap_or_else(|| panic!("{check}: there is a change"));
        assert_eq!((&found.stored, found.dirty, found.letters), (&change.stored, 1, 0), "{check}: {end}");
        if lasts == LONG {
            let epoch = old.rotated().await;
            old.done("confirm", old.space.confirm().await);
            old.is_closed(HERE, "the mark is fresh").await;
            old.ack(epoch, &["a"], KEEP).await;
        }
        old.is_closed(THERE, end).await;
        if end == "another one cancels" {
            let other = Scope::new(change.from.scope.namespace.clone(), change.from.scope.entity, 2);
            let other = Registration { scope: Arc::new(other), ..change.from.clone() };
            old.done("cancel", buffer.cancel(&other, &change.stored).await);
            old.is_closed(THERE, "another one's cancel").await;
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            match end {
                "confirm" => old.done("confirm", old.space.confirm().await),
                "agree" => old.done("agree", buffer.agree(std::slice::from_ref(&change.from)).await),
                _ => change.cancel(buffer).await,
            }
            if old.write(THERE, "b", &text).await.is_ok() {
                break;
            }
            assert!(Instant::now() < deadline, "{check}: {end}: it stays closed");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        old.put(&[("a", "again")]).await;
        old.sees("a", dirty("again")).await;
        let epoch = old.rotated().await;
        old.put(&[("c", "open")]).await;
        old.ack(epoch, &["a", "c"], KEEP).await;
        let epoch = old.rotated().await;
        old.ack(epoch, &["a", "c"], KEEP).await;
        assert_eq!(old.done("take", old.space.take(&[THERE], OWNER, LONG).await), [true], "{check}: nobody else's");
        let there = |epoch| Step { partition: THERE, ..step(OWNER, epoch) };
        if let Rotation::Epoch(epoch) = old.done("rotate", old.space.rotate(THERE, OWNER, Stamp::default()).await) {
            old.done("ack", old.space.ack(&there(epoch), &[id("b")], KEEP).await);
        }
    }
}

/// Transactions are refused whole when one of their partitions is closed, and all partitions are closed at one instant; logs are closed
/// with their epochs.
///
/// # Panics
/// When anything is written half, or slips through.
pub async fn p13_what_is_written_together_is_closed_together(buffer: &(impl Buffer + ?Sized)) {
    let check = "what is written together is closed together";
    let change = Change::of(Registration { transactions: true, ..Change::plain().from });
    let old = Bench::of(buffer, check, change.from.clone()).await;
    let all: Vec<u16> = (0..PARTITIONS).collect();
    let taken = old.done("take", old.space.take(&all, OWNER, LONG).await);
    assert!(taken.iter().all(|taken| *taken), "{check}: the leases are free");
    let at =
        |partition, key: &str| Guarded { write: Write { partition, id: id(key), record: record("1") }, expected: None };
    old.done("transact", old.space.transact(Mark::fresh(), &[at(0, "a"), at(1, "b")]).await);
    change.announce(buffer, LONG).await;
    old.refused(old.space.transact(Mark::fresh(), &[at(1, "c"), at(2, "d")]).await, "partition 2 is closed");
    old.sees("c", Lookup::Absent).await;
    old.done("transact", old.space.transact(Mark::fresh(), &[at(0, "e"), at(1, "f")]).await);
    let stamp = Stamp::fresh();
    let rotations = old.done("rotate_all", old.space.rotate_all(OWNER, stamp).await);
    assert!(matches!(rotations.as_slice(), [Rotation::Marked(_), Rotation::Marked(_), ..]), "{check}: {rotations:?}");
    for partition in all {
        old.is_closed(partition, "all of them").await;
    }
    for (partition, keys) in [(0, ["a", "e"]), (1, ["b", "f"])] {
        let step = Step { partition, owner: OWNER, epoch: 1, stamp };
        assert_eq!(old.done("ack", old.space.ack(&step, &keys.map(id), KEEP).await).done, Done::Epoch, "{check}");
    }
    Bench::of(buffer, check, change.to).await;

    let change = Change::of(Registration { append: true, ..Change::plain().from });
    let logs = Bench::of(buffer, check, change.from.clone()).await;
    logs.own().await;
    let entry = |partition, text: &str| vec![Write { partition, id: id(text), record: record(text) }];
    logs.done("append", logs.space.append(entry(HERE, "1")).await);
    change.announce(buffer, LONG).await;
    logs.done("append", logs.space.append(entry(HERE, "2")).await);
    logs.refused(logs.space.append(entry(THERE, "3")).await, "nothing is there");
    let epoch = logs.rotated().await;
    logs.refused(logs.space.append(entry(HERE, "3")).await, "closed with its epoch");
    let page = logs.done("read_log", logs.space.read_log(HERE, 0, 10).await);
    assert_eq!(page.entries, [record("1"), record("2")], "{check}: in order");
    let attempts = Attempts { count: 1, first_ms: 5, deferrals: 0, digest: 7 };
    let settled = [Settled::Written(id("1")), Settled::Again(id("2"), attempts)];
    let moved = logs.done("trim", logs.space.trim(&step(OWNER, epoch), page.number, &settled).await);
    assert_eq!((moved.done, moved.records), (Done::Epoch, 2), "{check}: one of them goes back");
    let epoch = logs.rotated().await;
    assert_eq!(logs.ack(epoch, &["2"], KEEP).await, Done::Epoch, "{check}: what went back");
    Bench::of(buffer, check, change.to).await;
}
