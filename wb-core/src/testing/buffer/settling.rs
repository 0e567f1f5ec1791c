//! ack, back and bury.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Bench, HERE, KEEP, LONG, OTHER, OWNER, PATIENCE, clean, dirty, id, ids, record, step};
use crate::buffer::{Attempts, Buffer, Clean, DeadLetter, Done, Lookup, Operation, Stored};

const ONCE: Attempts = Attempts { count: 1, first_ms: 1_700_000_000_123, deferrals: 7, digest: 0x0123_4567_89ab_cdef };

fn letter(payload: &str) -> DeadLetter {
    DeadLetter::new(&record(payload), "rejected", "column `x`: \"no\"".to_owned(), 5, 1_700_000_000_123, u64::MAX >> 12)
}

impl Bench {
    pub(super) async fn attempts(&self, key: &str) -> Option<Attempts> {
        let found = self.done("attempts", self.space.attempts(HERE, &ids(&[key, "never seen"])).await);
        assert_eq!(found.len(), 2, "{}: attempts: one answer per id", self.check);
        found.into_iter().next().flatten()
    }

    pub(super) async fn letter(&self, key: &str) -> Option<DeadLetter> {
        self.done("letter", self.space.letter(HERE, &id(key)).await)
    }

    async fn back(&self, epoch: u64, key: &str) -> Done {
        self.done("back", self.space.back(&step(OWNER, epoch), &[(id(key), ONCE)]).await).done
    }

    async fn bury(&self, epoch: u64, key: &str, payload: &str) -> Done {
        self.done("bury", self.space.bury(&step(OWNER, epoch), &[(id(key), letter(payload))]).await).done
    }
}

/// An ack leaves the flushed state as a clean copy: the row, "no such row" after a delete, nothing where copies are
/// switched off.
///
/// # Panics
/// When anything else is read.
pub async fn ack_leaves_clean_copies(buffer: &(impl Buffer + ?Sized)) {
    let bench = Bench::open(buffer, "ack leaves clean copies").await;
    bench.own().await;
    let epoch = bench.closed(&[("a", "1"), ("b", ""), ("c", "1")]).await;
    assert_eq!(bench.ack(epoch, &[], KEEP).await, Done::More, "{}: an ack of nothing", bench.check);
    assert_eq!(bench.ack(epoch, &["a", "never seen"], KEEP).await, Done::More, "{}: one of three", bench.check);
    bench.sees("a", clean("1")).await;
    bench.sees("never seen", Lookup::Absent).await;
    assert_eq!(bench.ack(epoch, &["b", "c"], KEEP).await, Done::Epoch, "{}: all", bench.check);
    bench.sees("b", clean("")).await;

    let off = Clean { ttl: Duration::ZERO, negative_ttl: LONG };
    let epoch = bench.closed(&[("a", "2"), ("b", "2"), ("c", "")]).await;
    assert_eq!(bench.ack(epoch, &["a", "b", "c"], off).await, Done::Epoch, "{}: without copies", bench.check);
    for key in ["a", "b", "c"] {
        bench.sees(key, Lookup::Absent).await;
    }
    let forgetful = Clean { ttl: LONG, negative_ttl: Duration::ZERO };
    let epoch = bench.closed(&[("a", "3"), ("b", "")]).await;
    bench.ack(epoch, &["a", "b"], forgetful).await;
    bench.sees("a", clean("3")).await;
    bench.sees("b", Lookup::Absent).await;
}

