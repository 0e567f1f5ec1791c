//! Writes within a limit are a script, which a server can forget.

use std::time::Duration;

use futures::future::join_all;
use write_behind::testing::ScriptedSink;
use write_behind::{Engine, EntityOptions, Overflow, RedisBuffer};

use write_behind_tests::OwnRedis;

use crate::player::Player;

const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn p7_a_script_that_the_server_forgot_is_loaded_again() {
    let Some(server) = OwnRedis::start(&["--save", "", "--appendonly", "no"]).await else { return };
    let sink = ScriptedSink::new();
    // No cycle of the worker in between: other scripts are forgotten too.
    let options = EntityOptions::new().flush_every(Duration::from_secs(3_600)).max_dirty(10_000, Overflow::Reject);
    let builder = Engine::builder(RedisBuffer::connect(&server.url()).await.unwrap());
    let engine = builder.entity::<Player>(sink.clone(), options).start().await.unwrap();
    let players = engine.cache::<Player>().unwrap();
    for round in 1..=5 {
        server.run(&["SCRIPT", "FLUSH"]).await;
        let puts = join_all((0..500).map(|id| {
            let players = players.clone();
            async move { players.put(&Player::new(id, round)).await }
        }));
        assert!(puts.await.iter().all(Result::is_ok));
    }
    assert!(players.flush_within(PATIENCE).await.unwrap());
    assert_eq!(sink.rows().values().filter(|player| player.score == 5).count(), 500);
    engine.shutdown(PATIENCE).await.unwrap();
}
