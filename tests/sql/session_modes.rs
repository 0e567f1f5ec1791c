//! Settings of a MySQL session or server under which values, statements and transactions mean something else.

use sea_orm::sqlx::{AssertSqlSafe, Executor};
use sea_orm::{ConnectOptions, ConnectionTrait, Database, DbBackend, Statement};
use write_behind::{Sink, SqlSink};

use crate::entities::{create, load, raw, scope, write};
use crate::house::House;

entity! {
    pub(crate) struct Note in "mode_note" {
        keys { id: i64 }
        text: Option<String>,
        n: i64,
    }
}

fn note(id: i64, text: &str) -> Note {
    Note { id, text: Some(text.into()), n: 0 }
}

/// The application's own pool, whose sessions begin with this.
async fn pool(url: &str, set: &'static str) -> SqlSink {
    let mut options = ConnectOptions::new(url);
    options.max_connections(2).map_sqlx_mysql_pool_opts(move |pool| {
        pool.after_connect(move |connection, _| {
            Box::pin(async move { connection.execute(AssertSqlSafe(set)).await.map(drop) })
        })
    });
    SqlSink::new(Database::connect(options).await.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p3_the_modes_of_a_session_change_no_value() {
    let Some(url) = crate::databases::server("WB_MYSQL_URL") else { return };
    let sessions = [
        "SET sql_mode = ''",
        "SET sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES'",
        "SET completion_type = 'CHAIN'",
        "SET completion_type = 'RELEASE'",
        "SET sql_mode = 'NO_UNSIGNED_SUBTRACTION', time_zone = '+00:00'",
        // MariaDB's own.
        "SET sql_mode = 'EMPTY_STRING_IS_NULL'",
        "SET sql_mode = 'SIMULTANEOUS_ASSIGNMENT'",
        "SET sql_mode = 'ORACLE'",
    ];
    let sink = SqlSink::connect(&url).await.unwrap();
    let version = Statement::from_string(DbBackend::MySql, "SELECT VERSION() AS v");
    let version: String = sink.db().query_one_raw(version).await.unwrap().unwrap().try_get("", "v").unwrap();
    let count = if version.contains("MariaDB") { sessions.len() } else { 5 };
    for set in sessions.into_iter().take(count) {
        create::<Note>(&sink).await;
        let pool = pool(&url, set).await;
        Sink::<Note>::open(&pool, &scope::<Note>()).await.unwrap();
        let house = House::<Note>::over(&pool).await;
        house.put([note(1, ""), note(2, "it's \\ \"so\""), Note { text: None, ..note(3, "") }]).await;
        let written = house.cache.flush_within(crate::house::SOON).await.unwrap();
        assert!(written, "{set}");
        house.cache.delete(&2).await.unwrap();
        assert!(house.cache.flush_within(crate::house::SOON).await.unwrap(), "{set}");
        assert_eq!(house.letters.count().await.unwrap(), 0, "{set}");
        let mut rows = load::<Note>(&sink, &[1, 2, 3]).await;
        rows.sort_by_key(|row| row.id);
        assert_eq!(rows, [note(1, ""), Note { text: None, ..note(3, "") }], "{set}");
        assert_eq!(raw::<Note>(&sink, "id").await.len(), 2);
    }
}

entity! {
    pub(crate) struct Padded in "mode_padded" {
        keys { code: String }
        name: String,
    }
}

/// A session that the sink opens has settings of its own, whatever the server gives to others.
#[tokio::test]
async fn p3_a_session_of_the_sink_has_its_own_settings() {
    let Some(url) = crate::databases::server("WB_MYSQL_URL") else { return };
    let sink = SqlSink::connect(&url).await.unwrap();
    let text = "SELECT CAST(CONCAT_WS(' ', @@sql_mode, @@autocommit + 0, @@completion_type, @@sql_select_limit, \
                @@sql_big_selects + 0, @@sql_safe_updates + 0, @@sql_auto_is_null + 0) AS CHAR) AS s";
    let said = sink.db().query_one_raw(Statement::from_string(DbBackend::MySql, text)).await.unwrap().unwrap();
    let said: String = said.try_get("", "s").unwrap();
    let (mode, others) = said.split_once(' ').unwrap();
    assert!(mode.contains("STRICT_ALL_TABLES") && !mode.contains("PAD_CHAR"), "{mode}");
    assert_eq!(others, "1 NO_CHAIN 18446744073709551615 1 0 0");
    let db = sink.db();
    db.execute_unprepared("DROP TABLE IF EXISTS mode_padded").await.unwrap();
    db.execute_unprepared("CREATE TABLE mode_padded (code CHAR(4) PRIMARY KEY, name CHAR(9))").await.unwrap();
    let row = Padded { code: "ab".into(), name: "x".into() };
    write(&sink, std::slice::from_ref(&row), &[]).await;
    assert_eq!(load::<Padded>(&sink, &["ab".into()]).await, [row]);
}
