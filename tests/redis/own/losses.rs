//! What `flush`, receipts and ids say after Redis lost writes of which the process that is asked knows less than others.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use redis::AsyncCommands;
use tokio::sync::{Notify, Semaphore};
use write_behind::testing::ScriptedSink;
use write_behind::{
    Batch, BufferErrorKind, Cache, CacheError, Engine, EntityOptions, Fence, RedisBuffer, Report, Role, Scope, Sink,
    SinkError,
};
use write_behind_tests::{OwnRedis, eventually, unique};

use crate::player::{Player, id};

const PATIENCE: Duration = Duration::from_secs(30);
const NOTHING: &[&str] = &["--save", "", "--appendonly", "no"];
const LINEAGE: &str = "wb:{player}:lineage";

async fn engine(server: &OwnRedis, sink: impl Sink<Player>, role: Role, every: Duration) -> Engine {
    let options = EntityOptions::new().partitions(1).flush_every(every);
    let builder = Engine::builder(RedisBuffer::connect(&server.url()).await.unwrap()).role(role);
    builder.lease(Duration::from_secs(1)).entity::<Player>(sink, options).start().await.unwrap()
}

const SOON: Duration = Duration::from_millis(50);

fn players(engine: &Engine) -> Cache<Player> {
    engine.cache().unwrap()
}

fn lost(told: &Result<(), CacheError>) -> bool {
    matches!(told, Err(CacheError::Buffer(error)) if error.kind() == BufferErrorKind::Lost)
}

async fn noticed(engine: &Engine) {
    let breaks = || engine.stats().get("player").unwrap().lineage_breaks;
    eventually("the loss is noticed", PATIENCE, async || (breaks() == 1).then_some(())).await;
}

async fn noted(server: &OwnRedis, field: &str) -> Option<String> {
    server.plain().await.hget(LINEAGE, field).await.unwrap()
}

/// A sink whose loads wait.
#[derive(Clone)]
struct SlowLoads {
    sink: ScriptedSink<Player>,
    begun: Arc<Notify>,
    go_on: Arc<Semaphore>,
}

#[async_trait]
impl Sink<Player> for SlowLoads {
    async fn open(&self, scope: &Scope) -> Result<(), SinkError> {
        self.sink.open(scope).await
    }
    async fn fence(&self, scope: &Scope, partition: u16) -> Result<Option<Fence>, SinkError> {
        self.sink.fence(scope, partition).await
    }
    async fn write(&self, batch: &Batch<Player>) -> Result<Report, SinkError> {
        self.sink.write(batch).await
    }
    async fn load(&self, keys: &[u64]) -> Result<Vec<Player>, SinkError> {
        self.begun.notify_one();
        self.go_on.acquire().await.unwrap().forget();
        self.sink.load(keys).await
    }
}

/// A write that was begun before a flush, and acknowledged after it, is not one that this flush has covered.
#[tokio::test]
async fn a_flush_tells_the_loss_of_a_write_that_an_earlier_flush_has_overtaken() {
    let Some(server) = OwnRedis::start(NOTHING).await else { return };
    let inner = ScriptedSink::new();
    inner.set_row(id(1), Player::new(1, 100));
    let sink = SlowLoads { sink: inner.clone(), begun: Arc::default(), go_on: Arc::new(Semaphore::new(0)) };
    let both = engine(&server, sink.clone(), Role::Both, Duration::from_secs(3_600)).await;
    let players = players(&both);
    let update = tokio::spawn({
        let players = players.clone();
        async move { players.update(&1, |player| player.score += 1).await }
    });
    sink.begun.notified().await;
    // Nothing is dirty yet.
    players.flush().await.unwrap();
    sink.go_on.add_permits(1);
    assert_eq!(update.await.unwrap().unwrap(), Player::new(1, 101), "acknowledged");
    server.run(&["FLUSHALL"]).await;
    noticed(&both).await;
    let told = players.flush().await;
    assert_eq!(inner.row(&id(1)), Some(Player::new(1, 100)), "it is lost");
    assert!(lost(&told), "{told:?}");
    players.flush().await.unwrap();
    both.shutdown(PATIENCE).await.unwrap();
}

