//! Large records over a slow link between a worker and Redis: what one answer brings is bounded, so that it comes in time, and
//! others come in between.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use write_behind::buffer::Registration;
use write_behind::testing::ScriptedSink;
use write_behind::{Buffer, Engine, EntityOptions, Format, Id, RedisBuffer, RedisOptions, Role, Scope, WriteBehind};
use write_behind_tests::{Player, Wire, eventually, redis_url, unique};

/// What is large.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, WriteBehind)]
#[wb(name = "film")]
struct Film {
    #[wb(key)]
    id: u64,
    frames: String,
}

impl Film {
    fn new(id: u64, bytes: usize) -> Self {
        Self { id, frames: "x".repeat(bytes) }
    }
}

/// What a link that carries nothing else needs for so many bytes.
fn takes(bytes: usize, limit: u64) -> Duration {
    Duration::from_secs_f64(bytes as f64 / limit as f64)
}

/// Of machines that are busy with something else.
const SLACK: Duration = Duration::from_secs(10);

/// Records that are each a thirtieth of what the link carries in a second, as of 1 MB over 30 MB/s; all are written at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_records_land_over_a_slow_link_and_others_come_in_between() {
    const LIMIT: u64 = 6_000_000;
    const BYTES: usize = 200_000;
    const FILMS: usize = 150;
    // What may be before a small write: two groups that are on their way, and what is in its own, each of 1 MiB and the record that
    // fills it. Not what others have queued: entities take turns.
    const BEFORE: usize = 3 * ((1 << 20) + BYTES);
    let Some(url) = redis_url() else { return };
    let wire = Wire::to(&url).await.unwrap();
    let (films, players) = (ScriptedSink::<Film>::new(), ScriptedSink::<Player>::new());
    let options = EntityOptions::new().flush_every(Duration::from_millis(50));
    let engine = Engine::builder(RedisBuffer::connect(&wire.url).await.unwrap())
        .namespace(unique("slow_link"))
        .entity::<Film>(films.clone(), options.clone())
        .entity::<Player>(players.clone(), options)
        .start()
        .await
        .unwrap();
    wire.limit(LIMIT);
    let begun = Instant::now();
    let over = Arc::new(AtomicBool::new(false));
    let (cache, stop) = (engine.cache::<Player>().unwrap(), over.clone());
    let beside = tokio::spawn(async move {
        let (mut slowest, mut n) = (Duration::ZERO, 0);
        while !stop.load(Ordering::Relaxed) {
            let begun = Instant::now();
            cache.put(&Player::new(n, 1)).await.unwrap();
            slowest = slowest.max(begun.elapsed());
            n += 1;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        (slowest, n)
    });
    let cache = engine.cache::<Film>().unwrap();
    let all: Vec<Film> = (0..FILMS as u64).map(|id| Film::new(id, BYTES)).collect();
    let puts = futures::future::join_all(all.iter().map(|film| cache.put(film))).await;
    assert!(puts.iter().all(Result::is_ok), "{puts:?}");
    // Up, and down to the worker.
    let link = takes(2 * FILMS * BYTES, LIMIT);
    eventually("all land", 3 * link + SLACK, async || (films.rows().len() == FILMS).then_some(())).await;
    let took = begun.elapsed();
    over.store(true, Ordering::Relaxed);
    let (slowest, n) = beside.await.unwrap();
    let (up, down) = wire.carried();
    println!("{took:?} of {link:?}; {n} small writes, the slowest {slowest:?}; {up} bytes up, {down} down");
    let bound = takes(BEFORE, LIMIT) + Duration::from_secs(1);
    assert!(slowest < bound, "a small write took {slowest:?} of {bound:?}");
    assert!(down < 2 * (FILMS * BYTES) as u64, "what was claimed came more than once: {down} bytes");
    wire.limit(0);
    engine.shutdown(SLACK).await.unwrap();
}

/// A worker over a link that is so slow that one record of each partition at once would not come in time; whoever writes is
/// near the server.
async fn worker(wire: &Wire, namespace: &str, sink: &ScriptedSink<Film>, options: EntityOptions) -> Engine {
    let slow = RedisOptions::new().response_timeout(Duration::from_secs(1));
    Engine::builder(RedisBuffer::connect_with(&wire.url, slow).await.unwrap())
        .namespace(namespace)
        .role(Role::Worker)
        .entity::<Film>(sink.clone(), options)
        .start()
        .await
        .unwrap()
}

