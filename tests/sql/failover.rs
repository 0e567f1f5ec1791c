//! A primary that has become a replica while sessions to it stay open: they are closed, and what is opened next is used at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use sea_orm::sqlx::mysql::MySqlPoolOptions;
use sea_orm::sqlx::postgres::PgPoolOptions;
use sea_orm::{DatabaseConnection, SqlxMySqlConnector, SqlxPostgresConnector};
use write_behind::{ErrorKind, Sink, SqlSink};
use write_behind_tests::eventually;

use crate::entities::{create, load, scope, try_write};
use crate::house::{House, SOON};

const CONNECTIONS: u32 = 8;

/// A table of its own for each test.
macro_rules! tables {
    ($($ty:ident in $table:tt),* $(,)?) => {$(
        entity! {
            pub(crate) struct $ty in $table {
                keys { id: i64 }
                n: i64,
            }
        }
    )*};
}

tables!(OnPostgres in "failover_postgres", OnMysql in "failover_mysql");

/// A pool whose sessions read only, as those to a replica do, when they were opened while `read_only` was so.
async fn postgres(read_only: &Arc<AtomicBool>) -> Option<DatabaseConnection> {
    let url = crate::databases::server("WB_POSTGRES_URL")?;
    let read_only = Arc::clone(read_only);
    let options = PgPoolOptions::new().max_connections(CONNECTIONS).after_connect(move |connection, _| {
        let mode = if read_only.load(Ordering::Relaxed) { "on" } else { "off" };
        Box::pin(async move {
            let text = format!("SET default_transaction_read_only = {mode}");
            let text = sea_orm::sqlx::AssertSqlSafe(text);
            sea_orm::sqlx::Executor::execute(connection, sea_orm::sqlx::raw_sql(text)).await.map(drop)
        })
    });
    Some(SqlxPostgresConnector::from_sqlx_postgres_pool(options.connect(&url).await.unwrap()))
}

async fn mysql(read_only: &Arc<AtomicBool>) -> Option<DatabaseConnection> {
    let url = crate::databases::server("WB_MYSQL_URL")?;
    let read_only = Arc::clone(read_only);
    let options = MySqlPoolOptions::new().max_connections(CONNECTIONS).after_connect(move |connection, _| {
        let mode = if read_only.load(Ordering::Relaxed) { "ONLY" } else { "WRITE" };
        Box::pin(async move {
            let text = format!("SET SESSION TRANSACTION READ {mode}");
            let text = sea_orm::sqlx::AssertSqlSafe(text);
            sea_orm::sqlx::Executor::execute(connection, sea_orm::sqlx::raw_sql(text)).await.map(drop)
        })
    });
    Some(SqlxMySqlConnector::from_sqlx_mysql_pool(options.connect(&url).await.unwrap()))
}

/// The server has become a replica, and nobody has closed the sessions; then the address leads to the new primary.
macro_rules! failover {
    ($name:ident, $ty:ident, $pool:ident, $driver:ident) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            let read_only = Arc::new(AtomicBool::new(false));
            let Some(db) = $pool(&read_only).await else { return };
            create::<$ty>(&SqlSink::new(db)).await;
            let sink = SqlSink::new($pool(&read_only).await.unwrap());
            Sink::<$ty>::prepare(&sink, &scope::<$ty>()).await.unwrap();

            read_only.store(true, Ordering::Relaxed);
            let sink = SqlSink::new($pool(&read_only).await.unwrap());
            // Every connection of the pool is a session that reads only.
            for _ in 0..5 {
                join_all((0..CONNECTIONS * 2).map(|_| load::<$ty>(&sink, &[1]))).await;
            }
            let error = try_write(&sink, &[$ty { id: 1, n: 1 }], &[]).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.chain());
            for _ in 0..5 {
                join_all((0..CONNECTIONS * 2).map(|_| load::<$ty>(&sink, &[1]))).await;
            }
            // A session goes back to its pool after its user is through: one that is on its way is in use, and stays open.
            let pool = sink.db().$driver();
            eventually("all sessions are back", SOON, async || (pool.num_idle() == pool.size() as usize).then_some(()))
                .await;
            read_only.store(false, Ordering::Relaxed);
            let first = try_write(&sink, &[$ty { id: 1, n: 1 }], &[]).await;
            assert_eq!(first.map_err(|error| error.kind()).err(), Some(ErrorKind::Unavailable), "sessions stay open");
            let report = try_write(&sink, &[$ty { id: 1, n: 1 }], &[]).await;
            assert!(
                report.is_ok(),
                "one failure closes all that are open: {:?}",
                report.map_err(|error| error.chain())
            );

            // The same for a program that goes on all the time.
            read_only.store(true, Ordering::Relaxed);
            let sink = SqlSink::new($pool(&read_only).await.unwrap());
            read_only.store(false, Ordering::Relaxed);
            let house = House::<$ty>::over(&sink).await;
            house.put((0..50).map(|id| $ty { id, n: 2 })).await;
            let begun = Instant::now();
            house.all_land(50).await;
            assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
        }
    };
}

failover!(sessions_that_read_only_are_closed_on_postgres, OnPostgres, postgres, get_postgres_connection_pool);
failover!(sessions_that_read_only_are_closed_on_mysql, OnMysql, mysql, get_mysql_connection_pool);
