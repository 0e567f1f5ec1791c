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
    eventually("the first beat is there", PATIENCE, async || {
        let mut plain = server.plain().await;
        let metas: Vec<String> = redis::cmd("KEYS").arg("*:lineage").query_async(&mut plain).await.unwrap();
        for meta in metas {
            let beat: bool = redis::cmd("HEXISTS").arg(meta).arg("beat").query_async(&mut plain).await.unwrap();
            if beat {
                return Some(());
            }
        }
        None
    })
    .await;
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
