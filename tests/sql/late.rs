//! A database that takes longer than a statement may: what can land does.

use std::time::Duration;

use sea_orm::{ConnectionTrait, DbBackend, Statement, TransactionTrait};
use write_behind::{Engine, EntityOptions, MemoryBuffer, SqlOptions, SqlSink};
use write_behind_tests::eventually;

use crate::databases::Database;
use crate::entities::{create, raw, write};

const PATIENCE: Duration = Duration::from_secs(120);

entity! {
    pub(crate) struct Slow in "late_slow" {
        keys { id: i64 }
        n: i64,
    }
}

entity! {
    pub(crate) struct Held in "late_held" {
        keys { id: i64 }
        n: i64,
    }
}

fn options() -> EntityOptions {
    EntityOptions::new().flush_every(Duration::from_millis(100))
}

/// A trigger takes 2 ms a row: 800 rows never pass in half a second.
async fn p8_a_batch_that_is_slower_than_the_limit_of_a_statement_lands(database: Database) {
    let limit = SqlOptions::new().statement_timeout(Duration::from_millis(500)).max_rows(800);
    let sink = SqlSink::with_options(database.sink.db().clone(), limit);
    create::<Slow>(&sink).await;
    let trigger: &[&str] = match sink.db().get_database_backend() {
        DbBackend::Postgres => &[
            "CREATE OR REPLACE FUNCTION late_slow() RETURNS trigger AS $$ BEGIN PERFORM pg_sleep(0.002); RETURN NEW; END $$ \
             LANGUAGE plpgsql",
            "CREATE TRIGGER late BEFORE INSERT ON late_slow FOR EACH ROW EXECUTE FUNCTION late_slow()",
        ],
        DbBackend::MySql => {
            &["CREATE TRIGGER late BEFORE INSERT ON late_slow FOR EACH ROW SET NEW.n = NEW.n + SLEEP(0.005)"]
        }
        _ => return,
    };
    for text in trigger {
        sink.db().execute_unprepared(text).await.unwrap();
    }
    let engine = Engine::builder(MemoryBuffer::new()).entity::<Slow>(sink.clone(), options()).start().await.unwrap();
    let rows: Vec<Slow> = (0..800).map(|id| Slow { id, n: 1 }).collect();
    engine.cache::<Slow>().unwrap().put_many(&rows).await.unwrap();
    eventually("every row is in the table", PATIENCE, async || {
        (raw::<Slow>(&database.sink, "id").await.len() == rows.len()).then_some(())
    })
    .await;
    assert_eq!(engine.dead_letters::<Slow>().unwrap().count().await.unwrap(), 0);
    assert_eq!(engine.shutdown(PATIENCE).await.unwrap().remaining, 0);
}

async fn p8_a_locked_row_waits_alone(database: Database) {
    if database.sink.db().get_database_backend() == DbBackend::Sqlite {
        // It locks the whole file.
        return;
    }
    let limit = SqlOptions::new().statement_timeout(Duration::from_millis(500));
    let sink = SqlSink::with_options(database.sink.db().clone(), limit);
    create::<Held>(&sink).await;
    // Rows that are there already: a lock on the gap between two of them would be one on their neighbours.
    write(&database.sink, &(0..1_000).map(|id| Held { id, n: 0 }).collect::<Vec<_>>(), &[]).await;
    let other = database.sink.db().begin().await.unwrap();
    other.execute_unprepared("UPDATE late_held SET n = 100 WHERE id = 500").await.unwrap();
    let engine = Engine::builder(MemoryBuffer::new()).entity::<Held>(sink.clone(), options()).start().await.unwrap();
    let held = engine.cache::<Held>().unwrap();
    let rows: Vec<Held> = (0..1_000).map(|id| Held { id, n: 1 }).collect();
    held.put_many(&rows).await.unwrap();
    let neighbour = held.put(&Held { id: 499, n: 2 }).await.unwrap();
    let locked = held.put(&Held { id: 500, n: 2 }).await.unwrap();
    eventually("its neighbours are in the table", PATIENCE, async || {
        let text = "SELECT COUNT(*) AS n FROM late_held WHERE n > 0";
        let query = Statement::from_string(database.sink.db().get_database_backend(), text);
        let count: i64 = database.sink.db().query_one_raw(query).await.unwrap()?.try_get("", "n").unwrap();
        (count == 999).then_some(())
    })
    .await;
    neighbour.persisted_within(PATIENCE).await.unwrap();
    assert!(locked.persisted_within(Duration::from_millis(100)).await.is_err(), "somebody holds its row");
    other.rollback().await.unwrap();
    locked.persisted_within(PATIENCE).await.unwrap();
    assert_eq!(engine.dead_letters::<Held>().unwrap().count().await.unwrap(), 0);
    assert_eq!(engine.shutdown(PATIENCE).await.unwrap().remaining, 0);
}

on_every_database!(p8_a_batch_that_is_slower_than_the_limit_of_a_statement_lands, p8_a_locked_row_waits_alone);
