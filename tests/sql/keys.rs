//! Keys that differ, and that the database takes for equal or changes: no key ever touches another one's row.

use sea_orm::{ConnectionTrait, DbBackend};
use write_behind::{Cache, Engine, EntityOptions, ErrorKind, MemoryBuffer, Sink, SqlEntity, SqlOptions, SqlSink};

use crate::databases::{Database, server};
use crate::entities::{create, kinds, load, raw, refused, scope, try_write, write};

/// Types and collations that the tests of keys use on PostgreSQL, once for all of them.
pub(crate) async fn types(sink: &SqlSink) {
    let text = "DO $wb$ BEGIN PERFORM pg_advisory_xact_lock(4711); CREATE EXTENSION IF NOT EXISTS citext; \
                CREATE COLLATION IF NOT EXISTS wb_ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false); \
                CREATE COLLATION IF NOT EXISTS wb_ai (provider = icu, locale = 'und-u-ks-level1', deterministic = false); \
                IF to_regtype('wb_nick') IS NULL THEN CREATE DOMAIN wb_nick AS citext CHECK (VALUE <> 'root'); \
                CREATE DOMAIN wb_nick_below AS wb_nick; CREATE DOMAIN wb_code AS char(8); END IF; END $wb$";
    sink.db().execute_unprepared(text).await.unwrap();
}

/// A table `name` with this key column, and a sink that knows nothing of it yet.
async fn table(database: &Database, name: &str, key: &str, rest: &str) {
    let db = database.sink.db();
    if db.get_database_backend() == DbBackend::Postgres {
        types(&database.sink).await;
    }
    db.execute_unprepared(&format!("DROP TABLE IF EXISTS {name}")).await.unwrap();
    db.execute_unprepared(&format!("CREATE TABLE {name} ({key}{rest})")).await.unwrap();
}

/// A sink with a pool of its own, which has seen no table yet.
async fn fresh(database: &Database) -> SqlSink {
    match database.sink.db().get_database_backend() {
        DbBackend::Postgres => connect("WB_POSTGRES_URL").await,
        DbBackend::MySql => connect("WB_MYSQL_URL").await,
        _ => SqlSink::new(database.sink.db().clone()),
    }
}

async fn connect(variable: &str) -> SqlSink {
    SqlSink::connect_with(&server(variable).unwrap(), SqlOptions::new().max_connections(1)).await.unwrap()
}

/// Columns that take two texts for equal: the column, and the texts.
fn loose(backend: DbBackend) -> &'static [(&'static str, &'static str, &'static str)] {
    match backend {
        DbBackend::Postgres => &[
            ("citext", "Bob", "bob"),
            ("wb_nick", "Bob", "bob"),
            ("wb_nick_below", "Bob", "bob"),
            ("text COLLATE wb_ci", "Bob", "bob"),
            ("varchar(9) COLLATE wb_ai", "Ren\u{e9}", "rene"),
            ("text COLLATE wb_ci", "Ren\u{e9}", "Rene\u{301}"),
        ],
        DbBackend::MySql => &[
            ("varchar(9) COLLATE utf8mb4_general_ci", "Bob", "bob"),
            ("varchar(9) COLLATE utf8mb4_unicode_ci", "Ren\u{e9}", "Rene\u{301}"),
            ("varchar(9) COLLATE utf8mb4_bin", "a", "a "),
            ("varchar(9) COLLATE utf8mb4_general_ci", "a", "a "),
            ("varchar(9) CHARACTER SET latin1", "\u{c4}nne", "\u{e4}nne"),
        ],
        _ => &[("text COLLATE NOCASE", "Bob", "bob"), ("text COLLATE RTRIM", "a", "a ")],
    }
}

entity! {
    pub(crate) struct Name in "keys_name" {
        keys { name: String }
        n: i64,
    }
}

