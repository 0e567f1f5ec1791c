//! kill -9 at each step of the flow, again and again, under load: whatever step a worker dies at, nothing is lost and
//! nothing goes back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use write_behind_tests::{server, unique};

use crate::actor::{Actor, Part};
use crate::history::{History, Log};
use crate::item::Item;
use crate::place::{Folder, drain, seed, setting};
use crate::report::Report;
use crate::target::Target;
use crate::writer::{Load, write};

/// The steps, and how often a worker may pass one before it dies there.
const STEPS: [(&str, u32); 5] =
    [("after_rotate", 40), ("after_claim", 40), ("after_commit", 8), ("after_ack", 40), ("after_renew", 6)];

/// Rounds for each step, unless `WB_CHAOS_ROUNDS` says otherwise.
const ROUNDS: u64 = 10;

async fn rounds(name: &str, variable: &str) {
    let (Some(redis_url), Some(database_url)) = (server("WB_REDIS_URL"), server(variable)) else { return };
    let (seed, rounds) = (seed(), setting("WB_CHAOS_ROUNDS").unwrap_or(ROUNDS));
    let mut random = StdRng::seed_from_u64(seed);
    let (begun, namespace, folder) = (Instant::now(), unique("steps"), Folder::create(name));
    let target = Target::create(&database_url, &namespace).await;
    let worker = Part {
        lease: Duration::from_millis(100),
        flush_every: Duration::from_millis(10),
        ..Part::worker(&redis_url, &target, &namespace)
    };
    let writer = Part { flushes: false, ..worker.clone() }.start().await.unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let load = Load { keys: 0..200, tasks: 8, first_seq: 0, pause: Duration::from_millis(5), seed, noted: false };
    let log = Arc::new(Log::create(&folder.file("log")));
    let writing = tokio::spawn(write::<Item>(writer.cache().unwrap(), log, load, over.clone()));

    let mut died = BTreeMap::new();
    for (step, most) in STEPS {
        let since = Instant::now();
        for round in 0..rounds {
            let times = random.random_range(1..=most);
            let mut worker = Actor::start(&worker, &folder.file("worker"), format_args!("{step}:{times}"));
            let died = worker.dies_within(Duration::from_secs(20)).await;
            assert!(died, "round {round}: the worker did not pass {step} {times} times");
        }
        println!("{rounds} deaths {step}: {:.2?} each", since.elapsed() / u32::try_from(rounds.max(1)).unwrap());
        died.insert(step, rounds);
    }
    over.store(true, Ordering::Relaxed);
    writing.await.unwrap();
    writer.shutdown(Duration::from_secs(5)).await.unwrap();
    let dead = drain(&worker, &folder.file("worker"), Duration::from_secs(60)).await.unwrap();

    let memory = target.memory().await;
    let mut report = Report::new(name, seed, begun.elapsed(), &History::read([folder.file("log")]), &memory, dead);
    report.actions = died;
    target.remove(&database_url).await;
    report.print();
    report.assert_clean();
    // A worker that dies before it writes leaves its work to the next one; each round writes something all the same.
    assert!(report.flushes as u64 > rounds, "idle: {} flushes", report.flushes);
    assert!(report.acknowledged > 20 * rounds, "idle: {} operations", report.acknowledged);
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_at_each_step_on_postgres() {
    rounds("steps_postgres", "WB_POSTGRES_URL").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_at_each_step_on_mongo() {
    rounds("steps_mongo", "WB_MONGO_URL").await;
}
