//! What MongoDB cannot hold is refused before it is stored.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use write_behind::{CacheError, Engine, EntityOptions, MemoryBuffer, Sink, State, WriteBehind};

use crate::server::{batch, on_replica_set, opened};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, WriteBehind)]
#[wb(name = "storables", collection = "storables")]
struct Storable {
    #[wb(key)]
    id: u64,
    size: u64,
    parts: BTreeMap<String, Vec<u64>>,
    text: String,
}

impl Storable {
    fn new(id: u64) -> Self {
        Self { id, size: 1, parts: BTreeMap::from([("part".to_owned(), vec![1, 2])]), text: "nul\0".to_owned() }
    }

    fn part(id: u64, name: &str, number: u64) -> Self {
        Self { parts: BTreeMap::from([(name.to_owned(), vec![1, number])]), ..Self::new(id) }
    }
}

const MOST: u64 = i64::MAX as u64;

fn rows() -> Vec<(Storable, Option<&'static str>)> {
    vec![
        (Storable::new(1), None),
        (Storable { size: MOST, ..Storable::new(2) }, None),
        (Storable { size: MOST + 1, ..Storable::new(3) }, Some("size")),
        (Storable::part(4, "deep", u64::MAX), Some("parts")),
        (Storable::part(5, "nul\0", 1), Some("parts")),
        (Storable::new(u64::MAX), Some("_id")),
        (Storable { text: "x".repeat(17 << 20), ..Storable::new(6) }, Some("(document)")),
        (Storable { text: "x".repeat(10 << 20), ..Storable::new(7) }, None),
    ]
}

/// What is said of a record before it is stored is what the flush says of it.
#[tokio::test]
async fn p12_what_has_no_document_is_refused_before_it_is_stored() {
    on_replica_set(|database| async move {
        let sink = opened::<Storable>(&database).await;
        let options = EntityOptions::new().flush_every(Duration::from_millis(20)).max_record_bytes(64 << 20);
        let builder = Engine::builder(MemoryBuffer::new()).entity::<Storable>(sink.clone(), options);
        let engine = builder.start().await.unwrap();
        let cache = engine.cache::<Storable>().unwrap();
        for (row, unstorable) in rows() {
            let report = sink.write(&batch(std::slice::from_ref(&row), &[])).await.unwrap();
            assert_eq!(!report.rejected.is_empty(), unstorable.is_some(), "record {}", row.id);
            let told = cache.put(&row).await;
            match unstorable {
                None => told.unwrap().persisted().await.unwrap(),
                Some(named) => {
                    let told = told.unwrap_err();
                    assert!(matches!(&told, CacheError::Unstorable { field, .. } if field == named), "{told}");
                    assert_eq!(cache.state(&row.id).await.unwrap(), State::Absent);
                }
            }
        }
        let told = cache.update(&2, |row| row.size += 1).await;
        assert!(matches!(&told, Err(CacheError::Unstorable { field, .. }) if field == "size"), "{told:?}");
        // A key without an `_id` is nowhere.
        assert_eq!(cache.get(&u64::MAX).await.unwrap(), None);
        cache.delete(&u64::MAX).await.unwrap().persisted().await.unwrap();
        assert_eq!(engine.stats()["storables"].dead_letters, 0);
        engine.shutdown(Duration::from_secs(5)).await.unwrap();
    })
    .await;
}

/// Names that are made by a value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, WriteBehind)]
#[wb(name = "namings", collection = "namings")]
struct Naming {
    #[wb(key)]
    id: i64,
    letters: BTreeMap<char, i64>,
    #[serde(flatten)]
    rest: BTreeMap<String, i64>,
}

#[tokio::test]
async fn p12_names_that_no_document_has_are_refused_before_they_are_stored() {
    on_replica_set(|database| async move {
        let sink = opened::<Naming>(&database).await;
        let naming = |id, letter: Option<char>, name: &str, value| Naming {
            id,
            letters: letter.into_iter().map(|letter| (letter, 1)).collect(),
            rest: BTreeMap::from([(name.to_owned(), value)]),
        };
        let builder = Engine::builder(MemoryBuffer::new()).entity::<Naming>(sink.clone(), EntityOptions::new());
        let engine = builder.start().await.unwrap();
        let cache = engine.cache::<Naming>().unwrap();
        for (row, unstorable) in [
            (naming(1, None, "a", 1), None),
            (naming(2, None, "$a.b", 1), None),
            // Of a flattened struct serde says no names of fields.
            (naming(3, Some('a'), "a", 1), Some("(document)")),
            // An `_id` that is not the key's.
            (naming(4, None, "_id", 5), Some("(document)")),
            (naming(5, None, "_id", 5), None),
        ] {
            let report = sink.write(&batch(std::slice::from_ref(&row), &[])).await.unwrap();
            assert_eq!(!report.rejected.is_empty(), unstorable.is_some(), "record {}", row.id);
            let told = cache.put(&row).await.map(drop);
            assert_eq!(told.is_err(), unstorable.is_some(), "record {}: {told:?}", row.id);
            if let Some(named) = unstorable {
                assert!(matches!(&told, Err(CacheError::Unstorable { field, .. }) if field == named), "{told:?}");
            }
        }
        cache.flush().await.unwrap();
        assert_eq!(engine.stats()["namings"].dead_letters, 0);
    })
    .await;
}