async fn a_key_that_is_equal_to_another_one_is_refused_and_touches_nothing(database: Database) {
    let backend = database.sink.db().get_database_backend();
    for &(column, one, other) in loose(backend) {
        table(&database, "keys_name", &format!("name {column} NOT NULL PRIMARY KEY"), ", n BIGINT").await;
        let sink = &fresh(&database).await;
        let row = |name: &str, n| Name { name: name.into(), n };
        write(sink, &[row(one, 1)], &[]).await;
        let found = refused(sink, &[row(other, 2)], &[]).await;
        assert_eq!(kinds(&found), [(other, ErrorKind::Rejected)], "{column}");
        assert!(found[0].1.to_string().contains("another"), "{}", found[0].1.chain());
        assert_eq!(load::<Name>(sink, &[other.into(), one.into()]).await, [row(one, 1)], "{column}");
        write::<Name>(sink, &[], &[other.into()]).await;
        assert_eq!(load::<Name>(sink, &[one.into()]).await, [row(one, 1)], "{column}");
        // Its own row is written as ever, also beside the other one.
        let found = refused(sink, &[row(one, 3), row(other, 4), row("x", 5)], &[]).await;
        assert_eq!(kinds(&found), [(other, ErrorKind::Rejected)], "{column}");
        assert_eq!(load::<Name>(sink, &[one.into()]).await, [row(one, 3)], "{column}");
        // Nor does a delete in the same batch take it away.
        write(sink, &[row(one, 6)], &[other.into(), "x".into()]).await;
        assert_eq!(load::<Name>(sink, &[one.into()]).await, [row(one, 6)], "{column}");
        write::<Name>(sink, &[], &[one.into()]).await;
        assert!(raw::<Name>(sink, "n").await.is_empty(), "{column}");
        // Two at once, of which neither is there: one lands.
        assert_eq!(refused(sink, &[row(one, 7), row(other, 8)], &[]).await.len(), 1, "{column}");
        assert_eq!(raw::<Name>(sink, "n").await.len(), 1, "{column}");
    }
}

entity! {
    pub(crate) struct Only in "keys_only" {
        keys { name: String }
    }
}

#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize, write_behind::WriteBehind)]
#[wb(name = "keys_append", table = "keys_append", append)]
pub(crate) struct Entry {
    #[wb(key)]
    pub(crate) name: String,
    pub(crate) n: i64,
}

#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize, write_behind::WriteBehind)]
#[wb(name = "keys_versioned", table = "keys_versioned")]
pub(crate) struct Versioned {
    #[wb(key)]
    pub(crate) part: i64,
    #[wb(key)]
    pub(crate) name: String,
    #[wb(version)]
    pub(crate) version: i64,
}

/// What an upsert of another spelling would leave alone is no success either.
async fn a_row_that_would_be_left_alone_is_refused_too(database: Database) {
    let backend = database.sink.db().get_database_backend();
    for &(column, one, other) in loose(backend) {
        let key = format!("name {column} NOT NULL");
        table(&database, "keys_only", &key, ", PRIMARY KEY (name)").await;
        table(&database, "keys_append", &key, ", n BIGINT, PRIMARY KEY (name)").await;
        let rest = ", part BIGINT NOT NULL, version BIGINT, PRIMARY KEY (part, name)";
        table(&database, "keys_versioned", &key, rest).await;
        let sink = &fresh(&database).await;
        let only = |name: &str| Only { name: name.into() };
        write(sink, &[only(one)], &[]).await;
        write(sink, &[only(one)], &[]).await;
        assert_eq!(kinds(&refused(sink, &[only(other)], &[]).await), [(other, ErrorKind::Rejected)], "{column}");
        let entry = |name: &str, n| Entry { name: name.into(), n };
        write(sink, &[entry(one, 1)], &[]).await;
        write(sink, &[entry(one, 2)], &[]).await;
        assert_eq!(kinds(&refused(sink, &[entry(other, 3)], &[]).await), [(other, ErrorKind::Rejected)], "{column}");
        assert_eq!(load::<Entry>(sink, &[one.into()]).await, [entry(one, 1)]);
        let row = |name: &str, version| Versioned { part: 1, name: name.into(), version };
        write(sink, &[row(one, 5)], &[]).await;
        for version in [4, 6] {
            let found = refused(sink, &[row(other, version)], &[]).await;
            assert_eq!(found.len(), 1, "{column}");
            assert_eq!(found[0].1.kind(), ErrorKind::Rejected, "{column}");
        }
        let report = try_write(sink, &[row(one, 4)], &[(1, other.into())]).await.unwrap();
        assert_eq!(report.stale.len(), 1, "{column}");
        let there = load::<Versioned>(sink, &[(1, one.into()), (1, other.into())]).await;
        assert_eq!(there, [row(one, 5)], "{column}");
    }
}

