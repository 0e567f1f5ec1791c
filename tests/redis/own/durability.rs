//! What an acknowledged write has survived.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::Instant;
use write_behind::buffer::{Lookup, Registration};
use write_behind::{
    Buffer, BufferError, BufferErrorKind, Durability, Format, Record, RedisBuffer, RedisOptions, Scope, Space, Write,
};
use write_behind_tests::{OwnRedis, eventually, refused};

use crate::player::id;

const PATIENCE: Duration = Duration::from_secs(30);
/// For what must not arrive; and for what must, however busy the machine is.
const SHORT: Duration = Duration::from_millis(300);
const NOTHING: &[&str] = &["--save", "", "--appendonly", "no"];

async fn connect(server: &OwnRedis, durability: Durability, timeout: Duration) -> Result<RedisBuffer, BufferError> {
    let options = RedisOptions::new().durability(durability).durability_timeout(timeout);
    RedisBuffer::connect_with(&server.url(), options).await
}

fn write(key: u64, payload: &str) -> Write {
    Write { partition: 0, id: id(key), record: Record::from_bytes(payload.to_owned()) }
}

/// A limited entity and one without a limit: they leave by different ways.
async fn spaces(buffer: &RedisBuffer) -> [Arc<dyn Space>; 2] {
    let registration = |entity, max_dirty| {
        let mut registration = Registration::new(Arc::new(Scope::new("durable", entity, 1)), Format::Json);
        registration.max_dirty = max_dirty;
        registration
    };
    let free = buffer.space(registration("free", None)).await.unwrap();
    [free, buffer.space(registration("limited", Some(1_000_000))).await.unwrap()]
}

async fn put_all(space: &Arc<dyn Space>, payload: &str) -> Vec<Result<(), BufferError>> {
    join_all((0..200).map(|n| space.put(vec![write(n, payload)]))).await
}

#[tokio::test]
async fn p1_an_acknowledged_write_is_on_as_many_replicas_as_asked() {
    let Some(master) = OwnRedis::start(NOTHING).await else { return };
    let replica_of = format!("127.0.0.1 {}", master.port);
    let mut replica = OwnRedis::start(&[NOTHING, &["--replicaof", &replica_of][..]].concat()).await.unwrap();
    let buffer = connect(&master, Durability::Replicas(1), PATIENCE).await.unwrap();
    let impatient = connect(&master, Durability::Replicas(1), SHORT).await.unwrap();
    let (spaces, hasty) = (spaces(&buffer).await, spaces(&impatient).await);
    eventually("the replica follows", PATIENCE, async || spaces[0].put(vec![write(0, "0")]).await.ok()).await;

    for space in &spaces {
        assert!(put_all(space, "1").await.iter().all(Result::is_ok));
    }
    let mut plain = replica.plain().await;
    for entity in ["free", "limited"] {
        let key = format!("durable:{{{entity}:00/1}}:open");
        let there: u64 = redis::cmd("HLEN").arg(&key).query_async(&mut plain).await.unwrap();
        assert_eq!(there, 200, "{entity}: acknowledged, so it is on the replica now");
    }

    replica.kill().await;
    for space in &hasty {
        let begun = Instant::now();
        let error = refused(space.put(vec![write(0, "2")]).await);
        assert_eq!(error.kind(), BufferErrorKind::NotDurable, "{error}");
        assert!(begun.elapsed() < PATIENCE / 2, "{:?}", begun.elapsed());
        for result in put_all(space, "2").await {
            assert_eq!(refused(result).kind(), BufferErrorKind::NotDurable);
        }
        let found = space.get(0, &[id(0)]).await.unwrap();
        assert_eq!(found, [Lookup::Dirty(Record::from_bytes("2"))], "stored all the same");
    }

    assert!(replica.restart().await);
    for space in &spaces {
        eventually("the replica is back", PATIENCE, async || space.put(vec![write(0, "3")]).await.ok()).await;
    }
    impatient.close().await;
    buffer.close().await;
}

#[tokio::test]
async fn p1_durability_that_the_server_cannot_give_is_refused_at_connect() {
    let Some(server) = OwnRedis::start(&["--save", "", "--appendonly", "yes"]).await else { return };
    let info: String = redis::cmd("INFO").arg("server").query_async(&mut server.plain().await).await.unwrap();
    let version = info.lines().find_map(|line| line.strip_prefix("redis_version:")).unwrap().to_owned();
    let (major, minor) = version.split_once('.').map(|(a, b)| (a, b.split('.').next().unwrap())).unwrap();
    let old = (major.parse::<u32>().unwrap(), minor.parse::<u32>().unwrap()) < (7, 2);
    match connect(&server, Durability::Fsync, PATIENCE).await {
        Ok(buffer) => {
            assert!(!old, "{version} has no WAITAOF");
            let [free, limited] = spaces(&buffer).await;
            free.put(vec![write(1, "1")]).await.unwrap();
            limited.put(vec![write(1, "1")]).await.unwrap();
        }
        Err(error) => {
            assert!(old, "{version}: {error}");
            assert_eq!(error.kind(), BufferErrorKind::Misconfigured);
            let text = error.to_string();
            assert!(text.contains("7.2") && text.contains(&format!("{major}.{minor}")), "{text}");
        }
    }
    let error = refused(connect(&server, Durability::Replicas(0), PATIENCE).await);
    assert_eq!(error.kind(), BufferErrorKind::Misconfigured);
}
