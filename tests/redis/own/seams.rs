//! Where the parts of an engine meet on a Redis that fails: emptied, frozen, without its notes.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use write_behind::buffer::{Registration, Rotation, Stamp};
use write_behind::testing::ScriptedSink;
use write_behind::{
    Buffer, BufferErrorKind, Cache, CacheError, Engine, EntityOptions, ErrorKind, Format, Record, RedisBuffer,
    RetryPolicy, Scope, Write,
};
use write_behind_tests::{OwnRedis, eventually};

use crate::player::{Player, id};

const PATIENCE: Duration = Duration::from_secs(30);
const NOTHING: &[&str] = &["--save", "", "--appendonly", "no"];
const LEASE: Duration = Duration::from_secs(1);

async fn engine(server: &OwnRedis, sink: &ScriptedSink<Player>) -> (Engine, Cache<Player>) {
    let retry = RetryPolicy::new().cap(Duration::from_millis(500));
    let options = EntityOptions::new().partitions(4).flush_every(Duration::from_millis(200)).retry(retry);
    let engine = Engine::builder(RedisBuffer::connect(&server.url()).await.unwrap())
        .lease(LEASE)
        .entity::<Player>(sink.clone(), options)
        .start()
        .await
        .unwrap();
    let players = engine.cache().unwrap();
    (engine, players)
}

#[tokio::test]
async fn p1_an_engine_goes_on_over_a_redis_that_was_emptied() {
    let Some(server) = OwnRedis::start(NOTHING).await else { return };
    let sink = ScriptedSink::new();
    let (engine, players) = engine(&server, &sink).await;
    players.put(&Player::new(1, 1)).await.unwrap();
    players.flush().await.unwrap();
    server.run(&["FLUSHALL"]).await;
    // Every watch has looked by then: leases, data, topology.
    eventually("the loss is noticed", PATIENCE, async || (engine.stats()["player"].lineage_breaks == 1).then_some(()))
        .await;
    sleep(LEASE * 3).await;
    players.put(&Player::new(2, 2)).await.unwrap();
    assert_eq!(players.get(&2).await.unwrap(), Some(Player::new(2, 2)));
    // All of this process was flushed before; what others had written may not have been. It is told once.
    let told = players.flush_within(PATIENCE).await;
    assert!(matches!(&told, Err(CacheError::Buffer(error)) if error.kind() == BufferErrorKind::Lost), "{told:?}");
    assert!(players.flush_within(PATIENCE).await.unwrap());
    assert_eq!(sink.row(&id(2)), Some(Player::new(2, 2)));
    // The layout is fixed again: another one is refused while anything is dirty.
    sink.hold();
    players.put(&Player::new(3, 3)).await.unwrap();
    let buffer = RedisBuffer::connect(&server.url()).await.unwrap();
    let other = Registration::new(Arc::new(Scope::new("wb", "player", 8)), Format::Json);
    assert!(buffer.space(other).await.is_err(), "records of four partitions are dirty");
    sink.release();
    assert_eq!(engine.shutdown(PATIENCE).await.unwrap().remaining, 0);
}

#[tokio::test]
async fn p11_shutdown_is_over_at_its_deadline_when_redis_does_not_answer() {
    let Some(server) = OwnRedis::start(NOTHING).await else { return };
    let sink = ScriptedSink::new();
    let (engine, players) = engine(&server, &sink).await;
    players.put(&Player::new(1, 1)).await.unwrap();
    server.signal("-STOP").await;
    let begun = Instant::now();
    let drained = engine.shutdown(Duration::from_secs(1)).await;
    let took = begun.elapsed();
    server.signal("-CONT").await;
    assert!(took < Duration::from_secs(15), "{took:?}");
    assert!(drained.is_err(), "what is left is not known: {drained:?}");
}

#[tokio::test]
async fn p11_what_remains_is_counted_although_the_leases_are_lost() {
    let Some(server) = OwnRedis::start(NOTHING).await else { return };
    let sink = ScriptedSink::new();
    let (engine, players) = engine(&server, &sink).await;
    sink.fail_always(ErrorKind::Unavailable);
    players.put(&Player::new(1, 1)).await.unwrap();
    let lose = async {
        // As after a pause of Redis that was longer than they are.
        for partition in 0..4 {
            let meta = format!("wb:{{player:{partition:02}/4}}:meta");
            server.run(&["HDEL", &meta, "owner", "until_ms"]).await;
        }
    };
    let (drained, ()) = tokio::join!(engine.shutdown(LEASE * 3), lose);
    assert_eq!(drained.unwrap().remaining, 1);
}

#[tokio::test]
async fn p1_a_closed_epoch_without_its_number_is_flushed() {
    let Some(server) = OwnRedis::start(NOTHING).await else { return };
    let buffer = RedisBuffer::connect(&server.url()).await.unwrap();
    let scope = Arc::new(Scope::new("wb", "player", 1));
    let space = buffer.space(Registration::new(scope, Format::Json)).await.unwrap();
    space.put(vec![Write { partition: 0, id: id(1), record: Record::from_bytes(&b"1"[..]) }]).await.unwrap();
    space.take(&[0], "a", PATIENCE).await.unwrap();
    assert_eq!(space.rotate(0, "a", Stamp::fresh()).await.unwrap(), Rotation::Epoch(1));
    server.run(&["DEL", "wb:{player:00/1}:meta"]).await;
    assert_eq!(space.rotate(0, "a", Stamp::fresh()).await.unwrap(), Rotation::NotOwner, "the lease went with it");
    space.take(&[0], "a", PATIENCE).await.unwrap();
    assert_eq!(space.rotate(0, "a", Stamp::fresh()).await.unwrap(), Rotation::Epoch(1));
    assert_eq!(space.status(0).await.unwrap().open_epoch, 2);
    buffer.close().await;
}
