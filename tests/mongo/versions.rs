//! P3 by versions: where there is no fence, and against what other programs write, an older version never overwrites a
//! newer one.

use std::slice::from_ref;

use mongodb::Database;
use mongodb::bson::{Document, doc};
use write_behind::mongo::MongoSink;
use write_behind::{Id, Scope, Sink};

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
