//! P3 by versions: where there is no fence, and against what other programs write, an older version never overwrites a
//! newer one.

use std::slice::from_ref;
use std::time::Duration;

use mongodb::Database;
use mongodb::bson::{Document, doc};
use write_behind::mongo::MongoSink;
use write_behind::{CacheError, Engine, EntityOptions, Id, MemoryBuffer, Scope, Sink, State};

use crate::entities::{Player, Versioned};
use crate::server::{batch, on_replica_set, on_standalone, opened};

async fn write(sink: &MongoSink, rows: &[Versioned]) {
    let report = sink.write(&batch(rows, &[])).await.unwrap();
    assert!(report.rejected.is_empty(), "{:?}", report.rejected);
}

async fn loaded(sink: &MongoSink, id: i64) -> Option<Versioned> {
    Sink::<Versioned>::load(sink, &[id]).await.unwrap().pop()
}

/// What another program wrote under the version's name.
async fn set_version(database: &Database, version: Document) {
    let update = doc! { "$set": version };
    database.collection::<Document>("versioned").update_one(doc! { "_id": 1_i64 }, update).await.unwrap();
}

#[tokio::test]
async fn p3_an_older_version_never_overwrites_a_newer_one_on_a_standalone_server() {
    on_standalone(|database| async move {
        let sink = opened::<Versioned>(&database).await;
        let [first, second, third] = [1, 2, 3].map(|n| Versioned::new(1, n, &format!("{n}")));
        let other = Versioned::new(2, 1, "other");
        write(&sink, from_ref(&second)).await;
        // A batch that was overtaken; the rest of it lands.
        write(&sink, &[first.clone(), other.clone()]).await;
        assert_eq!(loaded(&sink, 1).await, Some(second.clone()));
        assert_eq!(loaded(&sink, 2).await, Some(other));
        write(&sink, from_ref(&third)).await;
        assert_eq!(loaded(&sink, 1).await, Some(third.clone()));
        for late in [second, first, Versioned::new(1, i64::MIN, "least")] {
            write(&sink, &[late]).await;
            assert_eq!(loaded(&sink, 1).await, Some(third.clone()));
        }
        // Written again because the answer was lost, and written again with another content.
        write(&sink, from_ref(&third)).await;
        let same = Versioned { text: "same version".to_owned(), ..third };
        write(&sink, from_ref(&same)).await;
        assert_eq!(loaded(&sink, 1).await, Some(same));
    })
    .await;
}

#[tokio::test]
async fn a_delete_is_not_guarded_and_what_follows_it_is_new() {
    on_standalone(|database| async move {
        let sink = opened::<Versioned>(&database).await;
        let [old, new] = [1, 2].map(|n| Versioned::new(1, n, "text"));
        write(&sink, &[new]).await;
        sink.write(&batch(&[], from_ref(&old))).await.unwrap();
        assert_eq!(loaded(&sink, 1).await, None);
        write(&sink, from_ref(&old)).await;
        assert_eq!(loaded(&sink, 1).await, Some(old));
    })
    .await;
}

#[tokio::test]
async fn what_is_no_number_is_no_version_and_is_overwritten() {
    on_standalone(|database| async move {
        let sink = opened::<Versioned>(&database).await;
        let row = Versioned::new(1, 5, "text");
        for foreign in [doc! { "rowVersion": "9" }, doc! { "rowVersion": null }, doc! { "rowVersion": { "n": 9 } }] {
            write(&sink, from_ref(&row)).await;
            set_version(&database, foreign).await;
            write(&sink, from_ref(&row)).await;
            assert_eq!(loaded(&sink, 1).await, Some(row.clone()));
        }
        // A number of another type is.
        set_version(&database, doc! { "rowVersion": 6_i32 }).await;
        write(&sink, &[row]).await;
        assert_eq!(loaded(&sink, 1).await.map(|row| row.row_version), Some(6));
    })
    .await;
}

