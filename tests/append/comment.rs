//! The entity of these tests, and engines on it.

use std::time::Duration;

use sea_orm::{ConnectionTrait, DatabaseConnection};
use serde::{Deserialize, Serialize};
use write_behind::{Engine, EntityOptions, MongoSink, RedisBuffer, RedisOptions, Role, Sink, SqlSink, WriteBehind};

/// What is said about a post. The table has a serial column beside, which tells in which order rows came.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, WriteBehind)]
#[wb(name = "comment", table = "append_comments", collection = "append_comments", append)]
pub(crate) struct Comment {
    #[wb(key)]
    pub(crate) id: i64,
    #[wb(partition_by)]
    pub(crate) post: i64,
    pub(crate) text: String,
}

impl Comment {
    pub(crate) fn new(id: i64, post: i64) -> Self {
        Self { id, post, text: "first".to_owned() }
    }
}

/// A database of its own, and a namespace of its own in Redis.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) redis: String,
    pub(crate) database: String,
    pub(crate) namespace: String,
}

impl Place {
    /// Makes a database on the server of this variable; `None` where the servers are not there and need not be.
    pub(crate) async fn open(variable: &str, table: &str) -> Option<Self> {
        let (redis, url) = (write_behind_tests::redis_url()?, write_behind_tests::server(variable)?);
        let namespace = write_behind_tests::unique("append");
        let server = sea_orm::Database::connect(&url).await.unwrap();
        server.execute_unprepared(&format!("CREATE DATABASE {namespace}")).await.unwrap();
        let database = url.rsplit_once('/').map(|(server, _)| format!("{server}/{namespace}")).unwrap();
        let place = Self { redis, database, namespace };
        place.connect().await.execute_unprepared(table).await.unwrap();
        Some(place)
    }

    pub(crate) async fn connect(&self) -> DatabaseConnection {
        sea_orm::Database::connect(&self.database).await.unwrap()
    }

    pub(crate) async fn engine(&self, role: Role) -> Engine {
        engine(&self.redis, &self.namespace, role, SqlSink::connect(&self.database).await.unwrap()).await
    }
}

pub(crate) async fn engine(redis: &str, namespace: &str, role: Role, sink: impl Sink<Comment>) -> Engine {
    let patient = RedisOptions::new().response_timeout(Duration::from_secs(20));
    let buffer = RedisBuffer::connect_with(redis, patient).await.unwrap();
    let options = EntityOptions::new().partitions(4).flush_every(Duration::from_millis(20)).max_batch(500);
    let builder = Engine::builder(buffer).namespace(namespace).role(role).lease(Duration::from_millis(500));
    builder.entity::<Comment>(sink, options).start().await.unwrap()
}

pub(crate) async fn mongo(namespace: &str) -> Option<MongoSink> {
    let url = write_behind_tests::server("WB_MONGO_URL")?;
    Some(MongoSink::connect(&url, namespace).await.unwrap())
}
