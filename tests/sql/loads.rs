//! Cold reads of a table that somebody has locked: they end, and the flusher has its connections meanwhile.

use std::time::{Duration, Instant};

use futures::future::join_all;
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, TransactionTrait};
use write_behind::{CacheError, Engine, EntityOptions, ErrorKind, MemoryBuffer, Sink, SqlOptions, SqlSink};
use write_behind_tests::eventually;

use crate::databases::{Database, mysql, postgres, server};
use crate::entities::{create, load, write};

/// Of the pool; half of it is for loads.
const CONNECTIONS: u32 = 4;

entity! {
    pub(crate) struct Locked in "load_locked" {
        keys { id: i64 }
        n: i64,
    }
}

entity! {
    pub(crate) struct Free in "load_free" {
        keys { id: i64 }
        n: i64,
    }
}

/// Two sinks that know nothing of each other, on one pool.
async fn sinks(url: &str) -> [SqlSink; 2] {
    let limit = Duration::from_secs(2);
    let options =
        SqlOptions::new().max_connections(CONNECTIONS).load_timeout(limit).connect_timeout(Duration::from_secs(60));
    let one = SqlSink::connect_with(url, options.clone()).await.unwrap();
    let other = SqlSink::with_options(one.db().clone(), options);
    [one, other]
}

/// Statements of others that wait for the lock, in the server.
async fn waiting(db: &DatabaseConnection) -> i64 {
    let text =
        "SELECT count(*) AS n FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%\"load_locked\"%'";
    let row = db.query_one_raw(sea_orm::Statement::from_string(DbBackend::Postgres, text)).await.unwrap().unwrap();
    row.try_get("", "n").unwrap()
}

async fn reads_of_a_locked_table_leave_the_flusher_its_connections(database: Database, variable: &str) {
    let Some(url) = server(variable) else { return };
    let [locked, free] = sinks(&url).await;
    create::<Locked>(&locked).await;
    create::<Free>(&free).await;
    write(&locked, &[Locked { id: 1, n: 1 }], &[]).await;
    let options = || EntityOptions::new().flush_every(Duration::from_millis(20));
    let engine = Engine::builder(MemoryBuffer::new())
        .entity::<Locked>(locked.clone(), options())
        .entity::<Free>(free.clone(), options())
        .start()
        .await
        .unwrap();
    let (cold, warm) = (engine.cache::<Locked>().unwrap(), engine.cache::<Free>().unwrap());
    warm.put(&Free { id: 1, n: 1 }).await.unwrap().persisted().await.unwrap();

    let is_postgres = locked.db().get_database_backend() == DbBackend::Postgres;
    let other = database.sink.db().begin().await.unwrap();
    let lock =
        if is_postgres { "LOCK TABLE load_locked IN ACCESS EXCLUSIVE MODE" } else { "LOCK TABLES load_locked WRITE" };
    other.execute_unprepared(lock).await.unwrap();
    for round in 0..2_i64 {
        let reads = (0..200).map(|id| {
            let cold = cold.clone();
            tokio::spawn(async move { cold.get(&(1_000 * (round + 1) + id)).await })
        });
        let reads: Vec<_> = reads.collect();
        // They have taken what they can get.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let begun = Instant::now();
        for n in 2..5 {
            warm.put(&Free { id: 1, n: n + 10 * round }).await.unwrap().persisted().await.unwrap();
        }
        let (flushed, begun) = (begun.elapsed(), Instant::now());
        for read in join_all(reads).await {
            let told = read.unwrap().unwrap_err();
            let kind = match &told {
                CacheError::Sink { source } | CacheError::SinkAway { source, .. } => Some(source.kind()),
                _ => None,
            };
            assert!(matches!(kind, Some(ErrorKind::Transient | ErrorKind::Unavailable)), "{told:?}");
        }
        eprintln!("three flushes took {flushed:.1?}, then 200 reads ended within {:.1?}", begun.elapsed());
        // Of the two seconds of a read most are over before a flush that waits for it could begin.
        assert!(flushed < Duration::from_secs(10), "the flush of another entity took {flushed:?}");
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    }
    if is_postgres {
        // A read that was given up by closing its connection leaves a process of the server that waits; not one more each.
        let left = waiting(database.sink.db()).await;
        assert!(left <= i64::from(CONNECTIONS / 2), "{left} processes of the server wait");
        other.rollback().await.unwrap();
    } else {
        other.execute_unprepared("UNLOCK TABLES").await.unwrap();
        drop(other);
    }
    eventually("the table is read again", Duration::from_secs(20), async || {
        cold.get(&1).await.ok().filter(|row| *row == Some(Locked { id: 1, n: 1 }))
    })
    .await;
    engine.shutdown(Duration::from_secs(10)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_of_a_locked_table_leave_the_flusher_its_connections_on_postgres() {
    if let Some(database) = postgres().await {
        reads_of_a_locked_table_leave_the_flusher_its_connections(database, "WB_POSTGRES_URL").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_of_a_locked_table_leave_the_flusher_its_connections_on_mysql() {
    if let Some(database) = mysql().await {
        reads_of_a_locked_table_leave_the_flusher_its_connections(database, "WB_MYSQL_URL").await;
    }
}

/// One connection for everything: loads and writes take turns.
#[tokio::test]
async fn a_pool_of_one_connection_loads_and_writes() {
    let sink = SqlSink::connect("sqlite::memory:").await.unwrap();
    create::<Free>(&sink).await;
    let rows: Vec<Free> = (0..20).map(|id| Free { id, n: id }).collect();
    let loads = join_all((0..20).map(|_| load::<Free>(&sink, &[1])));
    let (_, _) = tokio::join!(loads, write(&sink, &rows, &[]));
    assert_eq!(Sink::<Free>::load(&sink, &[1, 2]).await.unwrap().len(), 2);
}
