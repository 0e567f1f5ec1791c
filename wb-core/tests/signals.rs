//! Signals between engines over one embedded buffer, on a paused clock.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod player;

use std::time::Duration;

use tokio::time::Instant;
use wb_core::testing::ScriptedSink;
use wb_core::{Engine, EntityOptions, MemoryBuffer, Role};

use self::player::Player;

const HOUR: Duration = Duration::from_secs(3_600);

async fn engine(buffer: &MemoryBuffer, sink: &ScriptedSink<Player>, role: Role) -> Engine {
    let options = EntityOptions::new().flush_every(HOUR);
    Engine::builder(buffer.clone()).role(role).entity::<Player>(sink.clone(), options).start().await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_flush_asked_for_by_a_writer_does_not_wait_for_the_workers_interval() {
    let (buffer, sink) = (MemoryBuffer::new(), ScriptedSink::new());
    let worker = engine(&buffer, &sink, Role::Worker).await;
    let writer = engine(&buffer, &sink, Role::Writer).await;
    let players = writer.cache::<Player>().unwrap();
    let begun = Instant::now();
    players.put(&Player { id: 1, score: 1 }).await.unwrap();
    players.flush().await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    assert_eq!(sink.rows().len(), 1);
    players.put_through(&Player { id: 1, score: 2 }).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    assert_eq!(sink.rows().into_values().next().unwrap().score, 2);
    writer.shutdown(HOUR).await.unwrap();
    worker.shutdown(HOUR).await.unwrap();
}
