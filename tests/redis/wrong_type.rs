//! A foreign value under a key of the framework is an error, never a loss: what a script has done before it fails stays
//! done, so a step must not take a record out before it knows that it can put it where it goes.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use write_behind::buffer::{Attempts, DeadLetter, Done, Lookup, Registration, Rotation, Stamp, Step, Stored, Swap};
use write_behind::testing::ScriptedSink;
use write_behind::{
    Buffer, BufferErrorKind, Cache, CacheError, Engine, EntityOptions, Format, Id, Record, RedisBuffer, Scope, Write,
    partition_of,
};
use write_behind_tests::{Player, eventually, redis_url, refused, unique};

const OWNER: &str = "worker";

#[tokio::test]
async fn p1_a_step_that_cannot_finish_takes_nothing_out() {
    let Some(url) = redis_url() else { return };
    let namespace = unique("wrong_type");
    let scope = Arc::new(Scope::new(&namespace, "specimen", 1));
    let buffer = RedisBuffer::connect(&url).await.unwrap();
    let space = buffer.space(Registration::new(scope, Format::Json)).await.unwrap();
    let mut other = redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap();

    let id = Id::of(&1_u64).unwrap();
    let record = Record::from_bytes("1");
    space.put(vec![Write { partition: 0, id: id.clone(), record: record.clone() }]).await.unwrap();
    space.take(&[0], OWNER, Duration::from_secs(60)).await.unwrap();
    assert_eq!(space.rotate(0, OWNER, Stamp::default()).await.unwrap(), Rotation::Epoch(1));
    let step = Step { partition: 0, owner: OWNER, epoch: 1, stamp: Stamp::default() };
    let again = [(id.clone(), Attempts { count: 1, first_ms: 1, ..Attempts::default() })];
    let letter = [(id.clone(), DeadLetter::new(&record, "rejected", "no".into(), 1, 1, 1))];

    for hash in ["open", "attempts", "dead"] {
        let key = format!("{namespace}:{{specimen:00/1}}:{hash}");
        redis::cmd("SET").arg(&key).arg("foreign").exec_async(&mut other).await.unwrap();
        let error = match hash {
            "dead" => refused(space.bury(&step, &letter).await),
            _ => refused(space.back(&step, &again).await),
        };
        assert_eq!(error.kind(), BufferErrorKind::Misconfigured, "{hash}: {error}");
        redis::cmd("DEL").arg(&key).exec_async(&mut other).await.unwrap();
        assert_eq!(space.claim(0, 0, 10).await.unwrap().records, [(id.clone(), record.clone())], "{hash}");
    }
    assert_eq!(space.back(&step, &again).await.unwrap(), Done::Epoch);
    assert_eq!(space.get(0, &[id]).await.unwrap(), [Lookup::Dirty(record)]);
    buffer.close().await;
}

const PATIENCE: Duration = Duration::from_secs(60);
const PARTITIONS: u16 = 4;
/// The one that breaks; the first one says whose data Redis has.
const BROKEN: u16 = 1;

fn home(n: u64) -> u16 {
    partition_of(&Id::of(&n).unwrap(), PARTITIONS)
}

async fn put_all(players: &Cache<Player>, round: u64) -> Vec<u64> {
    let mut acknowledged = Vec::new();
    for n in 0..40 {
        match players.put(&Player::new(n, round)).await {
            Ok(_) => acknowledged.push(n),
            Err(error) => assert_eq!(home(n), BROKEN, "{error}"),
        }
    }
    acknowledged
}

