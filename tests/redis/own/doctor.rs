//! What is found about a Redis before an engine runs on it.

use write_behind::testing::ScriptedSink;
use write_behind::{Engine, EngineBuilder, EntityOptions, Finding, RedisBuffer, Severity, StartError};
use write_behind_tests::{OwnRedis, refused};

use crate::player::Player;

const SOUND: &[&str] = &["--save", "", "--appendonly", "yes", "--appendfsync", "always"];

async fn builder(url: &str) -> EngineBuilder {
    let buffer = RedisBuffer::connect(url).await.unwrap();
    Engine::builder(buffer).entity::<Player>(ScriptedSink::new(), EntityOptions::new())
}

fn about_redis(findings: &[Finding]) -> Vec<(&'static str, Severity)> {
    findings.iter().filter(|found| found.subject == "redis").map(|found| (found.code, found.severity)).collect()
}

#[tokio::test]
async fn p10_a_redis_that_could_evict_dirty_records_is_refused() {
    let Some(server) = OwnRedis::start(SOUND).await else { return };
    assert_eq!(about_redis(&builder(&server.url()).await.doctor().await), [], "a sound one");
    server.run(&["CONFIG", "SET", "maxmemory", "100mb"]).await;
    for policy in ["noeviction", "volatile-lru", "volatile-ttl"] {
        server.run(&["CONFIG", "SET", "maxmemory-policy", policy]).await;
        assert_eq!(about_redis(&builder(&server.url()).await.doctor().await), [], "{policy}");
    }
    server.run(&["FLUSHALL"]).await;
    for policy in ["allkeys-lru", "allkeys-random"] {
        server.run(&["CONFIG", "SET", "maxmemory-policy", policy]).await;
        let StartError::Unfit { findings } = refused(builder(&server.url()).await.start().await) else {
            panic!("{policy}: another error")
        };
        assert_eq!(about_redis(&findings), [("eviction-policy", Severity::Fatal)], "{policy}");
        assert!(findings.iter().any(|found| found.text.contains(policy) && found.text.contains("noeviction")));
        let keys: u64 = redis::cmd("DBSIZE").query_async(&mut server.plain().await).await.unwrap();
        assert_eq!(keys, 0, "nothing is written to it");
    }
    server.run(&["CONFIG", "SET", "maxmemory", "0"]).await;
    let engine = builder(&server.url()).await.start().await.unwrap();
    assert_eq!(about_redis(engine.findings()), [("eviction-policy", Severity::Warning)]);
    engine.shutdown(std::time::Duration::from_secs(10)).await.unwrap();
}

#[tokio::test]
async fn what_a_restart_would_lose_is_said() {
    let Some(server) = OwnRedis::start(&["--save", "", "--appendonly", "no"]).await else { return };
    let findings = builder(&server.url()).await.doctor().await;
    assert_eq!(about_redis(&findings), [("persistence", Severity::Warning)]);
    assert!(findings.iter().any(|found| found.text.contains("everything that has not")), "{findings:?}");
    server.run(&["CONFIG", "SET", "save", "3600 1"]).await;
    let findings = builder(&server.url()).await.doctor().await;
    assert!(findings.iter().any(|found| found.text.contains("since its last snapshot")), "{findings:?}");
    server.run(&["CONFIG", "SET", "appendonly", "yes"]).await;
    let findings = builder(&server.url()).await.doctor().await;
    assert_eq!(about_redis(&findings), [("persistence", Severity::Note)], "everysec");
}

#[tokio::test]
async fn a_replica_and_a_cluster_are_refused() {
    let Some(master) = OwnRedis::start(SOUND).await else { return };
    let replica_of = format!("127.0.0.1 {}", master.port);
    let replica = OwnRedis::start(&[SOUND, &["--replicaof", &replica_of][..]].concat()).await.unwrap();
    let cluster = OwnRedis::start(&[SOUND, &["--cluster-enabled", "yes"][..]].concat()).await.unwrap();
    for (server, code) in [(&replica, "replica"), (&cluster, "cluster")] {
        let StartError::Unfit { findings } = refused(builder(&server.url()).await.start().await) else {
            panic!("{code}: another error")
        };
        assert_eq!(about_redis(&findings), [(code, Severity::Fatal)]);
    }
}

#[tokio::test]
async fn p10_the_policy_is_found_where_settings_may_not_be_asked() {
    let Some(server) = OwnRedis::start(SOUND).await else { return };
    server.run(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]).await;
    server.run(&["CONFIG", "SET", "maxmemory", "100mb"]).await;
    server.run(&["ACL", "SETUSER", "managed", "on", ">secret", "~*", "&*", "+@all", "-config"]).await;
    let url = format!("redis://managed:secret@127.0.0.1:{}/", server.port);
    let StartError::Unfit { findings } = refused(builder(&url).await.start().await) else { panic!("another error") };
    assert!(about_redis(&findings).contains(&("eviction-policy", Severity::Fatal)), "{findings:?}");

    server.run(&["ACL", "SETUSER", "managed", "-info"]).await;
    let engine = builder(&url).await.start().await.unwrap();
    assert_eq!(about_redis(engine.findings()), [("server-unknown", Severity::Warning)]);
    engine.shutdown(std::time::Duration::from_secs(10)).await.unwrap();
}
