//! A process that stops for longer than its leases live, and goes on in the middle of a flush.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};
use write_behind::testing::ScriptedSink;
use write_behind::{ErrorKind, Id};
use write_behind_tests::{redis_url, unique};

use crate::player::{Place, Player, owned};

const PATIENCE: Duration = Duration::from_secs(30);

/// The sink does not fence: the leases are all there is.
#[tokio::test]
async fn p1_p3_a_frozen_worker_writes_nothing_when_it_wakes() {
    let Some(url) = redis_url() else { return };
    let sink = ScriptedSink::<Player>::without_fencing();
    let lease = Duration::from_millis(500);
    let place = Place { url, namespace: unique("frozen"), sink: sink.clone(), lease, partitions: 2 };
    let (froze, frozen) = oneshot::channel();
    let (thaw, thawed) = std::sync::mpsc::channel::<()>();
    let (woke, awake) = oneshot::channel();
    let thread = std::thread::spawn({
        let (place, sink) = (place.clone(), sink.clone());
        move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let engine = place.start().await;
                sink.fail_always(ErrorKind::Unavailable);
                engine.cache::<Player>().unwrap().put(&Player { id: 1, score: 1 }).await.unwrap();
                while sink.writes() == 0 {
                    sleep(Duration::from_millis(1)).await;
                }
                froze.send(()).unwrap();
                // Blocks the one thread of this runtime: nothing of this engine runs, as after SIGSTOP.
                thawed.recv().unwrap();
                while owned(&engine).len() != 1 {
                    sleep(Duration::from_millis(1)).await;
                }
                woke.send(()).unwrap();
                engine.shutdown(PATIENCE).await.unwrap();
            });
        }
    });
    frozen.await.unwrap();
    sink.recover();
    let other = place.start().await;
    let players = other.cache::<Player>().unwrap();
    players.put(&Player { id: 1, score: 2 }).await.unwrap();
    assert!(players.flush_within(PATIENCE).await.unwrap(), "stuck");
    thaw.send(()).unwrap();
    timeout(PATIENCE, awake).await.unwrap().unwrap();
    players.put(&Player { id: 2, score: 1 }).await.unwrap();
    assert!(players.flush_within(PATIENCE).await.unwrap());
    let scores: Vec<u64> = sink.history(&Id::of(&1_u64).unwrap()).into_iter().flatten().map(|row| row.score).collect();
    assert!(scores.ends_with(&[2]) && scores.is_sorted(), "the state went back: {scores:?}");
    tokio::task::spawn_blocking(|| thread.join().unwrap()).await.unwrap();
    assert_eq!(other.shutdown(PATIENCE).await.unwrap().remaining, 0);
}
