//! Starts that lay an entity out anew while records of the old layout are dirty. Over the embedded buffer, on a paused clock.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod player;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use wb_core::testing::ScriptedSink;
use wb_core::{
    BufferErrorKind, Cache, CacheError, Engine, EngineBuilder, EntityOptions, ErrorKind, Id, MemoryBuffer, RetryPolicy,
    Role, Severity, StartError,
};

use crate::player::Player;

const LEASE: Duration = Duration::from_secs(3);
const FOREVER: Duration = Duration::from_secs(3_600);

fn options(partitions: u16) -> EntityOptions {
    let retry = RetryPolicy::new().initial(Duration::from_millis(10)).cap(Duration::from_millis(500)).attempts(2);
    EntityOptions::new().partitions(partitions).flush_every(Duration::from_secs(600)).retry(retry)
}

fn builder(buffer: &MemoryBuffer, sink: &ScriptedSink<Player>, partitions: u16) -> EngineBuilder {
    Engine::builder(buffer.clone()).lease(LEASE).entity::<Player>(sink.clone(), options(partitions))
}

fn player(id: u64, score: u64) -> Player {
    Player { id, score }
}

fn id(n: u64) -> Id {
    Id::of(&n).unwrap()
}

fn is_topology(error: &CacheError) -> bool {
    matches!(error, CacheError::Buffer(error) if error.kind() == BufferErrorKind::Topology)
}

