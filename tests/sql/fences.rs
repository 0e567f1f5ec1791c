//! A stale owner is harmless: generations are issued, checked and locked by the database.

use std::sync::Arc;
use std::time::Duration;

use sea_orm::{ConnectionTrait, DbBackend, TransactionTrait};
use write_behind::testing::{Specimen, fences};
use write_behind::{
    Batch, Delete, Engine, Entity, EntityOptions, ErrorKind, Fence, Id, MemoryBuffer, Report, Scope, Severity, Sink,
    SinkError, SqlSink, Upsert,
};

use crate::databases::Database;
use crate::entities::{create, load, scope};

entity! {
    pub(crate) struct Guarded in "fence_guarded" {
        keys { id: i64 }
        round: i64,
    }
}

impl Specimen for Guarded {
    fn specimen(n: u64) -> Self {
        Self { id: i64::try_from(n).unwrap(), round: 0 }
    }

    fn revise(&self, round: u64) -> Self {
        Self { round: i64::try_from(round).unwrap(), ..self.clone() }
    }
}

fn another(sink: &SqlSink) -> SqlSink {
    SqlSink::new(sink.db().clone())
}

pub(crate) async fn fence<E: Entity>(sink: &SqlSink, partition: u16) -> Fence
where
    SqlSink: Sink<E>,
{
    Sink::<E>::fence(sink, &scope::<E>(), partition).await.unwrap().unwrap()
}

pub(crate) async fn fenced_write<E: Entity + Clone>(
    sink: &SqlSink,
    fences: &[Fence],
    upserts: &[E],
    deletes: &[E::Key],
) -> Result<Report, SinkError>
where
    SqlSink: Sink<E>,
{
    let batch = Batch::new(
        Arc::new(scope::<E>()),
        fences.to_vec(),
        upserts.iter().map(|v| Upsert::new(Id::of(&v.key()).unwrap(), v.clone())).collect(),
        deletes.iter().map(|k| Delete::new(Id::of(k).unwrap(), k.clone())).collect(),
    );
    sink.write(&batch).await
}

async fn p3_the_fence_suite(database: Database) {
    create::<Guarded>(&database.sink).await;
    fences::run_fence_suite::<Guarded>(&database.sink, &another(&database.sink)).await;
}

async fn p3_generations_grow_when_the_table_is_emptied(database: Database) {
    let sink = &database.sink;
    create::<Emptied>(sink).await;
    Sink::<Emptied>::open(sink, &scope::<Emptied>()).await.unwrap();
    let owner = Scope::new("emptied", "fence_emptied", 16);
    let issue = async || Sink::<Emptied>::fence(sink, &owner, 3).await.unwrap().unwrap().generation;
    let before = issue().await;
    sink.db().execute_unprepared("DELETE FROM wb_fence WHERE namespace = 'emptied'").await.unwrap();
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert!(issue().await > before);
}

entity! {
    pub(crate) struct Emptied in "fence_emptied" {
        keys { id: i64 }
    }
}

/// The old owner has checked its fence and waits for a row: the new owner waits for it, and what it wrote was there
/// before the new generation was.
async fn p3_a_fence_waits_for_the_batch_under_way(database: Database) {
    let sink = &database.sink;
    if sink.db().get_database_backend() == DbBackend::Sqlite {
        // It has one writer: there is no batch under way while another one is fenced.
        return;
    }
    create::<Held>(sink).await;
    Sink::<Held>::open(sink, &scope::<Held>()).await.unwrap();
    let row = |round| Held { id: 1, round };
    let old = fence::<Held>(sink, 1).await;
    fenced_write(sink, &[old], &[row(0)], &[]).await.unwrap();
    let other = sink.db().begin().await.unwrap();
    other.execute_unprepared("UPDATE fence_held SET round = 100 WHERE id = 1").await.unwrap();

    let under_way = tokio::spawn({
        let sink = sink.clone();
        async move { fenced_write(&sink, &[old], &[Held { id: 1, round: 1 }, Held { id: 2, round: 1 }], &[]).await }
    });
    waits_for_a_lock(sink, "fence_held", 1).await;
    let mut taking = tokio::spawn({
        let sink = another(sink);
        async move { fence::<Held>(&sink, 1).await }
    });
    waits_for_a_lock(sink, "fence_held", 2).await;
    // Another partition is nobody's concern.
    fence::<Held>(sink, 2).await;
    assert!(tokio::time::timeout(Duration::from_millis(300), &mut taking).await.is_err(), "the fence did not wait");

    other.rollback().await.unwrap();
    let new = taking.await.unwrap();
    // Everything the old owner did was done when the fence was there.
    assert_eq!(load::<Held>(sink, &[1, 2]).await.iter().map(|held| held.round).collect::<Vec<_>>(), [1, 1]);
    under_way.await.unwrap().unwrap();
    assert!(new.generation > old.generation);
    let error = fenced_write(sink, &[old], &[row(2)], &[2]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fenced, "{}", error.chain());
    fenced_write(sink, &[new], &[row(3)], &[]).await.unwrap();
    assert_eq!(load::<Held>(sink, &[1]).await, [row(3)]);
}

