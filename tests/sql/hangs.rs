//! A database that does not answer: everything ends in time and nothing lingers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sea_orm::{ConnectionTrait, DbBackend, TransactionTrait};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use write_behind::{ErrorKind, Sink, SqlOptions, SqlSink};
use write_behind_tests::eventually;

use crate::databases::Database;
use crate::entities::{create, load, scope, try_write, write};

const LIMIT: Duration = Duration::from_millis(200);

entity! {
    pub(crate) struct Stuck in "hang_stuck" {
        keys { id: i64 }
        n: i64,
    }
}

fn impatient(sink: &SqlSink) -> SqlSink {
    SqlSink::with_options(sink.db().clone(), SqlOptions::new().max_rows(1).statement_timeout(LIMIT))
}

fn row(id: i64, n: i64) -> Stuck {
    Stuck { id, n }
}

async fn a_row_that_somebody_holds_is_transient(database: Database) {
    let sink = impatient(&database.sink);
    create::<Stuck>(&sink).await;
    // What is to land has the usual time: a commit waits for the disk.
    write(&database.sink, &[row(1, 0), row(2, 0)], &[]).await;
    let other = database.sink.db().begin().await.unwrap();
    other.execute_unprepared("UPDATE hang_stuck SET n = 100 WHERE id = 2").await.unwrap();
    // More often than the pool has connections.
    for _ in 0..6 {
        let start = Instant::now();
        let error = try_write(&sink, &[row(1, 1), row(2, 1)], &[]).await.unwrap_err();
        // SQLite waits for its lock as the connection was told (5 s), which is longer than the sink waits.
        let sqlite = sink.db().get_database_backend() == DbBackend::Sqlite;
        assert_eq!(
            error.kind(),
            if sqlite { ErrorKind::Unavailable } else { ErrorKind::Transient },
            "{}",
            error.chain()
        );
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    }
    // Nothing of it lingers: neither a lock nor a row.
    other.execute_unprepared("UPDATE hang_stuck SET n = 100 WHERE id = 1").await.unwrap();
    other.rollback().await.unwrap();
    assert_eq!(load::<Stuck>(&sink, &[1]).await, [row(1, 0)]);
    write(&database.sink, &[row(1, 2), row(2, 2)], &[]).await;
}

entity! {
    pub(crate) struct Left in "hang_left" {
        keys { id: i64 }
        n: i64,
    }
}

fn left(id: i64, n: i64) -> Left {
    Left { id, n }
}

async fn who_gives_up_leaves_no_lock(database: Database) {
    let sink = &database.sink;
    if sink.db().get_database_backend() == DbBackend::Sqlite {
        // It has one lock, which the other one holds.
        return;
    }
    let sink = SqlSink::with_options(
        sink.db().clone(),
        SqlOptions::new().max_rows(1).statement_timeout(Duration::from_secs(10)),
    );
    create::<Left>(&sink).await;
    write(&sink, &[left(1, 0), left(2, 0)], &[]).await;
    let other = sink.db().begin().await.unwrap();
    other.execute_unprepared("UPDATE hang_left SET n = 100 WHERE id = 2").await.unwrap();
    for _ in 0..6 {
        let (one, two) = ([left(1, 1), left(2, 1)], Duration::from_millis(100));
        assert!(tokio::time::timeout(two, try_write(&sink, &one, &[])).await.is_err(), "it was to wait");
    }
    other.rollback().await.unwrap();
    // The first row was locked by each of them.
    eventually("the row is free", Duration::from_secs(30), async || try_write(&sink, &[left(1, 2)], &[]).await.ok())
        .await;
    assert_eq!(load::<Left>(&sink, &[1, 2]).await, [left(1, 2), left(2, 0)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_of_a_locked_table_ends() {
    let Some(database) = crate::databases::postgres().await else { return };
    let sink = impatient(&database.sink);
    create::<Locked>(&sink).await;
    write(&sink, &[Locked { id: 1 }], &[]).await;
    let other = database.sink.db().begin().await.unwrap();
    other.execute_unprepared("LOCK TABLE hang_locked IN ACCESS EXCLUSIVE MODE").await.unwrap();
    for _ in 0..5 {
        let error = Sink::<Locked>::load(&sink, &[1]).await.unwrap_err();
        // The first one is given up here; after that the server ends loads by itself, and says so.
        assert!(matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Transient), "{}", error.chain());
    }
    other.rollback().await.unwrap();
    assert_eq!(load::<Locked>(&sink, &[1]).await.len(), 1);
}

entity! {
    pub(crate) struct Locked in "hang_locked" {
        keys { id: i64 }
    }
}

/// A wire that swallows everything while it is frozen; what was connected then stays dead.
struct Ice {
    url: String,
    frozen: Arc<AtomicBool>,
}

impl Ice {
    async fn before(url: &str) -> Self {
        let (scheme, rest) = url.split_once("://").unwrap();
        let (login, rest) = rest.split_once('@').unwrap();
        let (server, path) = rest.split_once('/').unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("{scheme}://{login}@{}/{path}", listener.local_addr().unwrap());
        let frozen = Arc::new(AtomicBool::new(false));
        let (server, state) = (server.to_owned(), Arc::clone(&frozen));
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let far = TcpStream::connect(&server).await.unwrap();
                let (near_read, near_write) = near.into_split();
                let (far_read, far_write) = far.into_split();
                tokio::spawn(pass(near_read, far_write, Arc::clone(&state)));
                tokio::spawn(pass(far_read, near_write, Arc::clone(&state)));
            }
        });
        Self { url, frozen }
    }
}

