//! Dead letters: listed, replayed, discarded.

use std::collections::BTreeMap;

use super::{Bench, HERE, KEEP, LONG, OWNER, clean, dirty, id, ids, record, step};
use crate::buffer::{Attempts, Buffer, DeadLetter, Done, Lookup, Replay, Token};
use crate::entity::key::Id;

fn letter(payload: &[u8]) -> DeadLetter {
    DeadLetter::new(&record(payload), "rejected", "no".to_owned(), 3, 1, 2)
}

impl Bench {
    /// Makes dead letters of these records, all of one epoch.
    async fn buried(&self, records: &[(&str, &str)]) {
        let epoch = self.closed(records).await;
        let letters: Vec<_> = records.iter().map(|(key, payload)| (id(key), letter(payload.as_bytes()))).collect();
        self.done("bury", self.space.bury(&step(OWNER, epoch), &letters).await);
    }

    async fn replay(&self, keys: &[&str]) -> Vec<Replay> {
        self.done("replay", self.space.replay(HERE, &ids(keys)).await).outcomes
    }

    pub(super) async fn discard(&self, keys: &[&str]) -> u64 {
        self.done("discard", self.space.discard(HERE, &ids(keys)).await)
    }

    pub(super) async fn has_letter(&self, key: &str) -> bool {
        self.done("letter", self.space.letter(HERE, &id(key)).await).is_some()
    }

    async fn list(&self, limit: usize) -> BTreeMap<Id, DeadLetter> {
        let (mut all, mut cursor) = (BTreeMap::new(), 0);
        loop {
            let page = self.done("letters", self.space.letters(HERE, cursor, limit).await);
            all.extend(page.letters);
            cursor = page.cursor;
            if cursor == 0 {
                return all;
            }
        }
    }
}

/// Letters are listed whole, page by page, also while some of them go.
///
/// # Panics
/// When one that stays is missing, or a page is as good as all of them.
pub async fn lists_letters(buffer: &(impl Buffer + ?Sized)) {
    let bench = Bench::open(buffer, "lists letters").await;
    bench.own().await;
    assert!(bench.list(10).await.is_empty(), "{}: none at first", bench.check);
    let keys: Vec<String> = (0..1_000).map(|n| format!("key {n}")).collect();
    let records: Vec<(&str, &str)> = keys.iter().map(|key| (key.as_str(), key.as_str())).collect();
    bench.buried(&records).await;
    let expected: BTreeMap<Id, DeadLetter> = keys.iter().map(|key| (id(key), letter(key.as_bytes()))).collect();
    assert!(bench.list(37).await == expected, "{}: all of them, unchanged", bench.check);
    assert!(bench.list(5_000).await == expected, "{}: in one page", bench.check);

    let (mut seen, mut cursor) = (BTreeMap::new(), 0);
    loop {
        let page = bench.done("letters", bench.space.letters(HERE, cursor, 37).await);
        assert!(page.letters.len() < keys.len() / 4, "{}: a page is a page", bench.check);
        // What was listed goes, and others come.
        let listed: Vec<Id> = page.letters.iter().map(|(id, _)| id.clone()).collect();
        bench.done("discard", bench.space.discard(HERE, &listed).await);
        seen.extend(page.letters);
        cursor = page.cursor;
        if cursor == 0 {
            break;
        }
    }
    assert!(seen == expected, "{}: {} seen while they go", bench.check, seen.len());
    assert!(bench.list(10).await.is_empty(), "{}: all are discarded", bench.check);
}

