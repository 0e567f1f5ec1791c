//! Keys that differ, and that a collection's collation takes for equal: no key ever touches another one's document.

use std::collections::{BTreeMap, BTreeSet};

use mongodb::Database;
use mongodb::bson::{Document, doc};
use proptest::collection::vec;
use proptest::sample::select;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngSeed, TestRunner};
use serde::{Deserialize, Serialize};
use write_behind::mongo::{MongoEntity, MongoSink};
use write_behind::{Batch, ErrorKind, Report, Sink, WriteBehind};

use crate::server::{batch, on_replica_set, on_standalone, open};

/// A document as a whole, one that is merged, one that is only added, and each of the first two with a version.
macro_rules! kinds {
    ($($ty:ident $name:literal { $($attribute:tt)* } $(@ $version:tt)?;)*) => {$(
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, WriteBehind)]
        #[wb(name = $name, collection = $name $($attribute)*)]
        struct $ty {
            #[wb(key)]
            name: String,
            $(#[wb($version)])?
            n: i64,
        }

        impl Named for $ty {
            fn new(name: &str, n: i64) -> Self {
                Self { name: name.to_owned(), n }
            }
        }
    )*};
}

trait Named: MongoEntity<Key = String> + Clone + std::fmt::Debug + PartialEq {
    fn new(name: &str, n: i64) -> Self;
}

kinds! {
    Whole "keys_whole" {};
    Merged "keys_merged" { , merge };
    Added "keys_added" { , append };
    WholeVersioned "keys_whole_versioned" {} @ version;
    MergedVersioned "keys_merged_versioned" { , merge } @ version;
}

/// A collection that takes texts for equal which differ in case, or in accents too.
async fn collection<E: MongoEntity>(database: &Database, strength: i32) -> MongoSink {
    let create = doc! { "create": E::COLLECTION, "collation": { "locale": "de", "strength": strength } };
    database.run_command(create).await.unwrap();
    let sink = MongoSink::new(database.clone());
    open::<E>(&sink).await.unwrap();
    sink
}

async fn write<E: Named>(sink: &MongoSink, upserts: &[E], deletes: &[E]) -> Report {
    sink.write(&batch(upserts, deletes)).await.unwrap()
}

async fn stored(database: &Database, collection: &str) -> Vec<(String, i64)> {
    let mut cursor = database.collection::<Document>(collection).find(doc! {}).sort(doc! { "_id": 1 }).await.unwrap();
    let mut found = Vec::new();
    while cursor.advance().await.unwrap() {
        let document = Document::try_from(cursor.current()).unwrap();
        found.push((document.get_str("_id").unwrap().to_owned(), document.get_i64("n").unwrap()));
    }
    found
}

async fn nothing_is_mixed<E: Named>(database: &Database) {
    let sink = &collection::<E>(database, 2).await;
    let own = |n| vec![("Bob".to_owned(), n)];
    assert!(write(sink, &[E::new("Bob", 5)], &[]).await.rejected.is_empty());
    // An older version and a newer one.
    for n in [4, 6] {
        let report = write(sink, &[E::new("bob", n)], &[]).await;
        let refused: Vec<_> = report.rejected.iter().map(|(id, error)| (id.to_string(), error.kind())).collect();
        assert_eq!(refused, [("bob".to_owned(), ErrorKind::Rejected)], "{}", E::NAME);
        assert!(report.stale.is_empty());
        assert_eq!(stored(database, E::COLLECTION).await, own(5), "{}", E::NAME);
    }
    assert_eq!(Sink::<E>::load(sink, &["bob".to_owned(), "BOB".to_owned()]).await.unwrap(), []);
    assert_eq!(Sink::<E>::load(sink, &["bob".to_owned(), "Bob".to_owned()]).await.unwrap(), [E::new("Bob", 5)]);
    write(sink, &[], &[E::new("bob", 0), E::new("BOB", 0)]).await;
    assert_eq!(stored(database, E::COLLECTION).await, own(5), "{}", E::NAME);
    // What is its own is written, beside one that is not, and deleted.
    let report = write(sink, &[E::new("bob", 8), E::new("Bob", 7), E::new("x", 1)], &[E::new("BOB", 0)]).await;
    assert_eq!(report.rejected.len(), 1, "{}", E::NAME);
    let n = if E::APPEND { 5 } else { 7 };
    assert_eq!(stored(database, E::COLLECTION).await, [("Bob".to_owned(), n), ("x".to_owned(), 1)], "{}", E::NAME);
    write(sink, &[], &[E::new("Bob", 0), E::new("x", 0), E::new("bob", 0)]).await;
    assert_eq!(stored(database, E::COLLECTION).await, [], "{}", E::NAME);
}