/// One partition cannot be used: the rows of the others land, it is told, a flush says why it cannot succeed; and with the key
/// everything is well again.
async fn one_costs_one(key: &str, transactions: bool) {
    let Some(url) = redis_url() else { return };
    let namespace = unique("wrong_type");
    let sink = ScriptedSink::<Player>::new();
    let options =
        EntityOptions::new().partitions(PARTITIONS).flush_every(Duration::from_millis(20)).transactions(transactions);
    let engine = Engine::builder(RedisBuffer::connect(&url).await.unwrap())
        .namespace(&namespace)
        .lease(Duration::from_secs(1))
        .entity::<Player>(sink.clone(), options)
        .start()
        .await
        .unwrap();
    let players = engine.cache::<Player>().unwrap();
    put_all(&players, 1).await;
    assert!(players.flush_within(PATIENCE).await.unwrap(), "{key}");
    let mut other = redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap();
    let tx = if transactions { "+tx" } else { "" };
    let name = format!("{namespace}:{{player:{BROKEN:02}/{PARTITIONS}{tx}}}:{key}");
    redis::cmd("SET").arg(&name).arg("foreign").exec_async(&mut other).await.unwrap();
    let acknowledged = put_all(&players, 2).await;
    let in_sink = |n: u64, round: u64| sink.row(&Id::of(&n).unwrap()).is_some_and(|row| row.score == round);
    eventually(&format!("`{key}` is told"), PATIENCE, async || {
        (engine.stats()["player"].broken_partitions == 1).then_some(())
    })
    .await;
    if !transactions {
        eventually(&format!("`{key}`: the others land"), PATIENCE, async || {
            (0..40).filter(|n| home(*n) != BROKEN).all(|n| in_sink(n, 2)).then_some(())
        })
        .await;
    }
    let flushed = tokio::time::timeout(PATIENCE, players.flush()).await.unwrap_or(Ok(()));
    let Err(CacheError::Buffer(error)) = flushed else { panic!("`{key}`: {flushed:?}") };
    assert_eq!(error.kind(), BufferErrorKind::Misconfigured, "`{key}`: {error}");
    assert!((0..40).filter(|n| home(*n) == BROKEN).all(|n| in_sink(n, 1)), "`{key}`: the broken one's wait");
    redis::cmd("DEL").arg(&name).exec_async(&mut other).await.unwrap();
    eventually(&format!("`{key}`: what waited lands"), PATIENCE, async || {
        acknowledged.iter().all(|n| in_sink(*n, 2)).then_some(())
    })
    .await;
    eventually(&format!("`{key}` is mended"), PATIENCE, async || {
        (engine.stats()["player"].broken_partitions == 0).then_some(())
    })
    .await;
    assert_eq!(put_all(&players, 3).await.len(), 40, "{key}");
    assert!(players.flush_within(PATIENCE).await.unwrap(), "{key}");
    assert_eq!(engine.shutdown(PATIENCE).await.unwrap().remaining, 0, "{key}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p8_a_key_of_a_wrong_type_costs_its_own_partition_and_is_told() {
    let keys = ["open", "flushing", "meta", "attempts", "dead", "stale", "groups", "groups_flushing"];
    futures::future::join_all(keys.map(|key| one_costs_one(key, false))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p13_a_key_of_a_wrong_type_holds_all_transactions_up_and_a_flush_says_so() {
    futures::future::join_all(["open", "attempts"].map(|key| one_costs_one(key, true))).await;
}

#[tokio::test]
async fn p7_a_limit_is_looked_at_over_partitions_that_can_be_used() {
    let Some(url) = redis_url() else { return };
    let namespace = unique("wrong_type");
    let buffer = RedisBuffer::connect(&url).await.unwrap();
    let scope = Arc::new(Scope::new(&namespace, "specimen", 2));
    let mut registration = Registration::new(scope, Format::Json);
    registration.max_dirty = Some(10);
    let space = buffer.space(registration).await.unwrap();
    let mut other = redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap();
    let copy = format!("{namespace}:{{specimen:00/2}}:r:1");
    redis::cmd("SET").arg(copy).arg("1").arg("PX").arg(60_000).exec_async(&mut other).await.unwrap();
    let key = format!("{namespace}:{{specimen:01/2}}:open");
    redis::cmd("SET").arg(key).arg("foreign").exec_async(&mut other).await.unwrap();
    let write = Write { partition: 0, id: Id::of(&1_u64).unwrap(), record: Record::from_bytes("2") };
    assert_eq!(space.swap(&Stored::written(Record::from_bytes("1")), &write).await.unwrap(), Swap::Stored);
    buffer.close().await;
}
