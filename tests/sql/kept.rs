//! Times and decimals: what a column keeps, what is cut when it is written, what is refused, and what the start says of it.

use std::time::Duration;

use chrono::{DateTime, FixedOffset, Local, NaiveDate, NaiveDateTime, NaiveTime, TimeZone, Utc};
use rust_decimal::Decimal;
use sea_orm::prelude::{TimeDateTime, TimeDateTimeWithTimeZone};
use sea_orm::{ConnectionTrait, DbBackend, Statement};
use write_behind::{
    Cache, CacheError, Engine, EntityOptions, Finding, MemoryBuffer, Severity, Sink, SqlEntity, SqlSink, State,
};

use crate::databases::Database;
use crate::entities::{create, load, scope};

async fn start<E: SqlEntity>(sink: &SqlSink) -> (Engine, Cache<E>) {
    let options = EntityOptions::new().flush_every(Duration::from_millis(20));
    let engine = Engine::builder(MemoryBuffer::new()).entity::<E>(sink.clone(), options).start().await.unwrap();
    let cache = engine.cache::<E>().unwrap();
    (engine, cache)
}

async fn findings<E: SqlEntity>(sink: &SqlSink) -> Vec<Finding> {
    Sink::<E>::open(sink, &scope::<E>()).await.unwrap();
    Sink::<E>::examine(sink, &scope::<E>()).await.unwrap()
}

/// Codes of the findings about a column, with their severity.
fn about(findings: &[Finding], column: &str) -> Vec<(Severity, &'static str)> {
    let named = format!("`{column}`");
    findings.iter().filter(|finding| finding.text.contains(&named)).map(|f| (f.severity, f.code)).collect()
}

async fn table(sink: &SqlSink, name: &str, columns: [&str; 3]) {
    let db = sink.db();
    db.execute_unprepared(&format!("DROP TABLE IF EXISTS {name}")).await.unwrap();
    let columns = match db.get_database_backend() {
        DbBackend::Postgres => columns[0],
        DbBackend::MySql => columns[1],
        _ => columns[2],
    };
    db.execute_unprepared(&format!("CREATE TABLE {name} (id bigint PRIMARY KEY, {columns})")).await.unwrap();
}

async fn one<T: sea_orm::TryGetable>(sink: &SqlSink, column: &str, table: &str, id: i64) -> T {
    let text = format!("SELECT {column} AS c FROM {table} WHERE id = {id}");
    let statement = Statement::from_string(sink.db().get_database_backend(), text);
    sink.db().query_one_raw(statement).await.unwrap().unwrap().try_get("", "c").unwrap()
}

fn at(year: i32, month: u32, day: u32, nanos: u32) -> NaiveDateTime {
    NaiveDate::from_ymd_opt(year, month, day).unwrap().and_hms_nano_opt(23, 59, 59, nanos).unwrap()
}

entity! {
    pub(crate) struct Diary in "kept_diary" {
        keys { id: i64 }
        utc: DateTime<Utc>,
        fixed: DateTime<FixedOffset>,
        local: DateTime<Local>,
        zoned: TimeDateTimeWithTimeZone,
        naive: NaiveDateTime,
        date: NaiveDate,
        hits: i64,
    }
}

fn diary(id: i64, time: NaiveDateTime) -> Diary {
    let utc = time.and_utc();
    let nanos = i128::from(utc.timestamp()) * 1_000_000_000 + i128::from(utc.timestamp_subsec_nanos());
    let offset = TimeDateTimeWithTimeZone::from_unix_timestamp_nanos(nanos).unwrap();
    Diary {
        id,
        utc,
        fixed: FixedOffset::east_opt(0).unwrap().from_utc_datetime(&time),
        local: Local.from_utc_datetime(&time),
        zoned: offset,
        naive: time,
        date: time.date(),
        hits: 0,
    }
}

