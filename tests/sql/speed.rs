//! Rows a second against statements tuned by hand, in one run. Printed, not asserted: run with
//! `cargo test --test sql speed -- --ignored --nocapture`.

use std::time::{Duration, Instant};

use sea_orm::ConnectionTrait;
use sea_orm::sqlx;
use write_behind::SqlSink;

use crate::entities::{create, write};

entity! {
    pub(crate) struct Fast in "speed_fast" {
        keys { id: i64 }
        tenant: i64,
        name: String,
        note: Option<String>,
        ratio: f64,
        flag: bool,
        token: uuid::Uuid,
        at: chrono::DateTime<chrono::Utc>,
    }
}

fn fast(id: i64, round: i64) -> Fast {
    Fast {
        id,
        tenant: round,
        name: format!("name of {id}"),
        note: (id % 2 == 0).then(|| format!("note {round}")),
        ratio: id as f64 / 3.0,
        flag: id % 3 == 0,
        token: uuid::Uuid::from_u128(id as u128),
        at: chrono::DateTime::from_timestamp(1_700_000_000 + id, 0).unwrap(),
    }
}

/// Half of each batch is new.
fn batch_of(round: i64, size: i64) -> Vec<Fast> {
    let start = round * size / 2;
    (start..start + size).map(|id| fast(id, round)).collect()
}

async fn by_hand(pool: &sqlx::PgPool, rows: &[Fast]) {
    let text = "INSERT INTO speed_fast (id, tenant, name, note, ratio, flag, token, at) \
                SELECT * FROM UNNEST($1::int8[], $2::int8[], $3::text[], $4::text[], $5::float8[], $6::bool[], \
                $7::uuid[], $8::timestamptz[]) ON CONFLICT (id) DO UPDATE SET tenant = excluded.tenant, \
                name = excluded.name, note = excluded.note, ratio = excluded.ratio, flag = excluded.flag, \
                token = excluded.token, at = excluded.at";
    let mut tx = pool.begin().await.unwrap();
    sqlx::query(text)
        .bind(rows.iter().map(|r| r.id).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| r.tenant).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| r.name.clone()).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| r.note.clone()).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| r.ratio).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| r.flag).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| r.token).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| r.at).collect::<Vec<_>>())
        .execute(&mut *tx)
        .await
        .unwrap();
    tx.commit().await.unwrap();
}

async fn by_hand_listed(sink: &SqlSink, rows: &[Fast]) {
    use sea_orm::{Statement, TransactionTrait, Value};
    let backend = sink.db().get_database_backend();
    let columns = ["tenant", "name", "note", "ratio", "flag", "token", "at"];
    let (action, set) = match backend {
        sea_orm::DbBackend::MySql => ("ON DUPLICATE KEY UPDATE", columns.map(|c| format!("{c} = VALUES({c})"))),
        _ => ("ON CONFLICT (id) DO UPDATE SET", columns.map(|c| format!("{c} = excluded.{c}"))),
    };
    let tx = sink.db().begin().await.unwrap();
    for rows in rows.chunks(500) {
        let marks = vec!["(?, ?, ?, ?, ?, ?, ?, ?)"; rows.len()].join(", ");
        let text = format!(
            "INSERT INTO speed_fast (id, tenant, name, note, ratio, flag, token, at) VALUES {marks} {action} {}",
            set.join(", ")
        );
        let values = rows.iter().flat_map(|r| -> [Value; 8] {
            let r = r.clone();
            [
                r.id.into(),
                r.tenant.into(),
                r.name.into(),
                r.note.into(),
                r.ratio.into(),
                r.flag.into(),
                r.token.into(),
                r.at.into(),
            ]
        });
        tx.execute_raw(Statement::from_sql_and_values(backend, text, values)).await.unwrap();
    }
    tx.commit().await.unwrap();
}

