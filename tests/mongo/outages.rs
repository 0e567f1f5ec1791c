//! Servers that are not there, hang, or hang up.

use std::time::Duration;

use mongodb::bson::{Document, doc};
use tokio::net::TcpListener;
use write_behind::mongo::MongoSink;
use write_behind::{ErrorKind, Sink};

use crate::entities::Player;
use crate::server::{Door, batch, on_replica_set, open, opened, setting, within};

const LIMIT: Duration = Duration::from_secs(10);

#[tokio::test]
async fn an_unreachable_server_is_unavailable_within_the_timeout_and_its_password_stays_secret() {
    let url = "mongodb://ann:s3cret@127.0.0.1:1/?replicaSet=rs0";
    let sink = MongoSink::connect(url, "test").await.unwrap();
    let error = within(LIMIT, open::<Player>(&sink)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let text = format!("{} {error:?} {sink:?}", error.chain());
    assert!(!text.contains("s3cret"), "{text}");
    assert!(error.to_string().contains("mongodb://127.0.0.1:1/"), "{error}");

    let sink = MongoSink::connect(&format!("{url}&serverSelectionTimeoutMS=200"), "test").await.unwrap();
    let write = within(LIMIT, sink.write(&batch(&[Player::new(1)], &[]))).await.unwrap_err();
    assert_eq!(write.kind(), ErrorKind::Unavailable);
    let load = within(LIMIT, Sink::<Player>::load(&sink, &[1])).await.unwrap_err();
    assert_eq!(load.kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn a_malformed_url_is_a_misconfiguration_and_its_password_stays_secret() {
    for url in [
        "mongodb://ann:s3cret@host:port/",
        "mongodb://ann:s3cret@/",
        "mongodb://ann:s3%cret@host/",
        "mongodb://ann:s3/cret@host/",
        "mongodb://ann:s3cret@host/?retryWrites=perhaps",
        "redis://ann:s3cret@host/",
        "ann:s3cret@host",
        "",
    ] {
        let error = MongoSink::connect(url, "test").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misconfigured, "{url}: {}", error.chain());
        let text = format!("{} {error:?}", error.chain());
        assert!(!text.contains("s3") && !text.contains("cret"), "{text}");
    }
}

#[tokio::test]
async fn a_server_that_accepts_and_says_nothing_is_unavailable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let url = format!("mongodb://127.0.0.1:{port}/?directConnection=true&serverSelectionTimeoutMS=300");
    let sink = MongoSink::connect(&url, "test").await.unwrap();
    let error = within(LIMIT, open::<Player>(&sink)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.chain());
}

#[tokio::test]
async fn a_server_that_hangs_in_between_is_unavailable_and_the_batch_lands_later() {
    let Some(url) = setting("WB_MONGO_URL") else { return };
    on_replica_set(|database| async move {
        let door = Door::to(&url).await;
        let sink = opened::<Player>(&door.database(database.name()).await).await;
        let rows = batch(&Player::range(0..100), &[]);
        sink.write(&rows).await.unwrap();
        let sink = sink.command_timeout(Duration::from_millis(500));

        door.freeze();
        let error = within(LIMIT, sink.write(&rows)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.chain());
        door.thaw();

        // The abandoned transaction may hold its rows for a moment.
        let landed = within(LIMIT, async {
            loop {
                match sink.write(&rows).await {
                    Ok(report) => break report,
                    Err(error) => assert!(
                        matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Transient),
                        "{}",
                        error.chain()
                    ),
                }
            }
        });
        assert!(landed.await.rejected.is_empty());
        // Dropping the collection waits for every transaction that touched it: none is left open, while the door is.
        within(LIMIT, async { database.collection::<Document>("players").drop().await }).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_write_that_is_given_up_leaves_no_locks_behind() {
    on_replica_set(|database| async move {
        let sink = opened::<Player>(&database).await;
        let rows = batch(&Player::range(0..2_000), &[]);
        for millis in [1, 5, 10, 20, 40] {
            // Dropped in the middle.
            let _ = tokio::time::timeout(Duration::from_millis(millis), sink.write(&rows)).await;
        }
        // Dropping the collection waits for every transaction that touched it.
        within(LIMIT, async { database.collection::<Document>("players").drop().await }).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn connections_cut_in_mid_write_are_unavailable_and_nothing_is_half_written() {
    let Some(url) = setting("WB_MONGO_URL") else { return };
    on_replica_set(|database| async move {
        let door = Door::to(&url).await;
        let sink = opened::<Player>(&door.database(database.name()).await).await;
        let players = database.collection::<Document>("players");
        let mut failures = 0;
        for round in 0..12_u64 {
            // Rows of its own: a transaction that a cut left open on the server keeps them locked until the next batch.
            let ids = round.cast_signed() * 2_000..(round.cast_signed() + 1) * 2_000;
            let rows = batch(&Player::range(ids.clone()), &[]);
            let write = tokio::spawn({
                let (sink, rows) = (sink.clone(), rows.clone());
                async move { sink.write(&rows).await }
            });
            tokio::time::sleep(Duration::from_millis(8 * round)).await;
            door.cut();
            match within(LIMIT, write).await.unwrap() {
                Ok(report) => assert!(report.rejected.is_empty()),
                Err(error) => {
                    failures += 1;
                    assert!(matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Transient), "{}", error.chain());
                }
            }
            let count = players.count_documents(doc! { "_id": { "$gte": ids.start, "$lt": ids.end } });
            let count = count.await.unwrap();
            assert!(count == 0 || count == 2_000, "{count} of 2000 rows");
        }
        assert!(failures > 0, "no write was cut");
        // As a worker would: the next batches end what the cuts left open on the server, each in its session.
        for _ in 0..8 {
            within(LIMIT, sink.write(&batch(&Player::range(0..1), &[]))).await.unwrap();
        }
        within(LIMIT, async { players.drop().await }).await.unwrap();
    })
    .await;
}
