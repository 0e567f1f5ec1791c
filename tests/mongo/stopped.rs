//! Workers that are stopped at a step, on a server whose switches for tests hold them there.

use std::time::{Duration, Instant};

use mongodb::bson::{Bson, doc};
use mongodb::{Client, Database};
use write_behind::{ErrorKind, Sink};

use crate::entities::Player;
use crate::fences::{LIMIT, check, fence, player, score, try_fence, write};
use crate::server::{batch, on_own_replica_set, opened, within};

/// The server ends no transaction while a test waits.
pub(crate) const LONG: Duration = Duration::from_secs(600);

/// A database of the same server through a client of its own, whose commands a failpoint can tell from others.
pub(crate) async fn as_app(database: &Database, app: &str) -> Database {
    let hello = database.run_command(doc! { "hello": 1 }).await.unwrap();
    let host = hello.get_str("me").unwrap();
    let url = format!("mongodb://{host}/?directConnection=true&appName={app}");
    Client::with_uri_str(url).await.unwrap().database(database.name())
}

/// Makes the server hold commands of an app.
pub(crate) async fn hold(database: &Database, app: &str, mode: Bson, command: &str, time: Duration) {
    let millis = i64::try_from(time.as_millis()).unwrap();
    let data = doc! {
        "failCommands": [command], "appName": app, "blockConnection": true, "blockTimeMS": millis,
    };
    let admin = database.client().database("admin");
    admin.run_command(doc! { "configureFailPoint": "failCommand", "mode": mode, "data": data }).await.unwrap();
}

pub(crate) async fn let_go(database: &Database) {
    let off = doc! { "configureFailPoint": "failCommand", "mode": "off" };
    database.client().database("admin").run_command(off).await.unwrap();
}

async fn open_transactions(database: &Database) -> i64 {
    let status = database.run_command(doc! { "serverStatus": 1 }).await.unwrap();
    status.get_document("transactions").unwrap().get_i64("currentOpen").unwrap()
}

/// Waits until transactions are open, or none is.
pub(crate) async fn wait_for_transactions(database: &Database, open: bool) {
    wait_for(database, |count| (count > 0) == open).await;
}

/// Waits for a number of open transactions.
pub(crate) async fn wait_for(database: &Database, wanted: impl Fn(i64) -> bool) {
    let begun = Instant::now();
    loop {
        let open = open_transactions(database).await;
        if wanted(open) {
            return;
        }
        assert!(begun.elapsed() < LIMIT, "transactions: {open}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn p3_a_worker_that_is_stopped_before_its_commit_has_written_before_the_new_owner_is_there() {
    on_own_replica_set(LONG, |database| async move {
        let old = opened::<Player>(&as_app(&database, "old").await).await;
        let new = opened::<Player>(&database).await;
        let mine = fence(&old, 3).await;
        hold(&database, "old", doc! { "times": 1 }.into(), "commitTransaction", Duration::from_millis(800)).await;
        let writing = tokio::spawn(async move { write(&old, &[mine], &[player(1, 1)]).await });
        wait_for_transactions(&database, true).await;
        let newer = within(LIMIT, fence(&new, 3)).await;
        assert_eq!(score(&new, 1).await, Some(1));
        write(&new, &[newer], &[player(1, 2)]).await.unwrap();
        writing.await.unwrap().unwrap();
        assert_eq!(score(&new, 1).await, Some(2));
    })
    .await;
}

#[tokio::test]
async fn p3_a_worker_that_is_stopped_in_mid_transaction_is_ended_by_the_new_owner() {
    on_own_replica_set(LONG, |database| async move {
        let old = opened::<Player>(&as_app(&database, "old").await).await;
        let new = opened::<Player>(&database).await;
        let mine = fence(&old, 3).await;
        // The check of the fences passes, the rows are held.
        hold(&database, "old", doc! { "skip": 1 }.into(), "update", Duration::from_secs(30)).await;
        let writing = tokio::spawn(async move { write(&old, &[mine], &[player(1, 1)]).await });
        wait_for_transactions(&database, true).await;
        let begun = Instant::now();
        let newer = within(Duration::from_secs(10), fence(&new, 3)).await;
        eprintln!("fenced after {:?}", begun.elapsed());
        write(&new, &[newer], &[player(1, 2)]).await.unwrap();
        let error = within(LIMIT, writing).await.unwrap().unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Transient | ErrorKind::Fenced), "{}", error.chain());
        assert_eq!(score(&new, 1).await, Some(2));
        wait_for_transactions(&database, false).await;
    })
    .await;
}

