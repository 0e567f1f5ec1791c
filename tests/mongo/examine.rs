//! What the doctor finds.

use mongodb::Database;
use mongodb::bson::{Document, doc};
use mongodb::options::{Acknowledgment, DatabaseOptions, IndexOptions, WriteConcern};
use mongodb::{Client, IndexModel};
use write_behind::mongo::{MongoEntity, MongoSink};
use write_behind::{Engine, Entity, EntityOptions, Finding, MemoryBuffer, Scope, Severity, Sink, StartError};

use crate::entities::{Player, Versioned};
use crate::server::{on_replica_set, on_standalone, open};

/// What is found, without what is always found: the server.
async fn found<E: MongoEntity>(sink: &MongoSink) -> Vec<Finding> {
    open::<E>(sink).await.unwrap();
    let mut findings = Sink::<E>::examine(sink, &Scope::new("test", E::NAME, 16)).await.unwrap();
    let server = findings.iter().position(|finding| finding.code == "server").unwrap();
    let server = findings.remove(server);
    assert_eq!(server.severity, Severity::Note);
    assert!(server.text.starts_with("MongoDB "), "{server}");
    findings
}

fn codes(findings: &[Finding]) -> Vec<(Severity, &'static str)> {
    findings.iter().map(|finding| (finding.severity, finding.code)).collect()
}

fn with_concern(database: &Database, concern: WriteConcern) -> MongoSink {
    let options = DatabaseOptions::builder().write_concern(concern).build();
    MongoSink::new(database.client().database_with_options(database.name(), options))
}

#[tokio::test]
async fn a_replica_set_with_a_plain_collection_is_fit() {
    on_replica_set(|database| async move {
        let findings = found::<Player>(&MongoSink::new(database.clone())).await;
        assert_eq!(findings, []);
        // The probe of the fences left nothing.
        let fences = database.collection::<Document>("wb_fence").count_documents(doc! {}).await.unwrap();
        assert_eq!(fences, 0);
    })
    .await;
}

#[tokio::test]
async fn p3_a_standalone_server_without_a_version_is_warned_of() {
    on_standalone(|database| async move {
        let sink = MongoSink::new(database);
        let findings = found::<Player>(&sink).await;
        assert_eq!(codes(&findings), [(Severity::Warning, "no-fencing")]);
        let text = &findings.first().unwrap().text;
        assert!(text.contains("leases alone") && text.contains("#[wb(version)]"), "{text}");
        let findings = found::<Versioned>(&sink).await;
        assert_eq!(codes(&findings), [(Severity::Note, "version-guard")]);
        let text = &findings.first().unwrap().text;
        assert!(text.contains("`rowVersion`") && text.contains("delete"), "{text}");
    })
    .await;
}

#[tokio::test]
async fn write_concerns_that_lose_writes_are_warned_of() {
    let nodes = |nodes| WriteConcern::builder().w(Acknowledgment::Nodes(nodes)).build();
    let journal = |journal| WriteConcern::builder().w(Acknowledgment::Nodes(1)).journal(journal).build();
    let warning = [(Severity::Warning, "write-concern")];
    on_replica_set(move |database| async move {
        // One is a majority of one.
        assert_eq!(found::<Player>(&with_concern(&database, nodes(1))).await, []);
        assert_eq!(codes(&found::<Player>(&with_concern(&database, journal(false))).await), warning);
        assert_eq!(found::<Player>(&with_concern(&database, WriteConcern::majority())).await, []);
    })
    .await;
    on_standalone(move |database| async move {
        assert_eq!(codes(&found::<Versioned>(&with_concern(&database, nodes(1))).await)[..1], warning);
        let findings = found::<Versioned>(&with_concern(&database, journal(true))).await;
        assert_eq!(codes(&findings), [(Severity::Note, "version-guard")]);
    })
    .await;
}

#[tokio::test]
async fn what_refuses_records_is_noted() {
    on_replica_set(|database| async move {
        database.create_collection("players").validator(doc! { "score": { "$lt": 10 } }).await.unwrap();
        let options = IndexOptions::builder().unique(true).build();
        let index = IndexModel::builder().keys(doc! { "email": 1 }).options(options).build();
        database.collection::<Document>("players").create_index(index).await.unwrap();
        let findings = found::<Player>(&MongoSink::new(database)).await;
        assert_eq!(codes(&findings), [(Severity::Note, "validator"), (Severity::Note, "unique-index")]);
        assert!(findings.iter().all(|finding| finding.subject == "entity `players`"));
    })
    .await;
}

#[tokio::test]
async fn nothing_is_said_of_a_collection_that_is_not_there_yet() {
    on_replica_set(|database| async move {
        let sink = MongoSink::new(database);
        let scope = Scope::new("test", Player::NAME, 16);
        Sink::<Player>::open(&sink, &scope).await.unwrap();
        let findings = Sink::<Player>::examine(&sink, &scope).await.unwrap();
        assert!(findings.iter().all(|finding| finding.code != "unseen"), "{findings:?}");
    })
    .await;
}

#[tokio::test]
async fn a_unique_index_over_what_the_struct_does_not_have_is_warned_of() {
    on_replica_set(|database| async move {
        let options = IndexOptions::builder().unique(true).build();
        let index = IndexModel::builder().keys(doc! { "serial": 1 }).options(options).build();
        database.collection::<Document>("players").create_index(index).await.unwrap();
        let findings = found::<Player>(&MongoSink::new(database)).await;
        assert_eq!(codes(&findings), [(Severity::Warning, "unique-index")]);
    })
    .await;
}

#[tokio::test]
async fn a_collection_that_cannot_hold_records_is_fatal() {
    for (code, create) in [
        ("view", doc! { "create": "players", "viewOn": "real" }),
        ("time-series", doc! { "create": "players", "timeseries": { "timeField": "at" } }),
        ("capped", doc! { "create": "players", "capped": true, "size": 4096 }),
    ] {
        on_replica_set(move |database| async move {
            database.run_command(create).await.unwrap();
            let findings = found::<Player>(&MongoSink::new(database.clone())).await;
            assert_eq!(codes(&findings), [(Severity::Fatal, code)]);
            let engine = Engine::builder(MemoryBuffer::new())
                .entity::<Player>(MongoSink::new(database), EntityOptions::new())
                .start();
            let Err(StartError::Unfit { .. }) = engine.await else { panic!("started on a {code}") };
        })
        .await;
    }
}

#[tokio::test]
async fn a_user_without_rights_on_the_fences_is_warned_of() {
    on_replica_set(|database| async move {
        // Servers of tests ask for no password, so a collection that refuses stands for a user who may not.
        database.run_command(doc! { "create": "wb_fence", "viewOn": "real" }).await.unwrap();
        let findings = found::<Player>(&MongoSink::new(database)).await;
        assert_eq!(codes(&findings), [(Severity::Warning, "fences")]);
    })
    .await;
}

#[tokio::test]
async fn a_server_that_is_away_is_an_error_and_no_finding() {
    let url = "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=100";
    let sink = MongoSink::new(Client::with_uri_str(url).await.unwrap().database("test"));
    let error = Sink::<Player>::examine(&sink, &Scope::new("test", "players", 16)).await.unwrap_err();
    assert_eq!(error.kind(), write_behind::ErrorKind::Unavailable);
}
