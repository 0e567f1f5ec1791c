//! Values that a database cannot hold.

use sea_orm::DbBackend;
use write_behind::{ErrorKind, Id};

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

async fn a_value_that_does_not_fit_is_named_and_the_rest_lands(database: Database) {
    let sink = &database.sink;
    create::<Reading>(sink).await;
    let backend = sink.db().get_database_backend();
    let far = chrono::NaiveDate::from_ymd_opt(20_000, 1, 1);
    let early = chrono::NaiveDate::from_ymd_opt(-200_000, 1, 1);
    let bad: Vec<(Reading, &str)> = match backend {
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
    };
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
}

entity! {
    pub(crate) struct Auto in "refuse_auto" {
        keys { id: i64 }
        n: i32,
    }
}

on_every_database!(
    a_value_that_does_not_fit_is_named_and_the_rest_lands,
    a_batch_of_bad_records_only_sends_nothing,
    a_key_that_does_not_fit_is_absent,
);
