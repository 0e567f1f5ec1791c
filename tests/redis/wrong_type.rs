//! A foreign value under a key of the framework is an error, never a loss: what a script has done before it fails stays
//! done, so a step must not take a record out before it knows that it can put it where it goes.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use write_behind::buffer::{Attempts, DeadLetter, Done, Lookup, Registration, Rotation, Stamp, Step, Stored, Swap};
use write_behind::testing::ScriptedSink;
use write_behind::{
    Buffer, BufferErrorKind, Cache, CacheError, Engine, EntityOptions, Event, Events, Format, Id, Mechanism, Record,
    RedisBuffer, RetryPolicy, Role, Scope, Write, WriteBehind, partition_of,
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

/// The hashes of a partition.
const HASHES: [&str; 8] = ["open", "flushing", "meta", "attempts", "dead", "stale", "groups", "groups_flushing"];

/// A value of each other type.
const FOREIGN: [&str; 5] = ["string", "list", "set", "zset", "stream"];

/// Puts a value of this type under a key.
async fn set(connection: &mut redis::aio::MultiplexedConnection, key: &str, kind: &str) {
    let words: &[&str] = match kind {
        "string" => &["SET", key, "foreign"],
        "list" => &["RPUSH", key, "foreign"],
        "set" => &["SADD", key, "foreign"],
        "zset" => &["ZADD", key, "1", "foreign"],
        "stream" => &["XADD", key, "*", "foreign", "1"],
        _ => &["HSET", key, "foreign", "1"],
    };
    redis::pipe().cmd("DEL").arg(key).ignore().cmd(words[0]).arg(&words[1..]).exec_async(connection).await.unwrap();
}

/// A rotation closes nothing, and moves nothing, of a partition that could not be flushed: neither alone nor with others.
#[tokio::test]
async fn p1_a_rotation_moves_no_key_of_a_wrong_type() {
    let Some(url) = redis_url() else { return };
    let buffer = RedisBuffer::connect(&url).await.unwrap();
    let mut other = redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap();
    for key in ["open", "flushing", "groups", "groups_flushing", "log", "flushing-log"] {
        for together in [false, true] {
            let append = key.ends_with("log");
            if append && together {
                continue;
            }
            let namespace = unique("wrong_type");
            let mut registration = Registration::new(Arc::new(Scope::new(&namespace, "specimen", 2)), Format::Json);
            (registration.transactions, registration.append) = (together, append);
            let space = buffer.space(registration).await.unwrap();
            let writes = [0, 1].map(|partition| {
                let id = Id::of(&u64::from(partition)).unwrap();
                Write { partition, id, record: Record::from_bytes("1") }
            });
            match append {
                true => space.append(writes.to_vec()).await.unwrap(),
                false => space.put(writes.to_vec()).await.unwrap(),
            }
            space.take(&[0, 1], OWNER, Duration::from_secs(60)).await.unwrap();
            let layout = if append {
                "+append"
            } else if together {
                "+tx"
            } else {
                ""
            };
            let name = format!("{namespace}:{{specimen:01/2{layout}}}:{key}");
            // What was written is kept aside where the foreign value takes its place.
            let aside = format!("{name}:aside");
            let _: redis::RedisResult<()> = redis::cmd("RENAME").arg(&name).arg(&aside).query_async(&mut other).await;
            for kind in FOREIGN.iter().chain(append.then_some(&"hash")) {
                if append && *kind == "list" {
                    continue;
                }
                set(&mut other, &name, kind).await;
                let rotated = match together {
                    true => space.rotate_all(OWNER, Stamp::fresh()).await.map(drop),
                    false => space.rotate(1, OWNER, Stamp::fresh()).await.map(drop),
                };
                let error = rotated.expect_err(&format!("`{key}`, a {kind}, together: {together}"));
                assert_eq!(error.kind(), BufferErrorKind::Misconfigured, "{key}: {error}");
                let found: String = redis::cmd("TYPE").arg(&name).query_async(&mut other).await.unwrap();
                assert_eq!(found, *kind, "`{key}` was moved");
            }
            redis::cmd("DEL").arg(&name).exec_async(&mut other).await.unwrap();
            let _: redis::RedisResult<()> = redis::cmd("RENAME").arg(&aside).arg(&name).query_async(&mut other).await;
            if together {
                let rotated = space.rotate_all(OWNER, Stamp::fresh()).await.unwrap();
                assert_eq!(rotated, [Rotation::Epoch(1), Rotation::Epoch(1)], "{key}");
            } else {
                assert_eq!(space.rotate(1, OWNER, Stamp::fresh()).await.unwrap(), Rotation::Epoch(1), "{key}");
                assert_eq!(space.status(1).await.unwrap().flushing, 1, "{key}");
            }
        }
    }
    buffer.close().await;
}

/// A letter that waits behind a partition that cannot be used is replayed all the same.
#[tokio::test]
async fn letters_beside_a_broken_partition_are_replayed() {
    let Some(url) = redis_url() else { return };
    let namespace = unique("wrong_type");
    let sink = ScriptedSink::<Player>::new();
    let retry = RetryPolicy::new().attempts(1);
    let options = EntityOptions::new().partitions(PARTITIONS).flush_every(Duration::from_millis(20)).retry(retry);
    let buffer = RedisBuffer::connect(&url).await.unwrap();
    let engine = Engine::builder(buffer).namespace(&namespace).entity::<Player>(sink.clone(), options.clone());
    let engine = engine.start().await.unwrap();
    sink.refuse(|_| true);
    put_all(&engine.cache().unwrap(), 1).await;
    let letters = engine.dead_letters::<Player>().unwrap();
    eventually("they are refused", PATIENCE, async || (letters.count().await.unwrap() == 40).then_some(())).await;
    sink.accept();
    let mut other = redis::Client::open(&*url).unwrap().get_multiplexed_async_connection().await.unwrap();
    set(&mut other, &format!("{namespace}:{{player:00/{PARTITIONS}}}:dead"), "string").await;
    let found = doctor(&url, &namespace, options).await;
    assert!(found.len() == 1 && found[0].contains(":dead"), "although nothing waits: {found:?}");
    let error = refused(letters.replay_all().await);
    assert!(matches!(&error, CacheError::Buffer(error) if error.kind() == BufferErrorKind::Misconfigured), "{error}");
    eventually("the others land", PATIENCE, async || {
        (0..40).filter(|n| home(*n) != 0).all(|n| sink.row(&Id::of(&n).unwrap()).is_some()).then_some(())
    })
    .await;
    engine.shutdown(PATIENCE).await.unwrap();
}

const PATIENCE: Duration = Duration::from_secs(60);
const PARTITIONS: u16 = 4;
/// Long enough to be kept on a busy machine; a heartbeat looks three times in its life.
const LEASE: Duration = Duration::from_secs(3);

fn home(n: u64) -> u16 {
    partition_of(&Id::of(&n).unwrap(), PARTITIONS)
}

/// Those that were acknowledged.
async fn put_all(players: &Cache<Player>, round: u64) -> Vec<u64> {
    let mut acknowledged = Vec::new();
    for n in 0..40 {
        if players.put(&Player::new(n, round)).await.is_ok() {
            acknowledged.push(n);
        }
    }
    acknowledged
}

/// Partition `broken` cannot be used while `key` is of a wrong type, whichever: the rows of the others land, it is told, a flush
/// says why it cannot succeed; and with the key everything is well again.
async fn one_costs_one(broken: u16, key: &str, kinds: &[&str], transactions: bool) {
    let Some(url) = redis_url() else { return };
    let namespace = unique("wrong_type");
    let sink = ScriptedSink::<Player>::new();
    let options =
        EntityOptions::new().partitions(PARTITIONS).flush_every(Duration::from_millis(20)).transactions(transactions);
    let engine = Engine::builder(RedisBuffer::connect(&url).await.unwrap())
        .namespace(&namespace)
        .lease(LEASE)
        .entity::<Player>(sink.clone(), options.clone())
        .start()
        .await
        .unwrap();
    let mut events = engine.events();
    let players = engine.cache::<Player>().unwrap();
    let mut other = redis::Client::open(&*url).unwrap().get_multiplexed_async_connection().await.unwrap();
    let tx = if transactions { "+tx" } else { "" };
    let name = format!("{namespace}:{{player:{broken:02}/{PARTITIONS}{tx}}}:{key}");
    let in_sink = |n: u64, round: u64| sink.row(&Id::of(&n).unwrap()).is_some_and(|row| row.score == round);
    for (round, kind) in (1..).zip(kinds) {
        let (before, after) = (2 * round, 2 * round + 1);
        let what = format!("`{key}` of partition {broken}, a {kind}");
        assert_eq!(put_all(&players, before).await.len(), 40, "{what}");
        assert!(players.flush_within(PATIENCE).await.unwrap(), "{what}");
        set(&mut other, &name, kind).await;
        let acknowledged = put_all(&players, after).await;
        assert!((0..40).all(|n| home(n) == broken || acknowledged.contains(&n)), "{what}: all but its own are taken");
        eventually(&format!("{what} is told"), PATIENCE, async || {
            (engine.stats()["player"].broken_partitions == 1).then_some(())
        })
        .await;
        if !transactions {
            eventually(&format!("{what}: the others land"), PATIENCE, async || {
                (0..40).filter(|n| home(*n) != broken).all(|n| in_sink(n, after)).then_some(())
            })
            .await;
            others_are_served(&url, &namespace, &players, broken, after, options.clone()).await;
        }
        let flushed = tokio::time::timeout(PATIENCE, players.flush()).await.unwrap_or(Ok(()));
        let Err(CacheError::Buffer(error)) = flushed else { panic!("{what}: {flushed:?}") };
        assert_eq!(error.kind(), BufferErrorKind::Misconfigured, "{what}: {error}");
        assert!((0..40).filter(|n| home(*n) == broken).all(|n| in_sink(n, before)), "{what}: the broken one's wait");
        let found = doctor(&url, &namespace, options.clone()).await;
        assert!(found.iter().any(|text| text.contains(&name) && text.contains(kind)), "{what}: {found:?}");
        redis::cmd("DEL").arg(&name).exec_async(&mut other).await.unwrap();
        eventually(&format!("{what}: what waited lands"), PATIENCE, async || {
            acknowledged.iter().all(|n| in_sink(*n, after)).then_some(())
        })
        .await;
        eventually(&format!("{what} is mended"), PATIENCE, async || {
            (engine.stats()["player"].broken_partitions == 0).then_some(())
        })
        .await;
        let found = doctor(&url, &namespace, options.clone()).await;
        assert_eq!(found, Vec::<String>::new(), "{what}");
        told(&mut events, broken, &what).await;
    }
    assert_eq!(engine.shutdown(PATIENCE).await.unwrap().remaining, 0, "{key}");
}

/// Beside a broken partition: a receipt is true, another program starts, and reads.
async fn others_are_served(
    url: &str,
    namespace: &str,
    players: &Cache<Player>,
    broken: u16,
    score: u64,
    options: EntityOptions,
) {
    let n = (0..).find(|n| home(*n) != broken).unwrap();
    let receipt = players.put(&Player::new(n, score)).await.unwrap();
    tokio::time::timeout(PATIENCE, receipt.persisted()).await.unwrap().unwrap();
    let buffer = RedisBuffer::connect(url).await.unwrap();
    let second = Engine::builder(buffer).namespace(namespace).role(Role::Writer);
    let second = second.entity::<Player>(ScriptedSink::new(), options).start().await.unwrap();
    assert_eq!(second.cache::<Player>().unwrap().get(&n).await.unwrap(), Some(Player::new(n, score)));
    second.shutdown(PATIENCE).await.unwrap();
}

/// What the doctor says of partitions that cannot be used.
async fn doctor(url: &str, namespace: &str, options: EntityOptions) -> Vec<String> {
    let buffer = RedisBuffer::connect(url).await.unwrap();
    let builder = Engine::builder(buffer).namespace(namespace).entity::<Player>(ScriptedSink::new(), options);
    let findings = builder.doctor().await.into_iter();
    findings.filter(|finding| finding.code == "broken-partition").map(|finding| finding.text).collect()
}

/// It was told, and again when it was mended. Each worker that comes to hold the partition tells.
async fn told(events: &mut Events, broken: u16, what: &str) {
    let mut heard = Vec::new();
    while heard.last() != Some(&(broken, false)) {
        let event = tokio::time::timeout(PATIENCE, events.next()).await;
        match event.unwrap_or_else(|_| panic!("{what}: {heard:?}")).unwrap() {
            Event::PartitionBroken { partition, reason, .. } => {
                assert!(!reason.is_empty());
                heard.push((partition, true));
            }
            Event::PartitionMended { partition, .. } => heard.push((partition, false)),
            _ => {}
        }
    }
    heard.dedup();
    assert_eq!(heard, [(broken, true), (broken, false)], "{what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p8_a_key_of_a_wrong_type_costs_its_own_partition_and_is_told() {
    futures::future::join_all(HASHES.map(|key| one_costs_one(1, key, &FOREIGN, false))).await;
}

/// The first partition is one like all others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p8_a_key_of_a_wrong_type_costs_the_first_partition_alone() {
    futures::future::join_all(["open", "meta", "dead"].map(|key| one_costs_one(0, key, &["string"], false))).await;
}

/// Where the partitions are looked at together, one holds up all, and nobody is told.
#[tokio::test]
async fn negative_control_p8_one_look_at_all_partitions() {
    let Some(url) = redis_url() else { return };
    let namespace = unique("wrong_type");
    let sink = ScriptedSink::<Player>::new();
    let options = EntityOptions::new().partitions(PARTITIONS).flush_every(Duration::from_millis(20));
    let engine = Engine::builder(RedisBuffer::connect(&url).await.unwrap())
        .namespace(&namespace)
        .entity::<Player>(sink.clone(), options.without(Mechanism::PartitionsApart))
        .start()
        .await
        .unwrap();
    let mut other = redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap();
    let name = format!("{namespace}:{{player:01/{PARTITIONS}}}:dead");
    set(&mut other, &name, "string").await;
    put_all(&engine.cache().unwrap(), 1).await;
    // Many intervals.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!((0..40).all(|n| sink.row(&Id::of(&n).unwrap()).is_none()), "rows land beside a broken partition");
    assert_eq!(engine.stats()["player"].broken_partitions, 0, "it is told");
    redis::cmd("DEL").arg(&name).exec_async(&mut other).await.unwrap();
    assert_eq!(engine.shutdown(PATIENCE).await.unwrap().remaining, 0);
}

/// What is only ever added.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, WriteBehind)]
#[wb(name = "note", append)]
struct Note {
    #[wb(key)]
    id: u64,
}

/// The same for the logs of an append-only entity.
async fn one_log_costs_one(key: &str, kinds: &[&str]) {
    let Some(url) = redis_url() else { return };
    let namespace = unique("wrong_type");
    let sink = ScriptedSink::<Note>::new();
    let options = EntityOptions::new().partitions(PARTITIONS).flush_every(Duration::from_millis(20));
    let engine = Engine::builder(RedisBuffer::connect(&url).await.unwrap())
        .namespace(&namespace)
        .lease(LEASE)
        .entity::<Note>(sink.clone(), options)
        .start()
        .await
        .unwrap();
    let notes = engine.appender::<Note>().unwrap();
    let mut other = redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap();
    let name = format!("{namespace}:{{note:01/{PARTITIONS}+append}}:{key}");
    let in_sink = |n: u64| sink.row(&Id::of(&n).unwrap()).is_some();
    for (round, kind) in (0..).zip(kinds) {
        let what = format!("`{key}`, a {kind}");
        set(&mut other, &name, kind).await;
        let mut acknowledged = Vec::new();
        for n in round * 40..round * 40 + 40 {
            match notes.append(&Note { id: n }).await {
                Ok(_) => acknowledged.push(n),
                Err(error) => assert_eq!(home(n), 1, "{what}: {error}"),
            }
        }
        eventually(&format!("{what} is told, the others land"), PATIENCE, async || {
            let told = engine.stats()["note"].broken_partitions == 1;
            (told && acknowledged.iter().filter(|n| home(**n) != 1).all(|n| in_sink(*n))).then_some(())
        })
        .await;
        redis::cmd("DEL").arg(&name).exec_async(&mut other).await.unwrap();
        eventually(&format!("{what}: what waited lands, it is mended"), PATIENCE, async || {
            let told = engine.stats()["note"].broken_partitions == 0;
            (told && acknowledged.iter().all(|n| in_sink(*n))).then_some(())
        })
        .await;
    }
    assert_eq!(engine.shutdown(PATIENCE).await.unwrap().remaining, 0, "{key}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p8_a_log_of_a_wrong_type_costs_its_own_partition_and_is_told() {
    let foreign = ["string", "hash", "set", "zset", "stream"];
    let hashes = HASHES.map(|key| one_log_costs_one(key, &["string"]));
    let logs = ["log", "flushing-log"].map(|key| one_log_costs_one(key, &foreign));
    futures::future::join(futures::future::join_all(hashes), futures::future::join_all(logs)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p13_a_key_of_a_wrong_type_holds_all_transactions_up_and_a_flush_says_so() {
    futures::future::join_all(["open", "attempts"].map(|key| one_costs_one(1, key, &["string"], true))).await;
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
