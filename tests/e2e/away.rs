//! Databases that are down: programs start all the same and go on when they are there, and cold reads fail at once. Each server is a
//! test's own, killed and started again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use write_behind::{
    Cache, CacheError, Engine, EntityOptions, EntityStats, MongoSink, RedisBuffer, Role, Severity, Sink, SqlSink,
    create_table,
};
use write_behind_tests::{eventually, server, unique};
use xtask::{Kind, Mortal};

use crate::account::Account;

/// Of one load.
const LIMIT: Duration = Duration::from_secs(2);
/// Longest wait until a sink is tried again, and what a slow machine makes of it.
const SOON: Duration = Duration::from_secs(30);
/// Far below any limit of a sink or a load.
const AT_ONCE: Duration = Duration::from_millis(500);

/// The way a user makes a sink.
async fn sink(url: &str) -> Arc<dyn Sink<Account>> {
    if url.starts_with("mongodb") {
        Arc::new(MongoSink::connect(url, "e2e_away").await.unwrap())
    } else {
        Arc::new(SqlSink::connect(url).await.unwrap())
    }
}

/// A server that has the table.
async fn own(kind: Kind) -> Mortal {
    let server = tokio::task::spawn_blocking(move || Mortal::start(kind).unwrap()).await.unwrap();
    if !server.url().starts_with("mongodb") {
        create_table::<Account>(SqlSink::connect(&server.url()).await.unwrap().db()).await.unwrap();
    }
    server
}

/// Starts it again, while everybody else goes on.
async fn start_again(mut server: Mortal) -> Mortal {
    let again = tokio::task::spawn_blocking(move || {
        server.start_again().unwrap();
        server
    });
    again.await.unwrap()
}

fn options() -> EntityOptions {
    EntityOptions::new().flush_every(Duration::from_millis(100)).load_timeout(LIMIT)
}

async fn started(redis: &str, namespace: &str, url: &str, role: Role, options: EntityOptions) -> Engine {
    let builder = Engine::builder(RedisBuffer::connect(redis).await.unwrap()).namespace(namespace).role(role);
    builder.entity::<Account>(sink(url).await, options).start().await.unwrap()
}

fn stats(engine: &Engine) -> EntityStats {
    engine.stats().remove("account").unwrap()
}

/// What a read of a row that is in no buffer says, in what time.
async fn cold(accounts: &Cache<Account>, id: i64) -> (Result<bool, CacheError>, Duration) {
    let begun = Instant::now();
    (accounts.get(&id).await.map(|found| found.is_some()), begun.elapsed())
}

async fn programs_start_while_their_database_is_down(kind: Kind) {
    let Some(redis) = server("WB_REDIS_URL") else { return };
    let mut database = own(kind).await;
    let url = database.url();
    database.kill().unwrap();
    let setups = [
        ("writer", vec![Role::Writer, Role::Worker], options()),
        ("worker", vec![Role::Worker], options()),
        ("both", vec![Role::Both, Role::Both], options()),
        ("transactions", vec![Role::Worker], options().transactions(true)),
    ];
    let started_all = setups.into_iter().map(|(name, roles, options)| {
        let (redis, url) = (&redis, &url);
        async move {
            let (namespace, begun) = (unique(&format!("away_{name}")), Instant::now());
            let starts = roles.into_iter().map(|role| started(redis, &namespace, url, role, options.clone()));
            let engines = join_all(starts).await;
            println!("{name}: started within {:?}", begun.elapsed());
            assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
            engines
        }
    });
    let started_all = join_all(started_all).await;
    for (engines, first) in started_all.iter().zip((0..).step_by(1_000)) {
        let engine = engines.first().unwrap();
        let finding = engine.findings().iter().find(|found| found.code == "sink-away").unwrap();
        assert_eq!(finding.severity, Severity::Warning);
        assert!(finding.text.contains(url.rsplit(':').next().unwrap().split('/').next().unwrap()), "{finding}");
        let accounts = engine.cache::<Account>().unwrap();
        for id in first..first + 100 {
            accounts.put(&Account::state(id, 1)).await.unwrap();
        }
        let begun = Instant::now();
        assert_eq!(accounts.get(&first).await.unwrap(), Some(Account::state(first, 1)));
        assert!(matches!(cold(&accounts, -1).await.0, Err(CacheError::SinkAway { .. })));
        assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    }
    let database = start_again(database).await;
    let (begun, sink) = (Instant::now(), sink(&url).await);
    for (engines, first) in started_all.iter().zip((0..).step_by(1_000)) {
        let accounts = engines.first().unwrap().cache::<Account>().unwrap();
        assert!(accounts.flush_within(SOON).await.unwrap(), "engines of {first}: without a restart");
        let keys: Vec<i64> = (first..first + 100).collect();
        assert_eq!(sink.load(&keys).await.unwrap().len(), 100);
    }
    println!("all rows are there {:?} after the database", begun.elapsed());
    for engine in started_all.into_iter().flatten() {
        eventually("the sink is ready", SOON, async || stats(&engine).sink_ready.then_some(())).await;
        assert!(engine.findings().iter().all(|found| found.code != "sink-away"), "{:?}", engine.findings());
        assert_eq!(engine.shutdown(SOON).await.unwrap().remaining, 0);
    }
    drop(database);
}

