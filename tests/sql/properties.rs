//! Random values at the edges of their types, in columns of random definitions: what is acknowledged is read back, past the
//! framework, as it was acknowledged; everything else is refused by the write, or the definition by the start.
//!
//! A failure prints the shortest case that fails and the seed; `WB_SEED=<seed>` plays the same cases again.

mod column;
mod fields;

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::any;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use sea_orm::{ConnectionTrait, DbBackend, Statement};
use write_behind::{CacheError, Engine, EntityOptions, MemoryBuffer, Severity, Sink};

use self::column::{Definition, definitions};
use self::fields::{FIELDS, Kept};
use crate::databases::Database;
use crate::entities::{load, scope};

/// One row: which field has a value, which edge of its type, and random bits for those that have none.
type Draw = (usize, u8, u64, u64);

/// Cases on each database.
const CASES: u32 = 24;

fn runner() -> TestRunner {
    let given = std::env::var("WB_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| u64::from(uuid::Uuid::new_v4().as_fields().0));
    eprintln!("WB_SEED={seed}");
    let seeded = Config { rng_seed: RngSeed::Fixed(seed), failure_persistence: None, ..Config::default() };
    TestRunner::new(Config { cases: CASES, max_shrink_iters: 60, ..seeded })
}

/// The first definition from this one on that the start-up checks accept for the field.
async fn accepted(database: &Database, field: usize, choice: u8) -> Definition {
    let sink = &database.sink;
    let all = definitions(sink.db().get_database_backend(), field);
    for next in 0..all.len() {
        let definition = all[(usize::from(choice) + next) % all.len()];
        let columns: Vec<Definition> =
            (0..FIELDS).map(|other| if other == field { definition } else { usual(sink, other) }).collect();
        create(database, &columns).await;
        if Sink::<Kept>::open(sink, &scope::<Kept>()).await.is_err() {
            continue;
        }
        let found = Sink::<Kept>::examine(sink, &scope::<Kept>()).await.unwrap();
        if !found.iter().any(|finding| finding.severity == Severity::Fatal && finding.code != "fence-table") {
            return definition;
        }
    }
    panic!("no definition of field {field} is accepted");
}

fn usual(sink: &write_behind::SqlSink, field: usize) -> Definition {
    definitions(sink.db().get_database_backend(), field)[0]
}

async fn create(database: &Database, columns: &[Definition]) {
    let db = database.sink.db();
    db.execute_unprepared("DROP TABLE IF EXISTS kept").await.unwrap();
    let columns: Vec<String> = columns
        .iter()
        .enumerate()
        .map(|(field, definition)| format!("{} {definition} NULL", Kept::name(field)))
        .collect();
    let table = format!("CREATE TABLE kept (id BIGINT PRIMARY KEY, {})", columns.join(", "));
    db.execute_unprepared(&table).await.unwrap_or_else(|error| panic!("{table}: {error}"));
}

async fn play(database: &Database, definitions: &[Definition], draws: &[Draw]) {
    create(database, definitions).await;
    let sink = &database.anew().await;
    let backend = sink.db().get_database_backend();
    let options = EntityOptions::new().flush_every(Duration::from_secs(3_600));
    let engine = Engine::builder(MemoryBuffer::new()).entity::<Kept>(sink.clone(), options).start().await.unwrap();
    let cache = engine.cache::<Kept>().unwrap();
    let mut acknowledged = Vec::new();
    for (id, draw) in draws.iter().enumerate() {
        let row = Kept::draw(i64::try_from(id).unwrap(), *draw);
        match cache.put(&row).await {
            Ok(_) => acknowledged.push((row, draw.0 % FIELDS)),
            // JSON of the buffer has no such number, or its own field says why.
            Err(CacheError::Unstorable { field, .. }) => assert_eq!(field, Kept::name(draw.0 % FIELDS), "{row:?}"),
            Err(error) => panic!("{row:?}: {error}"),
        }
    }
    let mut buffered = Vec::new();
    for (row, field) in &acknowledged {
        let found = cache.get(&row.id).await.unwrap().unwrap();
        assert!(found.is_cut_of(row), "{:?}: {found:?} is not {row:?}", definitions[*field]);
        buffered.push(found);
    }
    cache.flush().await.unwrap();
    let stats = &engine.stats()["kept"];
    if (stats.dead_letters, stats.refused) != (0, 0) {
        panic!("refused by the database: {:?}", explain(sink, &acknowledged, definitions).await);
    }
    engine.shutdown(Duration::from_secs(10)).await.unwrap();
    // Past the framework.
    for (found, (_, field)) in buffered.iter().zip(&acknowledged) {
        let text = format!("SELECT {} FROM kept WHERE id = {}", Kept::read(backend, *field), found.id);
        let row = sink.db().query_one_raw(Statement::from_string(backend, text)).await.unwrap().unwrap();
        let stored = Kept::of_row(backend, &row, found.id, *field);
        assert!(stored.is_same(found), "in a column `{}`: {stored:?} is stored of {found:?}", definitions[*field]);
        // And by the framework.
        let loaded = load::<Kept>(sink, &[found.id]).await.pop().unwrap();
        assert!(loaded.is_same(found), "in a column `{}`: {loaded:?} is loaded of {found:?}", definitions[*field]);
    }
}

/// Rows that the database refuses, one by one.
async fn explain(sink: &write_behind::SqlSink, rows: &[(Kept, usize)], definitions: &[Definition]) -> Vec<String> {
    let mut refusals = Vec::new();
    for (row, field) in rows {
        let report = crate::entities::try_write(sink, std::slice::from_ref(row), &[]).await;
        let refusal =
            report.map_or_else(|error| Some(error.chain()), |report| report.rejected.first().map(|(_, e)| e.chain()));
        refusals.extend(refusal.map(|why| format!("{row:?} in `{}`: {why}", definitions[*field])));
    }
    refusals
}

async fn p2_what_is_acknowledged_is_stored_as_it_is(database: Database) {
    // Definitions that a start refuses are found one by one, and once.
    let backend = database.sink.db().get_database_backend();
    let mut fitting: Vec<Vec<Definition>> = Vec::new();
    for field in 0..FIELDS {
        let mut accepted_here = Vec::new();
        for choice in 0..definitions(backend, field).len() {
            let definition = accepted(&database, field, u8::try_from(choice).unwrap()).await;
            if !accepted_here.contains(&definition) {
                accepted_here.push(definition);
            }
        }
        fitting.push(accepted_here);
    }
    let handle = tokio::runtime::Handle::current();
    let case = (vec(any::<u8>(), FIELDS), vec((0..FIELDS, any::<u8>(), any::<u64>(), any::<u64>()), 1..60));
    let result = tokio::task::block_in_place(|| {
        runner().run(&case, |(choices, draws)| {
            let definitions: Vec<Definition> =
                fitting.iter().zip(choices).map(|(all, choice)| all[usize::from(choice) % all.len()]).collect();
            handle.block_on(play(&database, &definitions, &draws));
            Ok(())
        })
    });
    result.unwrap_or_else(|failure| panic!("{failure}"));
}

on_every_database!(p2_what_is_acknowledged_is_stored_as_it_is);

/// Whether the database writes an expression in its own way.
fn is(backend: DbBackend, other: DbBackend) -> bool {
    backend == other
}
