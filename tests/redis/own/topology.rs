//! Changes of topology while programs of the old one go on writing.
#![expect(clippy::panic, clippy::print_stdout, reason = "a test fails by panicking, and says what it saw")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use write_behind::testing::ScriptedSink;
use write_behind::{
    BufferErrorKind, Cache, CacheError, Engine, EntityOptions, Mechanism, RedisBuffer, RetryPolicy, Role, StartError,
};
use write_behind_tests::{OwnRedis, eventually, refused};

use crate::player::{Player, id};

const PATIENCE: Duration = Duration::from_secs(60);
const NOTHING: &[&str] = &["--save", "", "--appendonly", "no"];
/// A worker looks at the topology once a second,
const LEASE: Duration = Duration::from_secs(1);
/// and a writer that is not to notice soon every four.
const LONG_LEASE: Duration = Duration::from_secs(12);
const KEYS: u64 = 16;

fn options(partitions: u16) -> EntityOptions {
    let retry = RetryPolicy::new().cap(Duration::from_millis(500));
    EntityOptions::new().partitions(partitions).flush_every(Duration::from_millis(5)).retry(retry)
}

async fn start(
    server: &OwnRedis,
    sink: &ScriptedSink<Player>,
    role: Role,
    options: EntityOptions,
) -> Result<Engine, StartError> {
    let buffer = RedisBuffer::connect(&server.url()).await.unwrap();
    let lease = if role == Role::Writer { LONG_LEASE } else { LEASE };
    Engine::builder(buffer).lease(lease).role(role).entity::<Player>(sink.clone(), options).start().await
}

/// What a writer was told: the last acknowledged score of each key, and how many were acknowledged and refused.
#[derive(Debug, Default)]
struct Told {
    acknowledged: BTreeMap<u64, u64>,
    taken: u64,
    refused: u64,
}

