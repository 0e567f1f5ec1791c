//! What `examine` finds between a mapping and the live table.

use sea_orm::{ConnectionTrait, DbBackend};
use write_behind::{Finding, Severity, Sink, SqlSink};

use crate::databases::Database;
use crate::entities::{create, scope};

entity! {
    pub(crate) struct Patient in "doctor_patient" {
        keys { id: i64 }
        name: String,
        age: i64,
        weight: Option<f64>,
        born: chrono::DateTime<chrono::Utc>,
        token: uuid::Uuid,
        alive: bool,
        notes: serde_json::Value,
    }
}

async fn findings(sink: &SqlSink, table: &str) -> Vec<Finding> {
    sink.db().execute_unprepared("DROP TABLE IF EXISTS doctor_patient").await.unwrap();
    sink.db().execute_unprepared(table).await.unwrap();
    Sink::<Patient>::open(sink, &scope::<Patient>()).await.unwrap();
    Sink::<Patient>::examine(sink, &scope::<Patient>()).await.unwrap()
}

/// Severity, code and the column that the text names first, sorted.
fn seen(findings: &[Finding]) -> Vec<(Severity, &str, &str)> {
    let column = |finding: &'_ Finding| {
        finding.text.split('`').nth(if finding.code == "missing-column" { 3 } else { 1 }).map(str::to_owned)
    };
    let mut seen: Vec<_> = findings
        .iter()
        .map(|finding| {
            (finding.severity, finding.code, &*Box::leak(column(finding).unwrap_or_default().into_boxed_str()))
        })
        .collect();
    seen.sort_unstable();
    seen
}

fn texts(findings: &[Finding]) -> String {
    findings.iter().map(Finding::to_string).collect::<Vec<_>>().join("\n")
}

/// One after the other, because they are all about one table.
async fn a_mapping_is_compared_with_its_table(database: Database) {
    a_table_that_fits_has_no_finding(&database.sink).await;
    everything_that_is_wrong_is_named(&database.sink).await;
    generated_columns_and_triggers(&database.sink).await;
}

async fn a_table_that_fits_has_no_finding(sink: &SqlSink) {
    create::<Patient>(sink).await;
    Sink::<Patient>::open(sink, &scope::<Patient>()).await.unwrap();
    Sink::<Patient>::prepare(sink, &scope::<Patient>()).await.unwrap();
    let found = Sink::<Patient>::examine(sink, &scope::<Patient>()).await.unwrap();
    // No column keeps nanoseconds there.
    let expected = match sink.db().get_database_backend() {
        DbBackend::Sqlite => Vec::new(),
        _ => vec![(Severity::Note, "time-precision", "born")],
    };
    assert_eq!(seen(&found), expected, "{}", texts(&found));
}

async fn everything_that_is_wrong_is_named(sink: &SqlSink) {
    use Severity::{Fatal, Note, Warning};
    let backend = sink.db().get_database_backend();
    let table = match backend {
        // `alive` and `notes` are missing, `name` is a number, `age` narrow, `weight` must be there, `born` is a text.
        DbBackend::Postgres => {
            "CREATE TABLE doctor_patient (id bigint PRIMARY KEY, name integer, age smallint, weight float8 NOT NULL, \
             born text, token uuid UNIQUE, ward text NOT NULL, bed text NOT NULL DEFAULT 'none', extra text, \
             seen bigint GENERATED ALWAYS AS IDENTITY)"
        }
        DbBackend::MySql => {
            "CREATE TABLE doctor_patient (id bigint PRIMARY KEY, name integer, age smallint, weight double NOT NULL, \
             born text, token binary(16) UNIQUE, ward varchar(9) NOT NULL, bed varchar(9) NOT NULL DEFAULT 'none', \
             extra text)"
        }
        _ => {
            "CREATE TABLE doctor_patient (id bigint PRIMARY KEY, name integer, age text, weight real NOT NULL, \
             born text, token blob UNIQUE, ward text NOT NULL, bed text NOT NULL DEFAULT 'none', extra text)"
        }
    };
    let found = findings(sink, table).await;
    let mut expected = vec![
        (Fatal, "missing-column", "alive"),
        (Fatal, "missing-column", "notes"),
        (Fatal, "incompatible-type", "name"),
        (Fatal, "not-null-unmapped", "ward"),
        (Warning, "not-null-mapped", "weight"),
        (Note, "secondary-unique", "doctor_patient"),
    ];
    if backend == DbBackend::Sqlite {
        expected.push((Fatal, "incompatible-type", "age"));
    } else {
        expected.push((Fatal, "incompatible-type", "born"));
        expected.push((Warning, "narrow-type", "age"));
    }
    expected.sort_unstable();
    assert_eq!(seen(&found), expected, "{}", texts(&found));
    assert!(found.iter().all(|finding| finding.subject == "entity `doctor_patient`"));
}