/// `update` returns no receipt: it is asked for afterwards, and the loss may have come between.
#[tokio::test]
async fn a_receipt_that_is_asked_for_after_a_loss_does_not_say_that_the_lost_update_is_persisted() {
    let Some(server) = OwnRedis::start(NOTHING).await else { return };
    let sink = ScriptedSink::new();
    sink.set_row(id(1), Player::new(1, 100));
    let writer = engine(&server, sink.clone(), Role::Writer, SOON).await;
    let players = players(&writer);
    assert_eq!(players.update(&1, |player| player.score += 1).await.unwrap(), Player::new(1, 101), "acknowledged");
    server.run(&["FLUSHALL"]).await;
    noticed(&writer).await;
    let told = players.receipt(&1).unwrap().persisted_within(PATIENCE).await;
    assert_eq!(sink.row(&id(1)), Some(Player::new(1, 100)), "it is lost");
    assert!(lost(&told), "{told:?}");
    // What is written from now on is not lost, in whatever way.
    let worker = engine(&server, sink.clone(), Role::Worker, SOON).await;
    players.put(&Player::new(2, 1)).await.unwrap();
    players.update(&1, |player| player.score += 1).await.unwrap();
    for key in [1, 2] {
        players.receipt(&key).unwrap().persisted_within(PATIENCE).await.unwrap();
    }
    assert_eq!(sink.row(&id(1)), Some(Player::new(1, 101)));
    // Nobody here knows of another one.
    let told = players.receipt(&3).unwrap().persisted_within(PATIENCE).await;
    assert!(lost(&told), "{told:?}");
    worker.shutdown(PATIENCE).await.unwrap();
}

/// `flush` is about what was acknowledged by whatever process.
#[tokio::test]
async fn a_flush_tells_the_loss_of_what_another_process_has_written() {
    let Some(server) = OwnRedis::start(NOTHING).await else { return };
    let sink = ScriptedSink::new();
    let writer = engine(&server, sink.clone(), Role::Writer, SOON).await;
    let other = engine(&server, sink.clone(), Role::Writer, SOON).await;
    players(&writer).put(&Player::new(1, 1)).await.unwrap();
    server.run(&["FLUSHALL"]).await;
    noticed(&other).await;
    let told = players(&other).flush().await;
    assert_eq!(sink.row(&id(1)), None, "it is lost");
    assert!(lost(&told), "{told:?}");
}

async fn replicates(server: &OwnRedis, primary: &OwnRedis) {
    server.run(&["REPLICAOF", "127.0.0.1", &primary.port.to_string()]).await;
    eventually("it is in step", PATIENCE, async || {
        let info: String = redis::cmd("INFO").arg("replication").query_async(&mut server.plain().await).await.unwrap();
        info.contains("master_link_status:up").then_some(())
    })
    .await;
}

/// A failover and back, with no process of ours at the other server in between: the run is the same, the data are older, and
/// every beat is there.
#[tokio::test]
async fn p1_a_primary_that_was_a_replica_of_one_that_lagged_is_a_loss() {
    let Some(server) = OwnRedis::start(NOTHING).await else { return };
    let Some(other) = OwnRedis::start(NOTHING).await else { return };
    let sink = ScriptedSink::new();
    let writer = engine(&server, sink.clone(), Role::Writer, SOON).await;
    let (players, ids) = (players(&writer), writer.ids::<Player>(1).unwrap());
    ids.next().await.unwrap();
    replicates(&other, &server).await;
    let before = noted(&server, "beat").await;
    eventually("a beat that both have", PATIENCE, async || {
        let now = noted(&server, "beat").await;
        (now != before && noted(&other, "beat").await == now).then_some(())
    })
    .await;
    // The link is cut, and so much is written.
    other.run(&["REPLICAOF", "NO", "ONE"]).await;
    let receipt = players.put(&Player::new(1, 1)).await.unwrap();
    let given = ids.next().await.unwrap();
    replicates(&server, &other).await;
    server.run(&["REPLICAOF", "NO", "ONE"]).await;
    let worker = engine(&server, sink.clone(), Role::Worker, SOON).await;
    let later = eventually("a put", PATIENCE, async || players.put(&Player::new(2, 1)).await.ok()).await;
    let _ = later.persisted_within(PATIENCE).await;
    let told = (receipt.persisted_within(PATIENCE).await, players.flush().await);
    let again = ids.next().await.unwrap();
    assert_eq!(sink.row(&id(1)), None, "it is lost");
    assert!(lost(&told.0), "receipt: {told:?}");
    assert!(lost(&told.1), "flush: {told:?}");
    assert_ne!(again, given, "one id, given out twice");
    worker.shutdown(PATIENCE).await.unwrap();
}

