//! Documents that another program wrote, and fields without names of their own; dates that BSON does not have.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bson::doc;
use chrono::{DateTime, NaiveDate, Utc};
use mongodb::bson::Document;
use serde::{Deserialize, Serialize};
use write_behind::{CacheError, Engine, EntityOptions, MemoryBuffer, Severity, Sink, State, WriteBehind};

use crate::server::{batch, on_replica_set, opened};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, WriteBehind)]
#[wb(name = "open", collection = "open")]
struct Open {
    #[wb(key)]
    id: i64,
    #[serde(flatten)]
    rest: BTreeMap<String, serde_json::Value>,
}

#[tokio::test]
async fn a_flattened_map_gains_nothing_on_its_way() {
    on_replica_set(|database| async move {
        let sink = opened::<Open>(&database).await;
        let rest = BTreeMap::from([("a".to_owned(), 1.into()), ("b".to_owned(), "two".into())]);
        let rows = [Open { id: 1, rest }, Open { id: 2, rest: BTreeMap::new() }];
        sink.write(&batch(&rows, &[])).await.unwrap();
        let mut loaded = Sink::<Open>::load(&sink, &[1, 2]).await.unwrap();
        loaded.sort_by_key(|row| row.id);
        assert_eq!(loaded, rows);
        // Written again, it is the same document.
        sink.write(&batch(&loaded, &[])).await.unwrap();
        let stored = database.collection::<Document>("open").find_one(doc! { "_id": 2_i64 }).await.unwrap().unwrap();
        assert_eq!(stored, doc! { "_id": 2_i64, "id": 2_i64 });
    })
    .await;
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, WriteBehind)]
#[wb(name = "sparse", collection = "sparse", merge)]
struct Sparse {
    #[wb(key)]
    id: String,
    note: Option<String>,
    #[serde(default)]
    count: i64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, WriteBehind)]
#[wb(name = "paired", collection = "paired")]
struct Paired {
    #[wb(key)]
    tenant: i32,
    #[wb(key, native_bson)]
    owner: uuid::Uuid,
    note: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, WriteBehind)]
#[wb(name = "blobs", collection = "blobs")]
struct Blob {
    #[wb(key)]
    id: Vec<u8>,
    note: Option<String>,
}

#[tokio::test]
async fn a_document_that_has_its_key_in_the_id_alone_is_loaded() {
    on_replica_set(|database| async move {
        let raw = |name: &str| database.collection::<Document>(name);
        raw("sparse").insert_one(doc! { "_id": "a" }).await.unwrap();
        let sink = opened::<Sparse>(&database).await;
        let found = Sink::<Sparse>::load(&sink, &["a".to_owned()]).await.unwrap();
        assert_eq!(found, [Sparse { id: "a".to_owned(), note: None, count: 0 }]);

        let owner = uuid::Uuid::from_u128(7);
        let sink = opened::<Paired>(&database).await;
        raw("paired").insert_one(doc! { "_id": { "tenant": 3, "owner": bson::Uuid::from(owner) } }).await.unwrap();
        let found = Sink::<Paired>::load(&sink, &[(3, owner)]).await.unwrap();
        assert_eq!(found, [Paired { tenant: 3, owner, note: None }]);

        let sink = opened::<Blob>(&database).await;
        let bytes = bson::Binary { subtype: bson::spec::BinarySubtype::Generic, bytes: vec![1, 255] };
        raw("blobs").insert_one(doc! { "_id": bytes, "note": "n" }).await.unwrap();
        let found = Sink::<Blob>::load(&sink, &[vec![1, 255]]).await.unwrap();
        assert_eq!(found, [Blob { id: vec![1, 255], note: Some("n".to_owned()) }]);
    })
    .await;
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, WriteBehind)]
#[wb(name = "dated", collection = "dated")]
struct Dated {
    #[wb(key)]
    id: i64,
    #[wb(native_bson)]
    at: DateTime<Utc>,
    #[wb(native_bson)]
    more: Option<Vec<DateTime<Utc>>>,
    text: DateTime<Utc>,
    numbered: HashMap<u32, i64>,
}

fn dated(id: i64, nanos: u32) -> Dated {
    let at = NaiveDate::from_ymd_opt(1969, 12, 31).unwrap().and_hms_nano_opt(23, 59, 59, nanos).unwrap().and_utc();
    Dated { id, at, more: Some(vec![at]), text: at, numbered: HashMap::new() }
}

#[tokio::test]
async fn p13_dates_are_cut_to_milliseconds_when_they_are_written() {
    on_replica_set(|database| async move {
        let sink = opened::<Dated>(&database).await;
        let scope = write_behind::Scope::new("test", "dated", 16);
        let found = Sink::<Dated>::examine(&sink, &scope).await.unwrap();
        let told = found.iter().find(|finding| finding.code == "time-precision").unwrap();
        assert_eq!(told.severity, Severity::Note);
        assert!(told.text.starts_with("`at`, `more` are BSON dates"), "{told}");
        let options = EntityOptions::new().flush_every(Duration::from_millis(20));
        let engine = Engine::builder(MemoryBuffer::new()).entity::<Dated>(sink.clone(), options).start().await.unwrap();
        let cache = engine.cache::<Dated>().unwrap();
        for (id, nanos) in [(1, 999_999_999), (2, 1), (3, 5_000_000), (4, 0)] {
            let cut = dated(id, nanos - nanos % 1_000_000);
            let kept = Dated { text: dated(id, nanos).text, ..cut };
            let receipt = cache.put(&dated(id, nanos)).await.unwrap();
            assert_eq!(cache.get(&id).await.unwrap(), Some(kept.clone()));
            receipt.persisted().await.unwrap();
            assert_eq!(Sink::<Dated>::load(&sink, &[id]).await.unwrap(), std::slice::from_ref(&kept));
            let stored = database.collection::<Document>("dated").find_one(doc! { "_id": id }).await.unwrap().unwrap();
            assert_eq!(stored.get_datetime("at").unwrap().to_chrono(), kept.at);
        }
        let leap = Dated { at: dated(5, 1_500_000_000).at, ..dated(5, 0) };
        let numbered = Dated { numbered: HashMap::from([(7, 1)]), ..dated(5, 0) };
        for (row, named) in [(leap, "at"), (numbered, "numbered")] {
            let told = cache.put(&row).await.unwrap_err();
            assert!(matches!(&told, CacheError::Unstorable { field, .. } if field == named), "{told}");
            assert_eq!(cache.state(&5).await.unwrap(), State::Absent);
        }
        engine.shutdown(Duration::from_secs(5)).await.unwrap();
    })
    .await;
}
