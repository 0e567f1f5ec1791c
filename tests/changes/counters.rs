//! Counters are exact.

use std::time::{Duration, Instant};

use futures::future::join_all;
use write_behind::Role;
use write_behind_tests::{OwnRedis, eventually};

use crate::counted::{Counted, Place, options};
use crate::process::Process;

const PROCESSES: u64 = 8;
const INCREMENTS: u64 = 1_250;

/// Where a worker dies, and how often it may pass there before.
const STEPS: [&str; 5] = ["after_rotate:3", "after_claim:3", "before_write:4", "after_commit:2", "after_ack:2"];

/// Ten thousand increments of one key by eight processes, while the worker that flushes them is killed at each step of the
/// flow, end at exactly the number that was acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn increments_of_eight_processes_are_exact_while_workers_die() {
    let Some(place) = Place::open().await else { return };
    let writer = place.engine(Role::Writer, options()).await;
    let counted = writer.cache::<Counted>().unwrap();
    counted.put(&Counted::new(1, 1)).await.unwrap();
    let begun = Instant::now();
    let mut processes: Vec<Process> = (0..PROCESSES).map(|_| Process::start(&place, "count", INCREMENTS, "")).collect();
    let (mut acknowledged, mut deaths) = (Vec::new(), 0_usize);
    let mut worker = Process::start(&place, "worker", 0, STEPS[0]);
    eventually("all processes are through", Duration::from_secs(240), async || {
        if worker.has_died() {
            deaths += 1;
            worker = Process::start(&place, "worker", 0, STEPS[deaths % STEPS.len()]);
        }
        processes.retain_mut(|process| match process.acknowledged() {
            Some(count) => {
                acknowledged.push(count);
                false
            }
            None => true,
        });
        processes.is_empty().then_some(())
    })
    .await;
    drop(worker);
    let sum: u64 = acknowledged.iter().sum();
    println!("{sum} increments by {PROCESSES} processes in {:.1?}, {deaths} deaths of workers", begun.elapsed());
    assert_eq!(acknowledged.len() as u64, PROCESSES);
    assert!(deaths >= STEPS.len(), "only {deaths} workers died");
    let found = counted.get(&1).await.unwrap().unwrap();
    assert_eq!(found.total, i64::try_from(sum).unwrap(), "in Redis");
    // A last worker that lives.
    let engine = place.engine(Role::Worker, options()).await;
    counted.flush().await.unwrap();
    assert_eq!(place.row(1).await.map(|(total, _)| total), Some(found.total), "in the database");
    assert_eq!(sum, PROCESSES * INCREMENTS, "none failed");
    engine.shutdown(Duration::from_secs(10)).await.unwrap();
    place.close().await;
}

/// A thousand increments at once in one process cost a handful of round trips.
#[tokio::test]
async fn a_thousand_increments_at_once_go_together() {
    let (Some(place), Some(redis)) = (Place::open().await, OwnRedis::start(&[]).await) else { return };
    let place = Place { redis: redis.url(), ..place };
    let engine = place.engine(Role::Writer, options()).await;
    let counted = engine.cache::<Counted>().unwrap();
    counted.put(&Counted::new(1, 1)).await.unwrap();
    counted.increment(&1, Counted::SUM, 0).await.unwrap();
    let before = commands(&redis).await;
    let sums = join_all((0..1_000).map(|_| counted.increment(&1, Counted::SUM, 1))).await;
    let after = commands(&redis).await;
    assert!(sums.iter().all(Result::is_ok));
    assert_eq!(counted.get(&1).await.unwrap().unwrap().total, 1_000);
    println!("1000 increments: {} reads, {} compare-and-sets", after.0 - before.0, after.1 - before.1);
    assert!(after.0 - before.0 <= 12 && after.1 - before.1 <= 4, "{before:?} → {after:?}");
    drop(engine);
    place.close().await;
}

/// Commands that reads are made of, and script calls that are compare-and-sets (told by their HSET), since the start.
async fn commands(redis: &OwnRedis) -> (u64, u64) {
    let stats: String = redis::cmd("INFO").arg("commandstats").query_async(&mut redis.plain().await).await.unwrap();
    let calls = |name: &str| {
        let line = stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{name}:calls=")));
        line.and_then(|line| line.split(',').next()).and_then(|calls| calls.parse::<u64>().ok()).unwrap_or(0)
    };
    (calls("hmget") + calls("mget"), calls("hget"))
}
