//! What receipts, `flush` and ids say of data that a foreign hand or a restart has taken away.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use redis::AsyncCommands;
use serde::{Deserialize, Serialize};
use write_behind::ids::Ids;
use write_behind::testing::ScriptedSink;
use write_behind::{
    BufferErrorKind, Cache, CacheError, Engine, EntityOptions, Mechanism, RedisBuffer, RetryPolicy, Role, WriteBehind,
};
use write_behind_tests::{OwnRedis, eventually};

use crate::player::{Player, id};

const PATIENCE: Duration = Duration::from_secs(30);
const NOTHING: &[&str] = &["--save", "", "--appendonly", "no"];
/// Small hashes are scanned as large ones are, record by record.
const SCANNED: &[&str] = &["--save", "", "--appendonly", "no", "--hash-max-ziplist-entries", "0"];
const PARTITIONS: u16 = 4;

fn options() -> EntityOptions {
    EntityOptions::new().partitions(PARTITIONS).flush_every(Duration::from_millis(50))
}

async fn engine(server: &OwnRedis, sink: &ScriptedSink<Player>, role: Role, options: EntityOptions) -> Engine {
    let buffer = RedisBuffer::connect(&server.url()).await.unwrap();
    let builder = Engine::builder(buffer).role(role).lease(Duration::from_secs(1));
    builder.entity::<Player>(sink.clone(), options).start().await.unwrap()
}

fn players(engine: &Engine) -> Cache<Player> {
    engine.cache().unwrap()
}

fn lost(told: &Result<(), CacheError>) -> bool {
    matches!(told, Err(CacheError::Buffer(error)) if error.kind() == BufferErrorKind::Lost)
}

/// Deletes a hash of every partition; returns how many there were.
async fn delete(server: &OwnRedis, what: &str) -> u64 {
    let keys: Vec<String> = (0..PARTITIONS).map(|n| format!("wb:{{player:{n:02}/4}}:{what}")).collect();
    server.plain().await.del(keys).await.unwrap()
}

fn vanished(engine: &Engine) -> u64 {
    engine.stats().get("player").unwrap().vanished
}

#[tokio::test]
async fn a_write_whose_open_epoch_was_deleted_is_not_persisted() {
    let Some(server) = OwnRedis::start(NOTHING).await else { return };
    let sink = ScriptedSink::new();
    let writer = engine(&server, &sink, Role::Writer, options()).await;
    // Asked for the first time when it is gone.
    let receipt = players(&writer).put(&Player::new(1, 1)).await.unwrap();
    assert_eq!(delete(&server, "open").await, 1);
    let told = receipt.persisted_within(PATIENCE).await;
    assert!(lost(&told), "{told:?}");
    // Seen before it was gone.
    let receipt = players(&writer).put(&Player::new(1, 2)).await.unwrap();
    let told = receipt.persisted_within(Duration::from_millis(50)).await;
    assert!(matches!(told, Err(CacheError::NotPersisted { .. })), "{told:?}");
    assert_eq!(delete(&server, "open").await, 1);
    let told = receipt.persisted_within(PATIENCE).await;
    assert!(lost(&told), "{told:?}");
    // What is written afterwards is flushed, and said to be.
    let receipt = players(&writer).put(&Player::new(1, 3)).await.unwrap();
    let worker = engine(&server, &sink, Role::Worker, options()).await;
    receipt.persisted_within(PATIENCE).await.unwrap();
    assert_eq!(sink.row(&id(1)), Some(Player::new(1, 3)));
    assert_eq!(vanished(&writer), 2, "what was found missing is counted");
    worker.shutdown(PATIENCE).await.unwrap();
}

