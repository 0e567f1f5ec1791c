//! What receipts, `flush` and ids say of data that a foreign hand or a restart has taken away.

use std::collections::HashSet;
use std::time::Duration;

use futures::future::join_all;
use redis::AsyncCommands;
use write_behind::ids::Ids;
use write_behind::testing::ScriptedSink;
use write_behind::{BufferErrorKind, Cache, CacheError, Engine, EntityOptions, RedisBuffer, RetryPolicy, Role};
use write_behind_tests::{OwnRedis, eventually};

use crate::player::Player;

const PATIENCE: Duration = Duration::from_secs(30);
const NOTHING: &[&str] = &["--save", "", "--appendonly", "no"];
const PARTITIONS: u16 = 4;

fn options() -> EntityOptions {
    EntityOptions::new().partitions(PARTITIONS).flush_every(Duration::from_millis(50))
}

async fn engine(server: &OwnRedis, sink: &ScriptedSink<Player>, role: Role, options: EntityOptions) -> Engine {
    let buffer = RedisBuffer::connect(&server.url()).await.unwrap();
    let builder = Engine::builder(buffer).role(role).lease(Duration::from_secs(1));
    builder.entity::<Player>(sink.clone(), options).start().await.unwrap()
}

fn players(engine: &Engine) -> Cache<Player> {
    engine.cache().unwrap()
}

/// Deletes a hash of every partition; returns how many there were.
async fn delete(server: &OwnRedis, what: &str) -> u64 {
    let keys: Vec<String> = (0..PARTITIONS).map(|n| format!("wb:{{player:{n:02}/4}}:{what}")).collect();
    server.plain().await.del(keys).await.unwrap()
}

fn vanished(engine: &Engine) -> u64 {
    engine.stats().get("player").unwrap().vanished
}

/// Thirteen records over all partitions vanish under one batch: each of them is counted.
#[tokio::test]
async fn every_record_that_vanished_is_counted_whatever_its_partition() {
    let Some(server) = OwnRedis::start(NOTHING).await else { return };
    let sink = ScriptedSink::new();
    let both = engine(&server, &sink, Role::Both, options()).await;
    let players = players(&both);
    // So that all of them are in one rotation.
    eventually("all are in one batch", PATIENCE, async || {
        sink.hold();
        players.put_many((0..13).map(|n| Player::new(n, 1)).collect::<Vec<_>>().iter()).await.unwrap();
        sink.waiting(1).await;
        let mut flushing = 0;
        for n in 0..PARTITIONS {
            flushing += server.plain().await.hlen::<_, u64>(format!("wb:{{player:{n:02}/4}}:flushing")).await.unwrap();
        }
        if flushing == 13 {
            return Some(());
        }
        sink.release();
        players.flush().await.unwrap();
        None
    })
    .await;
    assert_eq!(delete(&server, "flushing").await, u64::from(PARTITIONS));
    sink.release();
    eventually("the worker notices", PATIENCE, async || (vanished(&both) > 0).then_some(())).await;
    let later = players.put(&Player::new(1, 2)).await.unwrap();
    later.persisted_within(PATIENCE).await.unwrap();
    assert_eq!(vanished(&both), 13);
    both.shutdown(PATIENCE).await.unwrap();
}

/// More receipts than one look can hold: each part of them is judged by the epochs of its own instant.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn receipts_of_many_refused_writes_are_all_refused() {
    let Some(server) = OwnRedis::start(NOTHING).await else { return };
    let sink = ScriptedSink::new();
    let retry = RetryPolicy::new().initial(Duration::from_millis(5)).attempts(3);
    let options = EntityOptions::new().partitions(1).flush_every(Duration::from_millis(1)).retry(retry);
    let both = engine(&server, &sink, Role::Both, options).await;
    let players = players(&both);
    sink.refuse(|_| true);
    for round in 0..5_u64 {
        let all: Vec<Player> = (0..1_000).map(|n| Player::new(1_000 * round + n, round)).collect();
        let receipts = join_all(all.iter().map(|player| players.put(player))).await;
        let receipts: Vec<_> = receipts.into_iter().map(Result::unwrap).collect();
        let told = join_all(receipts.iter().map(|receipt| receipt.persisted_within(PATIENCE))).await;
        let untrue = told.iter().filter(|told| !matches!(told, Err(CacheError::DeadLettered { .. }))).count();
        let some = told.iter().find(|told| !matches!(told, Err(CacheError::DeadLettered { .. })));
        assert_eq!(untrue, 0, "round {round}: {some:?}");
    }
    both.shutdown(PATIENCE).await.unwrap();
}

/// Blocks that were reserved after the state that came back: nobody gets them again, neither who was there nor who is new.
#[tokio::test]
async fn ids_are_given_once_although_a_restart_lost_what_was_reserved() {
    let Some(mut server) = OwnRedis::start(NOTHING).await else { return };
    let sink = ScriptedSink::new();
    let first = engine(&server, &sink, Role::Writer, options()).await;
    let second = engine(&server, &sink, Role::Writer, options()).await;
    let (small, large) = (first.ids::<Player>(10).unwrap(), second.ids::<Player>(1_000).unwrap());
    let mut used = HashSet::new();
    let mut take = async |ids: &Ids<Player>, count: usize, who: &str| {
        for _ in 0..count {
            let id = eventually("an id", PATIENCE, async || ids.next().await.ok()).await;
            assert!(used.insert(id), "{who}: {id} again");
        }
    };
    take(&small, 10, "small").await;
    take(&large, 1, "large").await;
    server.run(&["SAVE"]).await;
    // Three blocks of the large one, and one of the small one, which the file does not have.
    take(&large, 2_500, "large").await;
    take(&small, 5, "small").await;
    server.kill().await;
    assert!(server.restart().await);
    // Others have noticed before it begins.
    for engine in [&first, &second] {
        let told = eventually("an answer", PATIENCE, async || match players(engine).flush().await {
            Err(CacheError::Buffer(error)) if error.kind() != BufferErrorKind::Lost => None,
            told => Some(told),
        });
        let _ = told.await;
    }
    let third = engine(&server, &sink, Role::Writer, options()).await;
    let new = third.ids::<Player>(10).unwrap();
    take(&new, 40, "new").await;
    take(&small, 40, "small").await;
    take(&large, 3_000, "large").await;
    take(&new, 40, "new").await;
}
