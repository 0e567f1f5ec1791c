//! Load tokens.

use std::time::Duration;

use super::{Bench, HERE, KEEP, LONG, OWNER, clean, dirty, id, record, step};
use crate::buffer::record::Record;
use crate::buffer::{Attempts, Buffer, Clean, DeadLetter, Lookup, Stored, Token};

impl Bench {
    async fn token(&self, key: &str, token: &Token, ttl: Duration) -> bool {
        self.done("token", self.space.token(HERE, &id(key), token, None, ttl).await)
    }

    async fn fill(&self, key: &str, token: &Token, state: &Record, ttl: Duration) -> bool {
        self.done("fill", self.space.fill(HERE, &id(key), token, &Stored::written(state.clone()), ttl).await)
    }

    async fn token_over(&self, key: &str, token: &Token, over: &Stored) -> bool {
        self.done("token", self.space.token(HERE, &id(key), token, Some(over), LONG).await)
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

/// A copy says who loaded it, and makes room for the load of who cannot use it: that copy, and nothing else.
///
/// # Panics
/// When the loader is forgotten, or a mark takes the place of anything else.
pub async fn loaded_copies_say_by_whom(buffer: &(impl Buffer + ?Sized)) {
    let bench = Bench::open(buffer, "loaded copies say by whom").await;
    let (one, two) = (Stored::loaded(record("1"), u64::MAX), Stored::loaded(record("1"), 2));
    let fill = async |key: &str, token: &Token, state: &Stored| {
        bench.done("fill", bench.space.fill(HERE, &id(key), token, state, LONG).await)
    };
    let (first, second) = (Token::fresh(), Token::fresh());
    assert!(bench.token_over("a", &first, &one).await, "{}: nothing is there", bench.check);
    assert!(!bench.token_over("a", &second, &one).await, "{}: another load is under way", bench.check);
    assert!(fill("a", &first, &one).await, "{}: fill", bench.check);
    bench.sees("a", Lookup::Clean(one.clone())).await;
    let together = bench.done("get_together", bench.space.get_together(&[(HERE, vec![id("a")])]).await);
    assert_eq!(together, [[Lookup::Clean(one.clone())]], "{}: together", bench.check);
    for other in [&two, &Stored::written(record("1")), &Stored::written(Record::tombstone())] {
        assert!(!bench.token_over("a", &second, other).await, "{}: another copy than {other:?}", bench.check);
    }
    assert!(bench.token_over("a", &second, &one).await, "{}: this copy", bench.check);
    bench.sees("a", Lookup::Loading(second.clone())).await;
    assert!(fill("a", &second, &two).await, "{}: in its place", bench.check);
    bench.sees("a", Lookup::Clean(two.clone())).await;

    // What was written in between stays.
    bench.own().await;
    let epoch = bench.closed(&[("a", "2")]).await;
    bench.ack(epoch, &["a"], KEEP).await;
    assert!(!bench.token_over("a", &first, &two).await, "{}: it was written and flushed", bench.check);
    bench.sees("a", clean("2")).await;

    let none = Stored::loaded(Record::tombstone(), 2);
    assert!(bench.token("none", &first, LONG).await && fill("none", &first, &none).await, "{}", bench.check);
    bench.sees("none", clean("")).await;
    assert!(!bench.token_over("none", &second, &none).await, "{}: no such row is no copy that lacks", bench.check);
}

/// Whatever is dirty, the clean copies that agree with the sink are told, and nothing else is.
///
/// # Panics
/// When one is not, or what stands for a refused record, or a mark, is.
pub async fn tells_which_copies_are_the_sinks(buffer: &(impl Buffer + ?Sized)) {
    let bench = Bench::open(buffer, "tells which copies are the sink's").await;
    let copies = async |keys: &[&str]| {
        let ids: Vec<_> = keys.iter().map(id).collect();
        bench.done("copies", bench.space.copies(HERE, &ids).await)
    };
    let written = |text: &str| Some(Stored::written(record(text)));
    bench.own().await;
    let epoch = bench.closed(&[("acked", "1"), ("gone", ""), ("back", "1"), ("buried", "1"), ("without", "1")]).await;
    bench.ack(epoch, &["acked", "gone"], KEEP).await;
    bench.ack(epoch, &["without"], Clean::NONE).await;
    let letter = DeadLetter::new(&record("1"), "rejected", "no".to_owned(), 1, 1, 1);
    bench.done("bury", bench.space.bury(&step(OWNER, epoch), &[(id("buried"), letter)]).await);
    let attempts = Attempts { count: 1, first_ms: 1, ..Attempts::default() };
    bench.done("back", bench.space.back(&step(OWNER, epoch), &[(id("back"), attempts)]).await);
    let (token, loaded) = (Token::fresh(), Stored::loaded(record("1"), 7));
    assert!(bench.token("loaded", &token, LONG).await && bench.token("loading", &Token::fresh(), LONG).await);
    bench.done("fill", bench.space.fill(HERE, &id("loaded"), &token, &loaded, LONG).await);
    // What is dirty hides no copy here.
    bench.put(&[("acked", "2"), ("gone", "2"), ("loaded", "2"), ("buried", "2")]).await;
    let keys = ["acked", "nothing", "gone", "loaded", "back", "buried", "without", "loading"];
    let expected = [written("1"), None, written(""), Some(loaded), None, None, None, None];
    assert_eq!(copies(&keys).await, expected, "{}", bench.check);
    assert_eq!(copies(&[]).await, [], "{}: of nothing", bench.check);
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
