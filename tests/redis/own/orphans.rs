//! Records that nobody flushes are found in Redis, whoever left them and in whatever layout.

use std::time::Duration;

use write_behind::testing::ScriptedSink;
use write_behind::{Engine, EngineBuilder, EntityOptions, Finding, RedisBuffer, Role};
use write_behind_tests::{OwnRedis, eventually};

use crate::player::Player;

const PATIENCE: Duration = Duration::from_secs(30);
const LOOKS_EVERY: Duration = Duration::from_secs(10);
const NOTHING: &[&str] = &["--save", "", "--appendonly", "no"];

async fn builder(server: &OwnRedis, partitions: u16) -> EngineBuilder {
    let buffer = RedisBuffer::connect(&server.url()).await.unwrap();
    let options = EntityOptions::new().partitions(partitions);
    Engine::builder(buffer).entity::<Player>(ScriptedSink::new(), options)
}

fn orphans(findings: &[Finding]) -> Vec<(String, String)> {
    let orphans = findings.iter().filter(|finding| finding.code == "orphaned-records");
    orphans.map(|finding| (finding.subject.clone(), finding.text.clone())).collect()
}

#[tokio::test]
async fn the_queue_of_a_dropped_entity_is_found_by_the_doctor_and_a_start() {
    let Some(server) = OwnRedis::start(NOTHING).await else { return };
    // Of a program that is gone: records, entries of a log, a dead letter; its worker's heartbeat has run out.
    server.run(&["HSET", "wb:topology", "gone", "layout=2 partitions=2 format=json mode=append"]).await;
    server.run(&["HSET", "wb:{gone:01/2+append}:open", "a", "1", "b", "2"]).await;
    server.run(&["HSET", "wb:{gone:00/2+append}:flushing", "c", "3"]).await;
    server.run(&["RPUSH", "wb:{gone:00/2+append}:log", "d", "e"]).await;
    server.run(&["RPUSH", "wb:{gone:01/2+append}:flushing-log", "f"]).await;
    server.run(&["HSET", "wb:{gone:01/2+append}:dead", "g", "{}"]).await;
    server.run(&["ZADD", "wb:workers", "1000", "gone:10000:worker@1"]).await;
    // Of one whose worker is alive, of one that this version cannot read, and of another namespace.
    server.run(&["HSET", "wb:topology", "alive", "layout=2 partitions=1 format=json"]).await;
    server.run(&["HSET", "wb:{alive:00/1}:open", "a", "1"]).await;
    let now: (u64, u64) = redis::cmd("TIME").query_async(&mut server.plain().await).await.unwrap();
    server.run(&["ZADD", "wb:workers", &(now.0 * 1_000).to_string(), "alive:600000:worker@1"]).await;
    server.run(&["HSET", "wb:topology", "newer", "layout=9 partitions=1 format=json"]).await;
    server.run(&["HSET", "other:topology", "else", "layout=2 partitions=1 format=json"]).await;
    server.run(&["HSET", "other:{else:00/1}:open", "a", "1"]).await;

    let engine = builder(&server, 4).await.start().await.unwrap();
    for findings in [builder(&server, 4).await.doctor().await, engine.findings().to_vec()] {
        let found = orphans(&findings);
        let [(subject, text)] = &found[..] else { panic!("not one: {found:?}") };
        assert_eq!(subject, "entity `gone`");
        assert!(text.starts_with("6 records that are not flushed, and 1 dead letters"), "{text}");
        assert!(text.contains("no worker of the entity is alive") && text.contains("wb:{gone:*/2+append}:*"), "{text}");
    }
    engine.shutdown(PATIENCE).await.unwrap();
}

#[tokio::test]
async fn what_a_program_wrote_under_a_topology_that_an_emptied_redis_forgot_is_found() {
    let Some(server) = OwnRedis::start(NOTHING).await else { return };
    let buffer = RedisBuffer::connect(&server.url()).await.unwrap();
    // It looks at the topology every ten seconds.
    let old = Engine::builder(buffer)
        .role(Role::Writer)
        .lease(3 * LOOKS_EVERY)
        .entity::<Player>(ScriptedSink::new(), EntityOptions::new().partitions(16))
        .start()
        .await
        .unwrap();
    // Whoever comes first fixes the topology anew, and nothing says that there was another one.
    let emptied = "redis.call('FLUSHALL') return redis.call('HSET', 'wb:topology', 'player', ARGV[1])";
    server.run(&["EVAL", emptied, "0", "layout=2 partitions=8 format=json"]).await;
    let written: Vec<_> = (0..20).map(|n| Player::new(n, 1)).collect();
    old.cache::<Player>().unwrap().put_many(&written).await.unwrap();
    let text = eventually("the leftovers are found", PATIENCE, async || {
        let findings = builder(&server, 8).await.doctor().await;
        orphans(&findings).pop().map(|(_, text)| text)
    })
    .await;
    assert!(text.starts_with("20 records"), "{text}");
    assert!(text.contains("partitions=16") && text.contains("another topology is stored"), "{text}");
    old.shutdown(PATIENCE).await.unwrap();
}

#[tokio::test]
async fn what_is_left_of_an_entity_that_was_taken_out_of_the_topology_is_found() {
    let Some(server) = OwnRedis::start(NOTHING).await else { return };
    builder(&server, 16).await.start().await.unwrap().shutdown(PATIENCE).await.unwrap();
    server.run(&["HDEL", "wb:topology", "player"]).await;
    server.run(&["HSET", "wb:{player:03/16}:open", "a", "{}"]).await;
    let found = orphans(&builder(&server, 8).await.doctor().await);
    let [(subject, text)] = &found[..] else { panic!("not one: {found:?}") };
    assert!(subject == "entity `player`" && text.starts_with("1 records"), "{subject}: {text}");
    assert_eq!(orphans(&builder(&server, 16).await.doctor().await), [], "a start with it would flush them");
    let newer = builder(&server, 8).await.start().await.unwrap();
    assert_eq!(orphans(newer.findings()).len(), 1, "{:?}", newer.findings());
    newer.shutdown(PATIENCE).await.unwrap();
}