/// The same with a worker that flushes all the time, so that there were many epochs before.
#[tokio::test]
async fn a_worker_that_lost_its_open_epoch_says_so_in_every_epoch() {
    let Some(server) = OwnRedis::start(NOTHING).await else { return };
    let sink = ScriptedSink::new();
    let slow = options().flush_every(Duration::from_secs(3_600));
    let both = engine(&server, &sink, Role::Both, slow).await;
    let players = players(&both);
    for round in 1..=5 {
        let receipt = players.put(&Player::new(1, round)).await.unwrap();
        assert_eq!(delete(&server, "open").await, 1);
        let told = receipt.persisted_within(PATIENCE).await;
        assert!(lost(&told), "round {round}: {told:?}");
        players.put_through(&Player::new(1, 100 + round)).await.unwrap();
        assert_eq!(sink.row(&id(1)), Some(Player::new(1, 100 + round)));
    }
    both.shutdown(PATIENCE).await.unwrap();
}

/// The epoch that is waited for is gone, and a later one is flushed: its number says nothing of the one before.
#[tokio::test]
async fn an_epoch_that_vanished_is_not_flushed_when_a_later_one_is() {
    let Some(server) = OwnRedis::start(NOTHING).await else { return };
    let sink = ScriptedSink::new();
    let both = engine(&server, &sink, Role::Both, options()).await;
    let players = players(&both);
    sink.hold();
    let early = Arc::new(players.put(&Player::new(1, 1)).await.unwrap());
    sink.waiting(1).await;
    let asked = early.persisted_within(Duration::from_millis(50)).await;
    assert!(matches!(asked, Err(CacheError::NotPersisted { .. })), "{asked:?}");
    // Of each partition something is open all the time.
    players.put_many((100..200).map(|n| Player::new(n, 1)).collect::<Vec<_>>().iter()).await.unwrap();
    let flush = tokio::spawn({
        let players = players.clone();
        async move { players.flush().await }
    });
    let waiting = tokio::spawn({
        let early = early.clone();
        async move { early.persisted().await }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!flush.is_finished() && !waiting.is_finished());
    assert_eq!(delete(&server, "flushing").await, 1);
    sink.release();
    for (what, told) in [("flush", flush.await.unwrap()), ("receipt", waiting.await.unwrap())] {
        assert!(lost(&told), "{what}: {told:?}");
    }
    let told = early.persisted_within(PATIENCE).await;
    assert!(lost(&told), "asked again: {told:?}");
    // What came later is as it was.
    let later = players.put(&Player::new(1, 2)).await.unwrap();
    later.persisted_within(PATIENCE).await.unwrap();
    players.flush().await.unwrap();
    both.shutdown(PATIENCE).await.unwrap();
}

/// One record is taken out of the epoch, before anybody has read it: the others are flushed, and the epoch is not. What the
/// receipt says, and the engine.
async fn a_record_is_taken_out_of_its_epoch(
    server: &OwnRedis,
    options: EntityOptions,
) -> (Result<(), CacheError>, Engine) {
    let sink = ScriptedSink::new();
    let one = options.max_batch(1).flush_concurrency(1);
    // All is written before anybody flushes: an epoch of few records would be read at once.
    let writer = engine(server, &sink, Role::Writer, one.clone()).await;
    let all: Vec<Player> = (0..40).map(|n| Player::new(n, 1)).collect();
    let mine = players(&writer).put_many(&all).await.unwrap();
    sink.hold();
    let both = engine(server, &sink, Role::Both, one).await;
    sink.waiting(1).await;
    for n in 0..PARTITIONS {
        let flushing = format!("wb:{{player:{n:02}/4}}:flushing");
        // The worker reads page by page, so the last page of the hash is read last.
        let (mut cursor, mut seen) = (0_u64, Vec::new());
        loop {
            let mut page = redis::cmd("HSCAN");
            page.arg(&flushing).arg(cursor).arg("COUNT").arg(1);
            let fields: Vec<(String, Vec<u8>)>;
            (cursor, fields) = page.query_async(&mut server.plain().await).await.unwrap();
            seen.extend(fields.into_iter().map(|(field, _)| field));
            if cursor == 0 {
                break;
            }
        }
        if let Some(last) = seen.last().filter(|_| seen.len() > 5) {
            assert_eq!(server.plain().await.hdel::<_, _, u64>(&flushing, last).await.unwrap(), 1);
            break;
        }
    }
    sink.release();
    let told = mine.persisted_within(PATIENCE).await;
    assert!(sink.rows().len() < 40, "it was read before");
    writer.shutdown(PATIENCE).await.unwrap();
    (told, both)
}

#[tokio::test]
async fn a_record_that_was_taken_out_of_its_epoch_is_told_and_counted() {
    let Some(server) = OwnRedis::start(SCANNED).await else { return };
    let (told, both) = a_record_is_taken_out_of_its_epoch(&server, options()).await;
    assert!(lost(&told), "{told:?}");
    eventually("it is counted", PATIENCE, async || (vanished(&both) >= 1).then_some(())).await;
    both.shutdown(PATIENCE).await.unwrap();
}

/// Where nobody counts what is missing, the receipt of a write that is in no sink says that it is.
#[tokio::test]
async fn negative_control_a_closed_epoch_that_is_not_counted() {
    let Some(server) = OwnRedis::start(SCANNED).await else { return };
    let (told, both) = a_record_is_taken_out_of_its_epoch(&server, options().without(Mechanism::VanishedCounts)).await;
    assert!(told.is_ok(), "told without the counts: {told:?}");
    assert_eq!(vanished(&both), 0);
    both.shutdown(PATIENCE).await.unwrap();
}

/// Thirteen records over all partitions vanish under one batch: each of them is counted.
#[tokio::test]
async fn every_record_that_vanished_is_counted_whatever_its_partition() {
    let Some(server) = OwnRedis::start(NOTHING).await else { return };
    let sink = ScriptedSink::new();
    let both = engine(&server, &sink, Role::Both, options()).await;
    let players = players(&both);
    // So that all of them are in one rotation.
    eventually("all are in one batch", PATIENCE, async || {
        sink.hold();
        players.put_many((0..13).map(|n| Player::new(n, 1)).collect::<Vec<_>>().iter()).await.unwrap();
        sink.waiting(1).await;
        let mut flushing = 0;
        for n in 0..PARTITIONS {
            flushing += server.plain().await.hlen::<_, u64>(format!("wb:{{player:{n:02}/4}}:flushing")).await.unwrap();
        }
        if flushing == 13 {
            return Some(());
        }
        sink.release();
        players.flush().await.unwrap();
        None
    })
    .await;
    assert_eq!(delete(&server, "flushing").await, u64::from(PARTITIONS));
    sink.release();
    eventually("the worker notices", PATIENCE, async || (vanished(&both) > 0).then_some(())).await;
    let later = players.put(&Player::new(1, 2)).await.unwrap();
    later.persisted_within(PATIENCE).await.unwrap();
    assert_eq!(vanished(&both), 13);
    both.shutdown(PATIENCE).await.unwrap();
}

/// More receipts than one look can hold: each part of them is judged by the epochs of its own instant.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn receipts_of_many_refused_writes_are_all_refused() {
    let Some(server) = OwnRedis::start(NOTHING).await else { return };
    let sink = ScriptedSink::new();
    let retry = RetryPolicy::new().initial(Duration::from_millis(5)).attempts(3);
    let options = EntityOptions::new().partitions(1).flush_every(Duration::from_millis(1)).retry(retry);
    let both = engine(&server, &sink, Role::Both, options).await;
    let players = players(&both);
    sink.refuse(|_| true);
    for round in 0..5_u64 {
        let all: Vec<Player> = (0..1_000).map(|n| Player::new(1_000 * round + n, round)).collect();
        let receipts = join_all(all.iter().map(|player| players.put(player))).await;
        let receipts: Vec<_> = receipts.into_iter().map(Result::unwrap).collect();
        let told = join_all(receipts.iter().map(|receipt| receipt.persisted_within(PATIENCE))).await;
        let untrue = told.iter().filter(|told| !matches!(told, Err(CacheError::DeadLettered { .. }))).count();
        let some = told.iter().find(|told| !matches!(told, Err(CacheError::DeadLettered { .. })));
        assert_eq!(untrue, 0, "round {round}: {some:?}");
    }
    both.shutdown(PATIENCE).await.unwrap();
}

