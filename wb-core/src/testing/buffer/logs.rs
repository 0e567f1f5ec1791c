//! append, read and trim.

use super::{Bench, HERE, KEEP, LONG, OTHER, OWNER, PARTITIONS, dirty, id, ids, record, scope, step};
use crate::buffer::record::Write;
use crate::buffer::{
    Attempts, Buffer, DeadLetter, Done, LogPage, Moved, Registration, Rotation, Settled, Stamp, Status, Step,
};
use crate::entity::codec::Format;
use crate::error::buffer::BufferErrorKind;

fn logged() -> Registration {
    Registration { append: true, ..Registration::new(scope(PARTITIONS), Format::Json) }
}

fn written(keys: &[&str]) -> Vec<Settled> {
    keys.iter().map(|key| Settled::Written(id(key))).collect()
}

impl Bench {
    async fn logs(buffer: &(impl Buffer + ?Sized), check: &'static str) -> Self {
        Self::of(buffer, check, logged()).await
    }

    async fn append(&self, payloads: &[&str]) {
        let writes =
            payloads.iter().map(|text| Write { partition: HERE, id: id(text), record: record(text) }).collect();
        self.done("append", self.space.append(writes).await);
    }

    async fn read_log(&self, skip: u64, limit: usize) -> LogPage {
        self.done("read_log", self.space.read_log(HERE, skip, limit).await)
    }

    /// The entries of the closed log.
    async fn log(&self) -> Vec<String> {
        let entries = self.read_log(0, 10_000).await.entries;
        entries.iter().map(|entry| String::from_utf8_lossy(entry.as_bytes()).into_owned()).collect()
    }

    async fn trim(&self, step: &Step<'_>, number: u64, settled: &[Settled]) -> Moved {
        self.done("trim", self.space.trim(step, number, settled).await)
    }
}

