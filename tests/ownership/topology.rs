//! A program that goes on running while another one lays its entity out anew.

use std::time::Duration;

use write_behind::testing::ScriptedSink;
use write_behind::{BufferErrorKind, CacheError};
use write_behind_tests::{eventually, redis_url, unique};

use crate::player::{Place, Player, owned};

const PATIENCE: Duration = Duration::from_secs(60);

/// The partitions of both layouts have the same names, and the old worker still holds them: what it finds there is not
/// misplaced, it is itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p1_p8_a_worker_of_an_old_topology_buries_nothing_and_makes_way() {
    let Some(url) = redis_url() else { return };
    let sink = ScriptedSink::<Player>::new();
    // Long, so that the old worker flushes before it would look for another topology by itself.
    let lease = Duration::from_secs(12);
    let old_place = Place { url, namespace: unique("topology"), sink: sink.clone(), lease, partitions: 16 };
    let new_place = Place { partitions: 8, ..old_place.clone() };
    let old = old_place.start().await;
    assert_eq!(owned(&old).len(), 16);
    let new = new_place.start().await;
    let players = new.cache::<Player>().unwrap();
    for id in 0..200 {
        players.put(&Player { id, score: 1 }).await.unwrap();
    }
    eventually("the old one makes way", PATIENCE, async || owned(&old).is_empty().then_some(())).await;
    let error = old.cache::<Player>().unwrap().put(&Player { id: 1, score: 0 }).await.unwrap_err();
    assert!(matches!(&error, CacheError::Buffer(e) if e.kind() == BufferErrorKind::Topology), "{error}");
    assert!(players.flush_within(PATIENCE).await.unwrap());
    assert_eq!(sink.rows().len(), 200);
    let buried: u64 = [&old, &new].iter().map(|engine| engine.stats()["player"].dead_letters).sum();
    assert_eq!(buried, 0);
    for engine in [old, new] {
        assert_eq!(engine.shutdown(PATIENCE).await.unwrap().remaining, 0);
    }
}
