//! Transactions: written at one instant, closed at one instant, and never torn apart.

use std::collections::BTreeSet;

use super::{Bench, HERE, KEEP, LONG, OTHER, OWNER, PARTITIONS, clean, dirty, id, record, scope};
use crate::buffer::record::Write;
use crate::buffer::{
    Attempts, Buffer, DeadLetter, Done, Guarded, Lookup, Mark, Moved, Registration, Rotation, Stamp, Step, Stored,
    Transacted,
};
use crate::entity::codec::Format;
use crate::entity::key::Id;
use crate::error::buffer::BufferErrorKind;

/// A partition beside [`HERE`].
pub(super) const THERE: u16 = 2;

const TWICE: Attempts = Attempts { count: 2, first_ms: 5, deferrals: 0, digest: 7 };

pub(super) fn write(partition: u16, key: &str, payload: &str, expected: Option<&str>) -> Guarded {
    Guarded {
        write: Write { partition, id: id(key), record: record(payload) },
        expected: expected.map(|text| Stored::written(record(text))),
    }
}

impl Bench {
    pub(super) async fn transact(&self, writes: &[Guarded]) -> Transacted {
        self.done("transact", self.space.transact(Mark::fresh(), writes).await)
    }

    pub(super) async fn own_all(&self) {
        let all: Vec<u16> = (0..PARTITIONS).collect();
        let taken = self.done("take", self.space.take(&all, OWNER, LONG).await);
        assert!(taken.iter().all(|taken| *taken), "{}: the leases are free", self.check);
    }

    pub(super) async fn rotate_all(&self, owner: &str, stamp: Stamp) -> Vec<Rotation> {
        self.done("rotate_all", self.space.rotate_all(owner, stamp).await)
    }

    pub(super) async fn at(&self, partition: u16, key: &str) -> Lookup {
        let found = self.done("get", self.space.get(partition, &[id(key)]).await);
        found.into_iter().next().unwrap_or(Lookup::Absent)
    }

    pub(super) async fn marks(&self, partition: u16, key: &str) -> BTreeSet<Mark> {
        let (mut found, mut cursor) = (BTreeSet::new(), 0);
        loop {
            let page = self.done("marks", self.space.marks(partition, cursor, 10).await);
            found.extend(page.marks.into_iter().filter(|(marked, _)| *marked == id(key)).flat_map(|(_, marks)| marks));
            cursor = page.cursor;
            if cursor == 0 {
                return found;
            }
        }
    }

    pub(super) async fn share_a_mark(&self, one: (u16, &str), other: (u16, &str)) -> bool {
        !self.marks(one.0, one.1).await.is_disjoint(&self.marks(other.0, other.1).await)
    }

    pub(super) async fn acked(&self, step: &Step<'_>, keys: &[&str]) -> Done {
        let ids: Vec<Id> = keys.iter().map(id).collect();
        self.done("ack", self.space.ack(step, &ids, KEEP).await).done
    }
}

pub(super) fn of(partition: u16, epoch: u64, stamp: Stamp) -> Step<'static> {
    Step { partition, owner: OWNER, epoch, stamp }
}