async fn cold_reads_of_a_database_that_is_down_fail_at_once(kind: Kind) {
    let Some(redis) = server("WB_REDIS_URL") else { return };
    let mut database = own(kind).await;
    let namespace = unique("away_cold");
    let engine = started(&redis, &namespace, &database.url(), Role::Writer, options()).await;
    let accounts = engine.cache::<Account>().unwrap();
    assert!(!cold(&accounts, 1).await.0.unwrap());
    database.kill().unwrap();
    let (first, took) = cold(&accounts, 2).await;
    println!("the first one took {took:?}: {first:?}");
    assert!(first.is_err() && took < LIMIT + AT_ONCE, "{took:?}");
    let begun = Instant::now();
    for id in 3..103 {
        let (told, took) = cold(&accounts, id).await;
        // Unless it is a probe.
        let probed = matches!(told, Err(CacheError::Sink { .. })) && took < LIMIT + AT_ONCE;
        assert!(probed || matches!(told, Err(CacheError::SinkAway { .. })), "{told:?} after {took:?}");
    }
    let stats = stats(&engine);
    println!("a hundred more took {:?}, {} of them asked the database", begun.elapsed(), stats.failed_loads - 1);
    assert!(stats.refused_loads >= 90, "{stats:?}");
    let quick = cold(&accounts, 200).await;
    assert!(quick.1 < AT_ONCE || matches!(quick.0, Err(CacheError::Sink { .. })), "{quick:?}");
    let database = start_again(database).await;
    let begun = Instant::now();
    eventually("rows are read", SOON, async || accounts.get(&300).await.ok()).await;
    println!("read again {:?} after the database was back", begun.elapsed());
    engine.shutdown(SOON).await.unwrap();
    drop(database);
}

macro_rules! on {
    ($($name:ident: $kind:ident, $test:ident;)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                $test(Kind::$kind).await;
            }
        )*
    };
}

on! {
    programs_start_while_their_database_is_down_on_postgres: Postgres, programs_start_while_their_database_is_down;
    programs_start_while_their_database_is_down_on_mariadb: Mysql, programs_start_while_their_database_is_down;
    programs_start_while_their_database_is_down_on_mongo: Mongo, programs_start_while_their_database_is_down;
    cold_reads_of_a_database_that_is_down_fail_at_once_on_postgres: Postgres, cold_reads_of_a_database_that_is_down_fail_at_once;
    cold_reads_of_a_database_that_is_down_fail_at_once_on_mongo: Mongo, cold_reads_of_a_database_that_is_down_fail_at_once;
}

/// A file whose lock somebody holds is away, too; one that cannot be opened is wrong.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_starts_while_its_sqlite_file_is_locked() {
    use write_behind::sql::sea_orm::ConnectionTrait;

    let file = std::env::temp_dir().join(format!("{}.db", unique("away")));
    let url = format!("sqlite://{}?mode=rwc", file.display());
    let other = SqlSink::connect_with(&url, write_behind::SqlOptions::new().max_connections(1)).await.unwrap();
    create_table::<Account>(other.db()).await.unwrap();
    // Not even readers get in.
    other
        .db()
        .execute_unprepared("PRAGMA journal_mode = DELETE; PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE")
        .await
        .unwrap();
    let buffer = write_behind::MemoryBuffer::new();
    let sink = SqlSink::connect(&url).await.unwrap();
    let engine = Engine::builder(buffer).entity::<Account>(sink.clone(), options()).start().await.unwrap();
    assert!(engine.findings().iter().any(|found| found.code == "sink-away"), "{:?}", engine.findings());
    let accounts = engine.cache::<Account>().unwrap();
    for id in 0..100 {
        accounts.put(&Account::state(id, 1)).await.unwrap();
    }
    other.db().execute_unprepared("COMMIT").await.unwrap();
    other.db().clone().close().await.unwrap();
    assert!(accounts.flush_within(SOON).await.unwrap());
    assert_eq!(Sink::<Account>::load(&sink, &(0..100).collect::<Vec<_>>()).await.unwrap().len(), 100);
    engine.shutdown(SOON).await.unwrap();
    let _ = std::fs::remove_file(file);
}

/// It came back without its table: writes stop, and go on when somebody has made it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_comes_back_without_the_table_is_told_and_mended_without_a_restart() {
    let mut database = own(Kind::Postgres).await;
    let url = database.url();
    let admin = SqlSink::connect(&url).await.unwrap();
    write_behind::sql::drop_table::<Account>(admin.db()).await.unwrap();
    database.kill().unwrap();
    let buffer = write_behind::MemoryBuffer::new();
    let engine = Engine::builder(buffer).entity::<Account>(sink(&url).await, options()).start().await.unwrap();
    let accounts = engine.cache::<Account>().unwrap();
    accounts.put(&Account::state(1, 1)).await.unwrap();
    let database = start_again(database).await;
    let told = eventually("the table is missed", SOON, async || {
        accounts.put(&Account::state(1, 2)).await.err().filter(|error| matches!(error, CacheError::SinkUnfit { .. }))
    });
    let told = told.await;
    assert!(told.to_string().contains("e2e_accounts"), "{told}");
    assert!(engine.findings().iter().any(|found| found.severity == Severity::Fatal), "{:?}", engine.findings());
    eventually("the table is made", SOON, async || create_table::<Account>(admin.db()).await.ok()).await;
    assert!(accounts.flush_within(SOON).await.unwrap());
    accounts.put(&Account::state(2, 1)).await.unwrap();
    assert_eq!(engine.shutdown(SOON).await.unwrap().remaining, 0);
    drop(database);
}