/// Blocks that were reserved after the state that came back: nobody gets them again, neither who was there nor who is new.
#[tokio::test]
async fn ids_are_given_once_although_a_restart_lost_what_was_reserved() {
    let Some(mut server) = OwnRedis::start(NOTHING).await else { return };
    let sink = ScriptedSink::new();
    let first = engine(&server, &sink, Role::Writer, options()).await;
    let second = engine(&server, &sink, Role::Writer, options()).await;
    let (small, large) = (first.ids::<Player>(10).unwrap(), second.ids::<Player>(1_000).unwrap());
    let mut used = HashSet::new();
    let mut take = async |ids: &Ids<Player>, count: usize, who: &str| {
        for _ in 0..count {
            let id = eventually("an id", PATIENCE, async || ids.next().await.ok()).await;
            assert!(used.insert(id), "{who}: {id} again");
        }
    };
    take(&small, 10, "small").await;
    take(&large, 1, "large").await;
    server.run(&["SAVE"]).await;
    // Three blocks of the large one, and one of the small one, which the file does not have.
    take(&large, 2_500, "large").await;
    take(&small, 5, "small").await;
    server.kill().await;
    assert!(server.restart().await);
    // Others have noticed before it begins.
    for engine in [&first, &second] {
        let told = eventually("an answer", PATIENCE, async || match players(engine).flush().await {
            Err(CacheError::Buffer(error)) if error.kind() != BufferErrorKind::Lost => None,
            told => Some(told),
        });
        let _ = told.await;
    }
    let third = engine(&server, &sink, Role::Writer, options()).await;
    let new = third.ids::<Player>(10).unwrap();
    take(&new, 40, "new").await;
    take(&small, 40, "small").await;
    take(&large, 3_000, "large").await;
    take(&new, 40, "new").await;
}

