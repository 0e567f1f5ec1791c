//! Records that nobody flushes are told: by a start, by the doctor, and while an engine runs. The clock is paused.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[macro_use]
mod json_entity;
mod player;

use std::collections::BTreeMap;
use std::time::Duration;

use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;
use wb_core::testing::ScriptedSink;
use wb_core::{
    Engine, EngineBuilder, EntityOptions, ErrorKind, Event, Events, Finding, MemoryBuffer, Role, Severity, metrics,
};

use crate::player::Player;

const MINUTE: Duration = Duration::from_secs(60);

/// What the new deploy has instead.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Gamer {
    id: u64,
}

json_entity!(Gamer, "gamer");

async fn players(buffer: &MemoryBuffer, sink: &ScriptedSink<Player>) -> Engine {
    Engine::builder(buffer.clone()).entity::<Player>(sink.clone(), EntityOptions::new()).start().await.unwrap()
}

fn gamers(buffer: &MemoryBuffer) -> EngineBuilder {
    Engine::builder(buffer.clone()).entity::<Gamer>(ScriptedSink::new(), EntityOptions::new())
}

/// Writes records that the sink does not take, and ends.
async fn leave(engine: Engine, sink: &ScriptedSink<Player>, records: u64) {
    sink.fail_always(ErrorKind::Unavailable);
    let dirty: Vec<Player> = (0..records).map(|id| Player { id, score: 1 }).collect();
    engine.cache().unwrap().put_many(&dirty).await.unwrap();
    assert_eq!(engine.shutdown(Duration::from_secs(1)).await.unwrap().remaining, records);
    sink.recover();
}

fn orphans(findings: &[Finding]) -> Vec<&Finding> {
    findings.iter().filter(|finding| finding.code == "orphaned-records").collect()
}

#[tokio::test(start_paused = true)]
async fn the_queue_of_an_entity_that_a_deploy_dropped_is_named() {
    let (buffer, sink) = (MemoryBuffer::new(), ScriptedSink::new());
    let old = players(&buffer, &sink).await;
    assert_eq!(orphans(&gamers(&buffer).doctor().await), Vec::<&Finding>::new(), "a worker has it");
    leave(old, &sink, 50).await;
    let new = gamers(&buffer).start().await.unwrap();
    for findings in [gamers(&buffer).doctor().await, new.findings().to_vec()] {
        let [finding] = orphans(&findings)[..] else { panic!("not one: {findings:?}") };
        assert_eq!((finding.severity, finding.subject.as_str()), (Severity::Warning, "entity `player`"));
        assert!(finding.text.starts_with("50 records that are not flushed, and 0 dead letters"), "{finding}");
    }
    // Who has the entity says nothing, whether it flushes or not.
    let writer = Engine::builder(buffer.clone()).role(Role::Writer);
    let writer = writer.entity::<Player>(sink.clone(), EntityOptions::new());
    assert_eq!(orphans(&writer.doctor().await), Vec::<&Finding>::new());
    new.shutdown(MINUTE).await.unwrap();
}

/// Gauges of what nobody flushes, by entity: records, dead letters.
fn gauges(snapshotter: &Snapshotter) -> BTreeMap<String, (f64, f64)> {
    let mut gauges: BTreeMap<String, (f64, f64)> = BTreeMap::new();
    for (key, _, _, value) in snapshotter.snapshot().into_vec() {
        let DebugValue::Gauge(value) = value else { continue };
        let Some(entity) = key.key().labels().find(|label| label.key() == "entity") else { continue };
        let (records, letters) = match key.key().name() {
            metrics::ORPHANED_KEYS => (Some(value.into_inner()), None),
            metrics::ORPHANED_LETTERS => (None, Some(value.into_inner())),
            _ => continue,
        };
        let gauge = gauges.entry(entity.value().to_owned()).or_default();
        *gauge = (records.unwrap_or(gauge.0), letters.unwrap_or(gauge.1));
    }
    gauges
}

/// The next event about records that nobody flushes; `None` when none comes.
async fn next(events: &mut Events) -> Option<Event> {
    let found = async {
        loop {
            let event = events.next().await.unwrap();
            if let Event::Orphaned { .. } | Event::OrphanedNoMore { .. } = event {
                return event;
            }
        }
    };
    timeout(3 * MINUTE, found).await.ok()
}

#[tokio::test(start_paused = true)]
async fn records_that_nobody_flushes_any_more_are_told_once_and_counted() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _recording = ::metrics::set_default_local_recorder(&recorder);
    let (buffer, sink) = (MemoryBuffer::new(), ScriptedSink::new());
    let old = players(&buffer, &sink).await;
    let new = gamers(&buffer).start().await.unwrap();
    let mut events = new.events();
    tokio::time::sleep(3 * MINUTE).await;
    assert_eq!(gauges(&snapshotter), BTreeMap::new(), "another program flushes them");
    leave(old, &sink, 50).await;
    let Some(Event::Orphaned { entity, records, letters, .. }) = next(&mut events).await else {
        panic!("another event")
    };
    assert_eq!((entity.as_str(), records, letters), ("player", 50, 0));
    assert_eq!(gauges(&snapshotter), BTreeMap::from([("player".to_owned(), (50.0, 0.0))]));
    assert_eq!(next(&mut events).await, None, "told again");
    let old = players(&buffer, &sink).await;
    assert!(old.cache::<Player>().unwrap().flush_within(MINUTE).await.unwrap());
    let Some(Event::OrphanedNoMore { entity, .. }) = next(&mut events).await else { panic!("another event") };
    assert_eq!(entity, "player");
    assert_eq!(gauges(&snapshotter), BTreeMap::from([("player".to_owned(), (0.0, 0.0))]));
    old.shutdown(MINUTE).await.unwrap();
    new.shutdown(MINUTE).await.unwrap();
}