/// The two take turns, so that a busy machine slows both.
async fn compare(sink: &SqlSink, size: i64, rounds: i64) {
    create::<Fast>(sink).await;
    let backend = sink.db().get_database_backend();
    let (mut ours, mut theirs) = (Duration::ZERO, Duration::ZERO);
    // The first rounds prepare the statements.
    const WARM_UP: i64 = 4;
    for round in 0..rounds + WARM_UP {
        if round == WARM_UP {
            (ours, theirs) = (Duration::ZERO, Duration::ZERO);
        }
        let rows = batch_of(round, size);
        // Each does half of the rounds first.
        for turn in [round % 2, (round + 1) % 2] {
            let start = Instant::now();
            if turn == 0 {
                write(sink, &rows, &[]).await;
                ours += start.elapsed();
            } else {
                match backend {
                    sea_orm::DbBackend::Postgres => by_hand(sink.db().get_postgres_connection_pool(), &rows).await,
                    _ => by_hand_listed(sink, &rows).await,
                }
                theirs += start.elapsed();
            }
        }
    }
    let rate = |time: Duration| (size * rounds) as f64 / time.as_secs_f64();
    eprintln!(
        "{backend:?} batch {size}: sink {:.0} rows/s, by hand {:.0} rows/s, ratio {:.2}",
        rate(ours),
        rate(theirs),
        rate(ours) / rate(theirs)
    );
}

#[tokio::test]
#[ignore = "prints figures"]
async fn upserts() {
    for (size, rounds) in [(100, 200), (1_000, 60), (5_000, 12)] {
        let databases =
            [crate::databases::postgres().await, crate::databases::mysql().await, crate::databases::sqlite().await];
        for database in databases.into_iter().flatten() {
            compare(&database.sink, size, rounds).await;
        }
    }
}

/// By hand, by the sink without fences, and with the fences of 16 partitions, in turns; the medians of single batches.
#[tokio::test]
#[ignore = "prints figures"]
async fn fences() {
    use write_behind::{Batch, Fence, Id, Scope, Sink, Upsert};

    let scope = std::sync::Arc::new(Scope::new("speed", "speed_fast", 16));
    for (size, rounds) in [(100, 400), (1_000, 100)] {
        for database in [crate::databases::postgres().await, crate::databases::mysql().await].into_iter().flatten() {
            let sink = &database.sink;
            create::<Fast>(sink).await;
            Sink::<Fast>::open(sink, &scope).await.unwrap();
            let mut fences: Vec<Fence> = Vec::new();
            for partition in 0..16 {
                fences.push(Sink::<Fast>::fence(sink, &scope, partition).await.unwrap().unwrap());
            }
            let batch = |rows: Vec<Fast>, fences: &[Fence]| {
                let rows = rows.into_iter().map(|row| Upsert::new(Id::of(&row.id).unwrap(), row));
                Batch::new(scope.clone(), fences.to_vec(), rows.collect(), Vec::new())
            };
            let backend = sink.db().get_database_backend();
            let mut times = [Vec::new(), Vec::new(), Vec::new()];
            for round in 0..rounds + 4 {
                for place in 0..3 {
                    let turn = (round + place) % 3;
                    // Never the same rows twice: the second time, nothing would change.
                    let rows = batch_of(round * 3 + place, size);
                    let start = match turn {
                        0 => {
                            let start = Instant::now();
                            match backend {
                                sea_orm::DbBackend::Postgres => {
                                    by_hand(sink.db().get_postgres_connection_pool(), &rows).await;
                                }
                                _ => by_hand_listed(sink, &rows).await,
                            }
                            start
                        }
                        _ => {
                            let batch = batch(rows, if turn == 1 { &[] } else { &fences });
                            let start = Instant::now();
                            sink.write(&batch).await.unwrap();
                            start
                        }
                    };
                    if round >= 4 {
                        times[turn as usize].push(start.elapsed());
                    }
                }
            }
            let [by_hand, without, with] = times.map(|mut times| {
                times.sort_unstable();
                times[times.len() / 2]
            });
            let ratio = |time: Duration| by_hand.as_secs_f64() / time.as_secs_f64();
            eprintln!(
                "{backend:?} batch {size}: by hand {by_hand:?}, without fences {without:?} ({:.2} of its speed), with 16 \
                 {with:?} ({:.2})",
                ratio(without),
                ratio(with),
            );
        }
    }
}
