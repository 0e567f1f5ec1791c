//! Records of which the sink has newer versions: another program wrote them, or the buffer's data went back.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod heard;
mod note;

use std::sync::Arc;
use std::time::Duration;

use tracing::Level;
use wb_core::buffer::Registration;
use wb_core::testing::ScriptedSink;
use wb_core::{
    Buffer, Cache, CacheError, Engine, Entity, EntityOptions, Event, Id, MemoryBuffer, Mode, Record, Role, Scope,
    State, TransactionError, Write, partition_of,
};

use crate::note::Note;

fn note(id: u64, version: i64) -> Note {
    Note { id, version, text: format!("version {version}") }
}

fn id(n: u64) -> Id {
    Id::of(&n).unwrap()
}

fn is_left_out(told: Result<(), CacheError>, version: i64) {
    assert!(
        matches!(&told, Err(CacheError::Stale { id, version: found }) if id == "1" && *found == version),
        "{told:?}"
    );
}

async fn started() -> (MemoryBuffer, ScriptedSink<Note>, Engine, Cache<Note>) {
    let (buffer, sink) = (MemoryBuffer::new(), ScriptedSink::new());
    let options = EntityOptions::new().cache_ttl(Duration::from_secs(600));
    let engine = Engine::builder(buffer.clone()).entity::<Note>(sink.clone(), options).start().await.unwrap();
    let notes = engine.cache().unwrap();
    (buffer, sink, engine, notes)
}

#[tokio::test(start_paused = true)]
async fn a_newer_row_of_another_program_stays_and_is_what_readers_see() {
    let (heard, _listening) = heard::listen();
    let (_buffer, sink, engine, notes) = started().await;
    notes.put(&note(1, 1)).await.unwrap();
    notes.put(&note(2, 1)).await.unwrap();
    notes.flush().await.unwrap();
    sink.set_row(id(1), note(1, 9));
    let mut events = engine.events();
    let left_out = notes.put(&note(1, 2)).await.unwrap();
    let written = notes.put(&note(2, 2)).await.unwrap();
    assert_eq!(notes.get(&1).await.unwrap(), Some(note(1, 2)), "dirty");
    notes.flush().await.unwrap();
    assert_eq!(sink.row(&id(1)), Some(note(1, 9)));
    assert_eq!(sink.row(&id(2)), Some(note(2, 2)));
    assert_eq!(notes.state(&1).await.unwrap(), State::Stale);
    is_left_out(left_out.persisted().await, 2);
    written.persisted().await.unwrap();
    assert_eq!(notes.state(&2).await.unwrap(), State::Clean);
    let mut told = async || loop {
        if let Some(Event::Stale { entity, id, version, .. }) = events.next().await {
            return (entity, id, version);
        }
    };
    assert_eq!(told().await, (Note::NAME, id(1), 2));
    assert_eq!(notes.get(&1).await.unwrap(), Some(note(1, 9)), "no copy of the older state is left");
    assert_eq!(notes.get(&2).await.unwrap(), Some(note(2, 2)));
    let stats = engine.stats()[Note::NAME];
    assert_eq!((stats.stale, stats.flushed, stats.rows_upserted, stats.refused, stats.dead_letters), (1, 4, 3, 0, 0));
    assert_eq!(heard.count(Level::WARN, "sink has newer versions, older ones left out"), 1);
    assert_eq!(engine.shutdown(Duration::from_secs(5)).await.unwrap().remaining, 0);
}

#[tokio::test(start_paused = true)]
async fn p3_dirty_records_that_come_back_with_old_data_replace_no_newer_rows() {
    let (buffer, sink, engine, notes) = started().await;
    for version in 1..=5 {
        notes.put(&note(1, version)).await.unwrap();
        notes.flush().await.unwrap();
    }
    // As a Redis does that is restored from an old copy of its data.
    let scope = Arc::new(Scope::new("wb", Note::NAME, 16));
    let space = buffer.space(Registration::new(scope, Note::FORMAT)).await.unwrap();
    let payload = note(1, 3).encode().unwrap();
    let record = Record::from_bytes(payload);
    space.put(vec![Write { partition: partition_of(&id(1), 16), id: id(1), record }]).await.unwrap();
    notes.flush().await.unwrap();
    assert_eq!(sink.row(&id(1)), Some(note(1, 5)));
    assert_eq!(notes.get(&1).await.unwrap(), Some(note(1, 5)));
    assert_eq!(engine.stats()[Note::NAME].stale, 1);
    engine.shutdown(Duration::from_secs(5)).await.unwrap();
}

