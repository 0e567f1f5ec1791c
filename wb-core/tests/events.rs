//! What Engine::events tells. The clock is paused.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod player;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use wb_core::buffer::Registration;
use wb_core::testing::ScriptedSink;
use wb_core::{
    Buffer, Engine, Entity, EntityOptions, ErrorKind, Event, Events, Id, MemoryBuffer, RetryPolicy, Scope, Sink,
    SinkError,
};

use crate::player::Player;

const EVERY: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

fn options() -> EntityOptions {
    EntityOptions::new().flush_every(EVERY).retry(RetryPolicy::new().attempts(2))
}

fn player(id: u64, score: u64) -> Player {
    Player { id, score }
}

fn id(n: u64) -> Id {
    Id::of(&n).unwrap()
}

async fn start(buffer: &MemoryBuffer, sink: &ScriptedSink<Player>) -> (Engine, Events) {
    let engine = Engine::builder(buffer.clone()).entity::<Player>(sink.clone(), options()).start().await.unwrap();
    let events = engine.events();
    (engine, events)
}

async fn put(engine: &Engine, ids: std::ops::Range<u64>) {
    let players: Vec<Player> = ids.map(|id| player(id, 1)).collect();
    engine.cache().unwrap().put_many(&players).await.unwrap();
}

/// The next event that `wanted` takes; others are passed over.
async fn next<T>(events: &mut Events, mut wanted: impl FnMut(Event) -> Option<T>) -> T {
    let found = async {
        loop {
            if let Some(found) = wanted(events.next().await.unwrap()) {
                return found;
            }
        }
    };
    timeout(10 * MINUTE, found).await.unwrap()
}

/// Whether the next event of the kind comes at all.
macro_rules! hear {
    ($events:expr, $pattern:pat => $value:expr) => {
        next(&mut $events, |event| match event {
            $pattern => Some($value),
            _ => None,
        })
        .await
    };
}