/// An entity whose program writes what it cannot read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, WriteBehind)]
#[wb(name = "note", append)]
struct Note {
    #[wb(key)]
    id: u64,
    text: String,
}

#[tokio::test]
async fn an_entry_that_was_lost_is_never_said_to_be_persisted() {
    let Some(server) = OwnRedis::start(NOTHING).await else { return };
    let buffer = RedisBuffer::connect(&server.url()).await.unwrap();
    let sink = ScriptedSink::<Note>::new();
    let builder = Engine::builder(buffer).role(Role::Writer).entity::<Note>(sink.clone(), options());
    let writer = builder.start().await.unwrap();
    let notes = writer.appender::<Note>().unwrap();
    let note = |id| Note { id, text: "a note".to_owned() };
    for round in 0..3 {
        // All of Redis, or the log alone.
        let appended = notes.append(&note(round)).await.unwrap();
        server.run(&["FLUSHALL"]).await;
        let noticed = |writer: &Engine| writer.stats().get("note").unwrap().lineage_breaks > round;
        if round == 1 {
            eventually("the loss is noticed", PATIENCE, async || noticed(&writer).then_some(())).await;
        }
        let told = appended.persisted_within(PATIENCE).await;
        assert!(lost(&told), "round {round}: {told:?}");
        eventually("the loss is noticed", PATIENCE, async || noticed(&writer).then_some(())).await;
    }
    // Looks take turns: after this one all is known of the epochs that are counted from anew.
    let told = notes.flush().await;
    assert!(lost(&told), "{told:?}");
    notes.flush().await.unwrap();
    let log = |n: u16| format!("wb:{{note:{n:02}/4+append}}:log");
    for round in 10..13 {
        let appended = notes.append(&note(round)).await.unwrap();
        // Asked for the first time when it is gone, or before.
        if round > 10 {
            let told = appended.persisted_within(Duration::from_millis(50)).await;
            assert!(matches!(told, Err(CacheError::NotPersisted { .. })), "{told:?}");
        }
        let deleted: u64 = server.plain().await.del((0..PARTITIONS).map(log).collect::<Vec<_>>()).await.unwrap();
        assert_eq!(deleted, 1);
        let told = appended.persisted_within(PATIENCE).await;
        assert!(lost(&told), "round {round}: {told:?}");
    }
    assert_eq!(sink.rows().len(), 0);
}
