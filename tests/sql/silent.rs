//! A worker that is stopped in the middle of its transaction: the database gives it up, and the next owner goes on.

use std::time::{Duration, Instant};

use sea_orm::{ConnectionTrait, DbBackend, TransactionTrait};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use write_behind::{ErrorKind, Sink, SqlOptions, SqlSink};

use crate::databases::Database;
use crate::entities::{create, load, scope};
use crate::fences::{fence, fenced_write, waits_for_a_lock};

/// MySQL counts whole seconds.
const IDLE: Duration = Duration::from_secs(1);

/// A pipe in which everything waits while it is held, as before a process that is stopped.
struct Valve {
    url: String,
    held: watch::Sender<bool>,
}

impl Valve {
    async fn before(url: &str) -> Self {
        let (scheme, rest) = url.split_once("://").unwrap();
        let (login, rest) = rest.split_once('@').unwrap();
        let (server, path) = rest.split_once('/').unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("{scheme}://{login}@{}/{path}", listener.local_addr().unwrap());
        let (held, state) = watch::channel(false);
        let server = server.to_owned();
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let far = TcpStream::connect(&server).await.unwrap();
                let (near_read, near_write) = near.into_split();
                let (far_read, far_write) = far.into_split();
                tokio::spawn(pass(near_read, far_write, state.clone()));
                tokio::spawn(pass(far_read, near_write, state.clone()));
            }
        });
        Self { url, held }
    }
}

/// The end of the connection waits, too.
async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut held: watch::Receiver<bool>) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = from.read(&mut buffer).await.unwrap_or(0);
        if held.wait_for(|held| !held).await.is_err() || count == 0 || to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}

entity! {
    pub(crate) struct Silent in "silent_owner" {
        keys { id: i64 }
        round: i64,
    }
}

fn rows(round: i64) -> [Silent; 2] {
    [1, 2].map(|id| Silent { id, round })
}

async fn p3_an_owner_silent_in_its_transaction_is_given_up(database: Database) {
    let sink = &database.sink;
    let variable = match sink.db().get_database_backend() {
        DbBackend::Postgres => "WB_POSTGRES_URL",
        DbBackend::MySql => "WB_MYSQL_URL",
        // Nothing is between it and its database.
        _ => return,
    };
    create::<Silent>(sink).await;
    Sink::<Silent>::open(sink, &scope::<Silent>()).await.unwrap();
    let valve = Valve::before(&crate::databases::server(variable).unwrap()).await;
    // One connection: the one that the database closes must not come back.
    let options = SqlOptions::new().max_rows(1).max_connections(1).idle_in_transaction_timeout(IDLE);
    let stopped = SqlSink::connect_with(&valve.url, options).await.unwrap();
    let old = fence::<Silent>(&stopped, 1).await;
    fenced_write(&stopped, &[old], &rows(0), &[]).await.unwrap();

    // Stopped when it has written its first row and waits for the second one.
    let other = sink.db().begin().await.unwrap();
    other.execute_unprepared("UPDATE silent_owner SET round = 100 WHERE id = 2").await.unwrap();
    let under_way = tokio::spawn({
        let stopped = stopped.clone();
        async move { fenced_write(&stopped, &[old], &rows(1), &[]).await }
    });
    waits_for_a_lock(sink, "silent_owner", 1).await;
    valve.held.send_replace(true);
    let start = Instant::now();
    other.rollback().await.unwrap();

    let new = fence::<Silent>(sink, 1).await;
    let waited = start.elapsed();
    assert!(waited >= IDLE - Duration::from_millis(50), "it held no lock: {waited:?}");
    assert!(waited < 30 * IDLE, "{waited:?}");
    assert!(new.generation > old.generation);
    assert_eq!(load::<Silent>(sink, &[1, 2]).await, rows(0));
    fenced_write(sink, &[new], &rows(2), &[]).await.unwrap();

    // It goes on: first with its commit, then with another try.
    assert!(!under_way.is_finished());
    valve.held.send_replace(false);
    let error = under_way.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.chain());
    let error = fenced_write(&stopped, &[old], &rows(1), &[]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fenced, "{}", error.chain());
    assert_eq!(load::<Silent>(sink, &[1, 2]).await, rows(2));
}

on_every_database!(p3_an_owner_silent_in_its_transaction_is_given_up);
