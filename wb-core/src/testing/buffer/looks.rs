//! invalidate and scan.

use std::collections::BTreeMap;

use super::{Bench, HERE, KEEP, LONG, OWNER, clean, dirty, id, ids, record, step};
use crate::buffer::record::{Record, Write};
use crate::buffer::{Attempts, Buffer, DeadLetter, Lookup, Stored, Token};
use crate::entity::key::Id;

impl Bench {
    async fn invalidate(&self, keys: &[&str]) -> u64 {
        self.done("invalidate", self.space.invalidate(HERE, &ids(keys)).await)
    }

    async fn scan(&self, flushing: bool, limit: usize) -> BTreeMap<Id, Record> {
        let (mut all, mut cursor) = (BTreeMap::new(), 0);
        loop {
            let page = self.done("scan", self.space.scan(HERE, flushing, cursor, limit).await);
            all.extend(page.records);
            cursor = page.cursor;
            if cursor == 0 {
                return all;
            }
        }
    }
}

/// Clean copies and marks of loads go; what is dirty and what was refused stays as it is.
///
/// # Panics
/// When a copy stays, or anything else goes.
pub async fn invalidates_what_is_clean_only(buffer: &(impl Buffer + ?Sized)) {
    let bench = Bench::open(buffer, "invalidates what is clean only").await;
    bench.own().await;
    let epoch =
        bench.closed(&[("clean", "1"), ("deleted", ""), ("rewritten", "1"), ("dead", "1"), ("back", "1")]).await;
    let acked = step(OWNER, epoch);
    let letter = DeadLetter::new(&record("1"), "rejected", "no".to_owned(), 1, 1, 1);
    bench.done("bury", bench.space.bury(&acked, &[(id("dead"), letter)]).await);
    bench.done("back", bench.space.back(&acked, &[(id("back"), Attempts::default())]).await);
    bench.ack(epoch, &["clean", "deleted", "rewritten"], KEEP).await;
    bench.put(&[("rewritten", "2")]).await;
    let token = Token::fresh();
    assert!(bench.done("token", bench.space.token(HERE, &id("loading"), &token, None, LONG).await), "{}", bench.check);

    let all = ["clean", "deleted", "rewritten", "dead", "back", "loading", "never seen"];
    assert_eq!(bench.invalidate(&all).await, 4, "{}: copies and marks with an end", bench.check);
    bench.sees("clean", Lookup::Absent).await;
    bench.sees("deleted", Lookup::Absent).await;
    bench.sees("rewritten", dirty("2")).await;
    bench.sees("dead", clean("1")).await;
    bench.sees("back", dirty("1")).await;
    bench.sees("loading", Lookup::Absent).await;
    let filled = bench.space.fill(HERE, &id("loading"), &token, &Stored::loaded(record("old"), 7), LONG).await;
    assert!(!bench.done("fill", filled), "{}: what was loaded before is not filled in", bench.check);
    assert_eq!(bench.invalidate(&all).await, 0, "{}: again", bench.check);
    assert_eq!(bench.invalidate(&[]).await, 0, "{}: nothing", bench.check);
    let many: Vec<Id> = (0..1_000).map(|n| id(format!("none {n}"))).collect();
    assert_eq!(bench.done("invalidate", bench.space.invalidate(HERE, &many).await), 0, "{}: many", bench.check);
}

/// Pages of what is open, and of what is flushing, hold each record that is there.
///
/// # Panics
/// When one is missing, or is of the other kind.
pub async fn scans_what_is_dirty(buffer: &(impl Buffer + ?Sized)) {
    let bench = Bench::open(buffer, "scans what is dirty").await;
    bench.own().await;
    for flushing in [false, true] {
        assert!(bench.scan(flushing, 10).await.is_empty(), "{}: nothing yet", bench.check);
    }
    let fill = |round: u64| -> BTreeMap<Id, Record> {
        (0..1_000)
            .map(|n| (id(n.to_string()), record(if n % 7 == 0 { String::new() } else { format!("{n}@{round}") })))
            .collect()
    };
    let writes = |all: &BTreeMap<Id, Record>| -> Vec<Write> {
        all.iter().map(|(id, record)| Write { partition: HERE, id: id.clone(), record: record.clone() }).collect()
    };
    let (first, second) = (fill(1), fill(2));
    bench.done("put", bench.space.put(writes(&first)).await);
    assert_eq!(bench.scan(false, 17).await, first, "{}: open", bench.check);
    bench.rotated().await;
    assert!(bench.scan(false, 17).await.is_empty(), "{}: nothing is open", bench.check);
    bench.done("put", bench.space.put(writes(&second)).await);
    assert_eq!(bench.scan(true, 17).await, first, "{}: flushing", bench.check);
    assert_eq!(bench.scan(false, 1).await, second, "{}: open again", bench.check);
}
