//! What is appended twice under one key is one row, as it came first, in every database.

use std::time::Duration;

use mongodb::bson::{Document, doc};
use sea_orm::{ConnectionTrait, DbBackend, Statement};
use write_behind::{Engine, Role, SqlSink};
use write_behind_tests::{redis_url, unique};

use crate::comment::{Comment, Place, engine, mongo};

const TABLE: &str =
    "CREATE TABLE append_comments (id BIGINT NOT NULL PRIMARY KEY, post BIGINT NOT NULL, text VARCHAR(100) NOT NULL)";
const COUNT: i64 = 1_200;

/// Appends each comment, and later each again with another text; flushed in between, and not.
async fn append_twice(engine: &Engine) {
    let comments = engine.appender::<Comment>().unwrap();
    let first: Vec<Comment> = (0..COUNT).map(|id| Comment::new(id, id % 7)).collect();
    let again: Vec<Comment> =
        first.iter().map(|comment| Comment { text: "again".to_owned(), ..comment.clone() }).collect();
    comments.append_many(&first).await.unwrap();
    comments.append_many(&again).await.unwrap();
    comments.flush().await.unwrap();
    comments.append_many(&again).await.unwrap().persisted().await.unwrap();
}

/// Rows, and those among them that are not as they came first.
async fn counts(db: &impl ConnectionTrait, backend: DbBackend) -> (i64, i64) {
    let mut counts = Vec::new();
    for condition in ["1 = 1", "text <> 'first'"] {
        let select = format!("SELECT COUNT(*) AS n FROM append_comments WHERE {condition}");
        let row = db.query_one_raw(Statement::from_string(backend, select)).await.unwrap().unwrap();
        counts.push(row.try_get("", "n").unwrap());
    }
    (counts.first().copied().unwrap(), counts.last().copied().unwrap())
}

#[tokio::test]
async fn a_key_that_is_there_is_ignored_on_mariadb() {
    let Some(place) = Place::open("WB_MYSQL_URL", TABLE).await else { return };
    let engine = place.engine(Role::Both).await;
    append_twice(&engine).await;
    assert_eq!(counts(&place.connect().await, DbBackend::MySql).await, (COUNT, 0));
    engine.shutdown(Duration::from_secs(10)).await.unwrap();
}

#[tokio::test]
async fn a_key_that_is_there_is_ignored_on_postgres() {
    let Some(place) = Place::open("WB_POSTGRES_URL", TABLE).await else { return };
    let engine = place.engine(Role::Both).await;
    append_twice(&engine).await;
    assert_eq!(counts(&place.connect().await, DbBackend::Postgres).await, (COUNT, 0));
    engine.shutdown(Duration::from_secs(10)).await.unwrap();
}

#[tokio::test]
async fn a_key_that_is_there_is_ignored_on_sqlite() {
    let Some(redis) = redis_url() else { return };
    let sink = SqlSink::connect("sqlite::memory:").await.unwrap();
    sink.db().execute_unprepared(TABLE).await.unwrap();
    let engine = engine(&redis, &unique("append"), Role::Both, sink.clone()).await;
    append_twice(&engine).await;
    assert_eq!(counts(sink.db(), DbBackend::Sqlite).await, (COUNT, 0));
    engine.shutdown(Duration::from_secs(10)).await.unwrap();
}

#[tokio::test]
async fn a_key_that_is_there_is_ignored_on_mongo() {
    let (Some(redis), namespace) = (redis_url(), unique("append")) else { return };
    let Some(sink) = mongo(&namespace).await else { return };
    let engine = engine(&redis, &namespace, Role::Both, sink.clone()).await;
    append_twice(&engine).await;
    let collection = sink.database().collection::<Document>("append_comments");
    assert_eq!(collection.count_documents(doc! {}).await.unwrap(), COUNT.unsigned_abs());
    assert_eq!(collection.count_documents(doc! { "text": { "$ne": "first" } }).await.unwrap(), 0);
    sink.database().drop().await.unwrap();
    engine.shutdown(Duration::from_secs(10)).await.unwrap();
}