async fn p2_moments_are_stored_over_the_whole_range_of_the_column(database: Database) {
    let sink = &database.sink;
    create::<Diary>(sink).await;
    let (engine, cache) = start::<Diary>(sink).await;
    let times = [
        at(2099, 12, 31, 0),
        at(9_999, 12, 30, 999_999_000),
        at(1_000, 1, 1, 0),
        at(1969, 12, 31, 999_999_000),
        at(2038, 1, 19, 0),
        at(1, 1, 1, 1_000),
    ];
    for (id, time) in (1_i64..).zip(times) {
        let row = diary(id, time);
        cache.put(&row).await.unwrap().persisted().await.unwrap();
        for _ in 0..2 {
            assert_eq!(one::<DateTime<Utc>>(sink, "utc", "kept_diary", id).await, row.utc);
            assert_eq!(one::<DateTime<FixedOffset>>(sink, "fixed", "kept_diary", id).await, row.fixed);
            assert_eq!(one::<DateTime<Local>>(sink, "local", "kept_diary", id).await, row.local);
            assert_eq!(one::<TimeDateTimeWithTimeZone>(sink, "zoned", "kept_diary", id).await, row.zoned);
            assert_eq!(one::<NaiveDateTime>(sink, "naive", "kept_diary", id).await, row.naive);
            assert_eq!(one::<NaiveDate>(sink, "date", "kept_diary", id).await, row.date);
            // Another field alone is changed.
            cache.increment(&id, Diary::HITS, 1).await.unwrap();
            cache.flush().await.unwrap();
        }
        assert_eq!(load::<Diary>(sink, &[id]).await, [Diary { hits: 2, ..row }]);
    }
    engine.shutdown(Duration::from_secs(5)).await.unwrap();
}

entity! {
    pub(crate) struct Stamp in "kept_stamp" {
        keys { id: i64 }
        at: DateTime<Utc>,
    }
}

/// A `TIMESTAMP` of MySQL ends in 2038, and is NULL or zero beyond.
#[tokio::test]
async fn p2_what_a_timestamp_of_mysql_does_not_have_is_refused() {
    let Some(database) = crate::databases::mysql().await else { return };
    let sink = &database.sink;
    table(sink, "kept_stamp", ["", "at TIMESTAMP(6) NULL", ""]).await;
    assert_eq!(about(&findings::<Stamp>(sink).await, "at")[0], (Severity::Warning, "narrow-type"));
    let (engine, cache) = start::<Stamp>(sink).await;
    let stamp = |id, year| Stamp { id, at: at(year, 12, 31, 0).and_utc() };
    for (id, year) in [(1, 1970), (2, 2037), (3, 2020)] {
        cache.put(&stamp(id, year)).await.unwrap().persisted().await.unwrap();
        assert_eq!(one::<DateTime<Utc>>(sink, "at", "kept_stamp", id).await, stamp(id, year).at);
    }
    for (id, year) in [(4, 1969), (5, 2107), (6, 9_999)] {
        let told = cache.put(&stamp(id, year)).await.unwrap_err();
        assert!(matches!(&told, CacheError::Unstorable { field, .. } if field == "at"), "{told}");
        assert_eq!(cache.state(&id).await.unwrap(), State::Absent);
    }
    engine.shutdown(Duration::from_secs(5)).await.unwrap();
}

entity! {
    pub(crate) struct Clock in "kept_clock" {
        keys { id: i64 }
        utc: DateTime<Utc>,
        naive: NaiveDateTime,
        primitive: TimeDateTime,
        time: NaiveTime,
        maybe: Option<DateTime<Utc>>,
    }
}

fn clock(id: i64, nanos: u32) -> Clock {
    let naive = at(2024, 2, 29, nanos);
    let date = sea_orm::prelude::TimeDate::from_calendar_date(2024, sea_orm::sea_query::prelude::time::Month::May, 1);
    let time = sea_orm::prelude::TimeTime::from_hms_nano(23, 59, 59, nanos % 1_000_000_000).unwrap();
    Clock {
        id,
        utc: naive.and_utc(),
        naive,
        primitive: TimeDateTime::new(date.unwrap(), time),
        time: naive.time(),
        maybe: Some(naive.and_utc()),
    }
}