/// Clean copies end with their TTL, however short or long it is; what is dirty, refused or buried stays.
///
/// # Panics
/// When a copy stays, or a state that is not in the sink goes.
pub async fn p10_clean_copies_expire_and_dirty_ones_do_not(buffer: &(impl Buffer + ?Sized)) {
    let bench = Bench::open(buffer, "clean copies expire and dirty ones do not").await;
    bench.own().await;
    let epoch = bench.closed(&[("a", "1"), ("b", ""), ("c", "1"), ("d", "1"), ("e", "1")]).await;
    let short = Clean { ttl: Duration::from_millis(40), negative_ttl: Duration::from_micros(1) };
    bench.back(epoch, "c").await;
    bench.bury(epoch, "d", "1").await;
    bench.ack(epoch, &["a", "b", "e"], short).await;
    // Dirty again over a copy that is about to go.
    bench.put(&[("e", "2")]).await;
    bench.comes_to("a", &Lookup::Absent).await;
    bench.comes_to("b", &Lookup::Absent).await;
    tokio::time::sleep(Duration::from_millis(60)).await;
    bench.sees("c", dirty("1")).await;
    bench.sees("d", clean("1")).await;
    bench.sees("e", dirty("2")).await;
    // Flushed at last, the refused one's copy gets its TTL too.
    let epoch = bench.rotated().await;
    bench.ack(epoch, &["c", "e"], short).await;
    bench.comes_to("c", &Lookup::Absent).await;
    // As long as anybody can ask for.
    let epoch = bench.closed(&[("f", "1")]).await;
    let forever = Clean { ttl: Duration::MAX, negative_ttl: Duration::MAX };
    assert_eq!(bench.ack(epoch, &["f"], forever).await, Done::Epoch, "{}: a TTL without end", bench.check);
    bench.sees("f", clean("1")).await;
}

/// A state that the sink has taken settles what was refused before.
///
/// # Panics
/// When attempts or a dead letter stay, or another key's go.
pub async fn ack_clears_attempts_and_letters(buffer: &(impl Buffer + ?Sized)) {
    let bench = Bench::open(buffer, "ack clears attempts and letters").await;
    bench.own().await;
    let epoch = bench.closed(&[("a", "bad"), ("b", "bad"), ("c", "bad"), ("d", "bad")]).await;
    bench.back(epoch, "a").await;
    bench.back(epoch, "b").await;
    bench.bury(epoch, "c", "bad").await;
    bench.bury(epoch, "d", "bad").await;
    assert_eq!(bench.attempts("a").await, Some(ONCE), "{}: attempts are kept", bench.check);
    let epoch = bench.closed(&[("c", "good")]).await;
    assert_eq!(bench.ack(epoch, &["a", "c"], KEEP).await, Done::More, "{}: `b` is left", bench.check);
    assert_eq!(bench.attempts("a").await, None, "{}: attempts of `a`", bench.check);
    assert_eq!(bench.attempts("b").await, Some(ONCE), "{}: attempts of `b`", bench.check);
    assert_eq!(bench.letter("c").await, None, "{}: letter of `c`", bench.check);
    assert_eq!(bench.letter("d").await, Some(letter("bad")), "{}: letter of `d`", bench.check);
    assert_eq!(bench.status().await.dead, 1, "{}: one letter is left", bench.check);
}

/// A refused record goes back where nothing newer is; a newer state wins. Either way it is known that the key was refused,
/// until a state of it is settled otherwise.
///
/// # Panics
/// When the older state wins, or the refusal is forgotten.
pub async fn back_keeps_the_newer_state(buffer: &(impl Buffer + ?Sized)) {
    let bench = Bench::open(buffer, "back keeps the newer state").await;
    bench.own().await;
    let epoch = bench.closed(&[("a", "old"), ("b", "old"), ("c", "")]).await;
    bench.put(&[("b", "new")]).await;
    for key in ["a", "b"] {
        assert_eq!(bench.back(epoch, key).await, Done::More, "{}: `{key}`", bench.check);
    }
    assert_eq!(bench.back(epoch, "c").await, Done::Epoch, "{}: the epoch ends", bench.check);
    bench.sees("a", dirty("old")).await;
    bench.sees("b", dirty("new")).await;
    bench.sees("c", dirty("")).await;
    assert_eq!(bench.attempts("a").await, Some(ONCE), "{}: counted", bench.check);
    // Superseded, the refusal is still the last that was said of the key.
    assert_eq!(bench.attempts("b").await, Some(ONCE), "{}: superseded", bench.check);

    // Counted again, then superseded before the second try is over.
    let epoch = bench.rotated().await;
    bench.put(&[("a", "new")]).await;
    bench.ack(epoch, &["b", "c"], KEEP).await;
    assert_eq!(bench.back(epoch, "a").await, Done::Epoch, "{}: the epoch ends again", bench.check);
    bench.sees("a", dirty("new")).await;
    assert_eq!(bench.attempts("a").await, Some(ONCE), "{}: superseded later", bench.check);
    let epoch = bench.rotated().await;
    assert_eq!(bench.claim(10).await.get(&id("a")), Some(&record("new")), "{}: the newer one", bench.check);
    // Superseded by a state that is flushed: nothing of the older one is left to be read.
    bench.ack(epoch, &["a"], KEEP).await;
    bench.sees("a", clean("new")).await;
    assert_eq!(bench.attempts("a").await, None, "{}: the newer one was taken", bench.check);
}

