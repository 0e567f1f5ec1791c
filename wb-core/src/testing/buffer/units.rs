//! Dead letters of a unit: replayed together, wherever they lie.

use std::collections::BTreeMap;

use super::transactions::{THERE, of, write};
use super::{Bench, HERE, OWNER, dirty, id, ids, record};
use crate::buffer::{Buffer, DeadLetter, Guarded, Mark, Replay, Replayed, Rotation, Stamp, Step, Together};
use crate::entity::key::Id;

/// A partition beside [`HERE`] and [`THERE`].
const YONDER: u16 = 3;

impl Bench {
    /// These are written in one transaction, and die as one unit.
    async fn buried_together(&self, records: &[(u16, &str, &str)]) {
        let writes: Vec<Guarded> =
            records.iter().map(|(partition, key, payload)| write(*partition, key, payload, None)).collect();
        self.transact(&writes).await;
        let cut = self.cut().await;
        let mut partitions: Vec<u16> = records.iter().map(|(partition, ..)| *partition).collect();
        partitions.dedup();
        let together = Together { mark: Mark::fresh(), partitions };
        let mut parts: BTreeMap<u16, (Step<'_>, Vec<(Id, DeadLetter)>)> = BTreeMap::new();
        for (partition, key, payload) in records {
            let Some(step) = cut.get(partition) else { panic!("{}: partition {partition} is closed", self.check) };
            let mut letter = DeadLetter::new(&record(payload), "rejected", "no".to_owned(), 3, 1, 2);
            letter.together = Some(together.clone());
            parts.entry(*partition).or_insert_with(|| (*step, Vec::new())).1.push((id(key), letter));
        }
        let parts: Vec<_> = parts.into_values().collect();
        self.done("bury_unit", self.space.bury_unit(&parts).await);
    }

    /// Closes what is open; the step on each partition that had anything.
    async fn cut(&self) -> BTreeMap<u16, Step<'static>> {
        let stamp = Stamp::fresh();
        let closed = (0_u16..).zip(self.rotate_all(OWNER, stamp).await);
        let step = |(partition, rotation)| match rotation {
            Rotation::Epoch(epoch) | Rotation::Marked(epoch) => Some((partition, of(partition, epoch, stamp))),
            Rotation::Empty | Rotation::NotOwner => None,
        };
        closed.filter_map(step).collect()
    }

    async fn replay_in(&self, partition: u16, keys: &[&str]) -> Replayed {
        self.done("replay", self.space.replay(partition, &ids(keys)).await)
    }

    async fn letter_in(&self, partition: u16, key: &str) -> Option<DeadLetter> {
        self.done("letter", self.space.letter(partition, &id(key)).await)
    }

    async fn ack_all(&self, cut: &BTreeMap<u16, Step<'static>>, records: &[(u16, &str)]) {
        for (partition, key) in records {
            let Some(step) = cut.get(partition) else { panic!("{}: partition {partition} is closed", self.check) };
            self.acked(step, &[*key]).await;
        }
    }
}

fn back(outcomes: &[Replay], others: u64) -> Replayed {
    Replayed { outcomes: outcomes.to_vec(), others }
}

