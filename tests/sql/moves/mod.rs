//! Unique values that move between records: in a transaction, in a batch, in one flush.

use std::time::Duration;

use sea_orm::{ConnectionTrait, TransactionTrait};
use write_behind::{Engine, EntityOptions, MemoryBuffer, Report, RetryPolicy, Sink, SinkError, SqlEntity, SqlSink};

use crate::entities::{batch, load};

/// Entities with a name each, in tables of their own.
macro_rules! named {
    ($($ty:ident in $table:tt),* $(,)?) => {$(
        entity! {
            pub(crate) struct $ty in $table {
                keys { id: i64 }
                name: Option<String>,
            }
        }

        impl Named for $ty {
            fn named(id: i64, name: &str) -> Self {
                Self { id, name: (!name.is_empty()).then(|| name.to_owned()) }
            }
            fn name(&self) -> String {
                self.name.clone().unwrap_or_default()
            }
        }
    )*};
}

pub(crate) trait Named: SqlEntity<Key = i64> + Clone + std::fmt::Debug + PartialEq {
    fn named(id: i64, name: &str) -> Self;
    fn name(&self) -> String;
}

mod engines;
mod land;
mod refused;

/// On one connection: another one may know the schema as it was.
pub(crate) async fn run(sink: &SqlSink, statements: &[&str]) {
    let transaction = sink.db().begin().await.unwrap();
    for statement in statements {
        transaction.execute_unprepared(statement).await.unwrap();
    }
    transaction.commit().await.unwrap();
}

/// An empty table whose names differ, and are not bad.
pub(crate) async fn unique<E: Named>(sink: &SqlSink) {
    let table = E::table().name;
    let columns = "id BIGINT NOT NULL PRIMARY KEY, name VARCHAR(50), CHECK (name NOT LIKE 'bad%')";
    let statements = [
        format!("DROP TABLE IF EXISTS {table}"),
        format!("CREATE TABLE {table} ({columns})"),
        format!("CREATE UNIQUE INDEX {table}_name ON {table} (name)"),
    ];
    run(sink, &statements.each_ref().map(String::as_str)).await;
}

pub(crate) fn rows<E: Named>(rows: &[(i64, &str)]) -> Vec<E> {
    rows.iter().map(|(id, name)| E::named(*id, name)).collect()
}

pub(crate) async fn names<E: Named>(sink: &SqlSink, ids: std::ops::Range<i64>) -> Vec<(i64, String)> {
    let mut found = load::<E>(sink, &ids.collect::<Vec<_>>()).await;
    found.sort_by_key(|row| row.key());
    found.iter().map(|row| (row.key(), row.name())).collect()
}

pub(crate) fn named(rows: &[(i64, &str)]) -> Vec<(i64, String)> {
    rows.iter().map(|(id, name)| (*id, (*name).to_owned())).collect()
}

pub(crate) async fn engine<E: Named>(sink: &SqlSink, attempts: u32) -> Engine {
    let retry = RetryPolicy::new().attempts(attempts);
    let options = EntityOptions::new().flush_every(Duration::from_millis(20)).transactions(true).retry(retry);
    Engine::builder(MemoryBuffer::new()).entity::<E>(sink.clone(), options).start().await.unwrap()
}

pub(crate) fn nothing_was_refused<E: Named>(engine: &Engine) {
    let stats = engine.stats()[E::NAME];
    assert_eq!((stats.refused, stats.dead_letters), (0, 0));
}

pub(crate) async fn whole<E: Named>(sink: &SqlSink, upserts: &[E], deletes: &[i64]) -> Result<Report, SinkError> {
    sink.write(&batch(upserts, deletes).whole()).await
}