#[tokio::test(start_paused = true)]
async fn flushes_refusals_and_dead_letters_are_told() {
    let (buffer, sink) = (MemoryBuffer::new(), ScriptedSink::new());
    let (engine, mut events) = start(&buffer, &sink).await;
    sink.refuse(|other| *other == id(3));
    put(&engine, 0..10).await;
    engine.cache::<Player>().unwrap().delete(&9).await.unwrap();
    let flushed = hear!(events, Event::Flushed { entity, upserts, deletes, .. } => (entity, upserts, deletes));
    assert_eq!(flushed, (Player::NAME, 8, 1), "but for the refused one");
    let refused = hear!(events, Event::Refused { entity, id, attempts, wait, reason, .. } => {
        assert!(!reason.is_empty() && !wait.is_zero());
        (entity, id, attempts)
    });
    assert_eq!(refused, (Player::NAME, id(3), 1));
    let dead = hear!(events, Event::DeadLettered { entity, id, kind, reason, .. } => {
        assert!(!reason.is_empty());
        (entity, id, kind)
    });
    assert_eq!(dead, (Player::NAME, id(3), "rejected".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn retries_pauses_and_their_ends_are_told() {
    let (buffer, sink) = (MemoryBuffer::new(), ScriptedSink::new());
    let (engine, mut events) = start(&buffer, &sink).await;
    sink.fail_always(ErrorKind::Unavailable);
    put(&engine, 0..10).await;
    for expected in 1..=3 {
        let failures = hear!(events, Event::Retried { entity: Player::NAME, rows: 10, failures, .. } => failures);
        assert_eq!(failures, expected);
    }
    sink.fail_always(ErrorKind::Misconfigured);
    let reason = hear!(events, Event::Paused { entity: Player::NAME, reason, .. } => reason);
    assert!(!reason.is_empty());
    sleep(5 * MINUTE).await;
    sink.recover();
    let lasted = next(&mut events, |event| match event {
        Event::Resumed { entity: Player::NAME, lasted, .. } => Some(lasted),
        Event::Paused { .. } => panic!("told twice"),
        _ => None,
    })
    .await;
    assert!(lasted >= 5 * MINUTE, "{lasted:?}");
    hear!(events, Event::Flushed { upserts: 10, .. } => ());
}

#[tokio::test(start_paused = true)]
async fn partitions_that_come_and_go_are_told() {
    let (buffer, sink) = (MemoryBuffer::new(), ScriptedSink::new());
    let (first, mut of_first) = start(&buffer, &sink).await;
    let (second, mut of_second) = start(&buffer, &sink).await;
    for _ in 0..8 {
        hear!(of_first, Event::PartitionLost { entity: Player::NAME, given_up: true, .. } => ());
        hear!(of_second, Event::PartitionGained { entity: Player::NAME, .. } => ());
    }
    // A worker that sleeps for longer than its lease.
    let space =
        buffer.space(Registration::new(Arc::new(Scope::new("wb", Player::NAME, 16)), Player::FORMAT)).await.unwrap();
    let (partition, thief) = (first.owned()[Player::NAME][0], "thief");
    drop(second);
    let owner_gone = async {
        loop {
            // Free as soon as the buffer says so.
            tokio::time::advance(Duration::from_secs(11)).await;
            if space.take(&[partition], thief, MINUTE).await.unwrap() == [true] {
                return;
            }
        }
    };
    timeout(10 * MINUTE, owner_gone).await.unwrap();
    let lost = hear!(of_first, Event::PartitionLost { partition, given_up: false, .. } => partition);
    assert_eq!(lost, partition);
    drop(first);
    assert_eq!(
        timeout(MINUTE, async { while of_first.next().await.is_some() {} }).await,
        Ok(()),
        "it ends with the engine"
    );
}

#[tokio::test(start_paused = true)]
async fn a_fenced_batch_is_told() {
    let (buffer, sink) = (MemoryBuffer::new(), ScriptedSink::new());
    let (engine, mut events) = start(&buffer, &sink).await;
    for partition in 0..16 {
        Sink::<Player>::fence(&sink, &Scope::new("wb", Player::NAME, 16), partition).await.unwrap();
    }
    put(&engine, 0..10).await;
    let reason = hear!(events, Event::Fenced { entity: Player::NAME, reason, .. } => reason);
    assert!(!reason.is_empty());
    hear!(events, Event::PartitionGained { .. } => ());
    hear!(events, Event::Flushed { .. } => ());
}

#[tokio::test(start_paused = true)]
async fn records_that_vanish_are_told() {
    let (buffer, sink) = (MemoryBuffer::new(), ScriptedSink::new());
    let (engine, mut events) = start(&buffer, &sink).await;
    sink.hold();
    put(&engine, 0..10).await;
    sink.waiting(1).await;
    buffer.lose_closed_epochs();
    sink.release();
    hear!(events, Event::Vanished { entity: Player::NAME, .. } => ());
}

#[tokio::test(start_paused = true)]
async fn a_new_topology_is_told() {
    let (buffer, sink) = (MemoryBuffer::new(), ScriptedSink::new());
    let (_engine, mut events) = start(&buffer, &sink).await;
    let other = Registration::new(Arc::new(Scope::new("wb", Player::NAME, 4)), Player::FORMAT);
    buffer.agree(&[other]).await.unwrap();
    let reason = hear!(events, Event::TopologyShut { entity: Player::NAME, reason, .. } => reason);
    assert!(reason.contains("partitions=4"), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn who_does_not_keep_up_hears_how_many_were_missed() {
    let (buffer, sink) = (MemoryBuffer::new(), ScriptedSink::new());
    let engine =
        Engine::builder(buffer.clone()).entity::<Player>(sink.clone(), options().max_batch(1)).start().await.unwrap();
    let (mut slow, mut late) = (engine.events(), engine.events());
    put(&engine, 0..2_000).await;
    assert!(engine.cache::<Player>().unwrap().flush_within(MINUTE).await.unwrap(), "nobody waits for a listener");
    let mut heard = 0;
    let missed = hear!(slow, Event::Missed { count, .. } => count);
    while let Ok(Some(event)) = timeout(EVERY, slow.next()).await {
        heard += u64::from(matches!(event, Event::Flushed { .. }));
    }
    assert_eq!(missed + heard, 2_000);
    assert!(heard <= 1_024, "{heard} events in memory");
    // As a stream, too.
    assert!(matches!(futures::StreamExt::next(&mut late).await, Some(Event::Missed { .. })));
}

#[tokio::test(start_paused = true)]
async fn errors_name_their_sources() {
    let (buffer, sink) = (MemoryBuffer::new(), ScriptedSink::new());
    let (engine, mut events) = start(&buffer, &sink).await;
    sink.fail_next(ErrorKind::Transient);
    put(&engine, 0..1).await;
    let reason = hear!(events, Event::Retried { reason, .. } => reason);
    assert!(reason.contains(SinkError::new(ErrorKind::Transient, "").kind().name()), "{reason}");
}