entity! {
    pub(crate) struct Held in "fence_held" {
        keys { id: i64 }
        round: i64,
    }
}

/// Looks until so many transactions wait for a lock in a table, or in the fences of its entity.
pub(crate) async fn waits_for_a_lock(sink: &SqlSink, table: &str, count: i64) {
    let backend = sink.db().get_database_backend();
    let text = match backend {
        DbBackend::Postgres => format!(
            "SELECT count(*) AS n FROM pg_stat_activity WHERE wait_event_type = 'Lock' \
             AND (query LIKE '%{table}%' OR query LIKE '%wb_fence%' AND query LIKE '%''{table}''%')"
        ),
        // One that runs for so long does nothing but wait.
        _ => format!(
            "SELECT COUNT(*) AS n FROM information_schema.processlist \
             WHERE command IN ('Execute', 'Query') AND time_ms > 200 AND id <> CONNECTION_ID() \
             AND (info LIKE '%{table}%' OR info LIKE CONCAT('%wb_fence%', HEX('{table}'), '%'))"
        ),
    };
    write_behind_tests::eventually("a transaction waits for a lock", Duration::from_secs(60), async || {
        let statement = sea_orm::Statement::from_string(backend, text.clone());
        let row = sink.db().query_one_raw(statement).await.unwrap().unwrap();
        (row.try_get::<i64>("", "n").unwrap() >= count).then_some(())
    })
    .await;
}

/// An owner that does not know yet that it lost its partition, with batches that always overlap.
async fn p3_a_stream_of_batches_does_not_keep_the_next_owner_out(database: Database) {
    let sink = &database.sink;
    create::<Streamed>(sink).await;
    Sink::<Streamed>::open(sink, &scope::<Streamed>()).await.unwrap();
    let old = fence::<Streamed>(sink, 1).await;
    let writers: Vec<_> = (0..3_i64)
        .map(|lane| {
            let sink = another(sink);
            tokio::spawn(async move {
                for round in 0.. {
                    let rows: Vec<Streamed> = (0..50).map(|i| Streamed { id: lane * 100 + i, round }).collect();
                    match fenced_write(&sink, &[old], &rows, &[]).await {
                        Ok(_) => {}
                        Err(error) if error.kind() == ErrorKind::Transient => {}
                        Err(error) => return (round, error),
                    }
                }
                unreachable!()
            })
        })
        .collect();
    write_behind_tests::eventually("the stream runs", Duration::from_secs(60), async || {
        (!load::<Streamed>(sink, &[0, 100, 200]).await.is_empty()).then_some(())
    })
    .await;
    let taking = tokio::time::timeout(Duration::from_secs(60), fence::<Streamed>(sink, 1));
    let new = taking.await.expect("the next owner is kept out");
    let mut batches = 0;
    for writer in writers {
        let writer = tokio::time::timeout(Duration::from_secs(60), writer).await;
        let (rounds, error) = writer.expect("a stale stream goes on").unwrap();
        assert_eq!(error.kind(), ErrorKind::Fenced, "{}", error.chain());
        batches += rounds;
    }
    assert!(batches > 0, "the stream never ran");
    fenced_write(sink, &[new], &[Streamed { id: 1, round: -1 }], &[]).await.unwrap();
}

entity! {
    pub(crate) struct Streamed in "fence_streamed" {
        keys { id: i64 }
        round: i64,
    }
}