/// Asked later, and in another process than the one that flushes, the answer is the same.
#[tokio::test(start_paused = true)]
async fn a_write_that_was_left_out_is_told_later_and_elsewhere() {
    let (buffer, sink) = (MemoryBuffer::new(), ScriptedSink::<Note>::new());
    let options = || EntityOptions::new().cache_ttl(Duration::from_secs(600));
    let start = async |role, options| {
        let builder = Engine::builder(buffer.clone()).role(role).entity::<Note>(sink.clone(), options);
        builder.start().await.unwrap()
    };
    let worker = start(Role::Worker, options()).await;
    let writer = start(Role::Writer, options()).await;
    let notes = writer.cache::<Note>().unwrap();
    notes.put(&note(1, 1)).await.unwrap().persisted().await.unwrap();
    sink.set_row(id(1), note(1, 9));
    let (second, third) = (notes.put(&note(1, 2)).await.unwrap(), notes.put(&note(1, 3)).await.unwrap());
    is_left_out(second.persisted().await, 3);
    is_left_out(third.persisted().await, 3);
    let later = start(Role::Writer, options()).await;
    is_left_out(later.cache::<Note>().unwrap().receipt(&1).unwrap().persisted().await, 3);

    // A state above the row's settles it: of an update, which builds on the row that stands, and of a put.
    let update = notes.update(&1, |note| note.text = "ours".to_owned()).await.unwrap();
    assert_eq!(update.version, 10);
    notes.receipt(&1).unwrap().persisted().await.unwrap();
    third.persisted().await.unwrap();
    assert_eq!(sink.row(&id(1)), Some(update));
    assert_eq!(notes.state(&1).await.unwrap(), State::Clean);

    // Whoever is answered by the sink is told at once; so is a transaction.
    let through = start(Role::Writer, options().mode(Mode::WriteThrough)).await;
    sink.set_row(id(1), note(1, 99));
    is_left_out(through.cache::<Note>().unwrap().put(&note(1, 11)).await.map(drop), 11);
    sink.set_row(id(2), note(2, 99));
    assert_eq!(notes.get(&1).await.unwrap(), Some(note(1, 99)));
    notes.delete(&1).await.unwrap().persisted().await.unwrap();
    notes.put(&note(1, 100)).await.unwrap().persisted().await.unwrap();
    sink.set_row(id(1), note(1, 200));
    let told = through.transaction(|tx| tx.put(&note(1, 101))).await;
    assert!(matches!(told, Err(TransactionError::Cache(CacheError::Stale { version: 101, .. }))), "{told:?}");
    for engine in [worker, writer, later, through] {
        engine.shutdown(Duration::from_secs(5)).await.unwrap();
    }
}

/// A key that is written all the time, every state of it below the row's: each receipt gets its answer.
#[tokio::test(start_paused = true)]
async fn a_hot_key_that_is_left_out_again_and_again_keeps_no_receipt() {
    let (_buffer, sink, engine, notes) = started().await;
    notes.put(&note(1, 1)).await.unwrap().persisted().await.unwrap();
    sink.set_row(id(1), note(1, i64::MAX));
    let receipt = notes.put(&note(1, 2)).await.unwrap();
    let busy = {
        let notes = notes.clone();
        tokio::spawn(async move {
            for version in 3.. {
                // Loaded, the row's version makes it a conflict.
                let _ = notes.put(&note(1, version)).await;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
    };
    let told = tokio::time::timeout(Duration::from_secs(60), receipt.persisted()).await.unwrap();
    assert!(matches!(told, Err(CacheError::Stale { .. })), "{told:?}");
    busy.abort();
    engine.shutdown(Duration::from_secs(5)).await.unwrap();
}

/// A transaction is all or nothing in the sink, also when the sink has a newer row of one of its records.
#[tokio::test(start_paused = true)]
async fn p13_a_transaction_of_which_the_sink_has_one_newer_row_is_not_written_by_half() {
    let (buffer, sink) = (MemoryBuffer::new(), ScriptedSink::<Note>::new());
    let options = EntityOptions::new().transactions(true).flush_every(Duration::from_secs(3_600));
    let engine = Engine::builder(buffer).entity::<Note>(sink.clone(), options).start().await.unwrap();
    let notes = engine.cache::<Note>().unwrap();
    let both = async |version| {
        let put = engine.transaction(|tx| {
            tx.put(&note(1, version))?;
            tx.put(&note(2, version))
        });
        put.await.unwrap();
    };
    both(1).await;
    notes.flush().await.unwrap();
    both(2).await;
    sink.set_row(id(1), note(1, 9));
    assert!(notes.flush_within(Duration::from_secs(60)).await.unwrap());
    assert_eq!(sink.row(&id(1)), Some(note(1, 9)));
    assert_eq!(sink.row(&id(2)), Some(note(2, 1)), "half of the transaction is in the sink");
}

/// More of them than marks are kept.
#[tokio::test(start_paused = true)]
async fn no_receipt_of_a_write_that_was_left_out_says_that_it_is_persisted() {
    let (buffer, sink) = (MemoryBuffer::new(), ScriptedSink::<Note>::new());
    let options = EntityOptions::new().partitions(1);
    let engine = Engine::builder(buffer).entity::<Note>(sink.clone(), options).start().await.unwrap();
    let notes = engine.cache::<Note>().unwrap();
    let mut receipts = Vec::new();
    for n in 0..6_000 {
        sink.set_row(id(n), note(n, 9));
        receipts.push(notes.put(&note(n, 2)).await.unwrap());
    }
    let told = futures::future::join_all(receipts.iter().map(|receipt| receipt.persisted())).await;
    let untrue = told.iter().filter(|told| !matches!(told, Err(CacheError::Stale { .. }))).count();
    assert_eq!(untrue, 0);
}
