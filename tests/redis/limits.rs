//! The limit of dirty keys over several processes on a real server.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::time::Instant;
use write_behind::testing::ScriptedSink;
use write_behind::{BufferErrorKind, Cache, CacheError, Engine, EntityOptions, Id, Overflow, RedisBuffer, Role};
use write_behind_tests::{Player, eventually, redis_url, unique};

const PATIENCE: Duration = Duration::from_secs(60);
const PARTITIONS: u16 = 4;

async fn engine(
    namespace: &str,
    role: Role,
    sink: &ScriptedSink<Player>,
    options: EntityOptions,
) -> Option<(Engine, Cache<Player>)> {
    let buffer = RedisBuffer::connect(&redis_url()?).await.unwrap();
    let options = options.partitions(PARTITIONS);
    let builder = Engine::builder(buffer).namespace(namespace).role(role).entity(sink.clone(), options);
    let engine = builder.start().await.unwrap();
    let players = engine.cache().unwrap();
    Some((engine, players))
}

/// What is seen and told while the writers run.
#[derive(Debug, Default)]
struct Watched {
    stop: AtomicBool,
    /// The most keys that were dirty at once, and how often that was looked at.
    most: AtomicU64,
    looks: AtomicU64,
    refused: AtomicU64,
}

/// Counts dirty keys, each once, at one instant, until told to stop.
async fn look(namespace: String, watched: Arc<Watched>) {
    let client = redis::Client::open(redis_url().unwrap()).unwrap();
    let mut plain = client.get_multiplexed_async_connection().await.unwrap();
    let script = redis::Script::new(
        "local seen, count = {}, 0
         for i = 1, #KEYS, 2 do
           for _, hash in ipairs({ KEYS[i], KEYS[i + 1] }) do
             for _, id in ipairs(redis.call('HKEYS', hash)) do
               if not seen[id] then seen[id] = true; count = count + 1 end
             end
           end
         end
         return count",
    );
    let mut call = script.prepare_invoke();
    for partition in 0..PARTITIONS {
        for hash in ["open", "flushing"] {
            call.key(format!("{namespace}:{{player:{partition:02}/4}}:{hash}"));
        }
    }
    while !watched.stop.load(Ordering::Relaxed) {
        watched.most.fetch_max(call.invoke_async(&mut plain).await.unwrap(), Ordering::Relaxed);
        watched.looks.fetch_add(1, Ordering::Relaxed);
    }
}

/// What one writer was told: the last score of each key, and the scores that were refused.
#[derive(Default)]
struct Told {
    stored: BTreeMap<u64, u64>,
    refused: BTreeSet<(u64, u64)>,
}

async fn write(players: Cache<Player>, task: u64, seed: u64, watched: Arc<Watched>) -> Told {
    let (mut random, mut told, mut score) = (StdRng::seed_from_u64(seed ^ task), Told::default(), 0);
    while !watched.stop.load(Ordering::Relaxed) {
        // Keys of its own; some of them hot, so that dirty ones are written at the limit.
        let key = if random.random_ratio(1, 3) { random.random_range(0..3) } else { random.random_range(0..200) };
        score += 1;
        let id = task * 1_000 + key;
        let more = random.random_range(0..3);
        let ids: Vec<u64> = (0..=more).map(|n| task * 1_000 + (key + n) % 200).collect();
        let many: Vec<Player> = ids.iter().map(|&id| Player { id, score }).collect();
        let result = if more == 0 { players.put(&Player { id, score }).await } else { players.put_many(&many).await };
        match result {
            Ok(_) => told.stored.extend(ids.into_iter().map(|id| (id, score))),
            Err(CacheError::Buffer(error)) if error.kind() == BufferErrorKind::Full => {
                told.refused.extend(ids.into_iter().map(|id| (id, score)));
                watched.refused.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
            Err(error) => panic!("{error}"),
        }
    }
    told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p7_dirty_keys_never_pass_the_limit_and_refused_writes_never_appear() {
    const LIMIT: u64 = 300;
    let seed: u64 = std::env::var("WB_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(rand::random);
    eprintln!("WB_SEED={seed}");
    let (namespace, sink) = (unique("limit"), ScriptedSink::new());
    let options = || EntityOptions::new().flush_every(Duration::from_millis(100)).max_dirty(LIMIT, Overflow::Reject);
    let Some((one, first)) = engine(&namespace, Role::Both, &sink, options()).await else { return };
    let (two, second) = engine(&namespace, Role::Writer, &sink, options()).await.unwrap();
    let watched = Arc::new(Watched::default());
    let looking = tokio::spawn(look(namespace, watched.clone()));
    let writers: Vec<_> = (0..32)
        .map(|task| {
            let players = if task % 2 == 0 { first.clone() } else { second.clone() };
            tokio::spawn(write(players, task, seed, watched.clone()))
        })
        .collect();
    let until = Instant::now() + Duration::from_secs(2);
    eventually("a load to speak of", PATIENCE, async || {
        let at_least = |count: &AtomicU64, least| count.load(Ordering::Relaxed) >= least;
        let loaded =
            at_least(&watched.most, LIMIT / 2) && at_least(&watched.looks, 100) && at_least(&watched.refused, 500);
        (loaded && Instant::now() > until).then_some(())
    })
    .await;
    watched.stop.store(true, Ordering::Relaxed);
    let mut told = Told::default();
    for writer in writers {
        let by_one = writer.await.unwrap();
        told.stored.extend(by_one.stored);
        told.refused.extend(by_one.refused);
    }
    looking.await.unwrap();
    assert!(first.flush_within(PATIENCE).await.unwrap());
    eprintln!("{} keys stored, {} refused; {watched:?}", told.stored.len(), told.refused.len());
    assert!(watched.most.load(Ordering::Relaxed) <= LIMIT, "more keys were dirty than allowed");
    for (&id, &score) in &told.stored {
        let row = sink.row(&Id::of(&id).unwrap());
        assert_eq!(row, Some(Player { id, score }), "the last state that was acknowledged");
    }
    for entry in sink.rows().keys() {
        for row in sink.history(entry).into_iter().flatten() {
            assert!(!told.refused.contains(&(row.id, row.score)), "{row:?} was refused");
        }
    }
    for engine in [one, two] {
        assert_eq!(engine.shutdown(PATIENCE).await.unwrap().remaining, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p7_waiting_writers_get_through_when_another_process_flushes() {
    let (namespace, sink) = (unique("limit"), ScriptedSink::new());
    let waiting = || EntityOptions::new().max_dirty(50, Overflow::Wait { timeout: PATIENCE });
    let often = waiting().flush_every(Duration::from_millis(50));
    let Some((worker, _)) = engine(&namespace, Role::Worker, &sink, often).await else { return };
    let (writer, players) = engine(&namespace, Role::Writer, &sink, waiting()).await.unwrap();
    let puts: Vec<_> = (0..1_000)
        .map(|id| {
            let players = players.clone();
            tokio::spawn(async move { players.put(&Player { id, score: 1 }).await })
        })
        .collect();
    for put in puts {
        put.await.unwrap().unwrap();
    }
    assert!(players.flush_within(PATIENCE).await.unwrap());
    assert_eq!(sink.rows().len(), 1_000);
    for engine in [writer, worker] {
        engine.shutdown(PATIENCE).await.unwrap();
    }
}