/// A transaction over partitions is stored whole, or nothing of it when one write meets another state than it expects.
///
/// # Panics
/// When it is stored in part, or a state is not found where it stands.
pub async fn transactions_are_all_or_nothing(buffer: &(impl Buffer + ?Sized)) {
    let bench = Bench::open(buffer, "transactions are all or nothing").await;
    let both = [write(HERE, "a", "1", None), write(THERE, "b", "1", None)];
    assert_eq!(bench.transact(&both).await, Transacted::Stored, "{}: whatever is there", bench.check);
    assert_eq!(bench.transact(&both).await, Transacted::Stored, "{}: again", bench.check);
    assert_eq!((bench.at(HERE, "a").await, bench.at(THERE, "b").await), (dirty("1"), dirty("1")), "{}", bench.check);
    let wrong = [write(HERE, "a", "2", Some("1")), write(THERE, "b", "2", Some("0"))];
    assert_eq!(bench.transact(&wrong).await, Transacted::Changed(1), "{}: b is another", bench.check);
    assert_eq!((bench.at(HERE, "a").await, bench.at(THERE, "b").await), (dirty("1"), dirty("1")), "{}", bench.check);
    let absent = [write(HERE, "a", "2", None), write(THERE, "c", "2", Some(""))];
    assert_eq!(bench.transact(&absent).await, Transacted::Changed(1), "{}: absent is no proof", bench.check);
    // The state is in the closed epoch, then in the clean copy, then a tombstone.
    bench.own_all().await;
    let stamp = Stamp::fresh();
    bench.rotate_all(OWNER, stamp).await;
    let next = [write(HERE, "a", "2", Some("1")), write(THERE, "b", "2", None)];
    assert_eq!(bench.transact(&next).await, Transacted::Stored, "{}: in the closed epoch", bench.check);
    for (partition, key) in [(HERE, "a"), (THERE, "b")] {
        assert_eq!(bench.acked(&of(partition, 1, stamp), &[key]).await, Done::Epoch, "{}: {key}", bench.check);
    }
    bench.rotate_all(OWNER, stamp).await;
    for (partition, key) in [(HERE, "a"), (THERE, "b")] {
        assert_eq!(bench.acked(&of(partition, 2, stamp), &[key]).await, Done::Epoch, "{}: {key}", bench.check);
    }
    assert_eq!(bench.at(HERE, "a").await, clean("2"), "{}: flushed", bench.check);
    let last = [write(HERE, "a", "", Some("2")), write(THERE, "b", "3", Some("2"))];
    assert_eq!(bench.transact(&last).await, Transacted::Stored, "{}: the clean copies", bench.check);
    let after = [write(HERE, "a", "4", Some("")), write(THERE, "b", "4", None)];
    assert_eq!(bench.transact(&after).await, Transacted::Stored, "{}: after a delete", bench.check);
    assert_eq!(bench.transact(&[]).await, Transacted::Stored, "{}: nothing", bench.check);
}

/// Readers of several partitions see one instant, and each record where it stands.
///
/// # Panics
/// When one is not found.
pub async fn reads_together_what_stands_apart(buffer: &(impl Buffer + ?Sized)) {
    let bench = Bench::open(buffer, "reads together what stands apart").await;
    bench.own_all().await;
    bench.transact(&[write(HERE, "a", "1", None), write(THERE, "b", "1", None), write(0, "c", "", None)]).await;
    let stamp = Stamp::fresh();
    bench.rotate_all(OWNER, stamp).await;
    bench.acked(&of(HERE, 1, stamp), &["a"]).await;
    bench.transact(&[write(3, "d", "2", None), write(HERE, "e", "2", None)]).await;
    let places = [
        (HERE, vec![id("e"), id("a"), id("none")]),
        (THERE, vec![id("b")]),
        (0, vec![id("c")]),
        (3, Vec::new()),
        (3, vec![id("d")]),
    ];
    let found = bench.done("get_together", bench.space.get_together(&places).await);
    let expected =
        [vec![dirty("2"), clean("1"), Lookup::Absent], vec![dirty("1")], vec![dirty("")], Vec::new(), vec![dirty("2")]];
    assert_eq!(found, expected, "{}", bench.check);
    assert!(bench.done("get_together", bench.space.get_together(&[]).await).is_empty(), "{}: of none", bench.check);
}

