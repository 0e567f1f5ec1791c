//! The suite that every sink passes.

use write_behind::testing::sink as suite;

use crate::entities::{Membership, Player, Renamed, Versioned};
use crate::merges::Shared;
use crate::server::{on_replica_set, on_standalone};
use write_behind::mongo::MongoSink;

#[tokio::test]
async fn a_single_key() {
    on_replica_set(|database| async move { suite::all::<Player>(&MongoSink::new(database)).await }).await;
}

#[tokio::test]
async fn a_composite_key() {
    on_replica_set(|database| async move { suite::all::<Membership>(&MongoSink::new(database)).await }).await;
}

#[tokio::test]
async fn a_key_that_is_the_id_already() {
    on_replica_set(|database| async move { suite::all::<Renamed>(&MongoSink::new(database)).await }).await;
}

#[tokio::test]
async fn a_standalone_server() {
    on_standalone(|database| async move { suite::all::<Player>(&MongoSink::new(database)).await }).await;
}

#[tokio::test]
async fn a_version_that_guards() {
    on_standalone(|database| async move { suite::all::<Versioned>(&MongoSink::new(database)).await }).await;
    on_replica_set(|database| async move { suite::all::<Versioned>(&MongoSink::new(database)).await }).await;
}

#[tokio::test]
async fn documents_that_are_merged() {
    on_replica_set(|database| async move { suite::all::<Shared>(&MongoSink::new(database)).await }).await;
}
