//! get of dirty, clean and near records against the same client's plain GET, 64 tasks, in turns: figures, not a test.
//!
//! `WB_REDIS_URL=redis://127.0.0.1:6379/ cargo test -p wb-core --release --features redis,near-cache --test get_figures --
//! --ignored --nocapture`
#![expect(clippy::unwrap_used, reason = "stops where it cannot go on")]

#[macro_use]
mod json_entity;

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use wb_core::{
    Batch, Cache, Engine, Entity, EntityOptions, NearCache, RedisBuffer, Report, Role, Scope, Sink, SinkError,
};

const ROUNDS: usize = 3;
const LASTS: Duration = Duration::from_millis(1500);
const KEYS: u64 = 10_000;
const TASKS: u64 = 64;
const LONG: Duration = Duration::from_secs(3_600);

#[derive(Clone, Serialize, Deserialize)]
struct Post {
    id: u64,
    text: String,
}

json_entity!(Post, "post");

/// Takes everything, keeps nothing.
struct Nowhere;

#[async_trait]
impl Sink<Post> for Nowhere {
    async fn open(&self, _: &Scope) -> Result<(), SinkError> {
        Ok(())
    }

    async fn write(&self, _: &Batch<Post>) -> Result<Report, SinkError> {
        Ok(Report::written(1))
    }

    async fn load(&self, _: &[u64]) -> Result<Vec<Post>, SinkError> {
        Ok(Vec::new())
    }
}

fn post(id: u64) -> Post {
    Post { id, text: "x".repeat(270) }
}

async fn start(url: &str, namespace: &str, role: Role, options: EntityOptions) -> (Engine, Cache<Post>) {
    let builder = Engine::builder(RedisBuffer::connect(url).await.unwrap()).namespace(namespace).role(role);
    let engine = builder.entity::<Post>(Nowhere, options.cache_ttl(LONG)).start().await.unwrap();
    let posts = engine.cache().unwrap();
    (engine, posts)
}

async fn rate<F>(get: impl Fn(u64) -> F + Clone + Send + Sync + 'static) -> f64
where
    F: Future<Output = ()> + Send,
{
    let begun = Instant::now();
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let get = get.clone();
            tokio::spawn(async move {
                let mut done = 0;
                while begun.elapsed() < LASTS {
                    for _ in 0..16 {
                        get((task * 7919 + done) % KEYS).await;
                        done += 1;
                    }
                    // What is near never waits; others must have their turn all the same.
                    tokio::task::coop::consume_budget().await;
                }
                done
            })
        })
        .collect();
    let mut done = 0;
    for task in tasks {
        done += task.await.unwrap();
    }
    done as f64 / begun.elapsed().as_secs_f64()
}

fn get(posts: &Cache<Post>) -> impl Fn(u64) -> futures::future::BoxFuture<'static, ()> + Clone + use<> {
    let posts = posts.clone();
    move |id| {
        let posts = posts.clone();
        Box::pin(async move { assert!(posts.get(&id).await.unwrap().is_some()) })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "prints figures"]
async fn get_against_plain_get() {
    let Ok(url) = std::env::var("WB_REDIS_URL") else { return };
    let (dirty_space, clean_space) = (format!("getd{}", std::process::id()), format!("getc{}", std::process::id()));
    let plain = redis::Client::open(url.as_str()).unwrap().get_multiplexed_async_connection().await.unwrap();
    let near = EntityOptions::new().near_cache(NearCache::new(2 * KEYS).max_age(LONG));
    let (dirty_engine, dirty) = start(&url, &dirty_space, Role::Writer, EntityOptions::new()).await;
    let (clean_engine, clean) = start(&url, &clean_space, Role::Both, EntityOptions::new()).await;
    let (near_engine, near) = start(&url, &clean_space, Role::Writer, near).await;
    let all: Vec<Post> = (0..KEYS).map(post).collect();
    for cache in [&dirty, &clean] {
        cache.put_many(&all).await.unwrap();
    }
    clean.flush().await.unwrap();
    for id in 0..KEYS {
        let (key, payload) = (format!("{dirty_space}:plain:{id}"), post(id).encode().unwrap());
        redis::cmd("SET").arg(key).arg(payload).arg("EX").arg(600).exec_async(&mut plain.clone()).await.unwrap();
    }
    let plain_get = {
        let namespace: Arc<str> = dirty_space.clone().into();
        move |id| {
            let (mut plain, key) = (plain.clone(), format!("{namespace}:plain:{id}"));
            async move {
                let found: Vec<u8> = redis::cmd("GET").arg(key).query_async(&mut plain).await.unwrap();
                assert!(!found.is_empty());
            }
        }
    };
    let shared = {
        let near = near.clone();
        move |id| {
            let near = near.clone();
            async move { assert!(near.get_shared(&id).await.unwrap().is_some()) }
        }
    };
    let mut rates: [Vec<f64>; 5] = Default::default();
    for _ in 0..ROUNDS {
        let round = [
            rate(plain_get.clone()).await,
            rate(get(&dirty)).await,
            rate(get(&clean)).await,
            rate(get(&near)).await,
            rate(shared.clone()).await,
        ];
        rates.iter_mut().zip(round).for_each(|(rates, rate)| rates.push(rate));
    }
    let medians = rates.map(|mut rates| {
        rates.sort_by(f64::total_cmp);
        rates.get(ROUNDS / 2).copied().unwrap_or_default()
    });
    let [yardstick, ..] = medians;
    println!("| {TASKS} tasks | a second | against plain GET |\n|---|---|---|");
    for (name, rate) in ["plain GET", "get, dirty", "get, clean", "get, near", "get_shared, near"].iter().zip(medians) {
        println!("| {name} | {rate:.0} | {:.2} |", rate / yardstick);
    }
    for engine in [near_engine, clean_engine, dirty_engine] {
        engine.shutdown(Duration::from_secs(10)).await.unwrap();
    }
    let mut connection = redis::Client::open(url.as_str()).unwrap().get_multiplexed_async_connection().await.unwrap();
    for namespace in [dirty_space, clean_space] {
        for partition in 0..16 {
            let keys: Vec<String> =
                ["open", "meta"].iter().map(|key| format!("{namespace}:{{post:{partition:02}/16}}:{key}")).collect();
            redis::cmd("UNLINK").arg(keys).exec_async(&mut connection).await.unwrap();
        }
        for id in 0..KEYS {
            let id_of = wb_core::Id::of(&id).unwrap();
            let partition = wb_core::partition_of(&id_of, 16);
            let keys = [format!("{namespace}:{{post:{partition:02}/16}}:r:{id}"), format!("{namespace}:plain:{id}")];
            redis::cmd("UNLINK").arg(&keys).exec_async(&mut connection).await.unwrap();
        }
        redis::cmd("UNLINK").arg(format!("{namespace}:topology")).exec_async(&mut connection).await.unwrap();
    }
}
