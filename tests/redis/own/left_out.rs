//! Many writes of one epoch of which the sink has newer versions.

use std::time::Duration;

use futures::future::join_all;
use serde::{Deserialize, Serialize};
use write_behind::testing::ScriptedSink;
use write_behind::{CacheError, Engine, EntityOptions, Id, RedisBuffer, WriteBehind};
use write_behind_tests::OwnRedis;

const PATIENCE: Duration = Duration::from_secs(60);
/// More than the marks that a partition keeps.
const MANY: u64 = 4_300;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, WriteBehind)]
#[wb(name = "note")]
struct Note {
    #[wb(key)]
    id: u64,
    #[wb(version)]
    version: i64,
}

#[tokio::test]
async fn no_receipt_of_a_write_that_was_left_out_says_that_it_is_persisted() {
    let Some(server) = OwnRedis::start(&["--save", "", "--appendonly", "no"]).await else { return };
    let sink = ScriptedSink::new();
    let buffer = RedisBuffer::connect(&server.url()).await.unwrap();
    let options = EntityOptions::new().partitions(1).flush_every(Duration::from_secs(3));
    let engine = Engine::builder(buffer).entity::<Note>(sink.clone(), options).start().await.unwrap();
    let notes = engine.cache::<Note>().unwrap();
    let put_all = async |version| {
        let all: Vec<Note> = (0..MANY).map(|id| Note { id, version }).collect();
        join_all(all.iter().map(|note| notes.put(note))).await.into_iter().map(Result::unwrap).collect::<Vec<_>>()
    };
    put_all(1).await;
    notes.flush().await.unwrap();
    // Another program.
    (0..MANY).for_each(|id| sink.set_row(Id::of(&id).unwrap(), Note { id, version: 9 }));
    let receipts = put_all(2).await;
    let told = join_all(receipts.iter().map(|receipt| receipt.persisted_within(PATIENCE))).await;
    let untrue = told.iter().filter(|told| !matches!(told, Err(CacheError::Stale { .. }))).count();
    assert_eq!(untrue, 0, "of {MANY}");
    engine.shutdown(PATIENCE).await.unwrap();
}
