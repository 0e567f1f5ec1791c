//! What the sink says when the database says no.

use std::time::{Duration, Instant};

use sea_orm::{ConnectionTrait, DbBackend};
use write_behind::{ErrorKind, Sink, SqlOptions, SqlSink};

use crate::databases::Database;
use crate::entities::{create, kinds, raw, refused, scope, try_write, write};

entity! {
    pub(crate) struct Missing in "error_missing" {
        keys { id: i64 }
        n: i32,
    }
}

async fn a_missing_table_is_misconfigured_until_it_is_there(database: Database) {
    let sink = &database.sink;
    write_behind::sql::drop_table::<Missing>(sink.db()).await.unwrap();
    let error = Sink::<Missing>::open(sink, &scope::<Missing>()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misconfigured);
    assert!(error.to_string().contains("does not exist"), "{error}");
    assert_eq!(try_write(sink, &[Missing { id: 1, n: 1 }], &[]).await.unwrap_err().kind(), ErrorKind::Misconfigured);
    create::<Missing>(sink).await;
    write(sink, &[Missing { id: 1, n: 1 }], &[]).await;
    // Dropped under a sink that knows it.
    write_behind::sql::drop_table::<Missing>(sink.db()).await.unwrap();
    let error = try_write(sink, &[Missing { id: 1, n: 1 }], &[]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misconfigured, "{}", error.chain());
}

entity! {
    pub(crate) struct Keyless in "error_keyless" {
        keys { id: i64 }
        n: i32,
    }
}

async fn a_key_that_is_not_unique_is_misconfigured(database: Database) {
    let sink = &database.sink;
    for table in [
        "CREATE TABLE error_keyless (id BIGINT NOT NULL, n INT)",
        "CREATE TABLE error_keyless (id BIGINT NOT NULL, n INT NOT NULL, PRIMARY KEY (id, n))",
    ] {
        sink.db().execute_unprepared("DROP TABLE IF EXISTS error_keyless").await.unwrap();
        sink.db().execute_unprepared(table).await.unwrap();
        let error = Sink::<Keyless>::open(sink, &scope::<Keyless>()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misconfigured);
        assert!(error.to_string().contains("no primary key or unique index on exactly"), "{error}");
    }
    sink.db().execute_unprepared("DROP TABLE error_keyless").await.unwrap();
    sink.db().execute_unprepared("CREATE TABLE error_keyless (id BIGINT NOT NULL UNIQUE, n INT)").await.unwrap();
    Sink::<Keyless>::open(sink, &scope::<Keyless>()).await.unwrap();
    // A connection of SQLite may see the new index only at its second attempt.
    let first = try_write(sink, &[Keyless { id: 1, n: 0 }], &[]).await;
    assert!(first.is_ok() || first.unwrap_err().kind() == ErrorKind::Misconfigured);
    for n in 0..2 {
        write(sink, &[Keyless { id: 1, n }], &[]).await;
    }
    assert_eq!(raw::<Keyless>(sink, "id").await.len(), 1);
}

entity! {
    pub(crate) struct Parent in "error_parent" {
        keys { id: i64 }
        n: i32,
    }
}

entity! {
    pub(crate) struct Child in "error_child" {
        keys { id: i64 }
        parent: i64,
    }
}

async fn a_missing_parent_is_deferred(database: Database) {
    let sink = &database.sink;
    sink.db().execute_unprepared("DROP TABLE IF EXISTS error_child").await.unwrap();
    create::<Parent>(sink).await;
    let table = "CREATE TABLE error_child (id BIGINT NOT NULL PRIMARY KEY, parent BIGINT NOT NULL, \
                 FOREIGN KEY (parent) REFERENCES error_parent (id))";
    sink.db().execute_unprepared(table).await.unwrap();
    let child = Child { id: 1, parent: 7 };
    assert_eq!(kinds(&refused(sink, std::slice::from_ref(&child), &[]).await), [("1", ErrorKind::Deferred)]);
    write(sink, &[Parent { id: 7, n: 1 }], &[]).await;
    write(sink, &[child], &[]).await;
    assert_eq!(kinds(&refused::<Parent>(sink, &[], &[7, 8]).await), [("7", ErrorKind::Deferred)]);
}