entity! {
    pub(crate) struct Own in "keys_own" {
        keys { name: String }
        n: i64,
    }
}

/// The table that the project makes: case and accents count everywhere, spaces at the end are refused or count.
async fn the_own_table_mixes_nothing(database: Database) {
    let sink = &database.sink;
    create::<Own>(sink).await;
    let names = ["a", "a ", "A", "\u{e4}", "a\u{308}", "a\u{1f600}", "b"];
    let mut there = Vec::new();
    for (n, name) in (0..).zip(names) {
        let row = Own { name: name.into(), n };
        if refused(sink, std::slice::from_ref(&row), &[]).await.is_empty() {
            there.push(row);
        }
    }
    assert!(there.len() >= names.len() - 1);
    // What may have been refused first.
    for name in ["a ", "a", "A", "\u{e4}", "a\u{308}", "a\u{1f600}", "b"].map(str::to_owned) {
        write::<Own>(sink, &[], std::slice::from_ref(&name)).await;
        there.retain(|row| row.name != name);
        let mut found = load::<Own>(sink, &names.map(str::to_owned)).await;
        found.sort_by_key(|row| row.n);
        assert_eq!(found, there, "{name:?}");
    }
}

entity! {
    pub(crate) struct Padded in "keys_padded" {
        keys { name: String }
        n: i64,
    }
}

/// A column that fills its values up with spaces keeps keys that do not end in one.
async fn padded_keys_are_found_and_those_that_end_in_spaces_are_refused(database: Database) {
    let columns: &[&str] = match database.sink.db().get_database_backend() {
        DbBackend::Postgres => &["char(8)", "wb_code"],
        DbBackend::MySql => &["char(8) COLLATE utf8mb4_bin", "char(8)"],
        _ => return,
    };
    for column in columns {
        table(&database, "keys_padded", &format!("name {column} NOT NULL PRIMARY KEY"), ", n BIGINT").await;
        let sink = &fresh(&database).await;
        Sink::<Padded>::open(sink, &scope::<Padded>()).await.unwrap();
        let row = |name: &str, n| Padded { name: name.into(), n };
        write(sink, &[row("Ann", 1), row("Annabell", 2)], &[]).await;
        assert_eq!(load::<Padded>(sink, &["Ann".into()]).await, [row("Ann", 1)], "{column}");
        for ending in ["Ann ", "Ann     ", "Ann          "] {
            assert!(Sink::check(sink, &row(ending, 3)).is_err(), "{column}");
            assert_eq!(kinds(&refused(sink, &[row(ending, 3)], &[]).await), [(ending, ErrorKind::Rejected)]);
            write::<Padded>(sink, &[], &[ending.into(), "Annabella".into()]).await;
            assert!(load::<Padded>(sink, &[ending.into(), "Annabella".into()]).await.is_empty(), "{column}");
        }
        let mut there = load::<Padded>(sink, &["Ann".into(), "Annabell".into()]).await;
        there.sort_by_key(|row| row.n);
        assert_eq!(there, [row("Ann", 1), row("Annabell", 2)], "{column}");
        write::<Padded>(sink, &[], &["Ann".into()]).await;
        assert_eq!(raw::<Padded>(sink, "n").await.len(), 1, "{column}");
    }
}

entity! {
    pub(crate) struct Changed in "keys_changed" {
        keys { name: String }
        n: i64,
    }
}

