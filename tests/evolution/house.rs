//! A namespace in Redis, and a table that nobody else has.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use sea_orm::{ConnectionTrait, Database, DatabaseConnection, FromQueryResult, Statement};
use write_behind::{Engine, EntityOptions, RedisBuffer, RetryPolicy, Role, SqlEntity, SqlOptions, SqlSink};
use write_behind_tests::{redis_url, server, unique};

/// A row as the database has it.
#[derive(Clone, Debug, PartialEq, FromQueryResult)]
pub(crate) struct Row {
    pub(crate) id: i64,
    pub(crate) owner: String,
    pub(crate) balance: i64,
    pub(crate) note: Option<String>,
    pub(crate) level: i32,
}

pub(crate) struct House {
    pub(crate) redis: String,
    pub(crate) namespace: String,
    url: String,
    db: DatabaseConnection,
    end: End,
}

enum End {
    File(PathBuf),
    Database(DatabaseConnection),
}

const TABLE: &str = "CREATE TABLE accounts (id BIGINT PRIMARY KEY, owner VARCHAR(100) NOT NULL, \
                     balance BIGINT NOT NULL DEFAULT 0, note VARCHAR(100), level INTEGER NOT NULL DEFAULT 0)";

impl House {
    pub(crate) async fn postgres() -> Option<Self> {
        let (redis, server) = (redis_url()?, server("WB_POSTGRES_URL")?);
        let namespace = unique("evolution");
        let url = format!("{}/{namespace}", server.rsplit_once('/').unwrap().0);
        let server = Database::connect(&server).await.unwrap();
        server.execute_unprepared(&format!("CREATE DATABASE {namespace}")).await.unwrap();
        Some(Self::open(redis, namespace, url, End::Database(server)).await)
    }

    pub(crate) async fn sqlite() -> Option<Self> {
        let (redis, namespace) = (redis_url()?, unique("evolution"));
        let file = std::env::temp_dir().join(format!("{namespace}.db"));
        let url = format!("sqlite://{}?mode=rwc", file.display());
        Some(Self::open(redis, namespace, url, End::File(file)).await)
    }

    async fn open(redis: String, namespace: String, url: String, end: End) -> Self {
        let db = Database::connect(&url).await.unwrap();
        db.execute_unprepared(TABLE).await.unwrap();
        Self { redis, namespace, url, db, end }
    }

    pub(crate) async fn engine<T: SqlEntity>(&self, role: Role) -> Engine {
        let options = EntityOptions::new()
            .partitions(8)
            .flush_every(Duration::from_millis(50))
            .retry(RetryPolicy::new().attempts(1))
            .cache_ttl(Duration::from_secs(60));
        let sink = SqlSink::connect_with(&self.url, SqlOptions::new().max_connections(2)).await.unwrap();
        Engine::builder(RedisBuffer::connect(&self.redis).await.unwrap())
            .namespace(&self.namespace)
            .role(role)
            .lease(Duration::from_millis(600))
            .entity::<T>(sink, options)
            .start()
            .await
            .unwrap()
    }

    /// Another program writes rows.
    pub(crate) async fn insert(&self, rows: &[Row]) {
        for Row { id, owner, balance, note, level } in rows {
            let note = note.as_ref().map_or_else(|| "NULL".to_owned(), |note| format!("'{note}'"));
            let values = format!("INSERT INTO accounts VALUES ({id}, '{owner}', {balance}, {note}, {level})");
            self.db.execute_unprepared(&values).await.unwrap();
        }
    }

    pub(crate) async fn rows(&self) -> BTreeMap<i64, Row> {
        let select = Statement::from_string(self.db.get_database_backend(), "SELECT * FROM accounts");
        let rows = Row::find_by_statement(select).all(&self.db).await.unwrap();
        rows.into_iter().map(|row| (row.id, row)).collect()
    }

    pub(crate) async fn close(self) {
        self.db.close().await.unwrap();
        match self.end {
            End::File(file) => _ = std::fs::remove_file(file),
            End::Database(server) => {
                server.execute_unprepared(&format!("DROP DATABASE {} WITH (FORCE)", self.namespace)).await.unwrap();
            }
        }
    }
}

/// A row.
pub(crate) fn row(id: i64, owner: &str, balance: i64, note: Option<&str>, level: i32) -> Row {
    Row { id, owner: owner.to_owned(), balance, note: note.map(str::to_owned), level }
}
