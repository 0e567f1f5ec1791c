//! What reads cost, counted by a Redis of their own; and loads, counted by the sink.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use write_behind::testing::ScriptedSink;
use write_behind::{Batch, Cache, Engine, EntityOptions, NearCache, RedisBuffer, Report, Role, Scope, Sink, SinkError};
use write_behind_tests::{OwnRedis, Player, redis_url, unique};

const HOUR: Duration = Duration::from_secs(3_600);
const PATIENCE: Duration = Duration::from_secs(20);

/// How often a command was carried out.
async fn calls(server: &OwnRedis, command: &str) -> u64 {
    let text: String = redis::cmd("INFO").arg("commandstats").query_async(&mut server.plain().await).await.unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
    line.and_then(|rest| rest.split(',').next()).map_or(0, |count| count.parse().unwrap())
}

async fn start(url: &str, namespace: &str, sink: impl Sink<Player>, options: EntityOptions) -> (Engine, Cache<Player>) {
    let builder = Engine::builder(RedisBuffer::connect(url).await.unwrap()).namespace(namespace).role(Role::Writer);
    let engine = builder.entity::<Player>(sink, options).start().await.unwrap();
    let players = engine.cache().unwrap();
    (engine, players)
}

#[tokio::test]
async fn get_many_is_one_round_trip_a_partition_and_one_load() {
    let Some(server) = OwnRedis::start(&["--save", "", "--appendonly", "no"]).await else { return };
    let sink = ScriptedSink::new();
    let (engine, players) = start(&server.url(), "many", sink.clone(), EntityOptions::new().partitions(8)).await;
    let all: Vec<Player> = (0..200).map(|id| Player::new(id, id)).collect();
    players.put_many(all.iter().filter(|player| player.id < 100)).await.unwrap();
    let keys: Vec<u64> = (0..200).collect();
    let found = players.get_many(&keys).await.unwrap();
    assert_eq!(found.iter().flatten().count(), 100);
    assert_eq!(sink.loads(), 1, "one load for all misses");
    // The pipeline of a partition ends with its copies.
    assert_eq!(calls(&server, "mget").await, 8);
    // What is not in the sink is known now.
    assert_eq!(players.get_many(&keys).await.unwrap(), found);
    assert_eq!(sink.loads(), 1);
    assert_eq!(calls(&server, "mget").await, 16);
    engine.shutdown(PATIENCE).await.unwrap();
}

#[tokio::test]
async fn what_is_near_costs_no_command() {
    let Some(server) = OwnRedis::start(&["--save", "", "--appendonly", "no"]).await else { return };
    let options = EntityOptions::new().near_cache(NearCache::new(100).max_age(HOUR));
    let (engine, players) = start(&server.url(), "near", ScriptedSink::new(), options).await;
    players.put(&Player::new(1, 1)).await.unwrap();
    let first = players.get_shared(&1).await.unwrap().unwrap();
    // The write's own signal may come after the first read, and takes it away.
    let mut before = calls(&server, "mget").await;
    for _ in 0..1_000 {
        assert_eq!(players.get_shared(&1).await.unwrap().as_deref(), Some(&*first));
        assert_eq!(players.get(&2).await.unwrap(), None);
        assert_eq!(players.get_many(&[1, 2]).await.unwrap(), [Some(Player::new(1, 1)), None]);
        if calls(&server, "mget").await > before + 3 {
            before = calls(&server, "mget").await;
        }
    }
    assert!(calls(&server, "mget").await <= before + 3);
    assert!(engine.stats().remove("player").unwrap().near_hits > 3_500);
    engine.shutdown(PATIENCE).await.unwrap();
}

/// A sink whose loads take a while.
struct Slow {
    sink: ScriptedSink<Player>,
    loads: Arc<AtomicU64>,
}

#[async_trait]
impl Sink<Player> for Slow {
    async fn open(&self, scope: &Scope) -> Result<(), SinkError> {
        self.sink.open(scope).await
    }

    async fn prepare(&self, scope: &Scope) -> Result<(), SinkError> {
        self.sink.prepare(scope).await
    }

    async fn write(&self, batch: &Batch<Player>) -> Result<Report, SinkError> {
        self.sink.write(batch).await
    }

    async fn load(&self, keys: &[u64]) -> Result<Vec<Player>, SinkError> {
        self.loads.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(300)).await;
        self.sink.load(keys).await
    }
}

#[tokio::test]
async fn concurrent_readers_of_a_key_load_it_once_a_process() {
    let Some(url) = redis_url() else { return };
    let (namespace, rows) = (unique("loads"), ScriptedSink::new());
    rows.set_row(write_behind::Id::of(&7_u64).unwrap(), Player::new(7, 70));
    let mut engines = Vec::new();
    let mut readers = Vec::new();
    let mut counts = Vec::new();
    for _ in 0..2 {
        let loads = Arc::new(AtomicU64::new(0));
        let sink = Slow { sink: rows.clone(), loads: loads.clone() };
        let (engine, players) = start(&url, &namespace, sink, EntityOptions::new()).await;
        engines.push(engine);
        counts.push(loads);
        readers.extend((0..50).map(move |_| {
            let players = players.clone();
            tokio::spawn(async move { players.get(&7).await.unwrap() })
        }));
    }
    for found in join_all(readers).await {
        assert_eq!(found.unwrap(), Some(Player::new(7, 70)));
    }
    let counts: Vec<u64> = counts.iter().map(|loads| loads.load(Ordering::Relaxed)).collect();
    assert!(counts.iter().all(|loads| *loads <= 1) && counts.iter().sum::<u64>() >= 1, "{counts:?}");
    for engine in engines {
        engine.shutdown(PATIENCE).await.unwrap();
    }
}
