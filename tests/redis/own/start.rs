//! What a start, a start that fails, and a doctor leave behind.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::sleep;
use write_behind::testing::ScriptedSink;
use write_behind::{
    BufferErrorKind, Cache, CacheError, Engine, EngineBuilder, EntityOptions, ErrorKind, Finding, RedisBuffer, Role,
    Severity, StartError, WriteBehind,
};
use write_behind_tests::{OwnRedis, eventually, refused};

use crate::player::{Player, id};

const PATIENCE: Duration = Duration::from_secs(60);
const SOUND: &[&str] = &["--save", "", "--appendonly", "yes", "--appendfsync", "always"];
const LEASE: Duration = Duration::from_secs(3);

/// Another entity, whose sink may be away.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, WriteBehind)]
#[wb(name = "team")]
struct Team {
    #[wb(key)]
    id: u64,
}

/// The same entity as [`Player`], of a newer program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, WriteBehind)]
#[wb(name = "player")]
struct NewerPlayer {
    #[wb(key)]
    id: u64,
    score: u64,
    #[serde(default)]
    note: String,
}

fn options(partitions: u16) -> EntityOptions {
    EntityOptions::new().partitions(partitions).flush_every(Duration::from_millis(100))
}

async fn builder(server: &OwnRedis) -> EngineBuilder {
    Engine::builder(RedisBuffer::connect(&server.url()).await.unwrap()).lease(LEASE)
}

async fn live(server: &OwnRedis, sink: &ScriptedSink<Player>) -> (Engine, Cache<Player>) {
    let engine = builder(server).await.entity::<Player>(sink.clone(), options(16)).start().await.unwrap();
    let players = engine.cache().unwrap();
    (engine, players)
}

/// All that Redis holds, key by key.
async fn contents(server: &OwnRedis) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut plain = server.plain().await;
    let keys: Vec<Vec<u8>> = redis::cmd("KEYS").arg("*").query_async(&mut plain).await.unwrap();
    let mut all = BTreeMap::new();
    for key in keys {
        let content: Option<Vec<u8>> = redis::cmd("DUMP").arg(&key).query_async(&mut plain).await.unwrap();
        all.insert(key, content.unwrap_or_default());
    }
    all
}

/// What no engine changes while it runs on: its beats, leases and heartbeats aside.
async fn agreed(server: &OwnRedis) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut all = contents(server).await;
    all.retain(|key, _| ["topology", "shapes:player", "shapes:team"].iter().any(|end| key.ends_with(end.as_bytes())));
    all
}

/// It goes on, over several of its looks at the topology.
async fn goes_on(players: &Cache<Player>, sink: &ScriptedSink<Player>) {
    for round in 1..=5 {
        players.put(&Player::new(round, 7)).await.unwrap();
        assert!(players.flush_within(PATIENCE).await.unwrap());
        assert_eq!(sink.row(&id(round)), Some(Player::new(round, 7)));
        assert_eq!(players.increment_score(round).await, 8);
        sleep(LEASE / 3).await;
    }
}

trait Increment {
    async fn increment_score(&self, id: u64) -> u64;
}

impl Increment for Cache<Player> {
    /// Fails where the program is outdated.
    async fn increment_score(&self, id: u64) -> u64 {
        self.update(&id, |player| player.score += 1).await.unwrap().score
    }
}

#[tokio::test]
async fn a_doctor_changes_nothing_in_redis() {
    let Some(server) = OwnRedis::start(SOUND).await else { return };
    let sink = ScriptedSink::new();
    let ask_within = async |partitions, time| {
        let teams = ScriptedSink::<Team>::new();
        let asked = builder(&server).await.entity::<NewerPlayer>(ScriptedSink::new(), options(partitions));
        asked.entity::<Team>(teams, options(4)).topology_change_within(time).doctor().await
    };
    let ask = async |partitions| ask_within(partitions, PATIENCE).await;
    // On an empty one, beside a live engine, and after it.
    ask(32).await;
    assert_eq!(contents(&server).await, BTreeMap::new(), "an empty Redis");
    let (engine, players) = live(&server, &sink).await;
    goes_on(&players, &sink).await;
    let before = agreed(&server).await;
    for partitions in [16, 32] {
        ask(partitions).await;
        assert_eq!(agreed(&server).await, before, "{partitions} partitions, beside a live engine");
    }
    goes_on(&players, &sink).await;
    // Something dirty: it would be flushed first, and where a start may not wait for it another topology is impossible.
    sink.hold();
    players.put(&Player::new(9, 9)).await.unwrap();
    let findings = ask(32).await;
    let said = |found: &Finding| found.code == "topology-change" && found.severity == Severity::Warning;
    assert!(findings.iter().any(|found| said(found) && found.text.contains("1 records")), "{findings:?}");
    assert!(findings.iter().all(|found| found.severity != Severity::Fatal), "{findings:?}");
    let findings = ask_within(32, Duration::ZERO).await;
    let fatal: Vec<_> = findings.iter().filter(|found| found.severity == Severity::Fatal).collect();
    assert!(fatal.iter().any(|found| found.text.contains("partitions=16")), "{findings:?}");
    drop(engine);
    sink.release();
    sleep(LEASE * 2).await;
    let before = contents(&server).await;
    ask(32).await;
    ask(16).await;
    assert_eq!(contents(&server).await, before, "after it");
}

