//! Transactions that are left open on a server that does not end them for ten minutes.

use std::time::{Duration, Instant};

use mongodb::bson::{Bson, Document, doc};
use mongodb::{Client, Database};
use write_behind::mongo::MongoSink;
use write_behind::{ErrorKind, Fence, Sink};
use write_behind_tests::Wire;

use crate::entities::Player;
use crate::fences::{LIMIT, fence, player, score, write};
use crate::server::{batch, on_own_replica_set, opened, within};
use crate::stopped::{LONG, as_app, hold, let_go, wait_for, wait_for_transactions};

/// A partition moves, and a batch is written again, in a few seconds.
const QUICK: Duration = Duration::from_secs(8);

/// From now on, an app's transactions are neither committed nor rolled back, as if it were dead.
async fn strike_dead(database: &Database, app: &str) {
    let data = doc! {
        "failCommands": ["commitTransaction", "abortTransaction"], "appName": app, "closeConnection": true,
    };
    let fail = doc! { "configureFailPoint": "failCommand", "mode": "alwaysOn", "data": data };
    database.client().database("admin").run_command(fail).await.unwrap();
}

/// Leaves a transaction open that holds a slot of the fence and this player.
async fn orphan(database: &Database, sink: &MongoSink, fences: &[Fence], id: i64) {
    strike_dead(database, "old").await;
    let error = within(LIMIT, write(sink, fences, &[player(id, 1)])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.chain());
    wait_for_transactions(database, true).await;
}

#[tokio::test]
async fn p3_a_killed_workers_transaction_is_ended_by_the_new_owner() {
    on_own_replica_set(LONG, |database| async move {
        let old = opened::<Player>(&as_app(&database, "old").await).await;
        let new = opened::<Player>(&database).await;
        let mine = [fence(&old, 3).await, fence(&old, 4).await];
        write(&old, &mine, &[player(1, 0)]).await.unwrap();
        orphan(&database, &old, &mine, 1).await;
        let begun = Instant::now();
        let newer = [within(QUICK, fence(&new, 3)).await, within(QUICK, fence(&new, 4)).await];
        eprintln!("both partitions fenced after {:?}", begun.elapsed());
        within(QUICK, write(&new, &newer, &[player(1, 2)])).await.unwrap();
        assert_eq!(score(&new, 1).await, Some(2));
        // It was not dead after all.
        let_go(&database).await;
        assert_eq!(write(&old, &mine, &[player(1, 3)]).await.unwrap_err().kind(), ErrorKind::Fenced);
        wait_for_transactions(&database, false).await;
        assert_eq!(score(&new, 1).await, Some(2));
    })
    .await;
}

#[tokio::test]
async fn p3_whose_session_was_ended_while_it_wrote_something_else_writes_again() {
    on_own_replica_set(LONG, |database| async move {
        let old = opened::<Player>(&as_app(&database, "old").await).await;
        let new = opened::<Player>(&database).await;
        let (lost, kept) = (fence(&old, 3).await, fence(&old, 4).await);
        // Two batches, of a partition that it loses and of one that it keeps, are stopped before their commit.
        hold(&database, "old", "alwaysOn".into(), "commitTransaction", Duration::from_secs(30)).await;
        let writing = [(lost, 1), (kept, 2)].map(|(fence, id)| {
            let old = old.clone();
            tokio::spawn(async move { write(&old, &[fence], &[player(id, 1)]).await })
        });
        wait_for(&database, |open| open == 2).await;
        let newer = within(QUICK, fence(&new, 3)).await;
        write(&new, &[newer], &[player(1, 2)]).await.unwrap();
        let_go(&database).await;
        let [first, second] = writing;
        let error = within(LIMIT, first).await.unwrap().unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Transient | ErrorKind::Fenced), "{}", error.chain());
        if let Err(error) = within(LIMIT, second).await.unwrap() {
            assert_eq!(error.kind(), ErrorKind::Transient, "{}", error.chain());
            eprintln!("ended: {}", error.chain());
            within(QUICK, write(&old, &[kept], &[player(2, 1)])).await.unwrap();
        }
        assert_eq!(write(&old, &[lost], &[player(1, 1)]).await.unwrap_err().kind(), ErrorKind::Fenced);
        assert_eq!(score(&new, 1).await, Some(2));
        assert_eq!(score(&new, 2).await, Some(1));
    })
    .await;
}