/// Why a start was refused because of the topology.
fn refusal(started: Result<Engine, StartError>) -> String {
    match started {
        Err(StartError::Buffer { entity: "player", source }) => {
            assert_eq!(source.kind(), BufferErrorKind::Topology, "{source}");
            source.to_string()
        }
        other => unreachable!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_start_flushes_what_no_worker_of_the_old_layout_does_any_more() {
    for role in [Role::Both, Role::Writer] {
        let (buffer, sink) = (MemoryBuffer::new(), ScriptedSink::new());
        let writer = builder(&buffer, &sink, 16).role(Role::Writer).start().await.unwrap();
        for n in 0..242 {
            writer.cache::<Player>().unwrap().put(&player(n, 1)).await.unwrap();
        }
        writer.shutdown(FOREVER).await.unwrap();
        let findings = builder(&buffer, &sink, 8).doctor().await;
        let said = findings.iter().find(|found| found.code == "topology-change").unwrap();
        assert!(said.severity == Severity::Warning && said.text.contains("242"), "{said}");
        assert!(sink.rows().is_empty(), "a doctor flushes nothing");
        let begun = Instant::now();
        let next = builder(&buffer, &sink, 8).role(role).start().await.unwrap();
        assert!(begun.elapsed() < LEASE, "{:?}", begun.elapsed());
        assert_eq!(sink.rows().len(), 242);
        next.cache::<Player>().unwrap().put(&player(0, 2)).await.unwrap();
        if role == Role::Both {
            assert!(next.cache::<Player>().unwrap().flush_within(FOREVER).await.unwrap());
            assert_eq!(sink.row(&id(0)), Some(player(0, 2)));
        }
        next.shutdown(FOREVER).await.unwrap();
    }
}

/// Writes until it is to stop: what was acknowledged last of each key, and how many writes were refused.
async fn write_on(players: Cache<Player>, stop: Arc<AtomicBool>) -> (BTreeMap<u64, u64>, u64) {
    let (mut acknowledged, mut refused) = (BTreeMap::new(), 0);
    for round in 1.. {
        if stop.load(Ordering::Acquire) {
            break;
        }
        match players.put(&player(round % 50, round)).await {
            Ok(_) => _ = acknowledged.insert(round % 50, round),
            Err(error) => {
                assert!(is_topology(&error), "{error}");
                refused += 1;
            }
        }
        sleep(Duration::from_millis(1)).await;
    }
    (acknowledged, refused)
}

#[tokio::test(start_paused = true)]
async fn p1_a_writer_that_never_pauses_does_not_hold_up_a_change() {
    let (buffer, sink) = (MemoryBuffer::new(), ScriptedSink::new());
    let old = builder(&buffer, &sink, 16).start().await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let writing = tokio::spawn(write_on(old.cache().unwrap(), stop.clone()));
    sleep(Duration::from_secs(1)).await;
    let begun = Instant::now();
    let next = builder(&buffer, &sink, 8).start().await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    stop.store(true, Ordering::Release);
    let (acknowledged, refused) = writing.await.unwrap();
    let rows: BTreeMap<u64, u64> = sink.rows().into_values().map(|row| (row.id, row.score)).collect();
    assert_eq!(rows, acknowledged, "nothing that was acknowledged is lost");
    assert!(refused > 0, "the old layout is closed");
    old.shutdown(FOREVER).await.unwrap();
    next.shutdown(FOREVER).await.unwrap();
}

/// The old engine goes on: it takes writes again, and everything lands.
async fn goes_on(old: &Engine, sink: &ScriptedSink<Player>, score: u64) {
    let players = old.cache::<Player>().unwrap();
    let begun = Instant::now();
    for n in 0..50 {
        while let Err(error) = players.put(&player(n, score)).await {
            assert!(is_topology(&error), "{error}");
            assert!(begun.elapsed() < 3 * LEASE, "it stays closed");
            sleep(Duration::from_millis(50)).await;
        }
    }
    assert!(players.flush_within(FOREVER).await.unwrap());
    assert!((0..50).all(|n| sink.row(&id(n)) == Some(player(n, score))), "all of it lands");
}

#[tokio::test(start_paused = true)]
async fn a_start_that_cannot_flush_in_time_is_refused_and_leaves_nothing_closed() {
    let (buffer, sink) = (MemoryBuffer::new(), ScriptedSink::new());
    let old = builder(&buffer, &sink, 16).start().await.unwrap();
    let players = old.cache::<Player>().unwrap();
    players.put(&player(1, 1)).await.unwrap();
    sink.refuse_whole(ErrorKind::Unavailable, |_| true);
    let text = refusal(builder(&buffer, &sink, 8).topology_change_within(Duration::from_secs(2)).start().await);
    assert!(text.contains("1 records are not flushed") && text.contains("2s"), "{text}");
    for n in 0..50 {
        players.put(&player(n, 2)).await.unwrap();
    }
    sink.accept();
    goes_on(&old, &sink, 3).await;
    builder(&buffer, &sink, 8).start().await.unwrap().shutdown(FOREVER).await.unwrap();
    old.shutdown(FOREVER).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn p1_a_start_that_dies_while_it_waits_leaves_nothing_closed() {
    let (buffer, sink) = (MemoryBuffer::new(), ScriptedSink::new());
    let old = builder(&buffer, &sink, 16).start().await.unwrap();
    let players = old.cache::<Player>().unwrap();
    players.put(&player(1, 1)).await.unwrap();
    sink.hold();
    let starting = timeout(Duration::from_secs(5), builder(&buffer, &sink, 8).start());
    let (started, ()) = tokio::join!(starting, async {
        sleep(Duration::from_secs(4)).await;
        assert!(is_topology(&players.put(&player(2, 1)).await.unwrap_err()), "closed");
        assert_eq!(players.get(&1).await.unwrap(), Some(player(1, 1)), "read as ever");
        assert_eq!(players.get(&3).await.unwrap(), None, "from the sink, too");
    });
    assert!(started.is_err(), "dropped in the middle");
    sink.release();
    goes_on(&old, &sink, 2).await;
    old.shutdown(FOREVER).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn p3_a_record_that_is_refused_meanwhile_keeps_the_old_layout() {
    let (buffer, sink) = (MemoryBuffer::new(), ScriptedSink::new());
    let writer = builder(&buffer, &sink, 16).role(Role::Writer).start().await.unwrap();
    let players = writer.cache::<Player>().unwrap();
    for n in 0..50 {
        players.put(&player(n, 1)).await.unwrap();
    }
    sink.refuse(|key| *key == id(7));
    let text = refusal(builder(&buffer, &sink, 8).start().await);
    assert!(text.contains("1 dead letters"), "{text}");
    assert_eq!(sink.rows().len(), 49, "the others are flushed");
    players.put(&player(1, 2)).await.unwrap();
    sink.accept();
    assert_eq!(writer.dead_letters::<Player>().unwrap().replay_all().await.unwrap(), 1);
    builder(&buffer, &sink, 8).start().await.unwrap().shutdown(FOREVER).await.unwrap();
    assert_eq!((sink.row(&id(7)), sink.row(&id(1))), (Some(player(7, 1)), Some(player(1, 2))));
    writer.shutdown(FOREVER).await.unwrap();
}

/// A write that is refused for now goes back into a partition that is closed.
#[tokio::test(start_paused = true)]
async fn p1_what_is_refused_for_now_is_flushed_before_the_change() {
    let (buffer, sink) = (MemoryBuffer::new(), ScriptedSink::new());
    let old = builder(&buffer, &sink, 16).start().await.unwrap();
    let players = old.cache::<Player>().unwrap();
    for n in 0..50 {
        players.put(&player(n, 1)).await.unwrap();
    }
    sink.refuse_as(ErrorKind::Deferred, |key| *key == id(7));
    let (started, ()) = tokio::join!(builder(&buffer, &sink, 8).start(), async {
        sleep(Duration::from_millis(20)).await;
        sink.accept();
    });
    started.unwrap().shutdown(FOREVER).await.unwrap();
    assert_eq!(sink.rows().len(), 50);
    old.shutdown(FOREVER).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn programs_that_start_together_change_the_topology_together() {
    let (buffer, sink) = (MemoryBuffer::new(), ScriptedSink::new());
    let old = builder(&buffer, &sink, 16).start().await.unwrap();
    for n in 0..50 {
        old.cache::<Player>().unwrap().put(&player(n, 1)).await.unwrap();
    }
    let starting = (0..4).map(|_| builder(&buffer, &sink, 8).start());
    let started = futures::future::join_all(starting).await;
    assert_eq!(sink.rows().len(), 50);
    for engine in started {
        engine.unwrap().shutdown(FOREVER).await.unwrap();
    }
    old.shutdown(FOREVER).await.unwrap();
}