/// Columns that store another text than they are given: the column, a key, and what it would become.
fn changing(backend: DbBackend) -> &'static [(&'static str, &'static str, &'static str)] {
    match backend {
        DbBackend::Postgres => {
            &[("varchar(3)", "abc  ", "abc"), ("varchar(3)", "\u{e4}\u{f6}\u{fc} ", "\u{e4}\u{f6}\u{fc}")]
        }
        DbBackend::MySql => &[
            ("varchar(3) COLLATE utf8mb4_nopad_bin", "abc  ", "abc"),
            ("enum('a', 'b')", "2", "b"),
            ("enum('a', 'b')", "B", "b"),
            ("uuid", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
            ("inet6", "0::1", "::1"),
        ],
        _ => &[("string", "007", "seven"), ("decimal", "1e3", "thousand"), ("uuid", " 5", "five")],
    }
}

async fn a_key_that_its_column_changes_is_refused_before_it_is_stored(database: Database) {
    for &(column, key, kept) in changing(database.sink.db().get_database_backend()) {
        table(&database, "keys_changed", &format!("name {column} NOT NULL PRIMARY KEY"), ", n BIGINT").await;
        let sink = fresh(&database).await;
        let row = |name: &str, n| Changed { name: name.into(), n };
        write(&sink, &[row(kept, 1)], &[]).await;
        assert_eq!(kinds(&refused(&sink, &[row(key, 2)], &[]).await), [(key, ErrorKind::Rejected)], "{column}");
        write::<Changed>(&sink, &[], &[key.into()]).await;
        assert_eq!(load::<Changed>(&sink, &[key.into(), kept.into()]).await, [row(kept, 1)], "{column}");
        let engine = Engine::builder(MemoryBuffer::new()).entity::<Changed>(sink, EntityOptions::new());
        let engine = engine.start().await.unwrap();
        let cache: Cache<Changed> = engine.cache().unwrap();
        let error = cache.put(&row(key, 2)).await.unwrap_err();
        assert!(error.to_string().contains("name"), "{error}");
        assert_eq!(cache.get(&key.to_owned()).await.unwrap(), None);
        assert_eq!(cache.get(&kept.to_owned()).await.unwrap(), Some(row(kept, 1)));
        engine.shutdown(std::time::Duration::from_secs(5)).await.unwrap();
    }
}

entity! {
    pub(crate) struct Filled in "keys_filled" {
        keys { name: Vec<u8> }
        n: i64,
    }
}

#[tokio::test]
async fn bytes_that_a_column_fills_up_are_refused() {
    let Some(database) = crate::databases::mysql().await else { return };
    table(&database, "keys_filled", "name BINARY(4) NOT NULL PRIMARY KEY", ", n BIGINT").await;
    let sink = &database.sink;
    let row = |name: &[u8], n| Filled { name: name.to_vec(), n };
    write(sink, &[row(b"ab\0\0", 1)], &[]).await;
    assert_eq!(refused(sink, &[row(b"ab", 2)], &[]).await.len(), 1);
    write::<Filled>(sink, &[], &[b"ab".to_vec()]).await;
    assert_eq!(load::<Filled>(sink, &[b"ab".to_vec(), b"ab\0\0".to_vec()]).await, [row(b"ab\0\0", 1)]);
}

entity! {
    pub(crate) struct Sought in "keys_sought" {
        keys { part: i64, name: String }
        n: i64,
    }
}

/// The plans that the server makes for the very statements that the sink has sent.
async fn plans(sink: &SqlSink, table: &str, args: &str) -> Vec<(String, String)> {
    let query = format!(
        "SELECT name, statement FROM pg_prepared_statements WHERE statement LIKE '%{table}%' \
         AND statement ~ '^(SELECT|DELETE)' AND statement !~ 'pg_prepared'"
    );
    let backend = DbBackend::Postgres;
    let statements = sink.db().query_all_raw(sea_orm::Statement::from_string(backend, query)).await.unwrap();
    let mut plans = Vec::new();
    for statement in statements {
        let (name, text): (String, String) =
            (statement.try_get("", "name").unwrap(), statement.try_get("", "statement").unwrap());
        let explain = format!("EXPLAIN EXECUTE \"{name}\" ({args})");
        let lines = sink.db().query_all_raw(sea_orm::Statement::from_string(backend, explain)).await.unwrap();
        let lines: Vec<String> = lines.iter().map(|line| line.try_get_by_index(0).unwrap()).collect();
        plans.push((text, lines.join("\n")));
    }
    plans
}

/// Whatever the key's type, reads and deletes go through its index.
#[tokio::test]
async fn keys_of_every_text_type_are_found_through_their_index() {
    let Some(database) = crate::databases::postgres().await else { return };
    for column in [
        "text",
        "varchar(40)",
        "char(40)",
        "citext",
        "wb_nick",
        "wb_code",
        "name",
        "text COLLATE wb_ci",
        "text COLLATE \"C\"",
    ] {
        let key = format!("name {column} NOT NULL");
        table(&database, "keys_sought", &key, ", part BIGINT NOT NULL, n BIGINT, PRIMARY KEY (name, part)").await;
        let fill = "INSERT INTO keys_sought (name, part, n) SELECT 'k' || i, 1, i FROM generate_series(1, 20000) AS i";
        for text in [fill, "ANALYZE keys_sought"] {
            database.sink.db().execute_unprepared(text).await.unwrap();
        }
        let sink = &fresh(&database).await;
        let wanted = [(1, "k7".to_owned()), (1, "k19000".to_owned()), (1, "nowhere".to_owned())];
        assert_eq!(load::<Sought>(sink, &wanted).await.len(), 2, "{column}");
        write::<Sought>(sink, &[], &wanted[..1]).await;
        assert_eq!(load::<Sought>(sink, &wanted).await.len(), 1, "{column}");
        let plans = plans(sink, "keys_sought", "ARRAY[1, 1], ARRAY['k8', 'k9']").await;
        assert_eq!(plans.len(), 2, "{plans:?}");
        for (text, plan) in plans {
            assert!(plan.contains("Index") && !plan.contains("Seq Scan"), "{column}: {text}\n{plan}");
        }
    }
}

/// What an operator is told at start.
async fn a_key_column_that_does_not_tell_all_texts_apart_is_noted(database: Database) {
    let (column, code) = match database.sink.db().get_database_backend() {
        DbBackend::Postgres => ("citext", "key-collation"),
        DbBackend::MySql => ("varchar(9) COLLATE utf8mb4_general_ci", "key-collation"),
        _ => ("text COLLATE NOCASE", "key-collation"),
    };
    assert_eq!(noted::<Noted>(&database, column).await, [code]);
    let (column, codes) = match database.sink.db().get_database_backend() {
        DbBackend::Postgres => ("char(9)", &["key-type"][..]),
        DbBackend::MySql => ("char(9) COLLATE utf8mb4_bin", &["key-type"][..]),
        _ => ("string", &["key-type"][..]),
    };
    assert_eq!(noted::<Noted>(&database, column).await, codes);
    let column = match database.sink.db().get_database_backend() {
        DbBackend::MySql => "varchar(9) COLLATE utf8mb4_bin",
        _ => "varchar(9)",
    };
    assert!(noted::<Noted>(&database, column).await.is_empty());
}

async fn noted<E: SqlEntity>(database: &Database, column: &str) -> Vec<&'static str> {
    table(database, "keys_noted", &format!("name {column} NOT NULL PRIMARY KEY"), ", n BIGINT").await;
    let sink = fresh(database).await;
    Sink::<E>::open(&sink, &scope::<E>()).await.unwrap();
    Sink::<E>::prepare(&sink, &scope::<E>()).await.unwrap();
    let found = Sink::<E>::examine(&sink, &scope::<E>()).await.unwrap();
    assert!(found.iter().all(|finding| finding.text.contains("`name`")), "{found:?}");
    found.iter().map(|finding| finding.code).collect()
}

entity! {
    pub(crate) struct Noted in "keys_noted" {
        keys { name: String }
        n: i64,
    }
}

on_every_database!(
    a_key_that_is_equal_to_another_one_is_refused_and_touches_nothing,
    a_row_that_would_be_left_alone_is_refused_too,
    the_own_table_mixes_nothing,
    padded_keys_are_found_and_those_that_end_in_spaces_are_refused,
    a_key_that_its_column_changes_is_refused_before_it_is_stored,
    a_key_column_that_does_not_tell_all_texts_apart_is_noted,
);
