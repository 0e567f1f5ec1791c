//! P8 at the sink: what the server refuses is named, and everything else lands.

use mongodb::bson::{Document, doc};
use mongodb::options::{Acknowledgment, DatabaseOptions, IndexOptions, WriteConcern};
use mongodb::{Database, IndexModel};
use write_behind::mongo::MongoSink;
use write_behind::testing::sink as suite;
use write_behind::{ErrorKind, Id, Report, Sink, SinkError};

use crate::entities::{Foreign, Membership, Player};
use crate::server::{batch, id, on_replica_set, on_standalone, open, opened};

/// Scores must be below ten.
async fn with_validator(database: &Database) -> MongoSink {
    database.create_collection("players").validator(doc! { "score": { "$lt": 10 } }).await.unwrap();
    opened::<Player>(database).await
}

/// Emails must differ.
async fn with_unique_emails(database: &Database) -> MongoSink {
    let options = IndexOptions::builder().unique(true).build();
    let index = IndexModel::builder().keys(doc! { "email": 1 }).options(options).build();
    database.collection::<Document>("players").create_index(index).await.unwrap();
    opened::<Player>(database).await
}

fn bad(id: i64) -> Player {
    Player { score: 11, ..Player::new(id) }
}

/// The ids that a report names, all of them refused for their data.
fn named(report: &Report) -> Vec<Id> {
    for (_, error) in &report.rejected {
        assert_eq!(error.kind(), ErrorKind::Rejected, "{}", error.chain());
    }
    let mut ids: Vec<Id> = report.rejected.iter().map(|(id, _)| id.clone()).collect();
    ids.sort();
    ids
}

async fn count(database: &Database) -> u64 {
    database.collection::<Document>("players").count_documents(doc! {}).await.unwrap()
}

async fn the_validator_names_them(database: Database) {
    let sink = with_validator(&database).await;
    suite::refuses(&sink, bad(-1)).await;
    database.collection::<Document>("players").delete_many(doc! {}).await.unwrap();

    // Alone, at both ends, side by side, and more than a few.
    for bad_ids in [vec![0], vec![0, 1], vec![49], vec![0, 49], vec![3, 4, 5, 6, 20, 21, 48, 49], (0..50).collect()] {
        let rows: Vec<Player> = (0..50).map(|n| if bad_ids.contains(&n) { bad(n) } else { Player::new(n) }).collect();
        let report = sink.write(&batch(&rows, &[])).await.unwrap();
        let mut expected: Vec<Id> = bad_ids.iter().map(|n| id(&Player::new(*n))).collect();
        expected.sort();
        assert_eq!(named(&report), expected);
        assert_eq!(count(&database).await, 50 - bad_ids.len() as u64);
        database.collection::<Document>("players").delete_many(doc! {}).await.unwrap();
    }
}

#[tokio::test]
async fn p8_a_validator_names_the_record_and_the_others_land() {
    on_replica_set(the_validator_names_them).await;
}

#[tokio::test]
async fn p8_a_validator_names_the_record_on_a_standalone_server() {
    on_standalone(the_validator_names_them).await;
}

#[tokio::test]
async fn p8_the_validators_reason_is_in_the_error() {
    on_replica_set(|database| async move {
        let sink = with_validator(&database).await;
        let report = sink.write(&batch(&[bad(1)], &[])).await.unwrap();
        let text = report.rejected.first().unwrap().1.chain();
        assert!(text.contains("Document failed validation") && text.contains("$lt"), "{text}");
    })
    .await;
}

async fn the_index_names_them(database: Database) {
    let sink = with_unique_emails(&database).await;
    assert!(named(&sink.write(&batch(&[Player::new(1)], &[])).await.unwrap()).is_empty());
    let twin = Player { email: Player::new(1).email, ..Player::new(2) };
    suite::refuses(&sink, twin).await;

    // Two of one batch: which of them comes first is the batch's order.
    let first = Player { email: "same".to_owned(), ..Player::new(-20) };
    let second = Player { email: "same".to_owned(), ..Player::new(-30) };
    let report = sink.write(&batch(&[second.clone(), first.clone(), Player::new(-40)], &[])).await.unwrap();
    assert_eq!(named(&report), [id(&second)]);
    let mut loaded: Vec<Player> = Sink::<Player>::load(&sink, &[-20, -30, -40]).await.unwrap();
    loaded.sort_by_key(|player| -player.id);
    assert_eq!(loaded, [first, Player::new(-40)]);
}

#[tokio::test]
async fn p8_a_unique_index_names_the_record_and_the_others_land() {
    on_replica_set(the_index_names_them).await;
}

#[tokio::test]
async fn p8_a_unique_index_names_the_record_on_a_standalone_server() {
    on_standalone(the_index_names_them).await;
}

