//! Batches of every shape.

use std::time::Duration;

use sea_orm::{ConnectionTrait, TransactionTrait};
use write_behind::{ErrorKind, Sink, SqlOptions, SqlSink};

use crate::databases::Database;
use crate::entities::{create, load, raw, scope, try_write, write};

entity! {
    pub(crate) struct Wide in "batch_wide" {
        keys { id: i64 }
        a: i64,
        b: String,
        c: Option<String>,
        d: f64,
        e: bool,
        f: Option<i32>,
        g: uuid::Uuid,
    }
}

fn wide(id: i64, a: i64) -> Wide {
    Wide {
        id,
        a,
        b: format!("row {id}"),
        c: (id % 2 == 0).then(|| "even".to_owned()),
        d: id as f64 / 4.0,
        e: id % 3 == 0,
        f: (id % 5 != 0).then_some(7),
        g: uuid::Uuid::from_u128(id as u128),
    }
}

async fn more_rows_than_one_statement_can_bind(database: Database) {
    let sink = &database.sink;
    create::<Wide>(sink).await;
    let rows: Vec<Wide> = (0..20_000).map(|id| wide(id, 1)).collect();
    let report = write(sink, &rows, &[]).await;
    assert!((1..=30).contains(&report.statements), "{}", report.statements);
    let keys: Vec<i64> = rows.iter().map(|r| r.id).collect();
    let mut loaded = load::<Wide>(sink, &keys).await;
    loaded.sort_by_key(|r| r.id);
    assert_eq!(loaded, rows);
    write::<Wide>(sink, &[], &keys).await;
    assert!(load::<Wide>(sink, &keys).await.is_empty());
}

async fn nulls_between_values_stay_where_they_are(database: Database) {
    let sink = &database.sink;
    create::<Nulls>(sink).await;
    let rows: Vec<Nulls> = (0..100)
        .map(|id| Nulls { id, text: (id % 3 == 0).then(|| id.to_string()), number: (id % 2 == 0).then_some(id) })
        .collect();
    write(sink, &rows, &[]).await;
    let mut loaded = load::<Nulls>(sink, &(0..100).collect::<Vec<_>>()).await;
    loaded.sort_by_key(|r| r.id);
    assert_eq!(loaded, rows);
}

entity! {
    pub(crate) struct Nulls in "batch_nulls" {
        keys { id: i64 }
        text: Option<String>,
        number: Option<i64>,
    }
}

#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize, write_behind::WriteBehind)]
#[wb(name = "batch_quoted", table = "Batch \"Quoted`")]
struct Quoted {
    #[wb(key)]
    order: i64,
    #[wb(key, rename = "Group")]
    group: String,
    #[wb(rename = "sel\"ect")]
    select: String,
    #[wb(rename = "b`tick")]
    tick: i32,
}

async fn names_are_quoted(database: Database) {
    let sink = &database.sink;
    create::<Quoted>(sink).await;
    let row = |group: &str| Quoted { order: 1, group: group.into(), select: "a".into(), tick: 1 };
    write(sink, &[row("x"), row("Y")], &[]).await;
    let changed = Quoted { tick: 2, ..row("Y") };
    write(sink, std::slice::from_ref(&changed), &[(1, "x".into())]).await;
    assert_eq!(load::<Quoted>(sink, &[(1, "x".into()), (1, "Y".into())]).await, [changed]);
}

entity! {
    pub(crate) struct Texts in "batch_texts" {
        keys { id: String }
        body: String,
    }
}

async fn texts_arrive_to_the_byte(database: Database) {
    let sink = &database.sink;
    create::<Texts>(sink).await;
    let texts = [
        "it's",
        "\"q\"",
        "a\\b",
        "\u{1f980}\u{1f469}\u{200d}\u{1f680}",
        "Zażółć",
        "%_;--",
        "line\nline\r\n\ttab",
        "",
        "' OR 1=1 --",
    ];
    let rows: Vec<Texts> =
        texts.iter().enumerate().map(|(i, t)| Texts { id: format!("{i}{t}"), body: (*t).into() }).collect();
    write(sink, &rows, &[]).await;
    let keys: Vec<String> = rows.iter().map(|r| r.id.clone()).collect();
    let mut loaded = load::<Texts>(sink, &keys).await;
    loaded.sort_by(|a, b| a.id.cmp(&b.id));
    assert_eq!(loaded, rows);
    write::<Texts>(sink, &[], &keys[1..]).await;
    assert_eq!(load::<Texts>(sink, &keys).await, rows[..1]);
}

entity! {
    pub(crate) struct Dated in "batch_dated" {
        keys { id: i64 }
        @insert_only made: i64,
        changed: i64,
    }
}

async fn insert_only_columns_keep_their_first_value(database: Database) {
    let sink = &database.sink;
    create::<Dated>(sink).await;
    write(sink, &[Dated { id: 1, made: 1, changed: 1 }], &[]).await;
    write(sink, &[Dated { id: 1, made: 2, changed: 2 }], &[]).await;
    assert_eq!(load::<Dated>(sink, &[1]).await, [Dated { id: 1, made: 1, changed: 2 }]);
}

entity! {
    pub(crate) struct Follow in "batch_follow" {
        keys { a: i64, b: i64 }
    }
}

async fn a_table_of_keys_only(database: Database) {
    let sink = &database.sink;
    create::<Follow>(sink).await;
    let rows: Vec<Follow> = (0..10).map(|b| Follow { a: 1, b }).collect();
    for _ in 0..2 {
        write(sink, &rows, &[]).await;
    }
    write::<Follow>(sink, &[], &[(1, 0), (1, 99)]).await;
    assert_eq!(raw::<Follow>(sink, "b").await.len(), 9);
}

