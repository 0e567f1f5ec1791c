//! Fields that are written on insert only, on each database: once a write is flushed, readers of every process find what the row has.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use write_behind::{
    Cache, Engine, EntityOptions, MongoSink, NearCache, RedisBuffer, Role, Sink, SqlSink, WriteBehind, create_table,
    drop_table,
};
use write_behind_tests::{eventually, server, unique};

const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, WriteBehind)]
#[wb(name = "letter", table = "e2e_insert_only", collection = "e2e_insert_only", merge)]
struct Letter {
    #[wb(key)]
    id: i64,
    #[wb(insert_only)]
    by: Option<String>,
    #[wb(insert_only)]
    made: i64,
    #[wb(insert_only)]
    at: DateTime<Utc>,
    text: String,
}

impl Letter {
    fn new(made: i64, text: &str) -> Self {
        let at = DateTime::from_timestamp_secs(1_700_000_000 + made).unwrap();
        Self { id: 1, by: (made < 500).then(|| "Ada".to_owned()), made, at, text: text.to_owned() }
    }
}

async fn engine(redis: &str, namespace: &str, sink: impl Sink<Letter>, role: Role) -> (Engine, Cache<Letter>) {
    let near = NearCache::new(100).max_age(Duration::from_secs(600));
    let engine = Engine::builder(RedisBuffer::connect(redis).await.unwrap())
        .namespace(namespace)
        .role(role)
        .entity::<Letter>(sink, EntityOptions::new().near_cache(near))
        .start()
        .await
        .unwrap();
    let letters = engine.cache().unwrap();
    (engine, letters)
}

async fn readers_agree_with_the_row(sink: impl Sink<Letter> + Clone) {
    let Some(redis) = server("WB_REDIS_URL") else { return };
    let namespace = unique("insert_only");
    let (worker, letters) = engine(&redis, &namespace, sink.clone(), Role::Both).await;
    let (reader, others) = engine(&redis, &namespace, sink.clone(), Role::Writer).await;
    letters.put(&Letter::new(100, "first")).await.unwrap();
    letters.flush().await.unwrap();
    for text in ["second", "third"] {
        let put = Letter::new(999, text);
        letters.put(&put).await.unwrap();
        assert_eq!(others.get(&1).await.unwrap(), Some(put), "dirty, and kept by another process");
        letters.flush().await.unwrap();
        let row = Some(Letter::new(100, text));
        assert_eq!(Sink::<Letter>::load(&sink, &[1]).await.unwrap().pop(), row, "the row itself");
        assert_eq!(letters.get(&1).await.unwrap(), row, "here");
        // The signal is on its way.
        eventually("another process reads the row", PATIENCE, async || {
            (others.get(&1).await.unwrap() == row).then_some(())
        })
        .await;
    }
    // What is built on the row has its values, and is left for readers.
    letters.update(&1, |letter| letter.text = "fourth".into()).await.unwrap();
    letters.flush().await.unwrap();
    assert_eq!(letters.peek(&1).await.unwrap(), Some(Letter::new(100, "fourth")), "without a load");
    reader.shutdown(PATIENCE).await.unwrap();
    worker.shutdown(PATIENCE).await.unwrap();
}

async fn on_sql(sink: SqlSink) {
    drop_table::<Letter>(sink.db()).await.unwrap();
    create_table::<Letter>(sink.db()).await.unwrap();
    readers_agree_with_the_row(sink).await;
}

#[tokio::test]
async fn what_is_read_after_a_flush_is_the_row_on_sqlite() {
    on_sql(SqlSink::connect("sqlite::memory:").await.unwrap()).await;
}

#[tokio::test]
async fn what_is_read_after_a_flush_is_the_row_on_postgres() {
    let Some(url) = server("WB_POSTGRES_URL") else { return };
    on_sql(SqlSink::connect(&url).await.unwrap()).await;
}

#[tokio::test]
async fn what_is_read_after_a_flush_is_the_row_on_mariadb() {
    let Some(url) = server("WB_MYSQL_URL") else { return };
    on_sql(SqlSink::connect(&url).await.unwrap()).await;
}

#[tokio::test]
async fn what_is_read_after_a_flush_is_the_row_on_mongo() {
    let Some(url) = server("WB_MONGO_URL") else { return };
    let sink = MongoSink::connect(&url, "e2e").await.unwrap();
    sink.database().collection::<Letter>("e2e_insert_only").drop().await.unwrap();
    readers_agree_with_the_row(sink).await;
}