async fn generated_columns_and_triggers(sink: &SqlSink) {
    let table = match sink.db().get_database_backend() {
        DbBackend::Postgres => {
            "CREATE TABLE doctor_patient (id bigint PRIMARY KEY, name text, age bigint GENERATED ALWAYS AS (id) STORED, \
             weight float8, born timestamptz, token uuid, alive bool, notes json, ward text NOT NULL)"
        }
        DbBackend::MySql => {
            "CREATE TABLE doctor_patient (id bigint PRIMARY KEY, name text, age bigint AS (id) STORED, \
             weight double, born datetime, token binary(16), alive bool, notes json, ward varchar(9) NOT NULL)"
        }
        _ => {
            "CREATE TABLE doctor_patient (id bigint PRIMARY KEY, name text, age bigint AS (id) STORED, \
             weight real, born timestamp, token blob, alive bool, notes json)"
        }
    };
    let found = findings(sink, table).await;
    assert!(seen(&found).contains(&(Severity::Fatal, "generated-column", "age")), "{}", texts(&found));
    let trigger = match sink.db().get_database_backend() {
        DbBackend::Postgres => {
            "CREATE OR REPLACE FUNCTION doctor_ward() RETURNS trigger LANGUAGE plpgsql AS \
             'BEGIN NEW.ward = ''none''; RETURN NEW; END'; \
             CREATE TRIGGER doctor_ward BEFORE INSERT ON doctor_patient FOR EACH ROW EXECUTE FUNCTION doctor_ward()"
        }
        DbBackend::MySql => {
            "CREATE TRIGGER doctor_ward BEFORE INSERT ON doctor_patient FOR EACH ROW SET NEW.ward = 'none'"
        }
        _ => return,
    };
    assert!(seen(&found).contains(&(Severity::Fatal, "not-null-unmapped", "ward")), "{}", texts(&found));
    sink.db().execute_unprepared(trigger).await.unwrap();
    let found = Sink::<Patient>::examine(sink, &scope::<Patient>()).await.unwrap();
    assert!(seen(&found).contains(&(Severity::Warning, "not-null-unmapped", "ward")), "{}", texts(&found));
}

entity! {
    pub(crate) struct Numbers in "doctor_numbers" {
        keys { id: i64 }
        a: i64,
        b: i16,
        c: f64,
        d: i32,
    }
}

/// What the doctor calls fit is read back, also from columns of another width.
#[tokio::test]
async fn numbers_of_another_width_come_back() {
    use crate::entities::{load, write};
    let Some(database) = crate::databases::postgres().await else { return };
    let sink = &database.sink;
    sink.db().execute_unprepared("DROP TABLE IF EXISTS doctor_numbers").await.unwrap();
    let table = "CREATE TABLE doctor_numbers (id integer PRIMARY KEY, a smallint, b bigint, c numeric, d float8)";
    sink.db().execute_unprepared(table).await.unwrap();
    Sink::<Numbers>::open(sink, &scope::<Numbers>()).await.unwrap();
    let found = Sink::<Numbers>::examine(sink, &scope::<Numbers>()).await.unwrap();
    assert!(found.iter().all(|finding| finding.code == "narrow-type"), "{}", texts(&found));
    let row = Numbers { id: 1, a: 2, b: 3, c: 4.5, d: 5 };
    write(sink, std::slice::from_ref(&row), &[]).await;
    assert_eq!(load::<Numbers>(sink, &[1]).await, [row]);
}

on_every_database!(a_mapping_is_compared_with_its_table);
