//! Programs in other languages: plain Redis commands read and write what the framework reads and writes.

use std::process::Command;
use std::time::Duration;

use serde_json::json;
use write_behind::testing::ScriptedSink;
use write_behind::{Engine, EntityOptions, Id, RedisBuffer, partition_of};
use write_behind_tests::{eventually, server, unique};

use crate::account::Account;

/// `redis-cli`, as a person or a script in any language would use it.
fn redis_cli(url: &str, words: &[&str]) -> String {
    let output = Command::new("redis-cli").args(["-u", url, "--raw"]).args(words).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

fn key(namespace: &str, id: i64, what: &str) -> String {
    format!("{namespace}:{{account:{:02}/16}}:{what}", partition_of(&Id::of(&id).unwrap(), 16))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_is_readable_json_in_redis() {
    let Some(redis) = server("WB_REDIS_URL") else { return };
    let namespace = unique("foreign");
    let engine = Engine::builder(RedisBuffer::connect(&redis).await.unwrap())
        .namespace(&namespace)
        .entity::<Account>(ScriptedSink::new(), EntityOptions::new().flush_every(Duration::from_secs(3600)))
        .start()
        .await
        .unwrap();
    let account = Account::state(42, 7);
    engine.cache().unwrap().put(&account).await.unwrap();
    let shown = redis_cli(&redis, &["HGET", &key(&namespace, 42, "open"), "42"]);
    println!("{shown}");
    let document: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(
        document,
        json!({
            "id": 42, "owner": account.owner, "balance": -493, "frozen": false, "note": "note 7",
            "seen": "2023-11-14T22:13:20.007Z",
        })
    );
    assert_eq!(redis_cli(&redis, &["TTL", &key(&namespace, 42, "open")]), "-1", "dirty has no TTL");
    engine.shutdown(Duration::from_secs(10)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_hset_is_flushed_like_any_put() {
    let Some(redis) = server("WB_REDIS_URL") else { return };
    let namespace = unique("foreign");
    let sink = ScriptedSink::<Account>::new();
    let engine = Engine::builder(RedisBuffer::connect(&redis).await.unwrap())
        .namespace(&namespace)
        .entity::<Account>(sink.clone(), EntityOptions::new().flush_every(Duration::from_millis(50)))
        .start()
        .await
        .unwrap();
    let document = json!({
        "id": 7, "owner": "a shell script", "balance": 3, "frozen": false, "note": null, "seen": "2024-01-01T00:00:00Z",
    });
    redis_cli(&redis, &["HSET", &key(&namespace, 7, "open"), "7", &document.to_string()]);
    let id = Id::of(&7_i64).unwrap();
    let row = eventually("the row in the sink", Duration::from_secs(10), async || sink.row(&id)).await;
    assert_eq!((row.owner.as_str(), row.balance), ("a shell script", 3));

    // A delete is the empty string.
    redis_cli(&redis, &["HSET", &key(&namespace, 7, "open"), "7", ""]);
    eventually("the delete in the sink", Duration::from_secs(10), async || sink.row(&id).is_none().then_some(())).await;

    // What is no account is kept and reported, and holds nobody up.
    redis_cli(&redis, &["HSET", &key(&namespace, 8, "open"), "8", "{\"id\": 8, \"owner\": "]);
    redis_cli(&redis, &["HSET", &key(&namespace, 9, "open"), "9", &document.to_string()]);
    redis_cli(&redis, &["HSET", &key(&namespace, 7, "open"), "7", &document.to_string()]);
    eventually("the good row in the sink", Duration::from_secs(10), async || sink.row(&id)).await;
    for (id, kind) in [(8, "undecodable"), (9, "misplaced")] {
        let letter = eventually("the dead letter", Duration::from_secs(10), async || {
            let text = redis_cli(&redis, &["HGET", &key(&namespace, id, "dead"), &id.to_string()]);
            (!text.is_empty()).then_some(text)
        })
        .await;
        println!("{letter}");
        let letter: serde_json::Value = serde_json::from_str(&letter).unwrap();
        assert_eq!(letter["kind"], kind);
        assert!(!letter["payload"].as_str().unwrap().is_empty());
    }
    assert_eq!(engine.stats()["account"].dead_letters, 2);
    engine.shutdown(Duration::from_secs(10)).await.unwrap();
}