/// Entries are read in the order in which they were added, page by page; those that are added after the rotation belong
/// to the next epoch.
///
/// # Panics
/// When one is missing, in another place, or early.
pub async fn p13_logs_are_the_cut_in_order(buffer: &(impl Buffer + ?Sized)) {
    let bench = Bench::logs(buffer, "logs are the cut, in order").await;
    let check = bench.check;
    let texts: Vec<String> = (0..1_000).map(|n| format!("entry {n}")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let (one, more) = texts.split_at(1);
    bench.append(one).await;
    bench.append(more).await;
    assert!(bench.log().await.is_empty(), "{check}: nothing is closed");
    bench.own().await;
    let epoch = bench.rotated().await;
    bench.append(&["later"]).await;
    assert_eq!(bench.log().await, texts, "{check}: all of them, in order");
    let page = bench.read_log(700, 10).await;
    let expected: Vec<_> = texts.iter().skip(700).take(10).map(record).collect();
    assert_eq!((page.number, page.entries, page.left), (700, expected, 1_000), "{check}: a page");
    let moved = bench.trim(&step(OWNER, epoch), 0, &written(texts.get(..450).unwrap_or_default())).await;
    assert_eq!(moved, Moved { done: Done::More, records: 450, missing: 0 }, "{check}: some of them");
    let page = bench.read_log(2, 1).await;
    let expected: Vec<_> = texts.iter().skip(452).take(1).map(record).collect();
    assert_eq!((page.number, page.entries, page.left), (452, expected, 550), "{check}: what is left");
    assert_eq!(bench.rotate(OWNER).await, Rotation::Epoch(epoch), "{check}: not flushed yet");
    let moved = bench.trim(&step(OWNER, epoch), 450, &written(texts.get(450..).unwrap_or_default())).await;
    assert_eq!(moved, Moved { done: Done::Epoch, records: 550, missing: 0 }, "{check}: the rest");
    assert_eq!(bench.rotated().await, epoch + 1, "{check}: the next epoch");
    assert_eq!(bench.log().await, ["later"], "{check}: what came later");
}

/// Entries count where they stand, and an epoch ends when neither the hash nor the log has anything left.
///
/// # Panics
/// When they do not, or an epoch ends early.
pub async fn logs_count_and_end_with_the_epoch(buffer: &(impl Buffer + ?Sized)) {
    let bench = Bench::logs(buffer, "logs count, and end with the epoch").await;
    let check = bench.check;
    let pending = async || bench.done("pending", bench.space.pending(&[0, HERE]).await).pending;
    assert!(pending().await.is_empty(), "{check}: nothing is dirty");
    bench.append(&["a", "b"]).await;
    bench.put(&[("c", "1")]).await;
    let found = pending().await;
    assert_eq!(found.iter().map(|p| (p.partition, p.open, p.flushing)).collect::<Vec<_>>(), [(HERE, 3, 0)], "{check}");
    bench.own().await;
    let epoch = bench.rotated().await;
    bench.append(&["d"]).await;
    let found = pending().await;
    assert_eq!(found.iter().map(|p| (p.partition, p.open, p.flushing)).collect::<Vec<_>>(), [(HERE, 1, 3)], "{check}");
    let expected =
        Status { open_epoch: 2, flushed_epoch: 0, vanished_epoch: 0, open: 1, flushing: 3, dead: 0, missing: 0 };
    assert_eq!(bench.status().await, expected, "{check}: status");
    assert_eq!(bench.ack(epoch, &["c"], KEEP).await, Done::More, "{check}: the log is left");
    let moved = bench.trim(&step(OWNER, epoch), 0, &written(&["a", "b"])).await;
    assert_eq!(moved, Moved { done: Done::Epoch, records: 2, missing: 0 }, "{check}: nothing is left");
    // And the other way round.
    bench.put(&[("e", "1")]).await;
    let epoch = bench.rotated().await;
    let moved = bench.trim(&step(OWNER, epoch), 2, &written(&["d"])).await;
    assert_eq!(moved, Moved { done: Done::More, records: 1, missing: 0 }, "{check}: the hash is left");
    assert_eq!(bench.ack(epoch, &["e"], KEEP).await, Done::Epoch, "{check}: nothing is left");
    assert_eq!(bench.status().await.flushed_epoch, epoch, "{check}: flushed");
}

/// A trim takes off what its caller has read, once: not for another owner, epoch or stamp, and not when it is repeated.
///
/// # Panics
/// When entries are gone that nobody has written.
pub async fn p1_a_trim_takes_off_what_was_read(buffer: &(impl Buffer + ?Sized)) {
    let bench = Bench::logs(buffer, "a trim takes off what was read").await;
    let check = bench.check;
    bench.append(&["a", "b", "c", "d"]).await;
    bench.own().await;
    let epoch = bench.rotated().await;
    let mine = step(OWNER, epoch);
    let refused = Moved { done: Done::NotOwner, records: 0, missing: 0 };
    let strangers = [step(OTHER, epoch), step(OWNER, epoch + 1), Step { stamp: Stamp::fresh(), ..mine }];
    for stranger in strangers {
        assert_eq!(bench.trim(&stranger, 0, &written(&["a"])).await, refused, "{check}: {stranger:?}");
    }
    assert_eq!(bench.trim(&mine, 1, &written(&["b"])).await, refused, "{check}: not the head");
    assert_eq!(bench.trim(&mine, 0, &written(&["a", "b"])).await.records, 2, "{check}: the head");
    // Its answer was lost.
    let again = bench.trim(&mine, 0, &written(&["a", "b"])).await;
    assert_eq!(again, Moved { done: Done::More, records: 0, missing: 0 }, "{check}: repeated");
    assert_eq!(bench.log().await, ["c", "d"], "{check}: what was not written");
    assert_eq!(bench.trim(&mine, 1, &written(&["b", "c"])).await, refused, "{check}: overlapping");
    // The next owner goes on with it, under a stamp of its own.
    bench.release(OWNER).await;
    assert_eq!(bench.take(OTHER, LONG).await, [true], "{check}: the lease is free");
    let stamp = Stamp::fresh();
    let rotation = bench.done("rotate", bench.space.rotate(HERE, OTHER, stamp).await);
    assert_eq!(rotation, Rotation::Epoch(epoch), "{check}: the next owner goes on");
    assert_eq!(bench.trim(&mine, 2, &written(&["c"])).await, refused, "{check}: a late trim");
    assert_eq!(bench.read_log(0, 1).await.number, 2, "{check}: numbers go on");
    let next = Step { partition: HERE, owner: OTHER, epoch, stamp };
    let moved = bench.trim(&next, 2, &written(&["c", "d"])).await;
    assert_eq!(moved, Moved { done: Done::Epoch, records: 2, missing: 0 }, "{check}: the end");
}

/// What the sink has not goes from the log into the open epoch with its attempts, or becomes a letter; neither holds the
/// log up. What the sink has settles what was refused under its id.
///
/// # Panics
/// When an entry is lost, or stands in the wrong place.
pub async fn trims_keep_what_was_refused(buffer: &(impl Buffer + ?Sized)) {
    let bench = Bench::logs(buffer, "trims keep what was refused").await;
    let check = bench.check;
    let some: Vec<String> = (0..400).map(|n| format!("{n:03}")).collect();
    bench.append(&some.iter().map(String::as_str).collect::<Vec<_>>()).await;
    bench.own().await;
    let epoch = bench.rotated().await;
    let attempts = Attempts { count: 1, first_ms: 7, deferrals: 0, digest: record("150").digest() };
    let letter = |text: &str| DeadLetter::new(&record(text), "rejected", "no".into(), 1, 1, 2);
    let settled: Vec<Settled> = some
        .iter()
        .map(|text| match text.as_str() {
            "000" | "150" | "399" => Settled::Again(id(text), attempts),
            "250" => Settled::Dead(id(text), letter(text)),
            _ => Settled::Written(id(text)),
        })
        .collect();
    let moved = bench.trim(&step(OWNER, epoch), 0, &settled).await;
    assert_eq!(moved, Moved { done: Done::Epoch, records: 400, missing: 0 }, "{check}: all of them");
    for text in ["000", "150", "399"] {
        bench.sees(text, dirty(text)).await;
    }
    let expected =
        Status { open_epoch: 2, flushed_epoch: 1, vanished_epoch: 0, open: 3, flushing: 0, dead: 1, missing: 0 };
    assert_eq!(bench.status().await, expected, "{check}: status");
    let found = bench.done("attempts", bench.space.attempts(HERE, &ids(&["150", "151"])).await);
    assert_eq!(found, [Some(attempts), None], "{check}: attempts");
    let found = bench.done("letter", bench.space.letter(HERE, &id("250")).await);
    assert_eq!(found, Some(letter("250")), "{check}: the letter");

    // The first of two entries with one id stays; the sink takes the letter's key.
    bench.append(&["second", "250"]).await;
    let epoch = bench.rotated().await;
    let settled = [Settled::Again(id("000"), Attempts::default()), Settled::Written(id("250"))];
    bench.trim(&step(OWNER, epoch), 400, &settled).await;
    assert_eq!(bench.ack(epoch, &["000", "150", "399"], KEEP).await, Done::Epoch, "{check}: the refused ones");
    assert_eq!(bench.status().await.dead, 0, "{check}: the letter is settled");
    let claimed = bench.rotated().await;
    assert_eq!(bench.claim(10).await.get(&id("000")), Some(&record("second")), "{check}: {claimed}");
}

/// Entries never pass `max_dirty`, a call gets in whole or not at all, and refused records count too.
///
/// # Panics
/// When it is not so.
pub async fn p7_logs_stay_within_the_limit(buffer: &(impl Buffer + ?Sized)) {
    let check = "logs stay within the limit";
    let bench = Bench::of(buffer, check, Registration { max_dirty: Some(5), ..logged() }).await;
    let write = |partition, key: &str| Write { partition, id: id(key), record: record(key) };
    let gets_in = async |writes: Vec<Write>| match bench.space.append(writes).await {
        Ok(()) => true,
        Err(error) => {
            assert_eq!(error.kind(), BufferErrorKind::Full, "{check}: {error}");
            false
        }
    };
    assert!(gets_in(vec![write(HERE, "a"), write(0, "b"), write(HERE, "a")]).await, "{check}: three of five");
    assert!(!gets_in(vec![write(HERE, "c"), write(HERE, "d"), write(0, "e")]).await, "{check}: six of five");
    assert!(gets_in(vec![write(HERE, "c"), write(HERE, "d")]).await, "{check}: five of five");
    assert!(!gets_in(vec![write(HERE, "a")]).await, "{check}: an entry is never dirty already");
    bench.own().await;
    let epoch = bench.rotated().await;
    assert_eq!(bench.log().await, ["a", "a", "c", "d"], "{check}: in order");
    assert!(!gets_in(vec![write(0, "f")]).await, "{check}: closed logs are dirty too");
    bench.trim(&step(OWNER, epoch), 0, &[Settled::Again(id("a"), Attempts::default())]).await;
    assert!(!gets_in(vec![write(0, "f")]).await, "{check}: so is what was refused");
    bench.trim(&step(OWNER, epoch), 1, &written(&["a"])).await;
    assert!(gets_in(vec![write(0, "f")]).await, "{check}: there is room");
}

/// An entity that is not append-only has no log, and does not become append-only while anything is dirty.
///
/// # Panics
/// When entries are taken that nobody flushes.
pub async fn logs_are_a_part_of_the_topology(buffer: &(impl Buffer + ?Sized)) {
    let check = "logs are a part of the topology";
    let registration = logged();
    let plain = Registration { append: false, ..registration.clone() };
    let bench = Bench::of(buffer, check, plain.clone()).await;
    let entry = || vec![Write { partition: HERE, id: id("a"), record: record("a") }];
    let error = bench.space.append(entry()).await.err().map(|error| error.kind());
    assert_eq!(error, Some(BufferErrorKind::Misconfigured), "{check}: there is no log");
    let bench = Bench::of(buffer, check, registration).await;
    bench.done("append", bench.space.append(entry()).await);
    let error = buffer.space(plain).await.err().map(|error| error.kind());
    assert_eq!(error, Some(BufferErrorKind::Topology), "{check}: an entry waits");
}
