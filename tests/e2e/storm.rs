//! 100 000 updates over 1 000 keys from 32 tasks, deletes mixed in, on each database: afterwards every row is the last
//! acknowledged state.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::TryStreamExt;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use write_behind::sql::sea_orm::{ConnectionTrait, DatabaseConnection, Statement};
use write_behind::{
    Cache, Engine, EntityOptions, EntityStats, MongoSink, RedisBuffer, Sink, SqlEntity, SqlSink, create_table,
    drop_table,
};
use write_behind_tests::{server, unique};

use crate::account::Account;

const TASKS: i64 = 32;
const KEYS: i64 = 1_000;
const UPDATES: u64 = 100_000;

type Rows = BTreeMap<i64, Account>;

/// Writes the storm; what must be in the database afterwards, and the figures.
async fn storm(redis: &str, sink: impl Sink<Account>) -> (Rows, EntityStats) {
    let seed: u64 = std::env::var("WB_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(rand::random);
    println!("WB_SEED={seed}");
    let engine = Engine::builder(RedisBuffer::connect(redis).await.unwrap())
        .namespace(unique("storm"))
        .entity::<Account>(sink, EntityOptions::new().flush_every(Duration::from_millis(500)))
        .start()
        .await
        .unwrap();
    let cache = engine.cache::<Account>().unwrap();
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| tokio::spawn(write(cache.clone(), task, seed.wrapping_add(task.unsigned_abs()))))
        .collect();
    let mut rows = Rows::new();
    for task in tasks {
        rows.extend(task.await.unwrap());
    }
    assert!(cache.flush_within(Duration::from_secs(60)).await.unwrap(), "not flushed");
    let stats = engine.stats().remove("account").unwrap();
    let drained = engine.shutdown(Duration::from_secs(10)).await.unwrap();
    assert_eq!(drained.remaining, 0);
    (rows, stats)
}

/// The writes of one task, on keys of its own: what was acknowledged last.
async fn write(cache: Cache<Account>, task: i64, seed: u64) -> Rows {
    let mut random = StdRng::seed_from_u64(seed);
    let mut last = Rows::new();
    for n in 0..UPDATES / TASKS.unsigned_abs() {
        let id = task + TASKS * random.random_range(0..KEYS / TASKS);
        if random.random_ratio(1, 10) {
            cache.delete(&id).await.unwrap();
            last.remove(&id);
        } else {
            let account = Account::state(id, n);
            cache.put(&account).await.unwrap();
            last.insert(id, account);
        }
        if random.random_ratio(1, 50) {
            // Whatever the flusher does at this moment, a write is read.
            assert_eq!(cache.get(&id).await.unwrap(), last.get(&id).cloned(), "read your writes, key {id}");
        }
    }
    last
}

fn assert_rows(database: &str, found: &Rows, (expected, stats): &(Rows, EntityStats)) {
    println!(
        "{database}: {} puts, {} rows written ({:.1} puts a row), {} statements in {} batches, {} rows left",
        stats.puts,
        stats.rows(),
        stats.coalescing(),
        stats.statements,
        stats.batches,
        found.len()
    );
    assert_eq!(stats.puts, UPDATES / TASKS.unsigned_abs() * TASKS.unsigned_abs());
    assert!(stats.rows() < stats.puts / 2, "{} rows for {} puts", stats.rows(), stats.puts);
    for (id, account) in expected {
        assert_eq!(found.get(id), Some(account), "key {id} is not in its last acknowledged state");
    }
    let deleted: Vec<_> = found.keys().filter(|id| !expected.contains_key(id)).collect();
    assert!(deleted.is_empty(), "deleted, but still there: {deleted:?}");
}

/// All rows, read past the framework's own statements.
async fn sql_rows(db: &DatabaseConnection) -> Rows {
    let text = "SELECT id, holder, balance, frozen, note, seen FROM e2e_accounts";
    let rows = db.query_all_raw(Statement::from_string(db.get_database_backend(), text)).await.unwrap();
    rows.iter().map(|row| Account::from_row(row).unwrap()).map(|account| (account.id, account)).collect()
}

async fn sql_storm(variable: &str) {
    let (Some(redis), Some(url)) = (server("WB_REDIS_URL"), server(variable)) else { return };
    on_sql(variable, &redis, &url).await;
}

async fn on_sql(name: &str, redis: &str, url: &str) {
    let sink = SqlSink::connect(url).await.unwrap();
    drop_table::<Account>(sink.db()).await.unwrap();
    create_table::<Account>(sink.db()).await.unwrap();
    let written = storm(redis, sink.clone()).await;
    assert_rows(name, &sql_rows(sink.db()).await, &written);
    drop_table::<Account>(sink.db()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_is_the_last_acknowledged_state_on_postgres() {
    sql_storm("WB_POSTGRES_URL").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_is_the_last_acknowledged_state_on_mysql() {
    sql_storm("WB_MYSQL_URL").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_is_the_last_acknowledged_state_on_sqlite() {
    let Some(redis) = server("WB_REDIS_URL") else { return };
    let file = std::env::temp_dir().join(format!("{}.db", unique("storm")));
    on_sql("sqlite", &redis, &format!("sqlite://{}?mode=rwc", file.display())).await;
    for suffix in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{suffix}", file.display()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_is_the_last_acknowledged_state_on_mongo() {
    let (Some(redis), Some(url)) = (server("WB_REDIS_URL"), server("WB_MONGO_URL")) else { return };
    let database = unique("storm");
    let sink = MongoSink::connect(&url, &database).await.unwrap();
    let written = storm(&redis, sink).await;
    // The user's own typed reads.
    let database = mongodb::Client::with_uri_str(&url).await.unwrap().database(&database);
    let found: Vec<Account> =
        database.collection("e2e_accounts").find(bson::doc! {}).await.unwrap().try_collect().await.unwrap();
    assert_rows("mongo", &found.into_iter().map(|account| (account.id, account)).collect(), &written);
    database.drop().await.unwrap();
}