/// What changes the replication id and leaves the data alone.
#[tokio::test]
async fn a_primary_that_gets_and_loses_replicas_is_the_same_run() {
    let settings = [NOTHING, &["--repl-diskless-sync-delay", "0"]].concat();
    let Some(server) = OwnRedis::start(&settings).await else { return };
    let Some(other) = OwnRedis::start(&settings).await else { return };
    let sink = ScriptedSink::new();
    let both = engine(&server, sink.clone(), Role::Both, SOON).await;
    let players = players(&both);
    let receipt = players.put(&Player::new(1, 1)).await.unwrap();
    let run = noted(&server, "run").await;
    for step in ["first replica", "freed backlog", "promoted without having been in step"] {
        let before = noted(&server, "replid").await;
        match step {
            "first replica" => replicates(&other, &server).await,
            "freed backlog" => {
                other.run(&["REPLICAOF", "NO", "ONE"]).await;
                server.run(&["CONFIG", "SET", "repl-backlog-ttl", "1"]).await;
            }
            _ => {
                server.run(&["REPLICAOF", "127.0.0.1", "1"]).await;
                server.run(&["REPLICAOF", "NO", "ONE"]).await;
            }
        }
        let what = format!("another replication id: {step}");
        eventually(&what, PATIENCE, async || (noted(&server, "replid").await != before).then_some(())).await;
        assert_eq!(noted(&server, "run").await, run, "{step}");
    }
    eventually("a flush", PATIENCE, async || match players.flush().await {
        // The moment as a replica.
        Err(CacheError::Buffer(error)) if error.kind() != BufferErrorKind::Lost => None,
        told => Some(told),
    })
    .await
    .unwrap();
    receipt.persisted_within(PATIENCE).await.unwrap();
    both.shutdown(PATIENCE).await.unwrap();
}

fn copy(from: &Path, to: &Path) {
    let _ = std::fs::remove_dir_all(to);
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// Who sets `appendfsync always` because a power cut lost a second restarts the server, and this restart lost it.
#[tokio::test]
async fn p1_a_server_that_keeps_everything_only_since_its_restart_may_have_lost_writes() {
    let settings = std::env::temp_dir().join(unique("wb_redis_settings"));
    std::fs::write(&settings, "appendfsync everysec\n").unwrap();
    let include = settings.to_str().unwrap();
    let Some(mut server) = OwnRedis::start(&["--save", "", "--appendonly", "yes", "--include", include]).await else {
        return;
    };
    let sink = ScriptedSink::new();
    let writer = engine(&server, sink.clone(), Role::Writer, SOON).await;
    let players = players(&writer);
    let (file, aside) = (server.file("appendonlydir"), server.file("aside"));
    let receipt = eventually("no beat between the file and the crash", PATIENCE, async || {
        let beat = noted(&server, "beat").await;
        copy(&file, &aside);
        let unchanged = noted(&server, "beat").await == beat;
        let receipt = players.put(&Player::new(1, 1)).await.unwrap();
        (unchanged && noted(&server, "beat").await == beat).then_some(receipt)
    })
    .await;
    server.kill().await;
    // What was not synced is not there after a power cut.
    copy(&aside, &file);
    std::fs::write(&settings, "appendfsync always\n").unwrap();
    assert!(server.restart().await);
    std::fs::remove_file(&settings).unwrap();
    eventually("the restart is noticed", PATIENCE, async || {
        noted(&server, "run_before").await.filter(|run| !run.is_empty())
    })
    .await;
    let worker = engine(&server, sink.clone(), Role::Worker, SOON).await;
    let later = eventually("a put", PATIENCE, async || players.put(&Player::new(2, 1)).await.ok()).await;
    let _ = later.persisted_within(PATIENCE).await;
    let told = (receipt.persisted_within(PATIENCE).await, players.flush().await);
    assert_eq!(sink.row(&id(1)), None, "it is lost");
    assert!(lost(&told.0), "receipt: {told:?}");
    assert!(lost(&told.1), "flush: {told:?}");
    worker.shutdown(PATIENCE).await.unwrap();
}

/// Where INFO is forbidden a server has no name, and each run of it looks like the one before.
#[tokio::test]
async fn p1_a_restart_is_noticed_where_the_server_may_not_be_asked_its_name() {
    let Some(mut server) = OwnRedis::start(NOTHING).await else { return };
    let user = ["ACL", "SETUSER", "app", "on", "nopass", "~*", "&*", "+@all", "-info"];
    server.run(&user).await;
    let url = server.url().replace("redis://", "redis://app:any@");
    let options = EntityOptions::new().partitions(1);
    let builder = Engine::builder(RedisBuffer::connect(&url).await.unwrap()).role(Role::Writer);
    let writer = builder.entity::<Player>(ScriptedSink::new(), options).start().await.unwrap();
    let ids = writer.ids::<Player>(1).unwrap();
    ids.next().await.unwrap();
    let given = eventually("no beat between the file and the crash", PATIENCE, async || {
        let beat = noted(&server, "beat").await;
        let _ = std::fs::remove_file(server.file("dump.rdb"));
        server.run(&["SAVE"]).await;
        let given = ids.next().await.unwrap();
        (noted(&server, "beat").await == beat).then_some(given)
    })
    .await;
    server.kill().await;
    assert!(server.restart().await);
    server.run(&user).await;
    let next = eventually("an id", PATIENCE, async || ids.next().await.ok()).await;
    assert_ne!(next, given, "one id, given out twice");
}