#[tokio::test]
async fn p3_a_batch_whose_commit_never_arrived_is_written_again_at_once() {
    on_own_replica_set(LONG, |database| async move {
        let sink = opened::<Player>(&as_app(&database, "old").await).await;
        let mine = fence(&sink, 3).await;
        for fences in [&[mine][..], &[]] {
            orphan(&database, &sink, fences, 1).await;
            let_go(&database).await;
            within(QUICK, write(&sink, fences, &[player(1, 2)])).await.unwrap();
            wait_for_transactions(&database, false).await;
            assert_eq!(score(&sink, 1).await, Some(2));
        }
    })
    .await;
}

#[tokio::test]
async fn p3_a_batch_whose_connection_was_cut_is_written_again_at_once() {
    on_own_replica_set(LONG, |database| async move {
        let hello = database.run_command(doc! { "hello": 1 }).await.unwrap();
        let url = format!("mongodb://{}/?directConnection=true&appName=old", hello.get_str("me").unwrap());
        let wire = Wire::to(&url).await.unwrap();
        let cut = Client::with_uri_str(&wire.url).await.unwrap().database(database.name());
        let sink = opened::<Player>(&cut).await;
        let mine = fence(&sink, 3).await;
        // Behind the check of the fences, and behind the rows. The server does not notice, and goes on.
        let steps = [("update", Bson::from(doc! { "skip": 1 })), ("commitTransaction", "alwaysOn".into())];
        for (id, (command, mode)) in (1..).zip(steps) {
            hold(&database, "old", mode, command, Duration::from_secs(1)).await;
            let rows = [player(id, 1), player(id + 10, 1)];
            let writing = tokio::spawn({
                let (sink, rows) = (sink.clone(), rows.clone());
                async move { write(&sink, &[mine], &rows).await }
            });
            wait_for_transactions(&database, true).await;
            wire.cut();
            let outcome = within(LIMIT, writing).await.unwrap();
            let_go(&database).await;
            if let Err(error) = outcome {
                assert!(matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Transient), "{}", error.chain());
            }
            let begun = Instant::now();
            within(QUICK, async {
                while let Err(error) = write(&sink, &[mine], &rows).await {
                    assert!(matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Transient), "{error}");
                }
            })
            .await;
            eprintln!("written again after {:?}", begun.elapsed());
            assert_eq!(score(&sink, id).await, Some(1));
            wait_for_transactions(&database, false).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_slot_names_one_session_however_often_it_changes_hands() {
    on_own_replica_set(LONG, |database| async move {
        let sinks = [opened::<Player>(&database).await, opened::<Player>(&database).await];
        let fences = database.collection::<Document>("wb_fence");
        let slot = doc! { "_id.partition": 3, "_id.slot": 0 };
        let mut named = Vec::new();
        for sink in sinks.iter().cycle().take(6) {
            let mine = fence(sink, 3).await;
            write(sink, &[mine], &[player(1, 1)]).await.unwrap();
            let slot = fences.find_one(slot.clone()).await.unwrap().unwrap();
            assert!(slot.len() <= 4, "{slot}");
            assert_eq!(slot.get_i64("generation").unwrap().cast_unsigned(), mine.generation);
            named.push(slot.get_document("session").unwrap().clone());
        }
        assert_ne!(named[0], named[1]);
        assert_eq!(named[..2], named[2..4]);
        assert_eq!(named[..2], named[4..]);
        // Without fences, too.
        sinks[0].write(&batch(&[player(2, 1)], &[])).await.unwrap();
    })
    .await;
}