/// Whichever letter of a unit is replayed, all of them come back at one instant, tied again; what a newer state has superseded is
/// left out, and that state is not tied.
///
/// # Panics
/// When a part of a unit stays behind, is not tied, or overwrites a newer state.
pub async fn p13_letters_of_a_unit_come_back_whole(buffer: &(impl Buffer + ?Sized)) {
    let bench = Bench::open(buffer, "letters of a unit").await;
    bench.own_all().await;
    bench.buried_together(&[(HERE, "a", "1"), (HERE, "b", "1"), (THERE, "c", ""), (YONDER, "d", "1")]).await;
    bench.buried_together(&[(HERE, "x", "1"), (THERE, "y", "1")]).await;
    bench.buried_together(&[(HERE, "p", "1")]).await;
    assert_eq!(bench.replay_in(THERE, &["c"]).await, back(&[Replay::Again], 3), "{}: one stands for all", bench.check);
    for (partition, key, payload) in [(HERE, "a", "1"), (HERE, "b", "1"), (THERE, "c", ""), (YONDER, "d", "1")] {
        assert_eq!(bench.at(partition, key).await, dirty(payload), "{}: {key}", bench.check);
        assert_eq!(bench.letter_in(partition, key).await, None, "{}: {key}", bench.check);
    }
    assert!(bench.letter_in(HERE, "x").await.is_some() && bench.has_letter("p").await, "{}: the others", bench.check);
    assert_eq!(bench.replay_in(HERE, &["a"]).await, back(&[Replay::Absent], 0), "{}: once", bench.check);
    let cut = bench.cut().await;
    assert_eq!(cut.len(), 3, "{}: one cut", bench.check);
    for other in [(HERE, "b"), (THERE, "c"), (YONDER, "d")] {
        assert!(bench.share_a_mark((HERE, "a"), other).await, "{}: a and {other:?}", bench.check);
    }
    bench.ack_all(&cut, &[(HERE, "a"), (HERE, "b"), (THERE, "c"), (YONDER, "d")]).await;

    // Two units and one alone in one call; a newer state of one is open.
    bench.buried_together(&[(HERE, "a", "2"), (HERE, "b", "2"), (YONDER, "d", "2")]).await;
    bench.transact(&[write(THERE, "y", "2", None)]).await;
    let replayed = bench.replay_in(HERE, &["b", "x", "p", "none", "a", "x"]).await;
    let (again, absent) = (Replay::Again, Replay::Absent);
    assert_eq!(replayed, back(&[again, again, again, absent, again, absent], 1), "{}: several", bench.check);
    assert_eq!(bench.at(THERE, "y").await, dirty("2"), "{}: the newer state", bench.check);
    assert!(bench.letter_in(THERE, "y").await.is_some(), "{}: not decided yet", bench.check);
    assert_eq!(bench.replay_in(THERE, &["y"]).await, back(&[Replay::Superseded], 0), "{}: superseded", bench.check);
    let cut = bench.cut().await;
    for (one, other, tied) in [("a", (HERE, "b"), true), ("a", (YONDER, "d"), true), ("a", (HERE, "x"), false)] {
        assert_eq!(bench.share_a_mark((HERE, one), other).await, tied, "{}: {one} and {other:?}", bench.check);
    }
    assert!(!bench.share_a_mark((HERE, "x"), (THERE, "y")).await, "{}: it holds no newer state up", bench.check);
    bench.ack_all(&cut, &[(HERE, "a"), (HERE, "b"), (HERE, "x"), (HERE, "p"), (THERE, "y"), (YONDER, "d")]).await;
    assert_eq!(bench.letter_in(THERE, "y").await, None, "{}: the newer one is flushed", bench.check);

    // The newer state is being flushed.
    bench.buried_together(&[(HERE, "a", "3"), (THERE, "c", "3")]).await;
    bench.put(&[("a", "4")]).await;
    let cut = bench.cut().await;
    assert_eq!(bench.replay_in(HERE, &["a"]).await, back(&[Replay::Superseded], 1), "{}: in flushing", bench.check);
    assert_eq!((bench.at(HERE, "a").await, bench.at(THERE, "c").await), (dirty("4"), dirty("3")), "{}", bench.check);
    bench.ack_all(&cut, &[(HERE, "a")]).await;
    let cut = bench.cut().await;
    bench.ack_all(&cut, &[(THERE, "c")]).await;

    // A discarded one is missed by nobody.
    bench.buried_together(&[(HERE, "a", "5"), (THERE, "c", "5"), (YONDER, "d", "5")]).await;
    assert_eq!(bench.discard(&["a"]).await, 1, "{}: one of three", bench.check);
    assert!(bench.letter_in(THERE, "c").await.is_some(), "{}: the others stay", bench.check);
    assert_eq!(bench.replay_in(YONDER, &["d"]).await, back(&[Replay::Again], 1), "{}: the rest", bench.check);
    bench.cut().await;
    assert!(bench.share_a_mark((THERE, "c"), (YONDER, "d")).await, "{}: the rest is tied", bench.check);
}