#[tokio::test]
async fn a_start_that_fails_leaves_no_trace() {
    let Some(server) = OwnRedis::start(SOUND).await else { return };
    let sink = ScriptedSink::new();
    let fails = async |partitions| {
        let away = ScriptedSink::<Team>::new();
        away.fail_always(ErrorKind::Misconfigured);
        let asked = builder(&server).await.entity::<NewerPlayer>(ScriptedSink::new(), options(partitions));
        refused(asked.entity::<Team>(away, options(4)).start().await)
    };
    assert!(matches!(fails(32).await, StartError::Sink { entity: "team", .. }));
    assert_eq!(contents(&server).await, BTreeMap::new(), "an empty Redis");
    let (engine, players) = live(&server, &sink).await;
    goes_on(&players, &sink).await;
    let before = agreed(&server).await;
    for partitions in [16, 32] {
        assert!(matches!(fails(partitions).await, StartError::Sink { entity: "team", .. }));
        assert_eq!(agreed(&server).await, before, "{partitions} partitions, beside a live engine");
    }
    goes_on(&players, &sink).await;
    engine.shutdown(PATIENCE).await.unwrap();
    let before = contents(&server).await;
    fails(32).await;
    fails(16).await;
    assert_eq!(contents(&server).await, before, "after it");
    // The program that ran before is not outdated.
    let (engine, players) = live(&server, &sink).await;
    goes_on(&players, &sink).await;
    engine.shutdown(PATIENCE).await.unwrap();
}

#[tokio::test]
async fn a_start_changes_the_topology_of_all_its_entities_or_of_none() {
    let Some(server) = OwnRedis::start(SOUND).await else { return };
    let (players, teams) = (ScriptedSink::<Player>::new(), ScriptedSink::<Team>::new());
    let both_within = async |partitions, time| {
        let asked = builder(&server).await.entity::<Player>(players.clone(), options(partitions));
        let asked = asked.topology_change_within(time);
        asked.entity::<Team>(teams.clone(), options(partitions)).start().await
    };
    let both = async |partitions| both_within(partitions, Duration::ZERO).await;
    let engine = both(4).await.unwrap();
    teams.fail_always(ErrorKind::Unavailable);
    engine.cache::<Team>().unwrap().put(&Team { id: 1 }).await.unwrap();
    assert_eq!(engine.shutdown(Duration::from_secs(1)).await.unwrap().remaining, 1);
    teams.recover();
    let before = contents(&server).await;
    let StartError::Buffer { entity: "team", source } = refused(both(8).await) else { panic!("another error") };
    assert!(source.to_string().contains("partitions=4"), "{source}");
    assert_eq!(contents(&server).await, before, "the players could change, the teams cannot");
    // With time, but a sink that is away: it is tried, and everything is taken back.
    let without_beats = |mut all: BTreeMap<Vec<u8>, Vec<u8>>| {
        all.retain(|key, _| {
            ![":meta", ":lineage", ":workers", ":leaving"].iter().any(|end| key.ends_with(end.as_bytes()))
        });
        all
    };
    teams.refuse_whole(ErrorKind::Unavailable, |_| true);
    let StartError::Buffer { entity: "team", source } = refused(both_within(8, LEASE).await) else {
        panic!("another error")
    };
    assert!(source.to_string().contains("1 records are not flushed"), "{source}");
    assert_eq!(without_beats(contents(&server).await), without_beats(before), "nothing is closed, nothing is moved");
    teams.accept();
    both_within(8, PATIENCE).await.unwrap().shutdown(PATIENCE).await.unwrap();
    assert_eq!(teams.rows().len(), 1, "flushed by the start");
}

/// A deploy while Redis is full because the database was away: the new program has to start to empty it.
#[tokio::test]
async fn p10_a_program_of_a_new_shape_starts_over_a_full_redis_and_empties_it() {
    let Some(server) = OwnRedis::start(&["--save", "", "--appendonly", "no"]).await else { return };
    let buffer = RedisBuffer::connect(&server.url()).await.unwrap();
    let old = Engine::builder(buffer).role(Role::Writer).entity::<Player>(ScriptedSink::new(), options(16));
    let old = old.start().await.unwrap();
    let all: Vec<Player> = (0..2_000).map(|id| Player::new(id, 1)).collect();
    old.cache::<Player>().unwrap().put_many(&all).await.unwrap();
    server.run(&["CONFIG", "SET", "maxmemory", "1mb"]).await;
    let full = old.cache::<Player>().unwrap().put(&Player::new(9_999, 1)).await;
    assert!(matches!(full, Err(CacheError::Buffer(error)) if error.kind() == BufferErrorKind::Full));
    drop(old);
    let sink = ScriptedSink::new();
    let new = builder(&server).await.entity::<NewerPlayer>(sink.clone(), options(16)).start().await.unwrap();
    eventually("it is empty", PATIENCE, async || (sink.rows().len() == all.len()).then_some(())).await;
    new.shutdown(PATIENCE).await.unwrap();
}
