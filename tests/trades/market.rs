//! The players, where they are kept, and engines on it.

use std::collections::BTreeMap;
use std::time::Duration;

use bson::{Document, doc};
use futures::TryStreamExt;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sea_orm::{ConnectionTrait, Database, DatabaseConnection, DbBackend, Statement};
use serde::{Deserialize, Serialize};
use write_behind::{
    Engine, EntityOptions, MongoSink, RedisBuffer, RedisOptions, RetryPolicy, Role, SqlSink, TransactionError,
    WriteBehind,
};
use write_behind_tests::{redis_url, server, unique};

/// Somebody who owns gold; the database refuses less than none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, WriteBehind)]
#[wb(name = "trader", table = "traders", collection = "traders")]
pub(crate) struct Trader {
    #[wb(key)]
    pub(crate) id: i64,
    pub(crate) gold: i64,
}

pub(crate) const TRADERS: i64 = 40;
pub(crate) const EACH: i64 = 100;

/// A database of its own, and a namespace of its own in Redis.
#[derive(Clone, Debug)]
pub(crate) struct Market {
    pub(crate) redis: String,
    /// A URL of PostgreSQL or MongoDB, and the name of the database.
    pub(crate) url: String,
    pub(crate) name: String,
}

impl Market {
    /// `None` where the servers are not there and need not be.
    pub(crate) async fn open(variable: &str) -> Option<Self> {
        let market = Self { redis: redis_url()?, url: server(variable)?, name: unique("trades") };
        if market.is_mongo() {
            let create = doc! { "create": "traders", "validator": { "gold": { "$gte": 0 } } };
            market.mongo().await.run_command(create).await.unwrap();
        } else {
            let server = Database::connect(&market.url).await.unwrap();
            server.execute_unprepared(&format!("CREATE DATABASE {}", market.name)).await.unwrap();
            let table = "CREATE TABLE traders (id BIGINT PRIMARY KEY, gold BIGINT NOT NULL CHECK (gold >= 0))";
            market.sql().await.execute_unprepared(table).await.unwrap();
        }
        Some(market)
    }

    pub(crate) async fn close(self) {
        if self.is_mongo() {
            self.mongo().await.drop().await.unwrap();
        } else {
            let server = Database::connect(&self.url).await.unwrap();
            server.execute_unprepared(&format!("DROP DATABASE {} WITH (FORCE)", self.name)).await.unwrap();
        }
    }

    pub(crate) fn is_mongo(&self) -> bool {
        self.url.starts_with("mongodb")
    }

    fn database(&self) -> String {
        self.url.rsplit_once('/').map_or_else(String::new, |(server, _)| format!("{server}/{}", self.name))
    }

    pub(crate) async fn sql(&self) -> DatabaseConnection {
        Database::connect(self.database()).await.unwrap()
    }

    pub(crate) async fn mongo(&self) -> mongodb::Database {
        mongodb::Client::with_uri_str(&self.url).await.unwrap().database(&self.name)
    }

    pub(crate) async fn engine(&self, role: Role, options: EntityOptions) -> Engine {
        // Longer than the default: what a busy machine answers late is not unknown for that.
        let patient = RedisOptions::new().response_timeout(Duration::from_secs(20));
        let buffer = RedisBuffer::connect_with(&self.redis, patient).await.unwrap();
        let builder = Engine::builder(buffer).namespace(&self.name).role(role).lease(Duration::from_millis(300));
        let builder = if self.is_mongo() {
            let client = mongodb::Client::with_uri_str(&self.url).await.unwrap();
            builder.entity::<Trader>(MongoSink::new(client.database(&self.name)), options)
        } else {
            builder.entity::<Trader>(SqlSink::connect(&self.database()).await.unwrap(), options)
        };
        builder.start().await.unwrap()
    }

    /// The rows, in one statement.
    pub(crate) async fn look(&self, looker: &Looker) -> BTreeMap<i64, i64> {
        match looker {
            Looker::Sql(db) => {
                let select = Statement::from_string(DbBackend::Postgres, "SELECT id, gold FROM traders");
                let rows = db.query_all_raw(select).await.unwrap();
                rows.iter().map(|row| (row.try_get("", "id").unwrap(), row.try_get("", "gold").unwrap())).collect()
            }
            Looker::Mongo(database) => {
                // Of one instant: a plain cursor may see one half of a transaction before it and the other after it.
                let mut session = database.client().start_session().snapshot(true).await.unwrap();
                let traders = database.collection::<Document>("traders");
                let mut found = traders.find(doc! {}).session(&mut session).await.unwrap();
                let mut rows = BTreeMap::new();
                while let Some(row) = found.stream(&mut session).try_next().await.unwrap() {
                    rows.insert(row.get_i64("_id").unwrap(), row.get_i64("gold").unwrap());
                }
                rows
            }
        }
    }

    pub(crate) async fn looker(&self) -> Looker {
        if self.is_mongo() { Looker::Mongo(self.mongo().await) } else { Looker::Sql(self.sql().await) }
    }
}

/// Who looks into the database.
pub(crate) enum Looker {
    Sql(DatabaseConnection),
    Mongo(mongodb::Database),
}

/// Partitions enough that most trades are over two of them; batches of few rows, so that they would tear trades apart.
pub(crate) fn options() -> EntityOptions {
    let retry = RetryPolicy::new().initial(Duration::from_millis(5)).cap(Duration::from_millis(50)).attempts(3);
    EntityOptions::new()
        .partitions(5)
        .transactions(true)
        .flush_every(Duration::from_millis(10))
        .max_batch(4)
        .flush_concurrency(3)
        .retry(retry)
}

/// One after the other, trades between two or three of them, drawn by lot.
pub(crate) struct Trades {
    random: StdRng,
    pub(crate) gold: BTreeMap<i64, i64>,
}

impl Trades {
    pub(crate) fn new(seed: u64) -> Self {
        Self { random: StdRng::seed_from_u64(seed), gold: (0..TRADERS).map(|id| (id, EACH)).collect() }
    }

    /// Everybody's gold at first, in one transaction.
    pub(crate) async fn open(&self, engine: &Engine) {
        store(engine, &self.gold.iter().map(|(id, gold)| Trader { id: *id, gold: *gold }).collect::<Vec<_>>())
            .await
            .unwrap();
    }

    pub(crate) fn next(&mut self) -> Vec<Trader> {
        let giver = self.random.random_range(0..TRADERS);
        let mut changed = Vec::new();
        let mut left = self.gold.get(&giver).copied().unwrap_or(0);
        for step in 1..=self.random.random_range(1..=2) {
            let taker = (giver + step * self.random.random_range(1..TRADERS / 2)) % TRADERS;
            if taker == giver || changed.iter().any(|trader: &Trader| trader.id == taker) {
                continue;
            }
            let given = self.random.random_range(0..=left);
            left -= given;
            changed.push(Trader { id: taker, gold: self.gold.get(&taker).copied().unwrap_or(0) + given });
        }
        changed.push(Trader { id: giver, gold: left });
        self.gold.extend(changed.iter().map(|trader| (trader.id, trader.gold)));
        changed
    }
}

pub(crate) async fn store(engine: &Engine, traders: &[Trader]) -> Result<(), TransactionError> {
    engine.transaction(|tx| traders.iter().try_for_each(|trader| tx.put(trader))).await
}