#[tokio::test]
async fn p3_a_transaction_of_an_unknown_session_is_ended_by_the_server() {
    on_own_replica_set(Duration::from_secs(2), |database| async move {
        let sink = opened::<Player>(&database).await.command_timeout(Duration::from_secs(1));
        let mine = fence(&sink, 3).await;
        let mut session = database.client().start_session().await.unwrap();
        session.start_transaction().await.unwrap();
        assert_eq!(check(&database, &mut session, mine, 5).await.unwrap(), 1);
        let (begun, mut refusals) = (Instant::now(), 0);
        let newer = loop {
            match within(LIMIT, try_fence(&sink, 3)).await {
                Ok(fence) => break fence,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Transient, "{}", error.chain());
                    refusals += 1;
                }
            }
            assert!(begun.elapsed() < LIMIT, "the fence is held for ever");
        };
        eprintln!("fenced after {:?} and {refusals} refusals", begun.elapsed());
        write(&sink, &[newer], &[player(1, 2)]).await.unwrap();
        assert!(session.commit_transaction().await.is_err());
    })
    .await;
}

#[tokio::test]
async fn p3_a_batch_that_timed_out_leaves_no_transaction_open() {
    on_own_replica_set(LONG, |database| async move {
        let sink = opened::<Player>(&as_app(&database, "old").await).await;
        let mine = fence(&sink, 3).await;
        let hasty = sink.clone().command_timeout(Duration::from_millis(200));
        for command in ["update", "commitTransaction"] {
            hold(&database, "old", doc! { "times": 2 }.into(), command, Duration::from_millis(600)).await;
            let error = write(&hasty, &[mine], &[player(1, 1)]).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{command}: {}", error.chain());
            // The server would take ten minutes.
            wait_for_transactions(&database, false).await;
            let_go(&database).await;
        }
        write(&sink, &[mine], &[player(1, 2)]).await.unwrap();
        assert_eq!(score(&sink, 1).await, Some(2));
    })
    .await;
}

#[tokio::test]
async fn labels_and_codes_of_a_transaction_say_what_to_do() {
    // A commit that fails here leaves its transaction open, until the server ends it.
    on_own_replica_set(Duration::from_secs(10), |database| async move {
        let sink = opened::<Player>(&as_app(&database, "old").await).await;
        let transient = vec!["TransientTransactionError"];
        let cases = [
            ("update", 112, transient.clone(), ErrorKind::Transient),
            ("update", 251, transient.clone(), ErrorKind::Transient),
            ("update", 246, transient.clone(), ErrorKind::Transient),
            ("update", 189, transient.clone(), ErrorKind::Unavailable),
            ("update", 11600, transient.clone(), ErrorKind::Unavailable),
            ("update", 13, vec![], ErrorKind::Misconfigured),
            ("update", 388, vec![], ErrorKind::Rejected),
            ("commitTransaction", 251, transient, ErrorKind::Transient),
            ("commitTransaction", 64, vec!["UnknownTransactionCommitResult"], ErrorKind::Unavailable),
            ("commitTransaction", 50, vec!["UnknownTransactionCommitResult"], ErrorKind::Unavailable),
        ];
        for (id, (command, code, labels, kind)) in (0..).zip(cases) {
            let data = doc! {
                "failCommands": [command], "appName": "old", "errorCode": code, "errorLabels": labels.clone(),
            };
            let fail = doc! { "configureFailPoint": "failCommand", "mode": "alwaysOn", "data": data };
            database.client().database("admin").run_command(fail).await.unwrap();
            let error = sink.write(&batch(&[player(id, 1)], &[])).await.unwrap_err();
            assert_eq!(error.kind(), kind, "{command} {code} {labels:?}: {}", error.chain());
            let_go(&database).await;
        }
        sink.write(&batch(&[player(-1, 1)], &[])).await.unwrap();
    })
    .await;
}