entity! {
    pub(crate) struct Counter in "batch_counter" {
        keys { id: i64 }
        by: i64,
    }
}

/// Four writers of the same rows, as when a paused worker wakes up. A deadlock may happen on MySQL even so; it is
/// transient, and the same batch lands later.
async fn overlapping_batches_all_land(database: Database) {
    let sink = &database.sink;
    create::<Counter>(sink).await;
    let tasks: Vec<_> = (0..4)
        .map(|by| {
            let sink = sink.clone();
            tokio::spawn(async move {
                let mut deadlocks = 0;
                for round in 0..10 {
                    let rows: Vec<Counter> =
                        (0..300).map(|i| Counter { id: (i * 7 + by * 13 + round) % 500, by }).collect();
                    let mut rows = rows;
                    rows.sort_by_key(|r| r.id);
                    rows.dedup_by_key(|r| r.id);
                    while let Err(error) = try_write(&sink, &rows, &[]).await {
                        assert_eq!(error.kind(), ErrorKind::Transient, "{}", error.chain());
                        deadlocks += 1;
                        assert!(deadlocks < 100);
                    }
                }
                deadlocks
            })
        })
        .collect();
    let mut deadlocks = 0;
    for task in tasks {
        deadlocks += task.await.unwrap();
    }
    if sink.db().get_database_backend() != sea_orm::DbBackend::MySql {
        assert_eq!(deadlocks, 0, "sorted batches do not deadlock");
    }
    assert!(!raw::<Counter>(sink, "id").await.is_empty());
}

entity! {
    pub(crate) struct Atomic in "batch_atomic" {
        keys { id: i64 }
        code: Option<String>,
    }
}

/// A batch of several statements whose last one fails, here because its row is locked, leaves nothing.
async fn p13_a_failed_batch_leaves_nothing(database: Database) {
    let options = SqlOptions::new().max_rows(1).statement_timeout(Duration::from_millis(200));
    let small = SqlSink::with_options(database.sink.db().clone(), options);
    create::<Atomic>(&small).await;
    let row = |id, code: &str| Atomic { id, code: Some(code.into()) };
    write(&small, &[row(3, "old")], &[]).await;
    let other = small.db().begin().await.unwrap();
    other.execute_unprepared("UPDATE batch_atomic SET code = 'locked' WHERE id = 3").await.unwrap();
    let error = try_write(&small, &[row(1, "a"), row(2, "b"), row(3, "c")], &[]).await.unwrap_err();
    assert!([ErrorKind::Transient, ErrorKind::Unavailable].contains(&error.kind()), "{}", error.chain());
    other.rollback().await.unwrap();
    assert_eq!(load::<Atomic>(&small, &[1, 2, 3]).await, [row(3, "old")]);
    assert_eq!(write(&small, &[row(1, "a"), row(2, "b")], &[9]).await.statements, 3);
}

/// A batch that is given up while it runs is rolled back, and the pool stays usable.
async fn an_abandoned_batch_leaves_nothing(database: Database) {
    let sink = &database.sink;
    create::<Abandoned>(sink).await;
    let rows: Vec<Abandoned> = (0..5_000).map(|id| Abandoned { id, text: "x".repeat(100) }).collect();
    for micros in [0, 200, 1_000, 3_000, 5_000, 8_000, 12_000, 20_000] {
        let pause = std::time::Duration::from_micros(micros);
        let done = tokio::time::timeout(pause, try_write(sink, &rows, &[])).await.is_ok();
        let count = raw::<Abandoned>(sink, "id").await.len();
        assert!(count == 0 || count == rows.len(), "half a batch: {count}");
        if done {
            break;
        }
        // The commit may have been on its way when the batch was given up.
        write::<Abandoned>(sink, &[], &rows.iter().map(|r| r.id).collect::<Vec<_>>()).await;
    }
    write(sink, &rows, &[]).await;
    assert_eq!(raw::<Abandoned>(sink, "id").await.len(), rows.len());
}

entity! {
    pub(crate) struct Abandoned in "batch_abandoned" {
        keys { id: i64 }
        text: String,
    }
}

entity! {
    pub(crate) struct Opened in "batch_opened" {
        keys { id: i64 }
        n: i32,
    }
}

async fn one_sink_serves_many_entities(database: Database) {
    let sink = &database.sink;
    create::<Opened>(sink).await;
    create::<Empty>(sink).await;
    Sink::<Opened>::open(sink, &scope::<Opened>()).await.unwrap();
    Sink::<Empty>::open(sink, &scope::<Empty>()).await.unwrap();
    write(sink, &[Opened { id: 1, n: 1 }], &[]).await;
    write(sink, &[Empty { id: 1, n: 2 }], &[]).await;
    assert_eq!(load::<Opened>(sink, &[1]).await[0].n, 1);
    assert_eq!(load::<Empty>(sink, &[1, 1]).await, [Empty { id: 1, n: 2 }]);
    assert_eq!(write::<Empty>(sink, &[], &[]).await.statements, 0);
    assert!(load::<Empty>(sink, &[]).await.is_empty());
}

entity! {
    pub(crate) struct Empty in "batch_empty" {
        keys { id: i64 }
        n: i32,
    }
}

on_every_database!(
    more_rows_than_one_statement_can_bind,
    nulls_between_values_stay_where_they_are,
    names_are_quoted,
    texts_arrive_to_the_byte,
    insert_only_columns_keep_their_first_value,
    a_table_of_keys_only,
    overlapping_batches_all_land,
    p13_a_failed_batch_leaves_nothing,
    an_abandoned_batch_leaves_nothing,
    one_sink_serves_many_entities,
);
