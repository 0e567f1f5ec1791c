//! put with and without a limit of dirty keys, on one connection, in turns: figures, not a test.
//!
//! `WB_REDIS_URL=redis://127.0.0.1:6379/ cargo test -p wb-core --release --features redis --test put_figures -- --ignored
//! --nocapture`
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "prints figures, and stops where it cannot go on")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use wb_core::buffer::Registration;
use wb_core::{Buffer, Format, Id, Record, RedisBuffer, Scope, Space, Write, partition_of};

const ROUNDS: usize = 5;
const LASTS: Duration = Duration::from_millis(1500);
const KEYS: u64 = 100_000;

async fn rate(space: &Arc<dyn Space>, tasks: u64) -> f64 {
    let (begun, payload) = (Instant::now(), Record::from_bytes(vec![b'x'; 300]));
    let tasks: Vec<_> = (0..tasks)
        .map(|task| {
            let (space, payload) = (space.clone(), payload.clone());
            tokio::spawn(async move {
                let mut done = 0_u64;
                while begun.elapsed() < LASTS {
                    let id = Id::of(&((task * 7919 + done) % KEYS)).unwrap();
                    let write = Write { partition: partition_of(&id, 16), id, record: payload.clone() };
                    space.put(vec![write]).await.unwrap();
                    done += 1;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "prints figures"]
async fn put_within_a_limit() {
    let Ok(url) = std::env::var("WB_REDIS_URL") else { return };
    let buffer = RedisBuffer::connect(&url).await.unwrap();
    let mut spaces = Vec::new();
    // Never near, and near: with 100 000 keys dirty each new one is looked up.
    for (name, limit) in [("free", None), ("roomy", Some(10_000_000)), ("tight", Some(KEYS))] {
        let namespace = format!("figures{}", std::process::id());
        let mut registration = Registration::new(Arc::new(Scope::new(namespace, name, 16)), Format::Json);
        registration.max_dirty = limit;
        let space = buffer.space(registration).await.unwrap();
        rate(&space, 1024).await;
        spaces.push(space);
    }
    println!("| tasks | no limit | limit far away | ratio | at the limit | ratio |\n|---|---|---|---|---|---|");
    for tasks in [1, 64, 1024] {
        let mut rates = [const { Vec::new() }; 3];
        for _ in 0..ROUNDS {
            for (rates, space) in rates.iter_mut().zip(&spaces) {
                rates.push(rate(space, tasks).await);
            }
        }
        let [free, roomy, tight] = rates.map(|mut rates| {
            rates.sort_by(f64::total_cmp);
            rates.get(ROUNDS / 2).copied().unwrap_or_default()
        });
        println!("| {tasks} | {free:.0} | {roomy:.0} | {:.2} | {tight:.0} | {:.2} |", roomy / free, tight / free);
    }
    buffer.close().await;
}