/// The isolating transaction checks the fence like any other.
async fn p3_a_stale_batch_with_a_bad_row_writes_nothing(database: Database) {
    let sink = &database.sink;
    sink.db().execute_unprepared("DROP TABLE IF EXISTS fence_picky").await.unwrap();
    let table = "CREATE TABLE fence_picky (id BIGINT NOT NULL PRIMARY KEY, n BIGINT NOT NULL, CHECK (n < 100))";
    sink.db().execute_unprepared(table).await.unwrap();
    Sink::<Picky>::open(sink, &scope::<Picky>()).await.unwrap();
    let old = fence::<Picky>(sink, 1).await;
    let rows = [Picky { id: 1, n: 1 }, Picky { id: 2, n: 100 }, Picky { id: 3, n: 1 }];
    let report = fenced_write(sink, &[old], &rows, &[]).await.unwrap();
    assert_eq!(report.rejected.len(), 1);
    fence::<Picky>(sink, 1).await;
    let newer = rows.map(|row| Picky { n: row.n + 1, ..row });
    let error = fenced_write(sink, &[old], &newer, &[]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fenced, "{}", error.chain());
    assert_eq!(load::<Picky>(sink, &[1]).await, [Picky { id: 1, n: 1 }]);
}

entity! {
    pub(crate) struct Picky in "fence_picky" {
        keys { id: i64 }
        n: i64,
    }
}

