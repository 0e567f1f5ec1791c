//! Signals between processes through Redis.

use std::time::{Duration, Instant};

use write_behind::testing::ScriptedSink;
use write_behind::{Engine, EntityOptions, RedisBuffer, Role};
use write_behind_tests::{Player, Wire, eventually, redis_url, unique};

const HOUR: Duration = Duration::from_secs(3_600);
const PATIENCE: Duration = Duration::from_secs(20);

async fn engine(url: &str, namespace: &str, sink: &ScriptedSink<Player>, role: Role) -> Engine {
    let options = EntityOptions::new().flush_every(HOUR);
    let buffer = RedisBuffer::connect(url).await.unwrap();
    let builder = Engine::builder(buffer).namespace(namespace).role(role);
    builder.entity::<Player>(sink.clone(), options).start().await.unwrap()
}

#[tokio::test]
async fn a_flush_asked_for_by_a_writer_does_not_wait_for_the_workers_interval() {
    let Some(url) = redis_url() else { return };
    let (namespace, sink) = (unique("signals"), ScriptedSink::new());
    let worker = engine(&url, &namespace, &sink, Role::Worker).await;
    let writer = engine(&url, &namespace, &sink, Role::Writer).await;
    let players = writer.cache::<Player>().unwrap();
    players.put(&Player::new(1, 1)).await.unwrap();
    assert!(players.flush_within(PATIENCE).await.unwrap(), "the worker hears it");
    players.put_through(&Player::new(1, 2)).await.unwrap();
    assert_eq!(sink.rows().into_values().next().unwrap().score, 2);
    let begun = Instant::now();
    writer.shutdown(PATIENCE).await.unwrap();
    worker.shutdown(PATIENCE).await.unwrap();
    assert!(begun.elapsed() < PATIENCE, "a subscription does not hold up the end");
}

#[tokio::test]
async fn a_worker_whose_connections_were_cut_hears_again() {
    let Some(url) = redis_url() else { return };
    let (namespace, sink) = (unique("signals"), ScriptedSink::new());
    let wire = Wire::to(&url).await.unwrap();
    let worker = engine(&wire.url, &namespace, &sink, Role::Worker).await;
    let writer = engine(&url, &namespace, &sink, Role::Writer).await;
    let players = writer.cache::<Player>().unwrap();
    wire.cut();
    players.put(&Player::new(1, 1)).await.unwrap();
    eventually("a nudge is heard", PATIENCE, async || {
        players.flush_within(Duration::from_millis(300)).await.unwrap().then_some(())
    })
    .await;
    worker.shutdown(PATIENCE).await.unwrap();
    writer.shutdown(PATIENCE).await.unwrap();
}
