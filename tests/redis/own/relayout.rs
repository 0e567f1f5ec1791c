//! Starts that lay entities out anew while records of the old layout are dirty: nobody needs to pause.
#![expect(clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout};
use write_behind::testing::{Outcome, ScriptedSink};
use write_behind::{
    BufferErrorKind, Cache, CacheError, Engine, EngineBuilder, EntityOptions, ErrorKind, RedisBuffer, RetryPolicy,
    Role, StartError, TransactionError, WriteBehind,
};
use write_behind_tests::{OwnRedis, eventually, refused};

use crate::player::{Player, id};

const PATIENCE: Duration = Duration::from_secs(60);
const NOTHING: &[&str] = &["--save", "", "--appendonly", "no"];
const LEASE: Duration = Duration::from_secs(1);

/// An entry of an append-only entity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, WriteBehind)]
#[wb(name = "entry", append)]
struct Entry {
    #[wb(key)]
    id: u64,
}

fn options(partitions: u16) -> EntityOptions {
    let retry = RetryPolicy::new().initial(Duration::from_millis(10)).cap(Duration::from_millis(200)).attempts(2);
    EntityOptions::new().partitions(partitions).flush_every(Duration::from_millis(50)).retry(retry)
}

async fn engine(server: &OwnRedis) -> EngineBuilder {
    Engine::builder(RedisBuffer::connect(&server.url()).await.unwrap()).lease(LEASE)
}

async fn builder(server: &OwnRedis, sink: &ScriptedSink<Player>, partitions: u16) -> EngineBuilder {
    engine(server).await.entity::<Player>(sink.clone(), options(partitions))
}

async fn start(server: &OwnRedis, sink: &ScriptedSink<Player>, partitions: u16) -> Engine {
    builder(server, sink, partitions).await.start().await.unwrap()
}

fn is_topology(error: &CacheError) -> bool {
    matches!(error, CacheError::Buffer(error) if error.kind() == BufferErrorKind::Topology)
}

/// Why a start was refused because of the topology.
fn refusal(started: Result<Engine, StartError>) -> String {
    let StartError::Buffer { entity: "player", source } = refused(started) else { panic!("another error") };
    assert_eq!(source.kind(), BufferErrorKind::Topology, "{source}");
    source.to_string()
}