/// Another program's document has a version far above ours.
async fn a_write_that_the_version_guard_leaves_out_is_told(database: Database) {
    let options = EntityOptions::new().flush_every(Duration::from_millis(20)).cache_ttl(Duration::from_secs(600));
    let sink = MongoSink::new(database.clone());
    let engine = Engine::builder(MemoryBuffer::new()).entity::<Versioned>(sink.clone(), options).start().await.unwrap();
    let cache = engine.cache::<Versioned>().unwrap();
    let ours = |id, version| Versioned::new(id, version, "ours");
    for id in [1, 2] {
        cache.put(&ours(id, 1)).await.unwrap().persisted().await.unwrap();
    }
    set_version(&database, doc! { "rowVersion": 100_i64, "text": "foreign" }).await;
    let receipts = [cache.put(&ours(1, 2)).await.unwrap(), cache.put(&ours(2, 2)).await.unwrap()];
    let told = receipts[0].persisted().await;
    assert!(matches!(&told, Err(CacheError::Stale { id, version: 2 }) if id == "1"), "{told:?}");
    receipts[1].persisted().await.unwrap();
    assert_eq!(cache.state(&1).await.unwrap(), State::Stale);
    assert_eq!(cache.get(&1).await.unwrap().map(|row| row.text), Some("foreign".to_owned()));
    assert_eq!(cache.update(&1, |row| row.text = "ours at last".into()).await.unwrap().row_version, 101);
    cache.receipt(&1).unwrap().persisted().await.unwrap();
    receipts[0].persisted().await.unwrap();
    assert_eq!(loaded(&sink, 1).await, Some(Versioned::new(1, 101, "ours at last")));
    engine.shutdown(Duration::from_secs(5)).await.unwrap();
}

/// A transaction that writes such a document is refused: nothing of it is written, all of it is kept.
async fn a_transaction_with_a_newer_document_is_refused(database: Database) {
    let options = EntityOptions::new().flush_every(Duration::from_millis(20)).transactions(true);
    let sink = MongoSink::new(database.clone());
    let engine = Engine::builder(MemoryBuffer::new()).entity::<Versioned>(sink.clone(), options).start().await.unwrap();
    let cache = engine.cache::<Versioned>().unwrap();
    for id in [1, 2] {
        cache.put(&Versioned::new(id, 1, "ours")).await.unwrap().persisted().await.unwrap();
    }
    set_version(&database, doc! { "rowVersion": 100_i64, "text": "foreign" }).await;
    engine.transaction(|tx| (1..=2).try_for_each(|id| tx.put(&Versioned::new(id, 2, "ours")))).await.unwrap();
    for id in [1, 2] {
        let told = cache.receipt(&id).unwrap().persisted().await;
        assert!(matches!(&told, Err(CacheError::DeadLettered { reason, .. }) if reason.contains("newer")), "{told:?}");
    }
    assert_eq!(loaded(&sink, 1).await, Some(Versioned::new(1, 100, "foreign")));
    assert_eq!(loaded(&sink, 2).await, Some(Versioned::new(2, 1, "ours")));
    engine.shutdown(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test]
async fn a_write_that_the_version_guard_leaves_out_is_told_on_a_standalone_server() {
    on_standalone(a_write_that_the_version_guard_leaves_out_is_told).await;
}

#[tokio::test]
async fn a_write_that_the_version_guard_leaves_out_is_told_on_a_replica_set() {
    on_replica_set(a_write_that_the_version_guard_leaves_out_is_told).await;
}

#[tokio::test]
async fn p13_a_transaction_with_a_newer_document_is_refused() {
    on_replica_set(a_transaction_with_a_newer_document_is_refused).await;
}

#[tokio::test]
async fn a_standalone_server_issues_no_fence() {
    let fence = async |database: &Database| {
        let sink = opened::<Player>(database).await;
        Sink::<Player>::fence(&sink, &Scope::new("test", "players", 16), 0).await.unwrap()
    };
    on_standalone(move |database| async move {
        assert_eq!(fence(&database).await, None);
        assert_eq!(database.list_collection_names().await.unwrap(), ["players"]);
    })
    .await;
    on_replica_set(move |database| async move {
        assert!(fence(&database).await.is_some());
    })
    .await;
}

#[tokio::test]
async fn a_foreign_newer_row_stays_in_a_transaction_and_is_named() {
    on_replica_set(|database| async move {
        let sink = opened::<Versioned>(&database).await;
        write(&sink, &[Versioned::new(1, 2, "second"), Versioned::new(2, 2, "second")]).await;
        set_version(&database, doc! { "rowVersion": 9.5, "text": "foreign" }).await;
        let report =
            sink.write(&batch(&[Versioned::new(1, 9, "ours"), Versioned::new(2, 9, "ours")], &[])).await.unwrap();
        assert_eq!(report.stale, [Id::of(&1_i64).unwrap()]);
        assert_eq!(loaded(&sink, 2).await.map(|row| row.text), Some("ours".to_owned()));
        let found =
            database.collection::<Document>("versioned").find_one(doc! { "_id": 1_i64 }).await.unwrap().unwrap();
        assert_eq!(found.get_str("text").unwrap(), "foreign");
    })
    .await;
}