/// The marks are closed with their records; who wrote a record of another transaction in the same epoch is tied to it, and
/// transactions of different records are not.
///
/// # Panics
/// When a mark is lost, left behind, or ties what does not belong together.
pub async fn p13_marks_travel_with_their_records(buffer: &(impl Buffer + ?Sized)) {
    let bench = Bench::open(buffer, "marks travel").await;
    bench.own_all().await;
    let pair = |one: &str, other: &str| [write(HERE, one, "1", None), write(THERE, other, "1", None)];
    bench.transact(&pair("a", "b")).await;
    bench.transact(&pair("x", "y")).await;
    // Two that were apart, and one that ties them.
    bench.transact(&pair("c", "d")).await;
    bench.transact(&pair("a", "d")).await;
    bench.put(&[("plain", "1")]).await;
    bench.transact(&[write(HERE, "alone", "1", None)]).await;
    let stamp = Stamp::fresh();
    let expected = [Rotation::Empty, Rotation::Marked(1), Rotation::Marked(1), Rotation::Empty];
    assert_eq!(bench.rotate_all(OWNER, stamp).await, expected, "{}: what is dirty", bench.check);
    // Written after the rotation: of the next epoch.
    bench.transact(&pair("x", "b")).await;
    for (one, other) in [("a", "b"), ("c", "d"), ("x", "y"), ("a", "d")] {
        assert!(bench.share_a_mark((HERE, one), (THERE, other)).await, "{}: {one} and {other}", bench.check);
    }
    for (one, other) in [("x", "b"), ("a", "y"), ("x", "d"), ("plain", "b"), ("alone", "b")] {
        assert!(!bench.share_a_mark((HERE, one), (THERE, other)).await, "{}: {one} and {other}", bench.check);
    }
    let picked = bench.done("pick", bench.space.pick(HERE, &[id("x"), id("none"), id("plain")]).await);
    assert_eq!(picked, [Some(record("1")), None, Some(record("1"))], "{}: by name", bench.check);
    // The next owner sees them, and those of an ended epoch are gone with it.
    let keys = ["a", "c", "x", "plain", "alone"];
    assert_eq!(bench.acked(&of(HERE, 1, stamp), &keys).await, Done::Epoch, "{}: one half", bench.check);
    let again = Stamp::fresh();
    let left = [Rotation::Empty, Rotation::Empty, Rotation::Marked(1), Rotation::Empty];
    assert_eq!(bench.rotate_all(OWNER, again).await, left, "{}: what was left behind comes first", bench.check);
    assert_eq!(bench.acked(&of(THERE, 1, again), &["b", "d", "y"]).await, Done::Epoch, "{}: the rest", bench.check);
    let expected = [Rotation::Empty, Rotation::Marked(2), Rotation::Marked(2), Rotation::Empty];
    assert_eq!(bench.rotate_all(OWNER, again).await, expected, "{}: the next cut", bench.check);
    assert!(bench.share_a_mark((HERE, "x"), (THERE, "b")).await, "{}: x and b", bench.check);
    assert!(bench.marks(HERE, "a").await.is_empty(), "{}: of an epoch that ended", bench.check);
    for (partition, key) in [(HERE, "x"), (THERE, "b")] {
        assert_eq!(bench.acked(&of(partition, 2, again), &[key]).await, Done::Epoch, "{}: {key}", bench.check);
    }
    // An epoch without transactions says so, by either rotation.
    assert_eq!(bench.closed(&[("plain", "2")]).await, 3, "{}: no marks", bench.check);
    assert!(bench.marks(HERE, "x").await.is_empty(), "{}: of an epoch that ended", bench.check);
    bench.done("ack", bench.space.ack(&super::step(OWNER, 3), &[id("plain")], KEEP).await);
    bench.transact(&[write(HERE, "p", "1", None), write(HERE, "q", "1", None)]).await;
    assert_eq!(bench.rotate(OWNER).await, Rotation::Marked(4), "{}: in one partition", bench.check);
    assert!(bench.share_a_mark((HERE, "p"), (HERE, "q")).await, "{}: p and q", bench.check);
    assert_eq!(bench.rotate(OWNER).await, Rotation::Marked(4), "{}: still so", bench.check);
}