/// A replayed payload is dirty again, without attempts and without its letter, and readable all the time; any payload, and
/// as many as anybody asks for.
///
/// # Panics
/// When payload, letter or readability is wrong.
pub async fn replays_letters(buffer: &(impl Buffer + ?Sized)) {
    let bench = Bench::open(buffer, "replays letters").await;
    bench.own().await;
    bench.buried(&[("a", "bad"), ("b", ""), ("c", "stays")]).await;
    let replays = bench.replay(&["a", "never seen", "b", "a"]).await;
    // An id that is named twice is replayed once.
    let expected = [Replay::Again, Replay::Absent, Replay::Again, Replay::Absent];
    assert_eq!(replays, expected, "{}: what became of them", bench.check);
    bench.sees("a", dirty("bad")).await;
    bench.sees("b", dirty("")).await;
    bench.sees("c", clean("stays")).await;
    assert!(!bench.has_letter("a").await && bench.has_letter("c").await, "{}: the letters", bench.check);
    let epoch = bench.rotated().await;
    let expected = BTreeMap::from([(id("a"), record("bad")), (id("b"), record(""))]);
    assert_eq!(bench.claim(10).await, expected, "{}: they are flushed again", bench.check);
    bench.ack(epoch, &["a", "b"], KEEP).await;
    bench.sees("a", clean("bad")).await;

    // Bytes that are no text, and quotes, and what looks like the form that bytes are kept in.
    let odd: [&[u8]; 5] = [b"\xff\x00\xc1\x80", b"\"\\\n\x01", b"hex:00ff", b"hex:zz", "ö\u{1F600}".as_bytes()];
    let epoch = bench.closed(&[("0", "x"), ("1", "x"), ("2", "x"), ("3", "x"), ("4", "x")]).await;
    let letters: Vec<_> = odd.iter().enumerate().map(|(n, payload)| (id(n.to_string()), letter(payload))).collect();
    bench.done("bury", bench.space.bury(&step(OWNER, epoch), &letters).await);
    let all: Vec<Id> = letters.iter().map(|(id, _)| id.clone()).collect();
    let replays = bench.done("replay", bench.space.replay(HERE, &all).await).outcomes;
    assert!(replays.iter().all(|replay| *replay == Replay::Again), "{}: {replays:?}", bench.check);
    bench.rotated().await;
    let claimed = bench.claim(10).await;
    for ((id, _), payload) in letters.iter().zip(odd) {
        assert_eq!(claimed.get(id), Some(&record(payload)), "{}: the very bytes", bench.check);
    }
    bench.done("ack", bench.space.ack(&step(OWNER, epoch + 1), &all, KEEP).await);

    // More than one call of a script may handle, and large ones.
    let keys: Vec<String> = (0..450).map(|n| format!("key {n}")).collect();
    let large = "x".repeat(10_000);
    let records: Vec<(&str, &str)> = keys.iter().map(|key| (key.as_str(), large.as_str())).collect();
    bench.buried(&records).await;
    let all: Vec<&str> = keys.iter().map(String::as_str).collect();
    assert!(bench.replay(&all).await.iter().all(|replay| *replay == Replay::Again), "{}: many", bench.check);
    assert_eq!(bench.status().await.open, 450, "{}: many", bench.check);
    assert_eq!(bench.replay(&[]).await, [], "{}: none", bench.check);
}

/// A letter never overtakes a newer state, whether that waits or is being flushed; and what decides is that state.
///
/// # Panics
/// When the older payload becomes dirty, or the letter goes too early or too late.
pub async fn p3_a_replay_never_overwrites_a_newer_state(buffer: &(impl Buffer + ?Sized)) {
    let bench = Bench::open(buffer, "a replay never overwrites a newer state").await;
    bench.own().await;
    bench.buried(&[("a", "old"), ("b", "old")]).await;
    bench.put(&[("a", "new"), ("b", "")]).await;
    assert_eq!(bench.replay(&["a", "b"]).await, [Replay::Superseded; 2], "{}: newer in open", bench.check);
    bench.sees("a", dirty("new")).await;
    bench.sees("b", dirty("")).await;
    let epoch = bench.rotated().await;
    assert_eq!(bench.replay(&["a", "b"]).await, [Replay::Superseded; 2], "{}: newer in flushing", bench.check);
    assert_eq!(bench.status().await.open, 0, "{}: nothing is dirty behind it", bench.check);
    assert!(bench.has_letter("a").await, "{}: not decided yet", bench.check);
    bench.ack(epoch, &["a", "b"], KEEP).await;
    assert_eq!(bench.replay(&["a", "b"]).await, [Replay::Absent; 2], "{}: the newer one is flushed", bench.check);
    bench.sees("a", clean("new")).await;

    // Refused too, the newer one takes the letter's place, and is what a replay means.
    bench.buried(&[("c", "old")]).await;
    bench.buried(&[("c", "new")]).await;
    assert_eq!(bench.replay(&["c"]).await, [Replay::Again], "{}: the newer letter", bench.check);
    bench.sees("c", dirty("new")).await;
    // And a write after the replay wins, as ever.
    bench.put(&[("c", "newest")]).await;
    bench.rotated().await;
    assert_eq!(bench.claim(10).await, BTreeMap::from([(id("c"), record("newest"))]), "{}: newest", bench.check);
}

