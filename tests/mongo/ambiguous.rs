//! What may be a document's fault or the configuration's: nothing is a dead letter for what is wrong with all.

use std::time::{Duration, Instant};

use crate::entities::{Player, Versioned};
use crate::server::{batch, on_own_replica_set, on_replica_set, on_standalone, opened};
use mongodb::Database;
use mongodb::bson::{Document, doc};
use serde::{Deserialize, Serialize};
use write_behind::mongo::MongoSink;
use write_behind::{
    Cache, DeadLetters, Engine, Entity, EntityOptions, EntityStats, MemoryBuffer, RetryPolicy, Sink, WriteBehind,
};

/// Far longer than what is waited for should take.
const SOON: Duration = Duration::from_secs(30);

/// Looks until it is so.
macro_rules! until {
    ($what:literal, $found:expr) => {
        let until = Instant::now() + SOON;
        while !$found {
            assert!(Instant::now() < until, "not within {SOON:?}: {}", $what);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
}

struct House {
    engine: Engine,
    cache: Cache<Player>,
    letters: DeadLetters<Player>,
}

impl House {
    async fn over(sink: MongoSink) -> Self {
        let retry = RetryPolicy::new().initial(Duration::from_millis(20)).cap(Duration::from_millis(200)).attempts(3);
        let options = EntityOptions::new().flush_every(Duration::from_millis(20)).retry(retry);
        let builder = Engine::builder(MemoryBuffer::new()).entity::<Player>(sink, options);
        let engine = builder.start().await.unwrap();
        let (cache, letters) = (engine.cache().unwrap(), engine.dead_letters().unwrap());
        Self { engine, cache, letters }
    }

    fn stats(&self) -> EntityStats {
        self.engine.stats().get(Player::NAME).copied().unwrap()
    }

    async fn blames_the_configuration(&self, times: u64) {
        let before = self.stats().retries.misconfigured;
        until!("the configuration is blamed", self.stats().retries.misconfigured >= before + times);
        assert_eq!((self.letters.count().await.unwrap(), self.stats().refused), (0, 0));
    }

    async fn all_land(&self) {
        until!("all documents land", self.cache.scan_dirty(None, 1).await.unwrap().keys.is_empty());
        assert_eq!((self.stats().dead_letters, self.stats().refused), (0, 0));
    }
}

async fn count(database: &Database) -> u64 {
    database.collection::<Document>("players").count_documents(doc! {}).await.unwrap()
}

async fn validate(database: &Database, validator: Document) {
    database.run_command(doc! { "collMod": "players", "validator": validator }).await.unwrap();
}

async fn a_validator_that_refuses_all_comes_and_goes(database: Database) {
    let house = House::over(opened::<Player>(&database).await).await;
    house.cache.put_many(&Player::range(0..20)).await.unwrap();
    house.all_land().await;
    validate(&database, doc! { "team": { "$exists": true } }).await;
    house.cache.put_many(&Player::range(20..120)).await.unwrap();
    house.blames_the_configuration(5).await;
    // One alone, and what is there already.
    house.cache.put(&Player { score: 1, ..Player::new(1) }).await.unwrap();
    house.cache.put(&Player::new(120)).await.unwrap();
    house.blames_the_configuration(5).await;
    validate(&database, doc! {}).await;
    house.all_land().await;
    assert_eq!(count(&database).await, 121);
}

#[tokio::test]
async fn p8_a_validator_that_refuses_all_is_no_dead_letter() {
    on_replica_set(a_validator_that_refuses_all_comes_and_goes).await;
}

#[tokio::test]
async fn p8_a_validator_that_refuses_all_is_no_dead_letter_on_a_standalone_server() {
    on_standalone(a_validator_that_refuses_all_comes_and_goes).await;
}

/// A validator does not look at a document that stays as it is, nor, where it is moderate, at one that did not pass before: that those
/// land says nothing of what it refuses.
async fn what_no_validator_looks_at_is_no_evidence(database: Database) {
    let house = House::over(opened::<Player>(&database).await).await;
    house.cache.put_many(&Player::range(0..40)).await.unwrap();
    house.all_land().await;
    for (level, from) in [("strict", 100), ("moderate", 200)] {
        let validator = doc! { "collMod": "players", "validator": { "team": 1 }, "validationLevel": level };
        database.run_command(validator).await.unwrap();
        for n in 0..20 {
            // The same, or another one.
            let score = if level == "strict" { 0 } else { 1 };
            let batches = house.stats().batches;
            house.cache.put_many(&[Player { score, ..Player::new(n) }, Player::new(from + n)]).await.unwrap();
            until!("another write", house.stats().batches > batches);
        }
        house.blames_the_configuration(5).await;
        database
            .run_command(doc! { "collMod": "players", "validator": {}, "validationLevel": "strict" })
            .await
            .unwrap();
        house.all_land().await;
    }
    assert_eq!(count(&database).await, 80);
}

#[tokio::test]
async fn p8_what_no_validator_looks_at_does_not_speak_for_it() {
    on_replica_set(what_no_validator_looks_at_is_no_evidence).await;
}

#[tokio::test]
async fn p8_what_no_validator_looks_at_does_not_speak_for_it_on_a_standalone_server() {
    on_standalone(what_no_validator_looks_at_is_no_evidence).await;
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, WriteBehind)]
#[wb(name = "tallies", collection = "tallies", append)]
struct Tally {
    #[wb(key)]
    id: i64,
}

/// What a write reports of upserts of which none changed a document.
#[tokio::test]
async fn p8_documents_that_stay_as_they_are_are_reported_as_idle() {
    on_replica_set(|database| async move {
        let sink = opened::<Versioned>(&database).await;
        let write = async |rows: &[Versioned]| sink.write(&batch(rows, &[])).await.unwrap();
        assert!(!write(&[Versioned::new(1, 5, "a")]).await.idle);
        assert!(write(&[Versioned::new(1, 5, "a")]).await.idle, "the same");
        assert!(write(&[Versioned::new(1, 4, "b")]).await.idle, "an older one");
        assert!(!write(&[Versioned::new(1, 6, "c")]).await.idle);
        let sink = opened::<Tally>(&database).await;
        let write = async |rows: &[Tally]| sink.write(&batch(rows, &[])).await.unwrap();
        assert!(!write(&[Tally { id: 1 }, Tally { id: 2 }]).await.idle);
        assert!(write(&[Tally { id: 1 }]).await.idle, "it was added before");
        assert!(!write(&[Tally { id: 1 }, Tally { id: 3 }]).await.idle);
    })
    .await;
}

async fn a_lone_document_waits_until_others_land(database: Database) {
    database.create_collection("players").validator(doc! { "score": { "$lt": 10 } }).await.unwrap();
    let sink = opened::<Player>(&database).await;
    let bad = Player { score: 11, ..Player::new(1) };
    let report = sink.write(&batch(std::slice::from_ref(&bad), &[])).await.unwrap();
    assert!(report.rejected.first().unwrap().1.is_ambiguous());
    let house = House::over(sink).await;
    house.cache.put(&bad).await.unwrap();
    house.blames_the_configuration(8).await;
    house.cache.put(&Player::new(2)).await.unwrap();
    until!("the letter", house.letters.count().await.unwrap() == 1);
    assert_eq!(count(&database).await, 1);
    // The validator is as it was when that one landed: now one alone is known to be at fault, and nobody waits.
    let paused = house.stats().retries.misconfigured;
    house.cache.put(&Player { score: 11, ..Player::new(3) }).await.unwrap();
    until!("the second letter", house.letters.count().await.unwrap() == 2);
    assert_eq!(house.stats().retries.misconfigured, paused);
}

#[tokio::test]
async fn p8_a_document_alone_waits_until_others_land() {
    on_replica_set(a_lone_document_waits_until_others_land).await;
}

#[tokio::test]
async fn p8_a_document_alone_waits_until_others_land_on_a_standalone_server() {
    on_standalone(a_lone_document_waits_until_others_land).await;
}

/// A code that no table here knows, for every write for a while.
#[tokio::test]
async fn p8_a_code_that_nobody_knows_is_no_dead_letter_for_all() {
    on_own_replica_set(Duration::from_secs(60), |database| async move {
        let house = House::over(opened::<Player>(&database).await).await;
        let namespace = format!("{}.players", database.name());
        let admin = database.client().database("admin");
        let data = doc! { "failCommands": ["update"], "errorCode": 7_654_321, "namespace": namespace };
        let fail = doc! { "configureFailPoint": "failCommand", "mode": "alwaysOn", "data": data };
        admin.run_command(fail).await.unwrap();
        house.cache.put_many(&Player::range(0..10)).await.unwrap();
        house.blames_the_configuration(5).await;
        admin.run_command(doc! { "configureFailPoint": "failCommand", "mode": "off" }).await.unwrap();
        house.all_land().await;
        assert_eq!(count(&database).await, 10);
    })
    .await;
}

/// The driver itself looks for the primary anew.
#[tokio::test]
async fn a_primary_that_steps_down_is_waited_for() {
    on_own_replica_set(Duration::from_secs(60), |database| async move {
        let house = House::over(opened::<Player>(&database).await).await;
        house.cache.put_many(&Player::range(0..10)).await.unwrap();
        house.all_land().await;
        let admin = database.client().database("admin");
        let _ = admin.run_command(doc! { "replSetStepDown": 2, "force": true }).await;
        let before = house.stats().retries;
        house.cache.put_many(&Player::range(10..60)).await.unwrap();
        house.all_land().await;
        let after = house.stats().retries;
        assert_eq!((after.rejected, after.misconfigured), (before.rejected, before.misconfigured));
        assert_eq!(count(&database).await, 60);
    })
    .await;
}