/// All partitions are closed by whoever holds all of them, at one instant, or none is.
///
/// # Panics
/// When a part is closed.
pub async fn p13_all_partitions_are_one_cut(buffer: &(impl Buffer + ?Sized)) {
    let bench = Bench::open(buffer, "all partitions are one cut").await;
    bench.transact(&[write(HERE, "a", "1", None), write(THERE, "b", "1", None)]).await;
    let all: Vec<u16> = (0..PARTITIONS).collect();
    bench.done("take", bench.space.take(all.get(..3).unwrap_or(&all), OWNER, LONG).await);
    let stamp = Stamp::fresh();
    let refused = [Rotation::Empty, Rotation::Empty, Rotation::Empty, Rotation::NotOwner];
    assert_eq!(bench.rotate_all(OWNER, stamp).await, refused, "{}: one is missing", bench.check);
    assert_eq!(bench.rotate_all(OTHER, stamp).await, [Rotation::NotOwner; 4], "{}: a stranger", bench.check);
    assert_eq!((bench.status().await.open, bench.status().await.flushing), (1, 0), "{}: as it was", bench.check);
    bench.own_all().await;
    let closed = [Rotation::Empty, Rotation::Marked(1), Rotation::Marked(1), Rotation::Empty];
    assert_eq!(bench.rotate_all(OWNER, stamp).await, closed, "{}: all held", bench.check);
    bench.transact(&[write(HERE, "a", "2", None), write(3, "c", "2", None)]).await;
    let again = Stamp::fresh();
    assert_eq!(bench.rotate_all(OWNER, again).await, closed, "{}: finished first", bench.check);
    assert_eq!(bench.acked(&of(HERE, 1, stamp), &["a"]).await, Done::NotOwner, "{}: another stamp", bench.check);
    bench.acked(&of(HERE, 1, again), &["a"]).await;
    let half = [Rotation::Empty, Rotation::Empty, Rotation::Marked(1), Rotation::Empty];
    assert_eq!(bench.rotate_all(OWNER, again).await, half, "{}: nothing is closed meanwhile", bench.check);
    assert_eq!(bench.at(3, "c").await, dirty("2"), "{}: it waits", bench.check);
    bench.acked(&of(THERE, 1, again), &["b"]).await;
    let next = [Rotation::Empty, Rotation::Marked(2), Rotation::Empty, Rotation::Marked(1)];
    assert_eq!(bench.rotate_all(OWNER, again).await, next, "{}: the next cut", bench.check);
    bench.acked(&of(HERE, 2, again), &["a"]).await;
    bench.acked(&of(3, 1, again), &["c"]).await;
    assert_eq!(bench.rotate_all(OWNER, again).await, [Rotation::Empty; 4], "{}: nothing is dirty", bench.check);
}