/// Keys of the old layout that hold what only a layout has that is in use, or a mark.
async fn leftovers(server: &OwnRedis, partitions: u16) -> Vec<String> {
    let mut plain = server.plain().await;
    let pattern = format!("wb:{{*/{partitions}*}}:*");
    let mut keys: Vec<String> = redis::cmd("KEYS").arg(pattern).query_async(&mut plain).await.unwrap();
    let harmless = |key: &String| key.contains(":r:") || key.ends_with(":meta");
    let mut left = Vec::new();
    let announced: bool = redis::cmd("EXISTS").arg("wb:leaving").query_async(&mut plain).await.unwrap();
    left.extend(announced.then(|| "wb:leaving".to_owned()));
    for key in keys.extract_if(.., |key| !harmless(key)) {
        let seal: Result<String, _> = redis::cmd("GET").arg(&key).query_async(&mut plain).await;
        left.extend((seal.ok().as_deref() != Some("sealed")).then_some(key));
    }
    for key in keys.into_iter().filter(|key| key.ends_with(":meta")) {
        let mark: bool = redis::cmd("HEXISTS").arg(&key).arg("leaving").query_async(&mut plain).await.unwrap();
        left.extend(mark.then_some(key));
    }
    left
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_flushes_what_no_worker_of_the_old_layout_does_any_more() {
    let Some(server) = OwnRedis::start(NOTHING).await else { return };
    let sink = ScriptedSink::new();
    let writer = builder(&server, &sink, 16).await.role(Role::Writer).start().await.unwrap();
    let players = writer.cache::<Player>().unwrap();
    players.put_many(&(0..242).map(|n| Player::new(n, 1)).collect::<Vec<_>>()).await.unwrap();
    writer.shutdown(PATIENCE).await.unwrap();
    let none = builder(&server, &sink, 8).await.topology_change_within(Duration::ZERO).start().await;
    assert!(refusal(none).contains("242 records"), "without time it is refused as ever");
    let next = start(&server, &sink, 8).await;
    assert_eq!(sink.rows().len(), 242);
    assert_eq!(leftovers(&server, 16).await, Vec::<String>::new());
    next.shutdown(PATIENCE).await.unwrap();
}

/// Writes a thousand times a second until it is to stop: what was acknowledged last of each key, and how many were refused.
async fn write_on(players: Cache<Player>, stop: Arc<AtomicBool>) -> (BTreeMap<u64, u64>, u64) {
    let (mut acknowledged, mut refused) = (BTreeMap::new(), 0);
    let mut ticks = tokio::time::interval(Duration::from_millis(1));
    for round in 1.. {
        ticks.tick().await;
        if stop.load(Ordering::Acquire) {
            break;
        }
        match players.put(&Player::new(round % 100, round)).await {
            Ok(_) => _ = acknowledged.insert(round % 100, round),
            Err(error) => {
                assert!(is_topology(&error), "{error}");
                refused += 1;
            }
        }
    }
    (acknowledged, refused)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p1_a_writer_that_never_pauses_does_not_hold_up_a_change() {
    let Some(server) = OwnRedis::start(NOTHING).await else { return };
    for workers in [true, false] {
        let sink = ScriptedSink::new();
        let role = if workers { Role::Both } else { Role::Writer };
        let old = builder(&server, &sink, 16).await.role(role).start().await.unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let writing = tokio::spawn(write_on(old.cache().unwrap(), stop.clone()));
        tokio::time::sleep(Duration::from_millis(500)).await;
        let begun = Instant::now();
        let next = start(&server, &sink, 8).await;
        let took = begun.elapsed();
        stop.store(true, Ordering::Release);
        let (acknowledged, refused) = writing.await.unwrap();
        println!("workers: {workers}; after {took:?}, {refused} refused");
        assert!(took < Duration::from_secs(10), "{took:?}");
        let rows: BTreeMap<u64, u64> = sink.rows().into_values().map(|row| (row.id, row.score)).collect();
        assert_eq!(rows, acknowledged, "what was acknowledged last is in the sink");
        assert!(refused > 0, "the old layout is closed");
        assert_eq!(leftovers(&server, 16).await, Vec::<String>::new());
        old.shutdown(PATIENCE).await.unwrap();
        next.shutdown(PATIENCE).await.unwrap();
        server.run(&["FLUSHALL"]).await;
    }
}

/// The old engine goes on: it takes writes again, within a few looks, and everything lands.
async fn goes_on(server: &OwnRedis, old: &Engine, sink: &ScriptedSink<Player>, score: u64) {
    let players = old.cache::<Player>().unwrap();
    for n in 0..50 {
        let put = async || match players.put(&Player::new(n, score)).await {
            Ok(_) => Some(()),
            Err(error) => {
                assert!(is_topology(&error), "{error}");
                None
            }
        };
        eventually("it is open again", 10 * LEASE, put).await;
    }
    assert!(players.flush_within(PATIENCE).await.unwrap());
    assert!((0..50).all(|n| sink.row(&id(n)) == Some(Player::new(n, score))), "all of it lands");
    let nothing = async || leftovers(server, 16).await.is_empty().then_some(());
    eventually("nothing is left of it", 10 * LEASE, nothing).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p1_a_start_that_dies_while_it_waits_leaves_nothing_closed() {
    let Some(server) = OwnRedis::start(NOTHING).await else { return };
    let sink = ScriptedSink::new();
    let old = start(&server, &sink, 16).await;
    let players = old.cache::<Player>().unwrap();
    sink.hold();
    players.put(&Player::new(1, 1)).await.unwrap();
    sink.waiting(1).await;
    let starting = tokio::spawn(builder(&server, &sink, 8).await.start());
    let mut plain = server.plain().await;
    eventually("it is announced", PATIENCE, async || {
        let announced: bool =
            redis::cmd("HEXISTS").arg("wb:leaving").arg("player").query_async(&mut plain).await.unwrap();
        announced.then_some(())
    })
    .await;
    assert!(is_topology(&refused(players.put(&Player::new(2, 1)).await)), "closed: nothing was open there");
    assert_eq!(players.get(&1).await.unwrap(), Some(Player::new(1, 1)), "read as ever");
    assert_eq!(players.get(&77).await.unwrap(), None, "from the sink, too");
    starting.abort();
    assert!(starting.await.is_err(), "it is over, in the middle");
    sink.release();
    goes_on(&server, &old, &sink, 2).await;
    start(&server, &sink, 8).await.shutdown(PATIENCE).await.unwrap();
    old.shutdown(PATIENCE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_cannot_flush_in_time_is_refused_and_leaves_nothing_closed() {
    let Some(server) = OwnRedis::start(NOTHING).await else { return };
    let sink = ScriptedSink::new();
    let old = start(&server, &sink, 16).await;
    let players = old.cache::<Player>().unwrap();
    sink.refuse_whole(ErrorKind::Unavailable, |_| true);
    players.put(&Player::new(1, 1)).await.unwrap();
    let text = refusal(builder(&server, &sink, 8).await.topology_change_within(LEASE).start().await);
    assert!(text.contains("1 records are not flushed") && text.contains("1s"), "{text}");
    // At once, not after a look.
    players.put_many(&(0..50).map(|n| Player::new(n, 2)).collect::<Vec<_>>()).await.unwrap();
    sink.accept();
    goes_on(&server, &old, &sink, 3).await;
    old.shutdown(PATIENCE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p3_dead_letters_across_changes_there_and_back_take_no_row_back() {
    let Some(server) = OwnRedis::start(NOTHING).await else { return };
    let sink = ScriptedSink::new();
    let writes = |score: u64| (0..100).map(move |n| Player::new(n, score)).collect::<Vec<_>>();
    let mut engine = start(&server, &sink, 16).await;
    for partitions in [32, 16] {
        let players = engine.cache::<Player>().unwrap();
        let letters = engine.dead_letters::<Player>().unwrap();
        sink.refuse(|key| (0..20).any(|n| *key == id(n)));
        players.put_many(&writes(1)).await.unwrap();
        eventually("they are refused", PATIENCE, async || (letters.count().await.unwrap() == 20).then_some(())).await;
        let text = refusal(builder(&server, &sink, partitions).await.start().await);
        assert!(text.contains("20 dead letters"), "{text}");
        // Some become newer, or are deleted, before the rest is replayed.
        sink.accept();
        players.put_many(&(0..5).map(|n| Player::new(n, 2)).collect::<Vec<_>>()).await.unwrap();
        for n in 5..10 {
            players.delete(&n).await.unwrap();
        }
        assert!(players.flush_within(PATIENCE).await.unwrap());
        assert_eq!(letters.replay_all().await.unwrap(), 10, "those of which nothing newer is known");
        // Dirty again: the start flushes them.
        let next = start(&server, &sink, partitions).await;
        let expected = |n| match n {
            0..5 => Some(Player::new(n, 2)),
            5..10 => None,
            _ => Some(Player::new(n, 1)),
        };
        for n in 0..100 {
            assert_eq!(sink.row(&id(n)), expected(n), "{n}");
            assert_eq!(next.cache::<Player>().unwrap().get(&n).await.unwrap(), expected(n), "{n}, read");
        }
        assert_eq!(next.dead_letters::<Player>().unwrap().count().await.unwrap(), 0);
        engine.shutdown(PATIENCE).await.unwrap();
        engine = next;
    }
    engine.shutdown(PATIENCE).await.unwrap();
}

/// Entries of an append-only entity: each of those that were acknowledged is there, in order within its partition.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p1_entries_are_carried_over() {
    let Some(server) = OwnRedis::start(NOTHING).await else { return };
    let sink = ScriptedSink::<Entry>::new();
    let start = async |role: Role, partitions| {
        let builder = engine(&server).await.role(role).entity::<Entry>(sink.clone(), options(partitions));
        builder.start().await.unwrap()
    };
    let old = start(Role::Both, 16).await;
    let (stop, entries) = (Arc::new(AtomicBool::new(false)), old.appender::<Entry>().unwrap());
    let writing = tokio::spawn({
        let stop = stop.clone();
        async move {
            let (mut acknowledged, mut refused, mut next) = (Vec::new(), 0, 0);
            let mut ticks = tokio::time::interval(Duration::from_millis(1));
            while !stop.load(Ordering::Acquire) {
                ticks.tick().await;
                next += 1;
                match entries.append(&Entry { id: next }).await {
                    Ok(_) => acknowledged.push(next),
                    Err(error) => {
                        assert!(is_topology(&error), "{error}");
                        refused += 1;
                    }
                }
            }
            (acknowledged, refused)
        }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let next = start(Role::Both, 8).await;
    stop.store(true, Ordering::Release);
    let (acknowledged, refused) = writing.await.unwrap();
    let mut rows: Vec<u64> = sink.rows().into_values().map(|entry| entry.id).collect();
    rows.sort_unstable();
    assert_eq!(rows, acknowledged);
    assert!(refused > 0, "the old layout is closed");
    let entries = next.appender::<Entry>().unwrap();
    entries.append(&Entry { id: 1_000_000 }).await.unwrap();
    assert!(entries.flush_within(PATIENCE).await.unwrap());
    next.shutdown(PATIENCE).await.unwrap();
    assert_eq!(sink.rows().len(), acknowledged.len() + 1);
    old.shutdown(PATIENCE).await.unwrap();
}

/// Pairs that are written together are flushed together, also while their layout is closed, and by whom ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p13_transactions_are_whole_across_a_change() {
    let Some(server) = OwnRedis::start(NOTHING).await else { return };
    for workers in [true, false] {
        let sink = ScriptedSink::<Player>::new();
        let start = async |role: Role, partitions| {
            let options = options(partitions).transactions(true);
            engine(&server).await.role(role).entity::<Player>(sink.clone(), options).start().await.unwrap()
        };
        let old = Arc::new(start(if workers { Role::Both } else { Role::Writer }, 16).await);
        let stop = Arc::new(AtomicBool::new(false));
        let writing = tokio::spawn({
            let (stop, old) = (stop.clone(), old.clone());
            async move {
                let (mut last, mut refused) = (BTreeMap::new(), 0);
                let mut ticks = tokio::time::interval(Duration::from_millis(2));
                for round in 1_u64.. {
                    ticks.tick().await;
                    if stop.load(Ordering::Acquire) {
                        break;
                    }
                    let pair = 2 * (round % 20);
                    let written = old.transaction(|tx| {
                        tx.put(&Player::new(pair, round))?;
                        tx.put(&Player::new(pair + 1, round))
                    });
                    match written.await {
                        Ok(()) => _ = last.insert(pair, round),
                        Err(TransactionError::Cache(error)) if is_topology(&error) => refused += 1,
                        Err(error) => panic!("{error}"),
                    }
                }
                (last, refused)
            }
        });
        tokio::time::sleep(Duration::from_millis(500)).await;
        let next = start(Role::Both, 8).await;
        stop.store(true, Ordering::Release);
        let (last, refused) = writing.await.unwrap();
        assert!(refused > 0, "the old layout is closed");
        for (&pair, &round) in &last {
            for n in [pair, pair + 1] {
                assert_eq!(sink.row(&id(n)), Some(Player::new(n, round)), "workers: {workers}");
            }
        }
        for entry in sink.log().iter().filter(|entry| !matches!(entry.outcome, Outcome::Failed(_))) {
            for player in entry.records.values().flatten() {
                let other = entry.records.get(&id(player.id ^ 1)).cloned().flatten();
                assert_eq!(other.map(|other| other.score), Some(player.score), "a pair is torn: {player:?}");
            }
        }
        next.shutdown(PATIENCE).await.unwrap();
        Arc::into_inner(old).unwrap().shutdown(PATIENCE).await.unwrap();
        server.run(&["FLUSHALL"]).await;
    }
}

/// Another program that starts with the old layout opens what a dead one has closed, without waiting for a look.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_of_the_old_layout_that_starts_finds_it_open() {
    let Some(server) = OwnRedis::start(NOTHING).await else { return };
    let sink = ScriptedSink::new();
    let writer = builder(&server, &sink, 16).await.role(Role::Writer).start().await.unwrap();
    writer.cache::<Player>().unwrap().put(&Player::new(1, 1)).await.unwrap();
    writer.shutdown(PATIENCE).await.unwrap();
    sink.hold();
    let dying = timeout(LEASE, builder(&server, &sink, 8).await.start()).await;
    assert!(dying.is_err(), "dropped in the middle");
    sink.release();
    assert_ne!(leftovers(&server, 16).await, Vec::<String>::new(), "it had no time to take anything back");
    let begun = Instant::now();
    let back = start(&server, &sink, 16).await;
    goes_on(&server, &back, &sink, 2).await;
    println!("open after {:?}", begun.elapsed());
    back.shutdown(PATIENCE).await.unwrap();
}
