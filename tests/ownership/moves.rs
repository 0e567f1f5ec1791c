//! Partitions move when workers join, leave, hand over and crash, while others write; and do not move otherwise.

use std::time::{Duration, Instant};

use write_behind::testing::ScriptedSink;
use write_behind::{Cache, Engine, Id};
use write_behind_tests::{eventually, redis_url, unique};

use crate::player::{Place, Player, owned};

const LEASE: Duration = Duration::from_secs(1);
/// Longer than any step, on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(30);

fn is_even(engines: &[Engine], partitions: u16) -> bool {
    let shares: Vec<Vec<u16>> = engines.iter().map(owned).collect();
    let mut all: Vec<u16> = shares.iter().flatten().copied().collect();
    all.sort_unstable();
    let (least, most) = (shares.iter().map(Vec::len).min(), shares.iter().map(Vec::len).max());
    all == (0..partitions).collect::<Vec<_>>() && most.unwrap_or(0) - least.unwrap_or(0) <= 1
}

async fn even(what: &str, engines: &[Engine]) {
    let begun = Instant::now();
    eventually(what, PATIENCE, async || is_even(engines, 16).then_some(())).await;
    let took = begun.elapsed();
    let shares: Vec<usize> = engines.iter().map(|engine| owned(engine).len()).collect();
    eprintln!("{what}: {shares:?} after {took:?}, {:.2} leases", took.as_secs_f64() / LEASE.as_secs_f64());
    // A machine that stalls for seconds is given them; a worker that is gone must not be waited for much longer than it
    // lives.
    assert!(took < 3 * LEASE + Duration::from_secs(15), "{what}: {took:?}");
}

/// Writes without a pause until told to stop; what was acknowledged last.
async fn write(players: Cache<Player>, mut stop: tokio::sync::oneshot::Receiver<()>) -> Vec<u64> {
    let mut last = vec![0; 200];
    for score in 1.. {
        for (id, slot) in (0_u64..).zip(&mut last) {
            players.put(&Player { id, score }).await.unwrap();
            *slot = score;
        }
        if stop.try_recv().is_ok() {
            break;
        }
    }
    last
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p1_p3_partitions_move_within_three_leases_while_others_write() {
    let Some(url) = redis_url() else { return };
    let sink = ScriptedSink::new();
    let place = Place { url, namespace: unique("moves"), sink: sink.clone(), lease: LEASE, partitions: 16 };
    let mut engines = vec![place.start().await];
    even("one worker", &engines).await;
    // Hands over at once, and only writes from then on.
    let writer = place.start().await;
    writer.handover().await;
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let writing = tokio::spawn(write(writer.cache().unwrap(), stopped));
    even("one worker handed over", &engines).await;
    for workers in 2..=3 {
        engines.push(place.start().await);
        even(&format!("worker {workers} joined"), &engines).await;
    }
    let drained = engines.remove(0).shutdown(PATIENCE).await.unwrap();
    eprintln!("a worker left: {drained:?}");
    even("a worker left", &engines).await;
    engines.push(place.start().await);
    even("a worker joined", &engines).await;
    drop(engines.remove(0));
    even("a worker crashed", &engines).await;
    drop(engines.remove(0));
    engines.push(place.start().await);
    even("a worker crashed, another joined", &engines).await;
    stop.send(()).unwrap();
    let last = writing.await.unwrap();
    let players = writer.cache::<Player>().unwrap();
    assert!(players.flush_within(PATIENCE).await.unwrap());
    for (n, score) in (0_u64..).zip(last) {
        let id = Id::of(&n).unwrap();
        assert_eq!(sink.row(&id), Some(Player { id: n, score }));
        let scores: Vec<u64> = sink.history(&id).into_iter().flatten().map(|row| row.score).collect();
        assert!(scores.is_sorted(), "key {n} went back: {scores:?}");
    }
    assert_eq!(writer.shutdown(PATIENCE).await.unwrap().remaining, 0, "it owns nothing");
    for engine in engines {
        assert_eq!(engine.shutdown(PATIENCE).await.unwrap().remaining, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_moves_while_nobody_joins_or_leaves() {
    let Some(url) = redis_url() else { return };
    // Long beside what a busy machine may stall for.
    let lease = Duration::from_secs(3);
    let place = Place { url, namespace: unique("still"), sink: ScriptedSink::new(), lease, partitions: 16 };
    let mut engines = Vec::new();
    for _ in 0..3 {
        engines.push(place.start().await);
    }
    eventually("even", PATIENCE, async || is_even(&engines, 16).then_some(())).await;
    let before: Vec<Vec<u16>> = engines.iter().map(owned).collect();
    let begun = Instant::now();
    while begun.elapsed() < 2 * lease {
        assert_eq!(engines.iter().map(owned).collect::<Vec<_>>(), before);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for engine in engines {
        engine.shutdown(PATIENCE).await.unwrap();
    }
}
