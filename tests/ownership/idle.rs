//! What an engine costs Redis that has nothing to do. On a server of its own, because the server counts.

use std::time::Duration;

use tokio::time::Instant;
use write_behind::testing::ScriptedSink;
use write_behind::{Engine, EntityOptions, RedisBuffer};
use write_behind_tests::OwnRedis;

use crate::player::{Player, owned};

/// Commands that only scripts send here.
#[rustfmt::skip]
const INNER: [&str; 17] = [
    "mget", "pexpire", "pttl", "zadd", "zrem", "zrange", "zscore", "zremrangebyrank", "time", "get", "set", "exists", "hlen",
    "hget", "hset", "hdel", "hmget",
];

/// How often each command ran since the last reset, and whether a script may have sent it.
fn calls(info: &str) -> Vec<(String, u64)> {
    let calls = info.lines().filter_map(|line| {
        let (name, figures) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
        Some((name.to_owned(), figures.split(',').next()?.parse().ok()?))
    });
    calls.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_engine_sends_at_most_twenty_commands_a_second() {
    let Some(server) = OwnRedis::start(&["--save", "", "--appendonly", "no"]).await else { return };
    let url = server.url();
    let wait = Duration::from_secs(20);
    let mut admin = server.plain().await;
    // Each with its partitions and its lease in milliseconds; the last is the default lease.
    for (partitions, lease) in [(16, 500), (64, 1_000), (64, 10_000)] {
        let lease = Duration::from_millis(lease);
        let engine = Engine::builder(RedisBuffer::connect(&url).await.unwrap())
            .lease(lease)
            .namespace(format!("idle-{partitions}-{}", lease.as_millis()))
            .entity::<Player>(ScriptedSink::new(), EntityOptions::new().partitions(partitions))
            .start()
            .await
            .unwrap();
        assert_eq!(owned(&engine).len(), usize::from(partitions));
        redis::cmd("CONFIG").arg("RESETSTAT").exec_async(&mut admin).await.unwrap();
        let begun = Instant::now();
        tokio::time::sleep(Duration::from_secs(4)).await;
        let info: String = redis::cmd("INFO").arg("commandstats").query_async(&mut admin).await.unwrap();
        let seconds = begun.elapsed().as_secs_f64();
        let all = calls(&info);
        let sent: Vec<_> = all.iter().filter(|(name, _)| !INNER.contains(&name.as_str()) && name != "info").collect();
        let count: u64 = sent.iter().map(|(_, calls)| calls).sum();
        eprintln!("{partitions} partitions, lease {lease:?}, {seconds:.1} s idle: sent {count} {sent:?}; all {all:?}");
        assert!(all.iter().any(|(name, _)| name == "evalsha"), "it says that it is alive: {all:?}");
        assert!(count as f64 <= 20.0 * seconds, "{count} commands in {seconds:.1} s: {sent:?}");
        assert_eq!(engine.shutdown(wait).await.unwrap().remaining, 0);
    }
}