async fn pass(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    frozen: Arc<AtomicBool>,
) {
    let mut buffer = vec![0; 64 * 1024];
    let mut dead = false;
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        dead |= frozen.load(Ordering::Relaxed);
        if !dead && to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}

async fn a_network_that_swallows_everything_is_unavailable(variable: &str) {
    let Some(url) = crate::databases::server(variable) else { return };
    let ice = Ice::before(&url).await;
    let limit = Duration::from_secs(1);
    let options = SqlOptions::new().max_connections(2).connect_timeout(limit).statement_timeout(LIMIT);
    let sink = SqlSink::connect_with(&ice.url, options).await.unwrap();
    create::<Frozen>(&sink).await;
    Sink::<Frozen>::open(&sink, &scope::<Frozen>()).await.unwrap();
    write(&sink, &[Frozen { id: 1 }], &[]).await;
    ice.frozen.store(true, Ordering::Relaxed);
    for _ in 0..3 {
        let (start, scope) = (Instant::now(), scope::<Frozen>());
        let (written, loaded, fenced) = tokio::join!(
            try_write(&sink, &[Frozen { id: 2 }], &[]),
            Sink::<Frozen>::load(&sink, &[1]),
            Sink::<Frozen>::fence(&sink, &scope, 1),
        );
        for error in [written.unwrap_err(), loaded.unwrap_err(), fenced.unwrap_err()] {
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.chain());
        }
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    }
    ice.frozen.store(false, Ordering::Relaxed);
    eventually("the network is back", Duration::from_secs(20), async || {
        try_write(&sink, &[Frozen { id: 3 }], &[]).await.ok()
    })
    .await;
    assert_eq!(load::<Frozen>(&sink, &[1, 3]).await.len(), 2);
}

entity! {
    pub(crate) struct Frozen in "hang_frozen" {
        keys { id: i64 }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_swallows_everything_is_unavailable_on_postgres() {
    a_network_that_swallows_everything_is_unavailable("WB_POSTGRES_URL").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_swallows_everything_is_unavailable_on_mysql() {
    a_network_that_swallows_everything_is_unavailable("WB_MYSQL_URL").await;
}

/// The limits that the sink sets are its own: who shares its connections has those of the session.
#[tokio::test]
async fn the_limits_of_a_shared_connection_stay() {
    let options = || SqlOptions::new().max_connections(1).statement_timeout(Duration::from_secs(7));
    if let Some(url) = crate::databases::server("WB_MYSQL_URL") {
        let sink = SqlSink::connect_with(&url, options()).await.unwrap();
        create::<Shared>(&sink).await;
        let limits = "SELECT CONCAT_WS(' ', @@innodb_lock_wait_timeout, @@lock_wait_timeout, @@wait_timeout) AS t";
        let before = text(&sink, limits).await;
        write(&sink, &[Shared { id: 1 }], &[]).await;
        Sink::<Shared>::fence(&sink, &scope::<Shared>(), 1).await.ok();
        assert_eq!(text(&sink, limits).await, before);
    }
    if let Some(url) = crate::databases::server("WB_POSTGRES_URL") {
        let sink = SqlSink::connect_with(&url, options()).await.unwrap();
        create::<Shared>(&sink).await;
        let limits = "SELECT concat_ws(' ', current_setting('statement_timeout'), \
                      current_setting('idle_in_transaction_session_timeout')) AS t";
        let before = text(&sink, limits).await;
        write(&sink, &[Shared { id: 1 }], &[]).await;
        assert_eq!(text(&sink, limits).await, before);
    }
}

async fn text(sink: &SqlSink, query: &str) -> String {
    let statement = sea_orm::Statement::from_string(sink.db().get_database_backend(), query);
    sink.db().query_one_raw(statement).await.unwrap().unwrap().try_get("", "t").unwrap()
}

entity! {
    pub(crate) struct Shared in "hang_shared" {
        keys { id: i64 }
    }
}

on_every_database!(a_row_that_somebody_holds_is_transient, who_gives_up_leaves_no_lock);
