//! put against the same client's plain SET: one connection, 300-byte records, 1 to 1024 tasks, alternating rounds.
//!
//! `WB_REDIS_URL=redis://127.0.0.1:6379/ cargo bench --bench put`; prints medians of the rounds and their ratios.
#![expect(clippy::print_stdout, reason = "a program that prints figures")]
#![expect(clippy::unwrap_used, reason = "a bench that cannot go on should stop")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use serde::{Deserialize, Serialize};
use write_behind::buffer::Registration;
use write_behind::{Buffer, Format, Id, Record, RedisBuffer, Scope, Space, Write, partition_of};

const ROUNDS: usize = 5;
const LASTS: Duration = Duration::from_millis(1500);
const KEYS: u64 = 100_000;

#[derive(Serialize, Deserialize)]
struct Payload {
    id: u64,
    text: String,
}

fn payload(id: u64) -> Vec<u8> {
    serde_json::to_vec(&Payload { id, text: "x".repeat(270) }).unwrap()
}

/// Runs `work(task, n)` in `tasks` tasks for a while; operations per second and the p99 latency.
async fn measure<F>(tasks: u64, work: impl Fn(u64) -> F + Clone + Send + Sync + 'static) -> (f64, Duration)
where
    F: Future<Output = ()> + Send,
{
    let begun = Instant::now();
    let handles: Vec<_> = (0..tasks)
        .map(|task| {
            let work = work.clone();
            tokio::spawn(async move {
                let (mut n, mut seen) = (task * 7919, Vec::new());
                while begun.elapsed() < LASTS {
                    let at = Instant::now();
                    work(n % KEYS).await;
                    seen.push(at.elapsed());
                    n += 1;
                }
                seen
            })
        })
        .collect();
    let mut seen = Vec::new();
    for handle in handles {
        seen.extend(handle.await.unwrap());
    }
    let rate = seen.len() as f64 / begun.elapsed().as_secs_f64();
    seen.sort_unstable();
    (rate, seen.get(seen.len() * 99 / 100).copied().unwrap_or_default())
}

fn median<T: Copy + PartialOrd>(mut values: Vec<T>) -> T {
    values.sort_by(|a, b| a.partial_cmp(b).unwrap());
    *values.get(values.len() / 2).unwrap()
}

#[tokio::main]
async fn main() {
    let Ok(url) = std::env::var("WB_REDIS_URL") else {
        println!("set WB_REDIS_URL to a Redis that may be written to; `cargo xtask up --only redis` starts one");
        return;
    };
    let plain = redis::Client::open(url.as_str()).unwrap().get_multiplexed_async_connection().await.unwrap();
    let buffer = RedisBuffer::connect(&url).await.unwrap();
    let namespace = format!("bench{}", std::process::id());
    let scope = Arc::new(Scope::new(namespace.clone(), "put", 16));
    let space = buffer.space(Registration::new(scope, Format::Json)).await.unwrap();
    println!("| tasks | SET/s | put/s | ratio | SET p99 µs | put p99 µs |\n|---|---|---|---|---|---|");
    for tasks in [1, 64, 256, 1024] {
        let (mut sets, mut puts) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            sets.push(measure(tasks, set(plain.clone(), namespace.clone())).await);
            puts.push(measure(tasks, put(space.clone())).await);
        }
        let (set, set99): (Vec<_>, Vec<_>) = sets.into_iter().unzip();
        let (put, put99): (Vec<_>, Vec<_>) = puts.into_iter().unzip();
        let (set, put) = (median(set), median(put));
        println!(
            "| {tasks} | {set:.0} | {put:.0} | {:.2} | {} | {} |",
            put / set,
            median(set99).as_micros(),
            median(put99).as_micros()
        );
    }
    clean_up(&mut plain.clone(), &namespace).await;
}

/// Removes what the bench wrote, and nothing else.
async fn clean_up(plain: &mut MultiplexedConnection, namespace: &str) {
    for n in 0..KEYS {
        redis::cmd("UNLINK").arg(format!("{namespace}:{n}")).exec_async(plain).await.unwrap();
    }
    for partition in 0..16 {
        redis::cmd("UNLINK")
            .arg(format!("{namespace}:{{put:{partition:02}/16}}:open"))
            .exec_async(plain)
            .await
            .unwrap();
    }
    redis::cmd("UNLINK").arg(format!("{namespace}:topology")).exec_async(plain).await.unwrap();
}

fn set(
    plain: MultiplexedConnection,
    namespace: String,
) -> impl Fn(u64) -> futures::future::BoxFuture<'static, ()> + Clone {
    move |n| {
        let (mut plain, key) = (plain.clone(), format!("{namespace}:{n}"));
        Box::pin(async move {
            redis::cmd("SET").arg(key).arg(payload(n)).exec_async(&mut plain).await.unwrap();
        })
    }
}

fn put(space: Arc<dyn Space>) -> impl Fn(u64) -> futures::future::BoxFuture<'static, ()> + Clone {
    move |n| {
        let space = space.clone();
        Box::pin(async move {
            let id = Id::of(&n).unwrap();
            let write = Write { partition: partition_of(&id, 16), id, record: Record::from_bytes(payload(n)) };
            space.put(vec![write]).await.unwrap();
        })
    }
}
