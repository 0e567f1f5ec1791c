//! ack_stale: records that the sink had newer versions of.

use super::{Bench, HERE, KEEP, LONG, OTHER, OWNER, clean, dirty, id, step};
use crate::buffer::record::{Record, Write};
use crate::buffer::{Attempts, Buffer, DeadLetter, Done, Lookup, STALE_MARKS, Sight};
use crate::entity::key::Id;

impl Bench {
    async fn left_out(&self, key: &str) -> Option<i64> {
        self.done("stale", self.space.stale(HERE, &id(key)).await)
    }

    async fn ack_stale(&self, epoch: u64, records: &[(&str, i64)]) -> Done {
        let records: Vec<(Id, i64)> = records.iter().map(|(key, version)| (id(key), *version)).collect();
        self.done("ack_stale", self.space.ack_stale(&step(OWNER, epoch), &records).await).done
    }

    async fn is_marked(&self, key: &str) -> bool {
        let look = self.done("look", self.space.look(HERE, &[id(key)]).await);
        look.into_iter().flat_map(|look| look.sights).next().unwrap_or_default().stale
    }
}

/// What the sink had a newer version of leaves no copy, and is known as left out until a later state is acknowledged.
///
/// # Panics
/// When it is taken for written, or the mark outlives a state that was written.
pub async fn remembers_what_was_left_out(buffer: &(impl Buffer + ?Sized)) {
    let bench = Bench::open(buffer, "remembers what was left out").await;
    bench.own().await;
    let epoch = bench.closed(&[("a", "1"), ("b", "1"), ("c", "1"), ("d", "1")]).await;
    let refused = Attempts { count: 1, first_ms: 1, deferrals: 0, digest: 7 };
    bench.done("back", bench.space.back(&step(OWNER, epoch), &[(id("a"), refused)]).await);
    let letter = DeadLetter::new(&Record::from_bytes("1"), "rejected", "no".to_owned(), 1, 1, 1);
    bench.done("bury", bench.space.bury(&step(OWNER, epoch), &[(id("b"), letter)]).await);
    assert_eq!(bench.ack(epoch, &["c"], KEEP).await, Done::More, "{}: one is left", bench.check);
    assert_eq!(bench.ack_stale(epoch, &[]).await, Done::More, "{}: of nothing", bench.check);
    assert_eq!(bench.ack_stale(epoch, &[("d", i64::MAX)]).await, Done::Epoch, "{}: the last one", bench.check);
    assert_eq!(bench.left_out("d").await, Some(i64::MAX), "{}: exactly", bench.check);

    // Over a copy, a refusal and a letter; `c` has a newer state beside it.
    let epoch = bench.closed(&[("b", "2"), ("c", "2")]).await;
    bench.put(&[("c", "3")]).await;
    let records = [("a", i64::MIN), ("b", -2), ("c", 2), ("never seen", 9)];
    assert_eq!(bench.ack_stale(epoch, &records).await, Done::Gone, "{}: one was never there", bench.check);
    bench.sees("a", Lookup::Absent).await;
    bench.sees("b", Lookup::Absent).await;
    bench.sees("c", dirty("3")).await;
    assert_eq!(bench.attempts("a").await, None, "{}: attempts", bench.check);
    assert_eq!(bench.letter("b").await, None, "{}: letter", bench.check);
    for (key, version) in [("a", Some(i64::MIN)), ("b", Some(-2)), ("c", Some(2)), ("never seen", None)] {
        assert_eq!(bench.left_out(key).await, version, "{}: `{key}`", bench.check);
        assert_eq!(bench.is_marked(key).await, version.is_some(), "{}: `{key}`", bench.check);
    }

    // A later state is written, or a delete; one that is dirty says nothing yet.
    let sight =
        bench.done("look", bench.space.look(HERE, &[id("c")]).await).into_iter().flat_map(|look| look.sights).next();
    let expected = Sight { open: true, stale: true, ..Sight::default() };
    assert_eq!(sight, Some(expected), "{}: both are told", bench.check);
    let epoch = bench.closed(&[("a", "")]).await;
    assert_eq!(bench.ack(epoch, &["a", "c"], KEEP).await, Done::Epoch, "{}: written", bench.check);
    bench.sees("c", clean("3")).await;
    for (key, version) in [("a", None), ("b", Some(-2)), ("c", None)] {
        assert_eq!(bench.left_out(key).await, version, "{}: `{key}` after an ack", bench.check);
    }

    // A dead letter that is discarded is remembered too, unless a newer state stands beside it.
    let epoch = bench.closed(&[("e", "1"), ("f", "1")]).await;
    bench.put(&[("f", "2")]).await;
    let letter = |payload| DeadLetter::new(&Record::from_bytes(payload), "rejected", "no".to_owned(), 1, 1, 1);
    let letters = [(id("e"), letter("1")), (id("f"), letter("1"))];
    bench.done("bury", bench.space.bury(&step(OWNER, epoch), &letters).await);
    let discarded = bench.done("discard", bench.space.discard(HERE, &[id("e"), id("f"), id("never seen")]).await);
    assert_eq!(discarded, 2, "{}: letters", bench.check);
    let sights = bench.done("look", bench.space.look(HERE, &[id("e"), id("f")]).await);
    let sights: Vec<Sight> = sights.into_iter().flat_map(|look| look.sights).collect();
    let expected = [Sight { discarded: true, ..Sight::default() }, Sight { open: true, ..Sight::default() }];
    assert_eq!(sights, expected, "{}: discarded", bench.check);
    assert_eq!(bench.left_out("e").await, None, "{}: no version", bench.check);
    let epoch = bench.closed(&[("e", "2")]).await;
    assert_eq!(bench.ack(epoch, &["e", "f"], KEEP).await, Done::Epoch, "{}: written", bench.check);
    let look = bench.done("look", bench.space.look(HERE, &[id("e")]).await);
    let sight = look.into_iter().flat_map(|look| look.sights).next();
    assert_eq!(sight, Some(Sight::default()), "{}: written later", bench.check);

    // A late owner does nothing.
    let epoch = bench.closed(&[("c", "4")]).await;
    bench.release(OWNER).await;
    assert_eq!(bench.take(OTHER, LONG).await, [true], "{}: the lease is free", bench.check);
    assert_eq!(bench.ack_stale(epoch, &[("c", 4)]).await, Done::NotOwner, "{}: the late owner", bench.check);
    bench.sees("c", dirty("4")).await;
    assert_eq!(bench.left_out("c").await, None, "{}: no mark", bench.check);
}