/// What one answer brings at most takes a second, and has three. All that is asked for in these tests takes longer than that.
const SLOW: u64 = 4_000_000;
const LARGE: usize = 200_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_large_record_in_each_of_many_partitions_lands() {
    let Some(url) = redis_url() else { return };
    let (namespace, wire, sink) = (unique("slow_link"), Wire::to(&url).await.unwrap(), ScriptedSink::<Film>::new());
    let options = EntityOptions::new().partitions(128).flush_every(Duration::from_millis(50));
    let writer = Engine::builder(RedisBuffer::connect(&url).await.unwrap()).namespace(&namespace).role(Role::Writer);
    let writer = writer.entity::<Film>(ScriptedSink::new(), options.clone()).start().await.unwrap();
    let films = writer.cache::<Film>().unwrap();
    let all: Vec<Film> = (0..160).map(|id| Film::new(id, LARGE)).collect();
    films.put_many(&all).await.unwrap();
    let worker = worker(&wire, &namespace, &sink, options).await;
    wire.limit(SLOW);
    let link = takes(all.len() * LARGE, SLOW);
    eventually("all land", 2 * link + SLACK, async || (sink.rows().len() == all.len()).then_some(())).await;
    wire.limit(0);
    worker.shutdown(SLACK).await.unwrap();
    writer.shutdown(SLACK).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_records_of_transactions_land() {
    let Some(url) = redis_url() else { return };
    let (namespace, wire, sink) = (unique("slow_link"), Wire::to(&url).await.unwrap(), ScriptedSink::<Film>::new());
    let options = EntityOptions::new().partitions(1).flush_every(Duration::from_millis(50));
    let writer = Engine::builder(RedisBuffer::connect(&url).await.unwrap()).namespace(&namespace).role(Role::Writer);
    let writer = writer.entity::<Film>(ScriptedSink::new(), options.clone()).start().await.unwrap();
    for pair in 0..50 {
        let both = [2 * pair, 2 * pair + 1].map(|id| Film::new(id, LARGE));
        writer.transaction(|transaction| both.iter().try_for_each(|film| transaction.put(film))).await.unwrap();
    }
    let worker = worker(&wire, &namespace, &sink, options).await;
    wire.limit(SLOW);
    let link = takes(100 * LARGE, SLOW);
    eventually("all land", 3 * link + SLACK, async || (sink.rows().len() == 100).then_some(())).await;
    wire.limit(0);
    worker.shutdown(SLACK).await.unwrap();
    writer.shutdown(SLACK).await.unwrap();
}

/// Pages of large letters, and of large dirty records, end early.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_large_records_come_over_a_slow_link() {
    let Some(url) = redis_url() else { return };
    let (namespace, wire) = (unique("slow_link"), Wire::to(&url).await.unwrap());
    let slow = RedisOptions::new().response_timeout(Duration::from_secs(1));
    let buffer = RedisBuffer::connect_with(&wire.url, slow).await.unwrap();
    let scope = Arc::new(Scope::new(&namespace, "film", 1));
    let space = buffer.space(Registration::new(scope, Format::Json)).await.unwrap();
    let mut direct = redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap();
    for hash in ["dead", "open"] {
        let key = format!("{namespace}:{{film:00/1}}:{hash}");
        for n in 0..100_u64 {
            redis::cmd("HSET").arg(&key).arg(n).arg("x".repeat(LARGE)).exec_async(&mut direct).await.unwrap();
        }
    }
    wire.limit(SLOW);
    let ids: Vec<Id> = (0..100_u64).map(|n| Id::of(&n).unwrap()).collect();
    let pages = [
        all_pages(async |cursor| {
            let page = space.letters(0, cursor, 256).await.unwrap();
            (page.cursor, page.letters.into_iter().map(|(id, _)| id).collect())
        })
        .await,
        all_pages(async |cursor| {
            let page = space.scan(0, false, cursor, 256).await.unwrap();
            (page.cursor, page.records.into_iter().map(|(id, _)| id).collect())
        })
        .await,
    ];
    for mut found in pages {
        found.sort();
        found.dedup();
        assert_eq!(found.len(), ids.len());
    }
    wire.limit(0);
    for key in ["dead", "open"] {
        redis::cmd("DEL").arg(format!("{namespace}:{{film:00/1}}:{key}")).exec_async(&mut direct).await.unwrap();
    }
    buffer.close().await;
}

async fn all_pages(mut page: impl AsyncFnMut(u64) -> (u64, Vec<Id>)) -> Vec<Id> {
    let (mut found, mut cursor) = (Vec::new(), 0);
    loop {
        let (next, some) = page(cursor).await;
        found.extend(some);
        cursor = next;
        if cursor == 0 {
            return found;
        }
    }
}
