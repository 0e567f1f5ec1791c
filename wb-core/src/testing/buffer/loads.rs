//! Load tokens.

use std::time::Duration;

use super::{Bench, HERE, KEEP, LONG, OWNER, clean, dirty, id, record, step};
use crate::buffer::{Attempts, Buffer, Clean, DeadLetter, Lookup, Token};
use crate::record::Record;

impl Bench {
    async fn token(&self, key: &str, token: &Token, ttl: Duration) -> bool {
        self.done("token", self.space.token(HERE, &id(key), token, ttl).await)
    }

    async fn fill(&self, key: &str, token: &Token, state: &Record, ttl: Duration) -> bool {
        self.done("fill", self.space.fill(HERE, &id(key), token, state, ttl).await)
    }
}

/// One reader at a time marks a key as being loaded, for as long as the mark lives; a copy leaves no room for it.
///
/// # Panics
/// When two do.
pub async fn tokens_exclude(buffer: &(impl Buffer + ?Sized)) {
    let bench = Bench::open(buffer, "tokens exclude").await;
    let (one, two) = (Token::fresh(), Token::fresh());
    assert!(bench.token("a", &one, LONG).await, "{}: the first", bench.check);
    assert!(!bench.token("a", &two, LONG).await, "{}: the second", bench.check);
    bench.sees("a", Lookup::Loading(one)).await;
    assert!(bench.token("b", &two, Duration::from_millis(30)).await, "{}: another key", bench.check);
    bench.comes_to("b", &Lookup::Absent).await;
    assert!(bench.token("b", &Token::fresh(), LONG).await, "{}: the mark has ended", bench.check);
    // A mark never hides what is dirty.
    bench.put(&[("a", "1")]).await;
    bench.sees("a", dirty("1")).await;
    bench.own().await;
    let epoch = bench.rotated().await;
    bench.ack(epoch, &["a"], KEEP).await;
    assert!(!bench.token("a", &two, LONG).await, "{}: a copy is there", bench.check);
    bench.sees("a", clean("1")).await;
}

/// A loaded state is filled in under the mark that stands, under no other and only once.
///
/// # Panics
/// When it is filled in under another, or not under the standing one.
pub async fn fills_for_the_standing_token_only(buffer: &(impl Buffer + ?Sized)) {
    let bench = Bench::open(buffer, "fills for the standing token only").await;
    let (one, two) = (Token::fresh(), Token::fresh());
    assert!(!bench.fill("a", &one, &record("x"), LONG).await, "{}: no mark", bench.check);
    bench.sees("a", Lookup::Absent).await;
    bench.token("a", &one, LONG).await;
    assert!(!bench.fill("a", &two, &record("x"), LONG).await, "{}: another mark", bench.check);
    assert!(bench.fill("a", &one, &record("1"), LONG).await, "{}: the standing mark", bench.check);
    bench.sees("a", clean("1")).await;
    assert!(!bench.fill("a", &one, &record("x"), LONG).await, "{}: the mark is used", bench.check);
    bench.sees("a", clean("1")).await;
    bench.token("none", &two, LONG).await;
    assert!(bench.fill("none", &two, &Record::tombstone(), LONG).await, "{}: no such row", bench.check);
    bench.sees("none", clean("")).await;

    let three = Token::fresh();
    bench.token("b", &three, LONG).await;
    assert!(bench.fill("b", &three, &record("1"), Duration::ZERO).await, "{}: without copies", bench.check);
    bench.sees("b", Lookup::Absent).await;
    bench.token("b", &one, LONG).await;
    assert!(bench.fill("b", &one, &record("1"), Duration::from_millis(30)).await, "{}: a short TTL", bench.check);
    bench.comes_to("b", &Lookup::Absent).await;
}

/// Whatever a worker does with a key takes the mark away, so that an old row is never filled in.
///
/// # Panics
/// When the old row is.
pub async fn tokens_fall_to_newer_states(buffer: &(impl Buffer + ?Sized)) {
    let bench = Bench::open(buffer, "tokens fall to newer states").await;
    bench.own().await;
    let off = Clean { ttl: Duration::ZERO, negative_ttl: Duration::ZERO };
    for key in ["acked", "acked without copies", "back", "buried"] {
        let token = Token::fresh();
        assert!(bench.token(key, &token, LONG).await, "{}: {key}: the mark", bench.check);
        let epoch = bench.closed(&[(key, "new")]).await;
        let step = step(OWNER, epoch);
        let (expected, done) = match key {
            "acked" => (clean("new"), bench.ack(epoch, &[key], KEEP).await),
            "back" => {
                let attempts = Attempts { count: 1, first_ms: 1, ..Attempts::default() };
                (dirty("new"), bench.done("back", bench.space.back(&step, &[(id(key), attempts)]).await).done)
            }
            "buried" => {
                let letter = DeadLetter::new(&record("new"), "rejected", "no".to_owned(), 1, 1, 1);
                (clean("new"), bench.done("bury", bench.space.bury(&step, &[(id(key), letter)]).await).done)
            }
            _ => (Lookup::Absent, bench.ack(epoch, &[key], off).await),
        };
        assert_eq!(done, crate::buffer::Done::Epoch, "{}: {key}", bench.check);
        assert!(!bench.fill(key, &token, &record("old"), LONG).await, "{}: {key}: an old row", bench.check);
        bench.sees(key, expected).await;
        if key == "back" {
            // Flushed without a copy, the state that went back leaves nothing behind.
            let epoch = bench.rotated().await;
            bench.ack(epoch, &[key], off).await;
            bench.sees(key, Lookup::Absent).await;
        }
    }
}