/// The buffer and the row are one value, whatever fraction a time has.
async fn p13_a_fraction_is_cut_when_it_is_written_and_not_when_it_is_flushed(database: Database) {
    let types = [
        ("timestamptz", "timestamp", "time", "datetime(6)", "time(6)", 6_u32),
        ("timestamptz(3)", "timestamp(3)", "time(3)", "datetime(3)", "time(3)", 3),
        ("timestamptz(0)", "timestamp(0)", "time(0)", "datetime", "time", 0),
    ];
    for (zoned, naive, time, datetime, my_time, digits) in types {
        let postgres = format!("utc {zoned}, naive {naive}, \"primitive\" {naive}, time {time}, maybe {zoned}");
        let mysql =
            format!("utc {datetime}, naive {datetime}, `primitive` {datetime}, time {my_time}, maybe {datetime}");
        let sqlite = "utc text, naive text, \"primitive\" text, time text, maybe text";
        table(&database.sink, "kept_clock", [&postgres, &mysql, sqlite]).await;
        let sink = &database.anew().await;
        let sqlite = sink.db().get_database_backend() == DbBackend::Sqlite;
        let expected = match (sqlite, digits) {
            (true, _) => None,
            (false, 6) => Some((Severity::Note, "time-precision")),
            (false, _) => Some((Severity::Warning, "time-precision")),
        };
        let found = findings::<Clock>(sink).await;
        for column in ["utc", "naive", "primitive", "time", "maybe"] {
            assert_eq!(about(&found, column), Vec::from_iter(expected), "{found:?}");
        }
        let (engine, cache) = start::<Clock>(sink).await;
        let unit = if sqlite { 1 } else { 10_u32.pow(9 - digits) };
        for (id, nanos) in [(1, 999_999_999), (2, 1), (3, 500_000_000), (4, 123_456_789), (5, 0)] {
            let kept = clock(id, nanos - nanos % unit);
            let receipt = cache.put(&clock(id, nanos)).await.unwrap();
            assert_eq!(cache.get(&id).await.unwrap(), Some(kept.clone()), "{digits} digits of {nanos}");
            receipt.persisted().await.unwrap();
            assert_eq!(cache.get(&id).await.unwrap(), Some(kept.clone()));
            assert_eq!(load::<Clock>(sink, &[id]).await, std::slice::from_ref(&kept));
            assert_eq!(one::<NaiveDateTime>(sink, "naive", "kept_clock", id).await, kept.naive);
            // By the other ways of writing, too.
            cache.update(&id, move |row| row.utc = clock(id, nanos).utc).await.unwrap();
            assert_eq!(cache.get(&id).await.unwrap(), Some(kept));
        }
        for id in [11, 12] {
            let leap = clock(id, 1_500_000_000);
            let row = if id == 11 {
                Clock { naive: leap.naive, ..clock(id, 0) }
            } else {
                Clock { time: leap.time, ..clock(id, 0) }
            };
            let field = if id == 11 { "naive" } else { "time" };
            let told = cache.put(&row).await.unwrap_err();
            assert!(matches!(&told, CacheError::Unstorable { field: named, .. } if named == field), "{told}");
            assert_eq!(cache.state(&id).await.unwrap(), State::Absent);
        }
        assert_eq!(engine.stats()["kept_clock"].dead_letters, 0);
        engine.shutdown(Duration::from_secs(5)).await.unwrap();
    }
}

entity! {
    pub(crate) struct Price in "kept_price" {
        keys { id: i64 }
        amount: Decimal,
    }
}

fn price(id: i64, text: &str) -> Price {
    Price { id, amount: text.parse().unwrap() }
}

const AMOUNTS: [&str; 8] = [
    "12.34",
    "99999999999999999999",
    "79228162514264337593543950335",
    "-79228162514264337593543950335",
    "7.9228162514264337593543950335",
    "0.0000000000000000000000000001",
    "-0.05",
    "0",
];

async fn p3_a_table_that_is_made_here_keeps_every_decimal(database: Database) {
    let sink = &database.sink;
    create::<Price>(sink).await;
    let found = findings::<Price>(sink).await;
    assert!(about(&found, "amount").is_empty(), "{found:?}");
    let (engine, cache) = start::<Price>(sink).await;
    for (id, text) in (1_i64..).zip(AMOUNTS) {
        let row = price(id, text);
        cache.put(&row).await.unwrap().persisted().await.unwrap();
        let stored: String = match sink.db().get_database_backend() {
            DbBackend::Postgres => one(sink, "amount::text", "kept_price", id).await,
            DbBackend::MySql => one(sink, "CAST(amount AS CHAR)", "kept_price", id).await,
            _ => one(sink, "amount", "kept_price", id).await,
        };
        assert_eq!(stored.parse::<Decimal>().unwrap(), row.amount, "{stored}");
        assert_eq!(load::<Price>(sink, &[id]).await, [row]);
    }
    engine.shutdown(Duration::from_secs(5)).await.unwrap();
}

