//! Records of which the sink has newer versions: another program wrote them, or the buffer's data went back.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod heard;
mod note;

use std::sync::Arc;
use std::time::Duration;

use tracing::Level;
use wb_core::buffer::Registration;
use wb_core::testing::ScriptedSink;
use wb_core::{Buffer, Cache, Engine, Entity, EntityOptions, Id, MemoryBuffer, Record, Scope, Write, partition_of};

use crate::note::Note;

fn note(id: u64, version: i64) -> Note {
    Note { id, version, text: format!("version {version}") }
}

fn id(n: u64) -> Id {
    Id::of(&n).unwrap()
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
    notes.put(&note(1, 2)).await.unwrap();
    notes.put(&note(2, 2)).await.unwrap();
    assert_eq!(notes.get(&1).await.unwrap(), Some(note(1, 2)), "dirty");
    notes.flush().await.unwrap();
    assert_eq!(sink.row(&id(1)), Some(note(1, 9)));
    assert_eq!(sink.row(&id(2)), Some(note(2, 2)));
    assert_eq!(notes.get(&1).await.unwrap(), Some(note(1, 9)), "no copy of the older state is left");
    assert_eq!(notes.get(&2).await.unwrap(), Some(note(2, 2)));
    let stats = engine.stats()[Note::NAME];
    assert_eq!((stats.stale, stats.flushed, stats.rows_upserted, stats.refused, stats.dead_letters), (1, 4, 3, 0, 0));
    assert_eq!(heard.count(Level::INFO, "sink has newer versions, older ones left out"), 1);
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