/// There is no moment in which a record that goes back cannot be read.
///
/// # Panics
/// When a reader finds nothing, or an older state.
pub async fn p9_back_stays_readable(buffer: &(impl Buffer + ?Sized)) {
    let bench = Bench::open(buffer, "back stays readable").await;
    bench.own().await;
    bench.put(&[("a", "0")]).await;
    let rounds = 60;
    let reader = async {
        let mut newest = 0_u32;
        while newest < rounds {
            let (Lookup::Dirty(found) | Lookup::Clean(Stored { record: found, .. })) = bench.get("a").await else {
                panic!("{}: a reader finds nothing", bench.check)
            };
            let found = std::str::from_utf8(found.as_bytes()).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
            assert!(found >= newest, "{}: a reader sees {found} after {newest}", bench.check);
            newest = found;
            tokio::task::yield_now().await;
        }
    };
    let worker = async {
        for round in 1..=rounds {
            let epoch = bench.rotated().await;
            if round % 2 == 0 {
                bench.put(&[("a", &round.to_string())]).await;
            }
            if round % 3 == 0 {
                bench.bury(epoch, "a", "buried").await;
            } else {
                bench.back(epoch, "a").await;
            }
            bench.put(&[("a", &round.to_string())]).await;
        }
    };
    let both = async { futures::join!(reader, worker) };
    assert!(tokio::time::timeout(PATIENCE, both).await.is_ok(), "{}: the reader sees the last state", bench.check);
}

/// A dead letter is kept whole, its record stays readable, and the epoch goes on without it.
///
/// # Panics
/// When payload, reason or readability is lost.
pub async fn bury_keeps_letters(buffer: &(impl Buffer + ?Sized)) {
    let bench = Bench::open(buffer, "bury keeps letters").await;
    bench.own().await;
    let epoch = bench.closed(&[("a", "bad"), ("b", ""), ("c", "bad")]).await;
    bench.put(&[("c", "newer")]).await;
    assert_eq!(bench.letter("a").await, None, "{}: no letter yet", bench.check);
    assert_eq!(bench.bury(epoch, "a", "bad").await, Done::More, "{}: one of three", bench.check);
    bench.sees("a", clean("bad")).await;
    assert_eq!(bench.letter("a").await, Some(letter("bad")), "{}: the letter, unchanged", bench.check);
    assert_eq!(bench.bury(epoch, "b", "").await, Done::More, "{}: a delete", bench.check);
    bench.sees("b", clean("")).await;
    let buried = bench.letter("b").await.map(|letter| letter.operation);
    assert_eq!(buried, Some(Operation::Delete), "{}: what was to be done", bench.check);
    assert_eq!(bench.bury(epoch, "c", "bad").await, Done::Epoch, "{}: the epoch ends", bench.check);
    bench.sees("c", dirty("newer")).await;
    assert_eq!(bench.bury(epoch, "never seen", "x").await, Done::Epoch, "{}: nothing to bury", bench.check);
    assert_eq!(bench.letter("never seen").await, None, "{}: no letter of nothing", bench.check);
    let raw = DeadLetter::new(&record(b"\xff\x00\xc1"), "undecodable", "no".to_owned(), 1, 2, 3);
    let epoch = bench.closed(&[("d", "x")]).await;
    bench.done("bury", bench.space.bury(&step(OWNER, epoch), &[(id("d"), raw.clone())]).await);
    assert_eq!(bench.letter("d").await, Some(raw), "{}: a payload that is no text", bench.check);
}