/// Writes rising scores until it is to stop.
async fn write_on(players: Cache<Player>, scores: impl Fn(u64) -> u64, stop: Arc<AtomicBool>) -> Told {
    let mut told = Told::default();
    let mut round = 0;
    while !stop.load(Ordering::Acquire) {
        round += 1;
        let player = Player::new(round % KEYS, scores(round));
        match players.put(&player).await {
            Ok(_) => {
                told.taken += 1;
                told.acknowledged.insert(player.id, player.score);
            }
            Err(CacheError::Buffer(error)) => {
                assert_eq!(error.kind(), BufferErrorKind::Topology, "{error}");
                told.refused += 1;
            }
            Err(error) => panic!("{error}"),
        }
        // Now and then nothing is dirty, so that the topology changes also where nothing is closed.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    told
}

/// The topology changes under a writer that never stops. Returns what the writer was told, and what is in the sink when the
/// new program has flushed all that it finds.
async fn change(server: &OwnRedis, role: Role, to: u16, new: EntityOptions) -> (Told, BTreeMap<u64, u64>) {
    let sink = ScriptedSink::new();
    let worker = start(server, &sink, Role::Both, options(16)).await.unwrap();
    let writer = start(server, &sink, role, options(16)).await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let writing = tokio::spawn(write_on(writer.cache().unwrap(), |round| round, stop.clone()));
    tokio::time::sleep(Duration::from_millis(500)).await;
    // Where nothing is closed the time may be over before a moment comes at which nothing is dirty.
    let next = eventually("the topology changes", PATIENCE, async || {
        match start(server, &sink, Role::Both, new.clone()).await {
            Ok(engine) => Some(engine),
            Err(StartError::Buffer { source, .. }) if source.kind() == BufferErrorKind::Topology => None,
            Err(error) => panic!("{error}"),
        }
    })
    .await;
    // Until the writer has looked.
    tokio::time::sleep(LONG_LEASE / 2).await;
    stop.store(true, Ordering::Release);
    let told = writing.await.unwrap();
    let players = next.cache::<Player>().unwrap();
    assert!(players.flush_within(PATIENCE).await.unwrap(), "{to}");
    let rows = told.acknowledged.keys().filter_map(|key| sink.row(&id(*key))).map(|row| (row.id, row.score)).collect();
    drop((worker, writer));
    next.shutdown(PATIENCE).await.unwrap();
    (told, rows)
}

async fn loses_nothing(role: Role, to: u16) {
    let Some(server) = OwnRedis::start(NOTHING).await else { return };
    let (told, rows) = change(&server, role, to, options(to)).await;
    println!("16 to {to}: {} acknowledged, {} refused", told.taken, told.refused);
    assert!(told.taken > 0 && told.refused > 0, "{told:?}");
    assert_eq!(rows, told.acknowledged, "what was acknowledged last is in the sink");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p1_a_writer_of_the_old_topology_loses_nothing_when_partitions_are_halved() {
    loses_nothing(Role::Writer, 8).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p1_a_writer_of_the_old_topology_loses_nothing_when_partitions_are_doubled() {
    loses_nothing(Role::Writer, 32).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p1_a_worker_of_the_old_topology_loses_nothing() {
    loses_nothing(Role::Both, 8).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn negative_control_p1_a_layout_that_is_not_sealed() {
    let Some(server) = OwnRedis::start(NOTHING).await else { return };
    // A writer alone: no worker of the old topology brings its writes home.
    let (told, rows) = change(&server, Role::Writer, 8, options(8).without(Mechanism::Seal)).await;
    assert_ne!(rows, told.acknowledged, "nothing is lost without the seal");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_goes_on_when_the_topology_is_its_own_again() {
    let Some(server) = OwnRedis::start(NOTHING).await else { return };
    let sink = ScriptedSink::new();
    let first = start(&server, &sink, Role::Both, options(16)).await.unwrap();
    let players = first.cache::<Player>().unwrap();
    players.put(&Player::new(1, 1)).await.unwrap();
    assert!(players.flush_within(PATIENCE).await.unwrap());
    let other = start(&server, &sink, Role::Both, options(8)).await.unwrap();
    let CacheError::Buffer(error) = refused(players.put(&Player::new(1, 2)).await) else { panic!("another error") };
    assert_eq!(error.kind(), BufferErrorKind::Topology, "at once: {error}");
    let CacheError::Buffer(error) = refused(players.get(&1).await) else { panic!("another error") };
    assert_eq!(error.kind(), BufferErrorKind::Topology, "reads too: {error}");
    let others = other.cache::<Player>().unwrap();
    others.put(&Player::new(1, 3)).await.unwrap();
    // The first engine counts as a worker until it looks, and so a partition may have nobody for a moment.
    assert!(others.flush_within(PATIENCE).await.unwrap());
    other.shutdown(PATIENCE).await.unwrap();
    // Long enough for the first engine to have given everything up.
    eventually("gives everything up", PATIENCE, async || first.owned()["player"].is_empty().then_some(())).await;
    let back = start(&server, &sink, Role::Writer, options(16)).await.unwrap();
    eventually("the gate opens again", PATIENCE, async || players.put(&Player::new(2, 2)).await.ok()).await;
    assert_eq!(players.get(&1).await.unwrap(), Some(Player::new(1, 3)), "what the other one wrote");
    let begun = Instant::now();
    assert!(players.flush_within(PATIENCE).await.unwrap(), "{:?}", begun.elapsed());
    assert_eq!(sink.row(&id(2)), Some(Player::new(2, 2)));
    back.shutdown(PATIENCE).await.unwrap();
    first.shutdown(PATIENCE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p3_dead_letters_keep_the_topology() {
    let Some(server) = OwnRedis::start(NOTHING).await else { return };
    let sink = ScriptedSink::new();
    let engine = start(&server, &sink, Role::Both, options(16).retry(RetryPolicy::new().attempts(1))).await.unwrap();
    let players = engine.cache::<Player>().unwrap();
    sink.refuse(|_| true);
    players.put_many(&(0..20).map(|id| Player::new(id, 1)).collect::<Vec<_>>()).await.unwrap();
    let letters = engine.dead_letters::<Player>().unwrap();
    eventually("they are refused", PATIENCE, async || (letters.count().await.unwrap() == 20).then_some(())).await;
    sink.accept();
    for partitions in [8, 32] {
        let StartError::Buffer { source, .. } = refused(start(&server, &sink, Role::Both, options(partitions)).await)
        else {
            panic!("another error")
        };
        assert!(
            source.kind() == BufferErrorKind::Topology && source.to_string().contains("20 dead letters"),
            "{source}"
        );
    }
    letters.replay_all().await.unwrap();
    assert!(players.flush_within(PATIENCE).await.unwrap());
    start(&server, &sink, Role::Both, options(8)).await.unwrap().shutdown(PATIENCE).await.unwrap();
    engine.shutdown(PATIENCE).await.unwrap();
    assert_eq!((0..20).filter(|n| sink.row(&id(*n)) == Some(Player::new(*n, 1))).count(), 20);
}
