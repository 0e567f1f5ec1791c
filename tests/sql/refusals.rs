//! Values that a database cannot hold.

use std::time::Duration;

use sea_orm::DbBackend;
use write_behind::{CacheError, Engine, Entity, EntityOptions, ErrorKind, Id, MemoryBuffer, Sink, State};

use crate::databases::Database;
use crate::entities::{create, load, raw, try_write, write};

entity! {
    pub(crate) struct Reading in "refuse_reading" {
        keys { id: i64 }
        big: u64,
        ratio: Option<f64>,
        label: String,
        day: Option<chrono::NaiveDate>,
    }
}

fn reading(id: i64) -> Reading {
    Reading { id, big: 1, ratio: Some(0.5), label: "ok".into(), day: None }
}

/// Rows that the database cannot hold, and the column.
fn unstorable(backend: DbBackend) -> Vec<(Reading, &'static str)> {
    let far = chrono::NaiveDate::from_ymd_opt(20_000, 1, 1);
    let early = chrono::NaiveDate::from_ymd_opt(-200_000, 1, 1);
    match backend {
        DbBackend::Postgres => vec![
            (Reading { big: u64::MAX, ..reading(11) }, "`big`"),
            (Reading { label: "nul\0".into(), ..reading(12) }, "`label`"),
            (Reading { day: early, ..reading(13) }, "`day`"),
        ],
        DbBackend::MySql => vec![
            (Reading { ratio: Some(f64::NAN), ..reading(11) }, "`ratio`"),
            (Reading { ratio: Some(f64::INFINITY), ..reading(12) }, "`ratio`"),
            (Reading { day: far, ..reading(13) }, "`day`"),
        ],
        _ => vec![
            (Reading { big: u64::MAX, ..reading(11) }, "`big`"),
            (Reading { ratio: Some(f64::NAN), ..reading(12) }, "`ratio`"),
        ],
    }
}

async fn a_value_that_does_not_fit_is_named_and_the_rest_lands(database: Database) {
    let sink = &database.sink;
    create::<Reading>(sink).await;
    let backend = sink.db().get_database_backend();
    let bad = unstorable(backend);
    let mut rows: Vec<Reading> = (1..=10).map(reading).collect();
    rows.extend(bad.iter().map(|(row, _)| row.clone()));
    let report = try_write(sink, &rows, &[]).await.unwrap();
    assert_eq!(report.rejected.len(), bad.len());
    for (row, column) in &bad {
        let id = Id::of(&row.id).unwrap();
        let (_, error) = report.rejected.iter().find(|(rejected, _)| *rejected == id).unwrap();
        assert_eq!(error.kind(), ErrorKind::Rejected);
        assert!(error.to_string().contains(column) && error.to_string().contains(&row.id.to_string()), "{error}");
    }
    assert_eq!(raw::<Reading>(sink, "id").await.len(), 10);
}

/// What a flush would refuse for the value alone is told to who writes it: nothing is acknowledged that becomes a dead letter.
async fn p12_what_the_database_cannot_hold_is_refused_before_it_is_stored(database: Database) {
    let sink = &database.sink;
    create::<Gauge>(sink).await;
    let backend = sink.db().get_database_backend();
    let options = EntityOptions::new().flush_every(Duration::from_millis(20));
    let builder = Engine::builder(MemoryBuffer::new()).entity::<Gauge>(sink.clone(), options.clone());
    let engine = builder.start().await.unwrap();
    let gauges = engine.cache::<Gauge>().unwrap();
    for (Reading { id, big, ratio, label, day }, column) in unstorable(backend) {
        let told = gauges.put(&Gauge { id, big, ratio, label, day, extra: None }).await;
        let named = format!("field {column}");
        // JSON has no such numbers at all.
        let is_json = matches!(&told, Err(CacheError::Codec { .. }));
        assert!(
            is_json || matches!(&told, Err(e @ CacheError::Unstorable { .. }) if e.to_string().contains(&named)),
            "{told:?}"
        );
        assert_eq!(gauges.state(&id).await.unwrap(), State::Absent);
    }
    let gauge = Gauge { id: 1, big: 7, ratio: None, label: "ok".into(), day: None, extra: None };
    gauges.put(&gauge).await.unwrap().persisted().await.unwrap();
    let json = Gauge { extra: Some(serde_json::json!({ "list": ["a\0"] })), ..gauge.clone() };
    let told = gauges.put(&json).await;
    let refused = matches!(&told, Err(CacheError::Unstorable { field, .. }) if field == "extra");
    assert_eq!(refused, backend == DbBackend::Postgres, "{told:?}");
    let most = i64::MAX as u64;
    gauges.put(&Gauge { big: most, ..gauge.clone() }).await.unwrap().persisted().await.unwrap();
    let told = gauges.update(&1, |gauge| gauge.big += 1).await;
    let refused = matches!(&told, Err(CacheError::Unstorable { field, .. }) if field == "big");
    assert_eq!(refused, backend != DbBackend::MySql, "{told:?}");
    gauges.flush().await.unwrap();
    assert_eq!(engine.stats()[Gauge::NAME].dead_letters, 0);
    assert_eq!(engine.stats()[Gauge::NAME].refused, 0);
    engine.shutdown(Duration::from_secs(5)).await.unwrap();
}

