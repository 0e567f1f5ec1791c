//! The entity of these tests, and engines on it.

use std::time::Duration;

use sea_orm::{ConnectionTrait, DbBackend, Statement};
use serde::{Deserialize, Serialize};
use write_behind::{
    Counter, Engine, EntityOptions, RedisBuffer, RedisOptions, Role, SqlSink, WriteBehind, create_table, drop_table,
};

/// A number that is counted, and a version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, WriteBehind)]
#[wb(name = "counted", table = "counted_things")]
pub(crate) struct Counted {
    #[wb(key)]
    pub(crate) id: i64,
    pub(crate) total: i64,
    pub(crate) note: String,
    #[wb(version)]
    pub(crate) version: i64,
}

impl Counted {
    pub(crate) const SUM: Counter<Self, i64> = Counter::new("total", |counted| &mut counted.total);

    pub(crate) fn new(id: i64, version: i64) -> Self {
        Self { id, total: 0, note: "new".to_owned(), version }
    }
}

/// A schema of its own in PostgreSQL, and a namespace of its own in Redis.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) redis: String,
    pub(crate) database: String,
    pub(crate) namespace: String,
}

impl Place {
    /// Makes the table; `None` where the servers are not there and need not be.
    pub(crate) async fn open() -> Option<Self> {
        let (redis, url) = (write_behind_tests::redis_url()?, write_behind_tests::server("WB_POSTGRES_URL")?);
        let namespace = write_behind_tests::unique("changes");
        let server = sea_orm::Database::connect(&url).await.unwrap();
        server.execute_unprepared(&format!("CREATE DATABASE {namespace}")).await.unwrap();
        let database = url.rsplit_once('/').map(|(server, _)| format!("{server}/{namespace}")).unwrap();
        let place = Self { redis, database, namespace };
        create_table::<Counted>(place.sink().await.db()).await.unwrap();
        Some(place)
    }

    pub(crate) async fn sink(&self) -> SqlSink {
        SqlSink::connect(&self.database).await.unwrap()
    }

    pub(crate) async fn engine(&self, role: Role, options: EntityOptions) -> Engine {
        // Longer than the default: what a busy machine answers late is not unknown for that.
        let patient = RedisOptions::new().response_timeout(Duration::from_secs(20));
        let buffer = RedisBuffer::connect_with(&self.redis, patient).await.unwrap();
        let builder = Engine::builder(buffer).namespace(&self.namespace).role(role).lease(Duration::from_millis(500));
        builder.entity::<Counted>(self.sink().await, options.partitions(4)).start().await.unwrap()
    }

    /// The row of an id, as nobody but the database tells it.
    pub(crate) async fn row(&self, id: i64) -> Option<(i64, i64)> {
        let db = sea_orm::Database::connect(&self.database).await.unwrap();
        let select = "SELECT total, version FROM counted_things WHERE id = $1";
        let select = Statement::from_sql_and_values(DbBackend::Postgres, select, [id.into()]);
        let row = db.query_one_raw(select).await.unwrap()?;
        Some((row.try_get("", "total").unwrap(), row.try_get("", "version").unwrap()))
    }

    pub(crate) async fn close(self) {
        drop_table::<Counted>(self.sink().await.db()).await.unwrap();
    }
}

pub(crate) fn options() -> EntityOptions {
    EntityOptions::new().flush_every(Duration::from_millis(20))
}
