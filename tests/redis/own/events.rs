//! What a program is told about a Redis that lost its data.

use std::time::Duration;

use write_behind::testing::ScriptedSink;
use write_behind::{Engine, EntityOptions, Event, RedisBuffer};
use write_behind_tests::{OwnRedis, eventually};

use crate::player::Player;

const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_redis_that_was_emptied_is_told() {
    let Some(server) = OwnRedis::start(&["--save", "", "--appendonly", "no"]).await else { return };
    let engine = Engine::builder(RedisBuffer::connect(&server.url()).await.unwrap())
        .entity::<Player>(ScriptedSink::new(), EntityOptions::new().partitions(4))
        .start()
        .await
        .unwrap();
    let mut events = engine.events();
    // The first beat is there.
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    server.run(&["FLUSHALL"]).await;
    let entity = eventually("the loss is told", PATIENCE, async || {
        match tokio::time::timeout(PATIENCE, events.next()).await.unwrap().unwrap() {
            Event::BufferLostData { entity, .. } => Some(entity),
            _ => None,
        }
    })
    .await;
    assert_eq!(entity, "player");
    engine.shutdown(PATIENCE).await.unwrap();
}