/// A discarded letter leaves nothing behind, so that readers load the sink's row; a newer state is not touched.
///
/// # Panics
/// When anything of it stays, or anything of a newer state goes.
pub async fn discards_letters(buffer: &(impl Buffer + ?Sized)) {
    let bench = Bench::open(buffer, "discards letters").await;
    bench.own().await;
    bench.buried(&[("a", "bad"), ("b", "old"), ("c", "old"), ("d", "stays")]).await;
    assert_eq!(bench.discard(&["a", "never seen"]).await, 1, "{}: how many", bench.check);
    bench.sees("a", Lookup::Absent).await;
    assert!(!bench.has_letter("a").await, "{}: the letter", bench.check);
    let token = Token::fresh();
    let left = bench.done("token", bench.space.token(HERE, &id("a"), &token, None, LONG).await);
    assert!(left, "{}: a reader loads it", bench.check);

    // One newer state waits, refused once; one is being flushed.
    let counted = Attempts { count: 1, first_ms: 5, deferrals: 2, digest: 9 };
    let epoch = bench.closed(&[("b", "new")]).await;
    let back = bench.done("back", bench.space.back(&step(OWNER, epoch), &[(id("b"), counted)]).await);
    assert_eq!(back.done, Done::Epoch, "{}: back", bench.check);
    assert_eq!(bench.discard(&["b"]).await, 1, "{}: newer in open", bench.check);
    bench.sees("b", dirty("new")).await;
    let attempts = bench.done("attempts", bench.space.attempts(HERE, &ids(&["b"])).await);
    assert_eq!(attempts, [Some(counted)], "{}: the newer state's attempts", bench.check);
    bench.put(&[("c", "new")]).await;
    let epoch = bench.rotated().await;
    assert_eq!(bench.discard(&["b", "c"]).await, 1, "{}: newer in flushing", bench.check);
    bench.sees("c", dirty("new")).await;
    bench.ack(epoch, &["b", "c"], KEEP).await;
    bench.sees("c", clean("new")).await;
    bench.sees("d", clean("stays")).await;
    assert_eq!(bench.status().await.dead, 1, "{}: the other one stays", bench.check);
}

/// Steps say how many records they moved; an epoch that somebody else emptied never counts as flushed.
///
/// # Panics
/// When a number is wrong, or an epoch ends that did not.
pub async fn counts_what_steps_move(buffer: &(impl Buffer + ?Sized)) {
    let bench = Bench::open(buffer, "counts what steps move").await;
    bench.own().await;
    let epoch = bench.closed(&[("a", "1"), ("b", "1"), ("c", "1"), ("d", "1")]).await;
    let step = step(OWNER, epoch);
    let moved = async |what: &str, moved: Result<crate::buffer::Moved, _>, done, records| {
        let moved = bench.done(what, moved);
        assert_eq!((moved.done, moved.records), (done, records), "{}: {what}", bench.check);
    };
    let counted = Attempts { count: 1, ..Attempts::default() };
    moved("bury", bench.space.bury(&step, &[(id("a"), letter(b"1")), (id("x"), letter(b"1"))]).await, Done::More, 1)
        .await;
    moved("back", bench.space.back(&step, &[(id("b"), counted), (id("a"), counted)]).await, Done::More, 1).await;
    moved("ack", bench.space.ack(&step, &ids(&["a", "b", "c"]), KEEP).await, Done::More, 1).await;
    moved("stranger", bench.space.ack(&super::step(super::OTHER, epoch), &ids(&["d"]), KEEP).await, Done::NotOwner, 0)
        .await;
    moved("last", bench.space.ack(&step, &ids(&["d"]), KEEP).await, Done::Epoch, 1).await;
    moved("again", bench.space.ack(&step, &ids(&["d"]), KEEP).await, Done::Epoch, 0).await;

    let epoch = bench.rotated().await;
    let step = super::step(OWNER, epoch);
    // As if a part had been deleted: the last one is found, another is not.
    moved("gone", bench.space.ack(&step, &ids(&["b", "deleted"]), KEEP).await, Done::Gone, 1).await;
    assert_eq!(bench.status().await.flushed_epoch, epoch - 1, "{}: not flushed", bench.check);
    assert_eq!(bench.closed(&[("e", "1")]).await, epoch + 1, "{}: the next epoch", bench.check);
    bench.ack(epoch + 1, &["e"], KEEP).await;
    assert_eq!(bench.status().await.flushed_epoch, epoch + 1, "{}: the next epoch ends", bench.check);
}