/// Records that belong together go back together, stay marked, and nothing is done when one epoch is not the caller's.
///
/// # Panics
/// When they are torn apart, or a newer state is overwritten.
pub async fn p13_units_go_back_whole(buffer: &(impl Buffer + ?Sized)) {
    let bench = Bench::open(buffer, "units go back whole").await;
    bench.own_all().await;
    let stamp = Stamp::fresh();
    bench.transact(&[write(HERE, "a", "1", None), write(THERE, "b", "1", None)]).await;
    bench.rotate_all(OWNER, stamp).await;
    bench.transact(&[write(THERE, "b", "2", None), write(3, "c", "2", None)]).await;
    let parts =
        |there: Stamp| [(of(HERE, 1, stamp), vec![(id("a"), TWICE)]), (of(THERE, 1, there), vec![(id("b"), TWICE)])];
    let back = async |parts: &[(Step<'_>, Vec<(Id, Attempts)>)]| {
        bench.done("back_unit", bench.space.back_unit(Mark::fresh(), parts).await)
    };
    let refused = [Moved { done: Done::NotOwner, records: 0, missing: 0 }; 2];
    assert_eq!(back(&parts(Stamp::fresh())).await, refused, "{}: one stamp is another's", bench.check);
    assert_eq!(bench.status().await.flushing, 1, "{}: as it was", bench.check);
    let moved = [Moved { done: Done::Epoch, records: 1, missing: 0 }; 2];
    assert_eq!(back(&parts(stamp)).await, moved, "{}: both", bench.check);
    let again = [Moved { done: Done::Epoch, records: 0, missing: 0 }; 2];
    assert_eq!(back(&parts(stamp)).await, again, "{}: a lost reply", bench.check);
    assert_eq!((bench.at(HERE, "a").await, bench.at(THERE, "b").await), (dirty("1"), dirty("2")), "{}", bench.check);
    assert_eq!(bench.attempts("a").await, Some(TWICE), "{}: counted", bench.check);
    let counted = bench.done("attempts", bench.space.attempts(THERE, &[id("b")]).await);
    assert_eq!(counted, [Some(TWICE)], "{}: superseded, and refused when it was settled last", bench.check);
    let closed = [Rotation::Empty, Rotation::Marked(2), Rotation::Marked(2), Rotation::Marked(1)];
    assert_eq!(bench.rotate_all(OWNER, stamp).await, closed, "{}: the next cut", bench.check);
    assert!(bench.share_a_mark((HERE, "a"), (THERE, "b")).await, "{}: a and b", bench.check);
    assert!(bench.share_a_mark((THERE, "b"), (3, "c")).await, "{}: b and c", bench.check);
}

/// Records that belong together become dead letters together, each with its reason.
///
/// # Panics
/// When one of them is left, or a letter is lost.
pub async fn p13_units_are_buried_whole(buffer: &(impl Buffer + ?Sized)) {
    let bench = Bench::open(buffer, "units are buried whole").await;
    bench.own_all().await;
    let stamp = Stamp::fresh();
    bench.transact(&[write(HERE, "a", "1", None), write(THERE, "b", "", None)]).await;
    bench.rotate_all(OWNER, stamp).await;
    let letter = |text: &str| DeadLetter::new(&record(text), "rejected", "no".to_owned(), 3, 1, 2);
    let parts = |epoch| {
        [(of(HERE, 1, stamp), vec![(id("a"), letter("1"))]), (of(THERE, epoch, stamp), vec![(id("b"), letter(""))])]
    };
    let bury = async |epoch| bench.done("bury_unit", bench.space.bury_unit(&parts(epoch)).await);
    let refused = [Moved { done: Done::NotOwner, records: 0, missing: 0 }; 2];
    assert_eq!(bury(2).await, refused, "{}: one epoch is another's", bench.check);
    assert_eq!(bench.letter("a").await, None, "{}: as it was", bench.check);
    assert_eq!(bury(1).await, [Moved { done: Done::Epoch, records: 1, missing: 0 }; 2], "{}: both", bench.check);
    assert_eq!(bench.letter("a").await, Some(letter("1")), "{}: a", bench.check);
    assert_eq!(bench.done("letter", bench.space.letter(THERE, &id("b")).await), Some(letter("")), "{}: b", bench.check);
    assert_eq!((bench.at(HERE, "a").await, bench.at(THERE, "b").await), (clean("1"), clean("")), "{}", bench.check);
    assert_eq!(bench.rotate_all(OWNER, stamp).await, [Rotation::Empty; 4], "{}: nothing is dirty", bench.check);
}

/// At the limit a transaction is stored whole or refused whole.
///
/// # Panics
/// When a part of it is stored, or the limit is passed.
pub async fn p7_transactions_stay_within_the_limit(buffer: &(impl Buffer + ?Sized)) {
    let mut registration = Registration::new(scope(PARTITIONS), Format::Json);
    registration.max_dirty = Some(3);
    let bench = Bench::of(buffer, "transactions at the limit", registration).await;
    bench.put(&[("a", "1"), ("b", "1")]).await;
    let two = [write(THERE, "c", "1", None), write(3, "d", "1", None)];
    let full = bench.space.transact(Mark::fresh(), &two).await.map_err(|error| error.kind());
    assert_eq!(full, Err(BufferErrorKind::Full), "{}: two more", bench.check);
    assert_eq!(
        (bench.at(THERE, "c").await, bench.at(3, "d").await),
        (Lookup::Absent, Lookup::Absent),
        "{}",
        bench.check
    );
    let one = [write(HERE, "a", "2", None), write(3, "d", "1", None)];
    assert_eq!(bench.transact(&one).await, Transacted::Stored, "{}: one more", bench.check);
    let none = [write(HERE, "b", "2", None), write(3, "d", "2", None)];
    assert_eq!(bench.transact(&none).await, Transacted::Stored, "{}: dirty already", bench.check);
}