/// A delete that went back without having been refused is listed until its key is settled; one that was refused is not.
///
/// # Panics
/// When one is missing, or another one is listed.
pub async fn lists_held_deletes(buffer: &(impl Buffer + ?Sized)) {
    let bench = Bench::open(buffer, "lists held deletes").await;
    bench.own().await;
    let listed = async || {
        let held = bench.done("held", bench.space.held(&[0, HERE, HERE + 1]).await);
        assert!(held.iter().all(|held| held.partition == HERE), "{}: its partition", bench.check);
        held.into_iter().map(|held| (held.id, held.attempts)).collect::<BTreeMap<_, _>>()
    };
    assert_eq!(listed().await, BTreeMap::new(), "{}: nothing is held", bench.check);
    let many: Vec<String> = (0..1_200).map(|n| format!("held {n}")).collect();
    let deletes: Vec<(&str, &str)> = many.iter().map(|key| (key.as_str(), "")).collect();
    bench.put(&deletes).await;
    let epoch = bench.closed(&[("refused", ""), ("flushed", "1")]).await;
    let held: BTreeMap<_, _> = (0_u64..).zip(&many).map(|(n, key)| (id(key), Attempts::held(n))).collect();
    let backs: Vec<_> = held.iter().map(|(id, attempts)| (id.clone(), *attempts)).collect();
    bench.done("back", bench.space.back(&step(OWNER, epoch), &backs).await);
    bench.back(epoch, "refused").await;
    assert_eq!(bench.ack(epoch, &["flushed"], KEEP).await, Done::Epoch, "{}: the epoch ends", bench.check);
    assert_eq!(listed().await, held, "{}: all that are held, and nothing else", bench.check);
    // Flushed at last, or replaced by a state that is.
    bench.put(&[("held 1", "1")]).await;
    let epoch = bench.rotated().await;
    bench.ack(epoch, &["held 0", "held 1"], KEEP).await;
    let rest = listed().await;
    assert_eq!(rest.len(), 1_198, "{}: two are settled", bench.check);
    assert!(!rest.contains_key(&id("held 0")) && !rest.contains_key(&id("held 1")), "{}: these two", bench.check);
}

/// A step that is repeated after its epoch has ended says so and touches nothing.
///
/// # Panics
/// When it clears a letter, an attempt, a newer write, or ends the next epoch.
pub async fn late_steps_are_harmless(buffer: &(impl Buffer + ?Sized)) {
    let bench = Bench::open(buffer, "late steps are harmless").await;
    bench.own().await;
    let epoch = bench.closed(&[("a", "1"), ("b", "1"), ("c", "1")]).await;
    bench.back(epoch, "b").await;
    bench.bury(epoch, "c", "1").await;
    assert_eq!(bench.ack(epoch, &["a"], KEEP).await, Done::Epoch, "{}: ended", bench.check);
    bench.put(&[("a", "2")]).await;
    let before = bench.status().await;
    // A scan names a record twice, or a reply was lost: the same step again, now with nothing to do.
    assert_eq!(bench.ack(epoch, &["a", "b", "c"], KEEP).await, Done::Epoch, "{}: ack again", bench.check);
    assert_eq!(bench.back(epoch, "a").await, Done::Epoch, "{}: back again", bench.check);
    assert_eq!(bench.bury(epoch, "a", "1").await, Done::Epoch, "{}: bury again", bench.check);
    assert_eq!(bench.status().await, before, "{}: nothing moved", bench.check);
    assert_eq!(bench.attempts("b").await, Some(ONCE), "{}: attempts stay", bench.check);
    assert_eq!(bench.letter("c").await, Some(letter("1")), "{}: letters stay", bench.check);
    bench.sees("a", dirty("2")).await;

    let next = bench.rotated().await;
    assert_eq!(bench.ack(epoch, &["a", "b"], KEEP).await, Done::NotOwner, "{}: the next epoch", bench.check);
    let after = bench.status().await;
    assert_eq!((after.flushing, after.flushed_epoch), (2, epoch), "{}: the next epoch is whole", bench.check);
    assert_eq!(next, epoch + 1, "{}: epochs are counted one by one", bench.check);

    // The lease ends in the middle of an epoch: its late owner does nothing.
    bench.release(OWNER).await;
    assert_eq!(bench.take(OTHER, LONG).await, [true], "{}: the lease is free", bench.check);
    assert_eq!(bench.ack(next, &["a"], KEEP).await, Done::NotOwner, "{}: the late owner", bench.check);
    bench.sees("a", dirty("2")).await;
}