entity! {
    pub(crate) struct Checked in "error_checked" {
        keys { id: i64 }
        name: Option<String>,
    }
}

async fn constraints_and_lengths_are_rejected(database: Database) {
    let sink = &database.sink;
    let backend = sink.db().get_database_backend();
    sink.db().execute_unprepared("DROP TABLE IF EXISTS error_checked").await.unwrap();
    let table =
        "CREATE TABLE error_checked (id BIGINT NOT NULL PRIMARY KEY, name VARCHAR(5) NOT NULL, CHECK (id < 100))";
    sink.db().execute_unprepared(table).await.unwrap();
    let row = |id, name: Option<&str>| Checked { id, name: name.map(Into::into) };
    let mut bad = vec![row(100, Some("a")), row(1, None)];
    if backend != DbBackend::Sqlite {
        bad.push(row(1, Some("too long")));
    }
    for bad in bad {
        let refused = refused(sink, std::slice::from_ref(&bad), &[]).await;
        assert_eq!(kinds(&refused), [(bad.id.to_string().as_str(), ErrorKind::Rejected)]);
    }
    write(sink, &[row(1, Some("fits"))], &[]).await;
}

#[tokio::test]
async fn a_server_that_is_down_is_unavailable_in_time() {
    for url in ["postgres://app:hunter2@127.0.0.1:1/blog", "mysql://app:hunter2@127.0.0.1:1/blog"] {
        let start = Instant::now();
        let options = SqlOptions::new().connect_timeout(Duration::from_millis(300));
        // Nothing is asked of a server before it is needed.
        let sink = SqlSink::connect_with(url, options).await.unwrap();
        let error = Sink::<Missing>::open(&sink, &scope::<Missing>()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.chain());
        assert!(!error.chain().contains("hunter2") && error.chain().contains("127.0.0.1:1"), "{}", error.chain());
        assert!(start.elapsed() < Duration::from_secs(20));
    }
}

#[tokio::test]
async fn a_server_that_does_not_answer_does_not_hang_open() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("postgres://app@{}/blog", listener.local_addr().unwrap());
    let mut lazy = sea_orm::ConnectOptions::new(url);
    lazy.connect_lazy(true);
    let db = sea_orm::Database::connect(lazy).await.unwrap();
    let sink = SqlSink::with_options(db, SqlOptions::new().connect_timeout(Duration::from_millis(300)));
    let start = Instant::now();
    let error = Sink::<Missing>::open(&sink, &scope::<Missing>()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.chain());
    assert!(start.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn a_refused_password_is_misconfigured() {
    let Some(url) = crate::databases::server("WB_MYSQL_URL") else { return };
    let url = url.replace("root@", "nobody:hunter2@");
    let sink = SqlSink::connect(&url).await.unwrap();
    let error = Sink::<Missing>::open(&sink, &scope::<Missing>()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misconfigured, "{}", error.chain());
    assert!(!error.chain().contains("hunter2"));
}

#[tokio::test]
async fn a_connection_that_was_never_opened_is_misconfigured() {
    let sink = SqlSink::new(sea_orm::DatabaseConnection::default());
    let error = Sink::<Missing>::open(&sink, &scope::<Missing>()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misconfigured);
}

#[tokio::test]
async fn a_sqlite_file_that_is_not_there_is_not_made() {
    let url = "sqlite:///nowhere/at/all.db";
    assert!(SqlSink::connect(url).await.is_err());
}

on_every_database!(
    a_missing_table_is_misconfigured_until_it_is_there,
    a_key_that_is_not_unique_is_misconfigured,
    a_missing_parent_is_deferred,
    constraints_and_lengths_are_rejected,
);