async fn nothing_is_mixed_by_any(database: Database) {
    nothing_is_mixed::<Whole>(&database).await;
    nothing_is_mixed::<Merged>(&database).await;
    nothing_is_mixed::<Added>(&database).await;
    nothing_is_mixed::<WholeVersioned>(&database).await;
    nothing_is_mixed::<MergedVersioned>(&database).await;
}

#[tokio::test]
async fn a_key_that_a_collation_takes_for_another_one_touches_nothing() {
    on_replica_set(nothing_is_mixed_by_any).await;
}

#[tokio::test]
async fn a_key_that_a_collation_takes_for_another_one_touches_nothing_on_a_standalone() {
    on_standalone(nothing_is_mixed_by_any).await;
}

const PARTS: &[&str] = &[
    "a",
    "A",
    "b",
    "B",
    "\u{e9}",
    "e\u{301}",
    "\u{c9}",
    "ss",
    "\u{df}",
    "i",
    "\u{131}",
    "\u{130}",
    "\u{fb01}",
    "fi",
    " ",
    "\u{a0}",
    "\t",
    "\0",
    "\u{ad}",
    "\u{1f600}",
    "\u{10437}",
    "\u{1040f}",
    "\u{ff21}",
    "7",
    "$",
    ".",
];

fn key() -> impl Strategy<Value = String> {
    vec(select(PARTS), 1..4).prop_map(|parts| parts.concat())
}

/// Random keys against a map by bytes.
async fn histories<E: Named>(database: &Database, runner: &mut TestRunner, strength: Option<i32>) {
    database.collection::<Document>(E::COLLECTION).drop().await.unwrap();
    let sink = match strength {
        Some(strength) => collection::<E>(database, strength).await,
        None => {
            let sink = MongoSink::new(database.clone());
            open::<E>(&sink).await.unwrap();
            sink
        }
    };
    let mut model = BTreeMap::<String, i64>::new();
    for n in 0..60 {
        let mut draw = |most| vec(key(), 0..most).new_tree(runner).unwrap().current();
        let puts: BTreeSet<String> = draw(5).into_iter().collect();
        let deletes: Vec<String> = draw(3).into_iter().filter(|key| !puts.contains(key)).collect();
        let upserts: Vec<E> = puts.iter().map(|key| E::new(key, n)).collect();
        let gone: Vec<E> = deletes.iter().map(|key| E::new(key, n)).collect();
        let batch: Batch<E> = batch(&upserts, &gone);
        let report = sink.write(&batch).await.unwrap();
        let refused: BTreeSet<String> = report.rejected.iter().map(|(id, _)| id.to_string()).collect();
        assert!(report.rejected.iter().all(|(_, error)| error.kind() == ErrorKind::Rejected), "{refused:?}");
        assert!(strength.is_some() || refused.is_empty(), "{refused:?}");
        for key in puts {
            if refused.contains(&key) {
                assert!(!model.contains_key(&key), "{key:?} is there, and refused");
            } else if !E::APPEND || !model.contains_key(&key) {
                model.insert(key, n);
            }
        }
        for key in &deletes {
            model.remove(key);
        }
        let asked = draw(6);
        let found = Sink::<E>::load(&sink, &asked).await.unwrap();
        let found: BTreeSet<String> = found.into_iter().map(|row| row.key()).collect();
        assert_eq!(found, asked.into_iter().filter(|key| model.contains_key(key)).collect(), "{}", E::NAME);
        let there: BTreeMap<String, i64> = stored(database, E::COLLECTION).await.into_iter().collect();
        assert_eq!(there, model, "{} {strength:?}", E::NAME);
    }
}

/// `WB_SEED=<seed>` plays the same histories again.
#[tokio::test]
async fn no_key_touches_the_document_of_another_one() {
    on_replica_set(|database| async move {
        let given = std::env::var("WB_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or_else(|| u64::from(uuid::Uuid::new_v4().as_fields().0));
        eprintln!("WB_SEED={seed}");
        let config = Config { rng_seed: RngSeed::Fixed(seed), failure_persistence: None, ..Config::default() };
        let mut runner = TestRunner::new(config);
        for strength in [None, Some(1), Some(2), Some(3)] {
            histories::<Whole>(&database, &mut runner, strength).await;
            histories::<Merged>(&database, &mut runner, strength).await;
            histories::<Added>(&database, &mut runner, strength).await;
        }
    })
    .await;
}
