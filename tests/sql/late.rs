//! A database that takes longer than a statement may: what can land does.

use std::time::{Duration, Instant};

use sea_orm::{ConnectionTrait, DbBackend, Statement, TransactionTrait};
use write_behind::{Engine, EntityOptions, ErrorKind, MemoryBuffer, SqlOptions, SqlSink};
use write_behind_tests::eventually;

use crate::databases::Database;
use crate::entities::{create, raw, try_write, write};

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

entity! {
    pub(crate) struct Busy in "late_busy" {
        keys { id: i64 }
        n: i64,
    }
}

/// However long a statement may take: a lock that somebody else holds is told soon, and what is not locked lands.
async fn p8_a_lock_is_told_long_before_a_statement_is_late(database: Database) {
    let sink = &database.sink;
    create::<Busy>(sink).await;
    write(sink, &(0..1_000).map(|id| Busy { id, n: 0 }).collect::<Vec<_>>(), &[]).await;
    let engine = Engine::builder(MemoryBuffer::new()).entity::<Busy>(sink.clone(), options()).start().await.unwrap();
    let other = sink.db().begin().await.unwrap();
    other.execute_unprepared("UPDATE late_busy SET n = 100 WHERE id = 500").await.unwrap();
    let begun = Instant::now();
    let error = try_write(sink, &[Busy { id: 499, n: 1 }, Busy { id: 500, n: 1 }], &[]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Transient, "{}", error.chain());
    // Two seconds by default, five on SQLite; a statement has thirty.
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    let busy = engine.cache::<Busy>().unwrap();
    busy.put_many(&(0..1_000).map(|id| Busy { id, n: 1 }).collect::<Vec<_>>()).await.unwrap();
    let landed = async || {
        let text = "SELECT COUNT(*) AS n FROM late_busy WHERE n = 1";
        let query = Statement::from_string(sink.db().get_database_backend(), text);
        sink.db().query_one_raw(query).await.unwrap().map_or(0, |row| row.try_get::<i64>("", "n").unwrap())
    };
    if sink.db().get_database_backend() == DbBackend::Sqlite {
        // It locks the whole file, and whoever waits is told.
        eventually("it is told", PATIENCE, async || (engine.stats()["late_busy"].retries.total() > 0).then_some(()))
            .await;
        assert_eq!(landed().await, 0);
    } else {
        // Ten halves of a thousand rows, each tried twice: half a minute, and with a statement's time ten of them.
        eventually("its neighbours land", PATIENCE, async || (landed().await == 999).then_some(())).await;
    }
    other.rollback().await.unwrap();
    eventually("all land", PATIENCE, async || (landed().await == 1_000).then_some(())).await;
    assert_eq!(engine.dead_letters::<Busy>().unwrap().count().await.unwrap(), 0);
    assert_eq!(engine.shutdown(PATIENCE).await.unwrap().remaining, 0);
}

async fn p8_a_locked_row_waits_alone(database: Database) {
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

on_every_database!(p8_a_lock_is_told_long_before_a_statement_is_late);

/// On databases whose server ends what is late, and that lock rows.
mod on_servers {
    use super::{p8_a_batch_that_is_slower_than_the_limit_of_a_statement_lands, p8_a_locked_row_waits_alone};

    on_every_database!(@ postgres p8_a_batch_that_is_slower_than_the_limit_of_a_statement_lands p8_a_locked_row_waits_alone);
    on_every_database!(@ mysql p8_a_batch_that_is_slower_than_the_limit_of_a_statement_lands p8_a_locked_row_waits_alone);
}