#[tokio::test]
async fn p8_an_oversized_document_is_refused_and_the_others_land() {
    on_replica_set(|database| async move {
        let sink = opened::<Player>(&database).await;
        let huge = Player { notes: "x".repeat(16 * 1024 * 1024 + 1), ..Player::new(-1) };
        suite::refuses(&sink, huge).await;
        // The longest that the server takes: past the limit of a command of many, so it travels alone.
        let mut long = Player::new(-2);
        let rest = bson::serialize_to_vec(&long).unwrap().len() + "_id".len() + 10;
        long.notes = "x".repeat(16 * 1024 * 1024 - rest);
        let report = sink.write(&batch(&[Player::new(-3), long.clone(), Player::new(-4)], &[])).await.unwrap();
        assert!(named(&report).is_empty());
        assert_eq!(Sink::<Player>::load(&sink, &[-2]).await.unwrap(), [long]);
    })
    .await;
}

#[tokio::test]
async fn p8_a_foreign_id_is_refused_and_the_others_land() {
    on_replica_set(|database| async move {
        let sink = opened::<Foreign>(&database).await;
        let rows = [Foreign { id: 1, other: 1 }, Foreign { id: 2, other: 7 }, Foreign { id: 3, other: 3 }];
        let report = sink.write(&batch(&rows, &[])).await.unwrap();
        assert_eq!(named(&report), [id(&rows[1])]);
        assert!(report.rejected.first().unwrap().1.chain().contains("`_id` is not the entity's key"));
        let mut loaded: Vec<Foreign> = Sink::<Foreign>::load(&sink, &[1, 2, 3]).await.unwrap();
        loaded.sort_by_key(|row| row.id);
        assert_eq!(loaded, [rows[0].clone(), rows[2].clone()]);
    })
    .await;
}

#[tokio::test]
async fn p13_a_batch_that_fails_leaves_nothing_behind() {
    on_replica_set(|database| async move {
        let sink = opened::<Player>(&database).await;
        // Somebody else is writing the last of the rows, so that the batch fails after the others.
        let mut session = database.client().start_session().await.unwrap();
        session.start_transaction().await.unwrap();
        let players = database.collection::<Document>("players");
        players.insert_one(doc! { "_id": 99_i64 }).session(&mut session).await.unwrap();
        let error = sink.write(&batch(&Player::range(0..100), &[])).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Transient, "{}", error.chain());
        session.abort_transaction().await.unwrap();
        assert_eq!(count(&database).await, 0);
        assert!(sink.write(&batch(&Player::range(0..100), &[])).await.unwrap().rejected.is_empty());
        assert_eq!(count(&database).await, 100);
    })
    .await;
}

#[tokio::test]
async fn batches_beyond_the_limits_of_a_command_land() {
    on_replica_set(|database| async move {
        let sink = opened::<Player>(&database).await;
        let rows = Player::range(0..20_000);
        assert!(sink.write(&batch(&rows, &[])).await.unwrap().rejected.is_empty());
        assert_eq!(count(&database).await, 20_000);

        let long = "x".repeat(1024 * 1024);
        let rows: Vec<Player> = (0..26).map(|n| Player { notes: long.clone(), ..Player::new(n) }).collect();
        let report = sink.write(&batch(&rows, &Player::range(26..20_000))).await.unwrap();
        assert!(report.rejected.is_empty());
        assert!(report.statements >= 4, "{} statements for 26 MB", report.statements);
        assert_eq!(count(&database).await, 26);
    })
    .await;
}

#[tokio::test]
async fn a_view_is_a_misconfiguration() {
    on_replica_set(|database| async move {
        database.create_collection("real").await.unwrap();
        database.create_collection("players").view_on("real".to_owned()).await.unwrap();
        let sink = opened::<Player>(&database).await;
        let error = sink.write(&batch(&[Player::new(1)], &[])).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misconfigured, "{}", error.chain());
    })
    .await;
}

#[tokio::test]
async fn a_write_concern_that_cannot_be_met_is_a_misconfiguration() {
    on_replica_set(|database| async move {
        // Made beforehand, so that it is the write that meets the concern.
        database.create_collection("memberships").await.unwrap();
        for (nodes, at_open) in [(0, true), (7, false)] {
            let concern = WriteConcern::builder().w(Acknowledgment::Nodes(nodes)).build();
            let options = DatabaseOptions::builder().write_concern(concern).build();
            let sink = MongoSink::new(database.client().database_with_options(database.name(), options));
            let opened: Result<(), SinkError> = open::<Membership>(&sink).await;
            let error = match opened {
                Err(error) => error,
                Ok(()) => {
                    assert!(!at_open, "`w: 0` was taken");
                    let row = Membership { team: "a".to_owned(), member: 1, role: String::new() };
                    sink.write(&batch(&[row], &[])).await.unwrap_err()
                }
            };
            assert_eq!(error.kind(), ErrorKind::Misconfigured, "{}", error.chain());
        }
    })
    .await;
}
