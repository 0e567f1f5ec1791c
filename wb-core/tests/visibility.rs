//! Stats and metrics over the embedded buffer and a scripted sink. The clock is paused.

mod player;

use std::collections::BTreeMap;
use std::time::Duration;

use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use tokio::time::sleep;
use wb_core::testing::ScriptedSink;
use wb_core::{Cache, Engine, Entity, EntityOptions, ErrorKind, MemoryBuffer, metrics};

use crate::player::Player;

const EVERY: Duration = Duration::from_secs(1);

#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
async fn start(sink: &ScriptedSink<Player>) -> (Engine, Cache<Player>) {
    let options = EntityOptions::new().flush_every(EVERY);
    let engine = Engine::builder(MemoryBuffer::new()).entity::<Player>(sink.clone(), options).start().await.unwrap();
    let players = engine.cache().unwrap();
    (engine, players)
}

/// Every metric by name and its labels beside namespace and entity, counters and gauges as numbers.
fn published(snapshotter: &Snapshotter) -> BTreeMap<String, f64> {
    let mut published = BTreeMap::new();
    for (key, _, _, value) in snapshotter.snapshot().into_vec() {
        let labels: Vec<_> = key.key().labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        assert!(labels.contains(&"namespace=wb".to_owned()), "{key:?}");
        assert!(labels.contains(&format!("entity={}", Player::NAME)), "{key:?}");
        let others = labels.iter().filter(|l| !l.starts_with("namespace=") && !l.starts_with("entity="));
        let name = others.fold(key.key().name().to_owned(), |name, label| format!("{name} {label}"));
        let value = match value {
            DebugValue::Counter(count) => count as f64,
            DebugValue::Gauge(value) => value.into_inner(),
            DebugValue::Histogram(values) => values.len() as f64,
        };
        published.insert(name, value);
    }
    published
}

#[tokio::test(start_paused = true)]
async fn what_happens_is_counted_and_published() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _recording = ::metrics::set_default_local_recorder(&recorder);
    let sink = ScriptedSink::new();
    let (engine, players) = start(&sink).await;
    for score in 0..10 {
        players.put(&Player { id: 1, score }).await.unwrap();
    }
    players.delete(&2).await.unwrap();
    sink.fail_next(ErrorKind::Unavailable);
    players.flush().await.unwrap();
    let stats = engine.stats()[Player::NAME];
    assert_eq!((stats.puts, stats.coalesced_puts), (11, 9));
    assert_eq!((stats.rows_upserted, stats.rows_deleted, stats.batches), (1, 1, 1));
    assert_eq!((stats.retries.unavailable, stats.retries.total()), (1, 1));
    assert_eq!(stats.leases, 16);
    engine.shutdown(EVERY).await.unwrap();
    let published = published(&snapshotter);
    let of = |name: &str| published.get(name).copied();
    assert_eq!(of(metrics::PUTS), Some(11.0), "{published:?}");
    assert_eq!(of(metrics::COALESCED_PUTS), Some(9.0));
    assert_eq!(of(&format!("{} operation=upsert", metrics::ROWS)), Some(1.0));
    assert_eq!(of(&format!("{} operation=delete", metrics::ROWS)), Some(1.0));
    assert_eq!(of(&format!("{} kind=unavailable", metrics::RETRIES)), Some(1.0));
    assert_eq!(of(metrics::BATCHES), Some(1.0));
    assert_eq!(of(metrics::FLUSH_SECONDS), Some(2.0), "a failed try takes its time too");
    for name in [metrics::STATEMENTS, metrics::DEAD_LETTERS, metrics::FENCED_WRITES, metrics::LEASES] {
        assert!(of(name).is_some(), "{name}");
    }
    assert_eq!((of(metrics::DIRTY_KEYS), of(metrics::OLDEST_DIRTY_SECONDS)), (Some(0.0), Some(0.0)));
}

#[tokio::test(start_paused = true)]
async fn what_waits_is_seen_while_the_sink_is_away() {
    let sink = ScriptedSink::new();
    let (engine, players) = start(&sink).await;
    sleep(10 * EVERY).await;
    sink.fail_always(ErrorKind::Unavailable);
    for id in 0..100 {
        players.put(&Player { id, score: 1 }).await.unwrap();
    }
    sleep(60 * EVERY).await;
    let stats = engine.stats()[Player::NAME];
    assert_eq!(stats.dirty_keys, 100);
    let oldest = stats.oldest_dirty.unwrap();
    // Each partition was seen empty at most one interval before its first record came.
    assert!((60 * EVERY..=61 * EVERY).contains(&oldest), "{oldest:?}");
    sink.recover();
    players.flush().await.unwrap();
    sleep(10 * EVERY).await;
    let stats = engine.stats()[Player::NAME];
    assert_eq!((stats.dirty_keys, stats.oldest_dirty), (0, None));
    engine.shutdown(EVERY).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn p11_a_shutdown_says_what_it_flushed_and_what_it_left() {
    let sink = ScriptedSink::new();
    let (engine, players) = start(&sink).await;
    for id in 0..7 {
        players.put(&Player { id, score: 1 }).await.unwrap();
    }
    let drained = engine.shutdown(60 * EVERY).await.unwrap();
    assert_eq!((drained.flushed, drained.remaining), (7, 0));
    assert_eq!(drained.by_entity[Player::NAME].flushed, 7);
}