/// What is said of a row before it is stored is what the flush says of it.
async fn what_is_checked_is_what_is_refused(database: Database) {
    let sink = &database.sink;
    create::<Checked>(sink).await;
    create::<Signed>(sink).await;
    let bad = unstorable(sink.db().get_database_backend());
    for Reading { id, big, ratio, label, day } in bad.into_iter().map(|(row, _)| row).chain((1..=3).map(reading)) {
        let row = Checked { id, big, ratio, label, day };
        let rejected = !try_write(sink, std::slice::from_ref(&row), &[]).await.unwrap().rejected.is_empty();
        assert_eq!(Sink::<Checked>::check(sink, &row).is_err(), rejected, "{row:?}");
    }
    let most = i64::MAX as u64;
    for row in [0, 1, most, most + 1, u64::MAX].map(|id| Signed { id, size: id, name: None }) {
        let rejected = !try_write(sink, std::slice::from_ref(&row), &[]).await.unwrap().rejected.is_empty();
        assert_eq!(Sink::<Signed>::check(sink, &row).is_err(), rejected, "{row:?}");
    }
}

entity! {
    pub(crate) struct Checked in "refuse_checked" {
        keys { id: i64 }
        big: u64,
        ratio: Option<f64>,
        label: String,
        day: Option<chrono::NaiveDate>,
    }
}

entity! {
    pub(crate) struct Gauge in "refuse_gauge" {
        keys { id: i64 }
        big: u64,
        ratio: Option<f64>,
        label: String,
        day: Option<chrono::NaiveDate>,
        extra: Option<serde_json::Value>,
    }
}

entity! {
    pub(crate) struct Signed in "refuse_signed" {
        keys { id: u64 }
        size: u64,
        name: Option<String>,
    }
}

async fn a_batch_of_bad_records_only_sends_nothing(database: Database) {
    let sink = &database.sink;
    create::<Lone>(sink).await;
    let number = if sink.db().get_database_backend() == DbBackend::Postgres { f64::INFINITY } else { f64::NAN };
    let report = try_write(sink, &[Lone { id: 1, text: "x\0".into(), number }], &[]).await.unwrap();
    assert_eq!((report.rejected.len(), report.statements), (1, 0));
}

entity! {
    pub(crate) struct Lone in "refuse_lone" {
        keys { id: i64 }
        text: String,
        number: f64,
    }
}

entity! {
    pub(crate) struct Numbered in "refuse_numbered" {
        keys { id: u64 }
        n: i32,
    }
}

async fn a_key_that_does_not_fit_is_absent(database: Database) {
    let sink = &database.sink;
    create::<Numbered>(sink).await;
    write(sink, &[Numbered { id: 5, n: 1 }], &[u64::MAX]).await;
    assert_eq!(load::<Numbered>(sink, &[u64::MAX, 5]).await, [Numbered { id: 5, n: 1 }]);
}

/// MySQL would store another number than zero.
#[tokio::test]
async fn a_zero_that_the_server_would_replace_is_refused() {
    use sea_orm::ConnectionTrait;
    let Some(database) = crate::databases::mysql().await else { return };
    let sink = &database.sink;
    sink.db().execute_unprepared("DROP TABLE IF EXISTS refuse_auto").await.unwrap();
    let table = "CREATE TABLE refuse_auto (id BIGINT AUTO_INCREMENT PRIMARY KEY, n INT)";
    sink.db().execute_unprepared(table).await.unwrap();
    let report = try_write(sink, &[Auto { id: 0, n: 1 }, Auto { id: 1, n: 1 }], &[]).await.unwrap();
    assert_eq!(report.rejected.len(), 1);
    assert_eq!(load::<Auto>(sink, &[0, 1]).await, [Auto { id: 1, n: 1 }]);
    let told = Sink::<Auto>::check(sink, &Auto { id: 0, n: 1 }).unwrap_err();
    assert_eq!(told.field, "id");
    Sink::<Auto>::check(sink, &Auto { id: 1, n: 1 }).unwrap();
}

entity! {
    pub(crate) struct Auto in "refuse_auto" {
        keys { id: i64 }
        n: i32,
    }
}

on_every_database!(
    p12_what_the_database_cannot_hold_is_refused_before_it_is_stored,
    what_is_checked_is_what_is_refused,
    a_value_that_does_not_fit_is_named_and_the_rest_lands,
    a_batch_of_bad_records_only_sends_nothing,
    a_key_that_does_not_fit_is_absent,
);