/// Somebody drops the table while a worker runs: its batch lands no more, and the next generation goes on.
async fn p3_a_table_of_fences_that_is_dropped_comes_back(database: Database) {
    let sink = on_its_own(&database.sink, "wb_fence_dropped").await;
    create::<Dropped>(&sink).await;
    Sink::<Dropped>::open(&sink, &scope::<Dropped>()).await.unwrap();
    let row = |round| Dropped { id: 1, round };
    let drop = async || {
        sink.db().execute_unprepared("DROP TABLE wb_fence").await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    let first = fence::<Dropped>(&sink, 1).await;
    fenced_write(&sink, &[first], &[row(0)], &[]).await.unwrap();

    drop().await;
    let error = fenced_write(&sink, &[first], &[row(1)], &[]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fenced, "{}", error.chain());
    let second = fence::<Dropped>(&sink, 1).await;
    assert!(second.generation > first.generation);
    fenced_write(&sink, &[second], &[row(2)], &[]).await.unwrap();

    drop().await;
    let third = fence::<Dropped>(&sink, 1).await;
    assert!(third.generation > second.generation);
    let error = fenced_write(&sink, &[second], &[row(3)], &[]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fenced, "{}", error.chain());
    assert_eq!(load::<Dropped>(&sink, &[1]).await, [row(2)]);
}

entity! {
    pub(crate) struct Dropped in "fence_dropped" {
        keys { id: i64 }
        round: i64,
    }
}

/// A whole engine does it by itself, without waiting as long as for a table that is not as it should be (30 s).
async fn an_engine_goes_on_when_its_table_of_fences_is_dropped(database: Database) {
    let sink = on_its_own(&database.sink, "wb_fence_engine").await;
    create::<Dropped>(&sink).await;
    let options = EntityOptions::new().partitions(4).flush_every(Duration::from_millis(10));
    let builder = Engine::builder(MemoryBuffer::new()).lease(Duration::from_secs(1));
    let engine = builder.entity::<Dropped>(sink.clone(), options).start().await.unwrap();
    let cache = engine.cache::<Dropped>().unwrap();
    for round in 0..3 {
        for id in 0..20 {
            cache.put(&Dropped { id, round }).await.unwrap();
        }
        write_behind_tests::eventually("everything is written", Duration::from_secs(60), async || {
            let rows = load::<Dropped>(&sink, &(0..20).collect::<Vec<_>>()).await;
            (rows.len() == 20 && rows.iter().all(|row| row.round == round)).then_some(())
        })
        .await;
        sink.db().execute_unprepared("DROP TABLE wb_fence").await.unwrap();
    }
    engine.shutdown(Duration::from_secs(5)).await.unwrap();
}

/// Engines that start at the same moment make one table between them.
async fn engines_that_start_together_make_one_table(database: Database) {
    let sink = &database.sink;
    let apart = on_its_own(sink, "wb_fence_apart").await;
    create::<Guarded>(&apart).await;
    for _ in 0..5 {
        apart.db().execute_unprepared("DROP TABLE IF EXISTS wb_fence").await.unwrap();
        let opens = (0..4).map(|_| {
            let sink = another(&apart);
            tokio::spawn(async move { Sink::<Guarded>::prepare(&sink, &scope::<Guarded>()).await })
        });
        for open in futures::future::join_all(opens).await {
            if let Err(error) = open.unwrap() {
                panic!("{}", error.chain());
            }
        }
        fence::<Guarded>(&apart, 0).await;
    }
}

/// Who only looks makes no table; who starts does.
async fn a_doctor_makes_no_table_of_fences(database: Database) {
    let sink = on_its_own(&database.sink, "wb_fence_asked").await;
    create::<Guarded>(&sink).await;
    sink.db().execute_unprepared("DROP TABLE IF EXISTS wb_fence").await.unwrap();
    let builder = || Engine::builder(MemoryBuffer::new()).entity::<Guarded>(sink.clone(), EntityOptions::new());
    for _ in 0..2 {
        let findings = builder().doctor().await;
        let about: Vec<_> = findings.iter().filter(|found| found.code == "fence-table").collect();
        assert!(matches!(about[..], [found] if found.severity == Severity::Note), "{findings:?}");
        assert!(sink.db().execute_unprepared("SELECT * FROM wb_fence").await.is_err(), "it is there");
    }
    builder().start().await.unwrap().shutdown(Duration::from_secs(5)).await.unwrap();
    sink.db().execute_unprepared("SELECT * FROM wb_fence").await.unwrap();
    let findings = builder().doctor().await;
    assert!(findings.iter().all(|found| found.code != "fence-table"), "{findings:?}");
}

/// A sink on a database of its own, where the table of fences may be dropped.
async fn on_its_own(sink: &SqlSink, name: &str) -> SqlSink {
    let variable = match sink.db().get_database_backend() {
        DbBackend::Postgres => "WB_POSTGRES_URL",
        DbBackend::MySql => "WB_MYSQL_URL",
        _ => return sink.clone(),
    };
    sink.db().execute_unprepared(&format!("DROP DATABASE IF EXISTS {name}")).await.unwrap();
    sink.db().execute_unprepared(&format!("CREATE DATABASE {name}")).await.unwrap();
    let url = std::env::var(variable).unwrap();
    let (server, _) = url.rsplit_once('/').unwrap();
    SqlSink::connect(&format!("{server}/{name}")).await.unwrap()
}

#[tokio::test]
async fn who_may_not_create_the_table_is_told_what_to_run() {
    let Some(database) = crate::databases::postgres().await else { return };
    let db = database.sink.db();
    create::<Bound>(&database.sink).await;
    for text in [
        "DROP SCHEMA IF EXISTS fence_bound_to CASCADE",
        "DROP ROLE IF EXISTS wb_bound",
        "CREATE ROLE wb_bound LOGIN",
        "CREATE SCHEMA fence_bound_to",
        "CREATE TABLE fence_bound_to.fence_bound (id BIGINT PRIMARY KEY)",
        "GRANT USAGE ON SCHEMA fence_bound_to TO wb_bound",
        "GRANT ALL ON fence_bound_to.fence_bound TO wb_bound",
        "ALTER ROLE wb_bound SET search_path TO fence_bound_to",
    ] {
        db.execute_unprepared(text).await.unwrap();
    }
    let url = std::env::var("WB_POSTGRES_URL").unwrap().replace("postgres@", "wb_bound@");
    let sink = SqlSink::connect(&url).await.unwrap();
    let error = Sink::<Bound>::prepare(&sink, &scope::<Bound>()).await.unwrap_err();
    let create = write_behind::sql::fence_table_sql(DbBackend::Postgres);
    assert_eq!(error.kind(), ErrorKind::Misconfigured, "{}", error.chain());
    assert!(error.to_string().contains(&create), "{}", error.chain());
    // Somebody who may runs it, as told.
    let create = create.replace(" wb_fence ", " fence_bound_to.wb_fence ");
    db.execute_unprepared(&create).await.unwrap();
    db.execute_unprepared("GRANT SELECT, INSERT, UPDATE ON fence_bound_to.wb_fence TO wb_bound").await.unwrap();
    Sink::<Bound>::open(&sink, &scope::<Bound>()).await.unwrap();
    let fence = fence::<Bound>(&sink, 1).await;
    fenced_write(&sink, &[fence], &[Bound { id: 1 }], &[]).await.unwrap();
}

entity! {
    pub(crate) struct Bound in "fence_bound" {
        keys { id: i64 }
    }
}

on_every_database!(
    p3_the_fence_suite,
    p3_generations_grow_when_the_table_is_emptied,
    p3_a_fence_waits_for_the_batch_under_way,
    p3_a_stream_of_batches_does_not_keep_the_next_owner_out,
    p3_a_stale_batch_with_a_bad_row_writes_nothing,
    p3_a_table_of_fences_that_is_dropped_comes_back,
    an_engine_goes_on_when_its_table_of_fences_is_dropped,
    engines_that_start_together_make_one_table,
    a_doctor_makes_no_table_of_fences,
);