/// Marks are bounded, the newest of them stay, and it is known of which epochs some are gone.
///
/// # Panics
/// When more stay than are allowed, a newer one goes before an older one, or one of the last epoch goes.
pub async fn bounds_what_it_remembers_of_what_was_left_out(buffer: &(impl Buffer + ?Sized)) {
    let bench = Bench::open(buffer, "bounds what it remembers of what was left out").await;
    bench.own().await;
    let half = STALE_MARKS / 2;
    let all: Vec<Id> = (0..=STALE_MARKS).map(|n| id(n.to_string())).collect();
    for ids in all.chunks(half) {
        let write = |id: &Id| Write { partition: HERE, id: id.clone(), record: Record::from_bytes("1") };
        bench.done("put", bench.space.put(ids.iter().map(write).collect()).await);
        let epoch = bench.rotated().await;
        let records: Vec<(Id, i64)> = ids.iter().map(|id| (id.clone(), 1)).collect();
        bench.done("ack_stale", bench.space.ack_stale(&step(OWNER, epoch), &records).await);
    }
    let look = bench.done("look", bench.space.look(HERE, &all).await);
    let marks: Vec<usize> =
        (0..).zip(look.iter().flat_map(|look| &look.sights)).filter(|(_, sight)| sight.stale).map(|(n, _)| n).collect();
    assert!(marks.len() <= STALE_MARKS, "{}: {} marks", bench.check, marks.len());
    assert!(marks.len() > half, "{}: {} marks", bench.check, marks.len());
    assert!(marks.contains(&STALE_MARKS), "{}: the newest", bench.check);
    let old = marks.iter().filter(|n| **n < half).count();
    assert_eq!(old, 0, "{}: the older half goes", bench.check);
    let unmarked: Vec<u64> = look.iter().map(|look| look.unmarked_epoch).collect();
    assert!(unmarked.iter().all(|unmarked| *unmarked == 1), "{}: of the first epoch: {unmarked:?}", bench.check);

    // Of one epoch all stay, however many.
    let many: Vec<Id> = (0..STALE_MARKS + 300).map(|n| id(format!("again {n}"))).collect();
    let write = |id: &Id| Write { partition: HERE, id: id.clone(), record: Record::from_bytes("1") };
    bench.done("put", bench.space.put(many.iter().map(write).collect()).await);
    let epoch = bench.rotated().await;
    let records: Vec<(Id, i64)> = many.iter().map(|id| (id.clone(), 1)).collect();
    bench.done("ack_stale", bench.space.ack_stale(&step(OWNER, epoch), &records).await);
    let look = bench.done("look", bench.space.look(HERE, &many).await);
    let kept = look.iter().flat_map(|look| &look.sights).filter(|sight| sight.stale).count();
    assert_eq!(kept, many.len(), "{}: of the last epoch", bench.check);
}
