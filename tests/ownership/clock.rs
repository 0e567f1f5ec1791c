//! Clocks that jump neither lose a partition nor hold it back. Clients measure with monotonic clocks, and only Redis's
//! own clock says how old a heartbeat is and when a lease ends; so what is left is that one.

use std::time::Duration;

use write_behind::testing::ScriptedSink;
use write_behind_tests::{eventually, redis_url, unique};

use crate::player::{Place, owned};

const LEASE: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(30);

/// What a worker leaves behind that dies before Redis's clock goes back by an hour: leases that end in an hour, and a
/// heartbeat from the future.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p1_partitions_of_a_dead_worker_are_taken_although_the_clock_of_redis_went_back() {
    let Some(url) = redis_url() else { return };
    let namespace = unique("clock");
    let mut redis = redis::Client::open(url.as_str()).unwrap().get_multiplexed_async_connection().await.unwrap();
    let hour = 3_600_000_u64;
    let (seconds, _): (u64, u64) = redis::cmd("TIME").query_async(&mut redis).await.unwrap();
    let workers = format!("{namespace}:workers");
    let dead = "player:10000:dead";
    redis::cmd("ZADD").arg(&workers).arg(seconds * 1_000 + hour).arg(dead).exec_async(&mut redis).await.unwrap();
    for partition in 0..4 {
        let key = format!("{namespace}:{{player:{partition:02}/4}}:meta");
        let mut set = redis::cmd("HSET");
        set.arg(key).arg("owner").arg("dead");
        // One without an end, too, as somebody's hand may leave it.
        if partition > 0 {
            set.arg("until_ms").arg(seconds * 1_000 + hour);
        }
        set.exec_async(&mut redis).await.unwrap();
    }
    let place = Place { url, namespace, sink: ScriptedSink::new(), lease: LEASE, partitions: 4 };
    let engine = place.start().await;
    eventually("all partitions taken", PATIENCE, async || (owned(&engine).len() == 4).then_some(())).await;
    let members: Vec<String> = redis::cmd("ZRANGE").arg(&workers).arg(0).arg(-1).query_async(&mut redis).await.unwrap();
    assert!(members.len() == 1 && members[0] != dead, "{members:?}");
    engine.shutdown(PATIENCE).await.unwrap();
    let left: u64 = redis::cmd("EXISTS").arg(&workers).query_async(&mut redis).await.unwrap();
    assert_eq!(left, 0, "retired at shutdown");
}

/// A clock that goes forward ends everything at once: leases and heartbeats are taken anew, and nothing else happens.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p1_leases_that_all_end_at_once_are_taken_anew() {
    let Some(url) = redis_url() else { return };
    let namespace = unique("clock");
    let mut redis = redis::Client::open(url.as_str()).unwrap().get_multiplexed_async_connection().await.unwrap();
    let sink = ScriptedSink::new();
    let lease = Duration::from_secs(2);
    let place = Place { url, namespace: namespace.clone(), sink: sink.clone(), lease, partitions: 4 };
    let engines = [place.start().await, place.start().await];
    let even = async || (engines.iter().all(|engine| owned(engine).len() == 2)).then_some(());
    eventually("even", PATIENCE, even).await;
    let mut gone = redis::pipe();
    gone.atomic().cmd("DEL").arg(format!("{namespace}:workers"));
    for partition in 0..4 {
        gone.cmd("HSET").arg(format!("{namespace}:{{player:{partition:02}/4}}:meta")).arg("until_ms").arg(1);
    }
    let removed: Vec<u64> = gone.query_async(&mut redis).await.unwrap();
    assert_eq!(removed, [1, 0, 0, 0, 0], "each lease was there");
    let players = engines[0].cache().unwrap();
    for id in 0..100 {
        players.put(&crate::player::Player { id, score: 1 }).await.unwrap();
    }
    assert!(players.flush_within(PATIENCE).await.unwrap());
    assert_eq!(sink.rows().len(), 100);
    eventually("even again", PATIENCE, even).await;
    for engine in engines {
        assert_eq!(engine.shutdown(PATIENCE).await.unwrap().remaining, 0);
    }
}
