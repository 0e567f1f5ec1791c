//! Cold reads of a server that hangs: they end, and the flusher has its connections meanwhile.

use std::time::{Duration, Instant};

use mongodb::Database;
use mongodb::bson::doc;
use tokio::task::JoinSet;
use write_behind::mongo::MongoSink;
use write_behind::{Cache, CacheError, Engine, EntityOptions, MemoryBuffer};

use crate::entities::{Membership, Player};
use crate::server::{on_own_replica_set, within};
use crate::stopped::{LONG, as_app, let_go};

const LIMIT: Duration = Duration::from_secs(2);
const SOON: Duration = Duration::from_secs(30);

fn options() -> EntityOptions {
    EntityOptions::new().flush_every(Duration::from_millis(20)).load_timeout(LIMIT)
}

/// Two entities over one client.
async fn engine(sink: &MongoSink) -> (Engine, Cache<Player>, Cache<Membership>) {
    let builder = Engine::builder(MemoryBuffer::new()).entity::<Player>(sink.clone(), options());
    let engine = builder.entity::<Membership>(sink.clone(), options()).start().await.unwrap();
    let (cold, warm) = (engine.cache().unwrap(), engine.cache().unwrap());
    (engine, cold, warm)
}

/// Of the other entity, whose writes load nothing.
fn warm_row(n: i64) -> Membership {
    Membership { team: "warm".to_owned(), member: 1, role: n.to_string() }
}

/// Makes the server hold reads of one collection; it reads others for itself, and for its transactions.
async fn hold_reads(database: &Database, collection: &str) {
    let data = doc! {
        "failCommands": ["find"], "namespace": format!("{}.{collection}", database.name()), "blockConnection": true,
        "blockTimeMS": 8_000_i64,
    };
    let fail = doc! { "configureFailPoint": "failCommand", "mode": "alwaysOn", "data": data };
    database.client().database("admin").run_command(fail).await.unwrap();
}

/// Reads beside each other.
fn reads(cold: &Cache<Player>, ids: std::ops::Range<i64>) -> JoinSet<Result<Option<Player>, CacheError>> {
    let mut reads = JoinSet::new();
    for id in ids {
        let cold = cold.clone();
        reads.spawn(async move { cold.get(&id).await });
    }
    reads
}

async fn until_read(cold: &Cache<Player>) {
    while cold.get(&1).await.is_err() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn signal(pid: i64, signal: &str) {
    let sent = tokio::process::Command::new("kill").args([signal, &pid.to_string()]).status().await;
    assert!(sent.unwrap().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn loads_that_hang_leave_the_flusher_its_connections_and_end() {
    on_own_replica_set(LONG, |database| async move {
        let sink = MongoSink::new(as_app(&database, "cold").await);
        let (engine, cold, warm) = engine(&sink).await;
        hold_reads(&database, "players").await;
        for round in 0..2_i64 {
            let reads = reads(&cold, 1_000 * round..1_000 * round + 200);
            tokio::time::sleep(Duration::from_millis(200)).await;
            let begun = Instant::now();
            for n in 1..4 {
                within(SOON, warm.put(&warm_row(n + 10 * round)).await.unwrap().persisted()).await.unwrap();
            }
            let flushed = begun.elapsed();
            assert!(flushed < LIMIT * 2, "the flush of another entity took {flushed:?}");
            for read in reads.join_all().await {
                let told = read.unwrap_err();
                assert!(matches!(told, CacheError::Sink { .. } | CacheError::SinkAway { .. }), "{told:?}");
            }
            eprintln!("three flushes took {flushed:?}, 200 reads ended {:?} later", begun.elapsed() - flushed);
            assert!(begun.elapsed() < LIMIT * 4, "{:?}", begun.elapsed());
        }
        // While it is known nobody waits, but for a probe.
        let begun = Instant::now();
        let told = reads(&cold, 5_000..5_100).join_all().await;
        let refused = told.iter().filter(|told| matches!(told, Err(CacheError::SinkAway { .. }))).count();
        assert!(refused >= 99 && begun.elapsed() < LIMIT * 2, "{refused} within {:?}", begun.elapsed());
        let_go(&database).await;
        within(SOON, until_read(&cold)).await;
        engine.shutdown(SOON).await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_stopped_costs_a_read_its_limit_once_and_a_flush_nothing_later() {
    on_own_replica_set(LONG, |database| async move {
        let sink = MongoSink::new(as_app(&database, "cold").await).command_timeout(LIMIT);
        let (engine, cold, warm) = engine(&sink).await;
        warm.put(&warm_row(1)).await.unwrap().persisted().await.unwrap();
        let pid = database.run_command(doc! { "serverStatus": 1 }).await.unwrap().get_i64("pid").unwrap();
        signal(pid, "-STOP").await;
        // Its last threads may still answer.
        let mut ids = 1..;
        let first = loop {
            let (begun, id) = (Instant::now(), ids.next().unwrap());
            if cold.get(&id).await.is_err() {
                break begun.elapsed();
            }
        };
        let told = reads(&cold, 1_000_000..1_000_100).join_all().await;
        let refused = told.iter().filter(|told| matches!(told, Err(CacheError::SinkAway { .. }))).count();
        eprintln!("the first one took {first:?}, {refused} of 100 more failed at once");
        assert!(first < LIMIT * 2 && refused >= 99, "{first:?}, {refused}");
        let receipt = warm.put(&warm_row(2)).await.unwrap();
        signal(pid, "-CONT").await;
        let begun = Instant::now();
        // Its own limits: a command's, and the wait before the next try.
        within(SOON, receipt.persisted()).await.unwrap();
        eprintln!("flushed {:?} after the server went on", begun.elapsed());
        within(SOON, until_read(&cold)).await;
        engine.shutdown(SOON).await.unwrap();
    })
    .await;
}