async fn p3_digits_that_the_column_does_not_have_are_refused_and_found_at_start(database: Database) {
    for (columns, fit, unfit) in [
        (["amount numeric(10,1)", "amount decimal(10,1)", "amount real"], "12.5", "12.3456789012345678"),
        (["amount numeric(10,0)", "amount decimal", "amount numeric"], "12.00", "99999999999999999999.9"),
        (["amount numeric(4,4)", "amount decimal(4,4)", "amount decimal(4, 4)"], "0.1234", "0.12345678901234567"),
    ] {
        table(&database.sink, "kept_amount", columns).await;
        let sink = &database.anew().await;
        let found = findings::<Amount>(sink).await;
        assert_eq!(about(&found, "amount"), [(Severity::Warning, "narrow-type")], "{columns:?}: {found:?}");
        let (engine, cache) = start::<Amount>(sink).await;
        cache.put(&narrow(1, fit)).await.unwrap().persisted().await.unwrap();
        assert_eq!(load::<Amount>(sink, &[1]).await, [narrow(1, fit)]);
        let told = cache.put(&narrow(2, unfit)).await.unwrap_err();
        assert!(matches!(&told, CacheError::Unstorable { field, .. } if field == "amount"), "{told}");
        assert_eq!(cache.state(&2).await.unwrap(), State::Absent);
        engine.shutdown(Duration::from_secs(5)).await.unwrap();
    }
}

entity! {
    pub(crate) struct Amount in "kept_amount" {
        keys { id: i64 }
        amount: Decimal,
    }
}

fn narrow(id: i64, text: &str) -> Amount {
    Amount { id, amount: text.parse().unwrap() }
}

/// A server whose `sql_mode` cuts what does not fit is no different.
#[tokio::test]
async fn p3_nothing_is_cut_in_a_session_that_is_not_strict() {
    let Some(url) = crate::databases::server("WB_MYSQL_URL") else { return };
    let mut options = sea_orm::ConnectOptions::new(url);
    options.max_connections(2).map_sqlx_mysql_pool_opts(|pool| {
        pool.after_connect(|connection, _| {
            Box::pin(async move { sea_orm::sqlx::Executor::execute(connection, "SET sql_mode = ''").await.map(drop) })
        })
    });
    let sink = SqlSink::new(sea_orm::Database::connect(options).await.unwrap());
    table(&sink, "kept_loose", ["", "word VARCHAR(3) CHARACTER SET latin1", ""]).await;
    let row = |id, word: &str| Loose { id, word: word.into() };
    let rejected = crate::entities::refused(&sink, &[row(1, "abc"), row(2, "\u{1f980}")], &[]).await;
    assert_eq!(crate::entities::kinds(&rejected), [("2", write_behind::ErrorKind::Rejected)]);
    assert_eq!(load::<Loose>(&sink, &[1, 2]).await, [row(1, "abc")]);
    // The session has its own mode again.
    let text = "SELECT CAST(@@sql_mode AS CHAR) AS c";
    let mode = sink.db().query_one_raw(Statement::from_string(DbBackend::MySql, text)).await.unwrap().unwrap();
    assert!(!mode.try_get::<String>("", "c").unwrap().contains("STRICT"));
}

entity! {
    pub(crate) struct Loose in "kept_loose" {
        keys { id: i64 }
        word: String,
    }
}

on_every_database!(
    p2_moments_are_stored_over_the_whole_range_of_the_column,
    p13_a_fraction_is_cut_when_it_is_written_and_not_when_it_is_flushed,
    p3_a_table_that_is_made_here_keeps_every_decimal,
    p3_digits_that_the_column_does_not_have_are_refused_and_found_at_start,
);
