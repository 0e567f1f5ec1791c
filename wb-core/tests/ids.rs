//! Ids in blocks, over the embedded buffer.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod player;

use std::collections::HashSet;
use std::time::Duration;

use futures::future::join_all;
use wb_core::testing::ScriptedSink;
use wb_core::{CacheError, Engine, EntityOptions, ErrorKind, Id, Mechanism, MemoryBuffer};

use crate::player::Player;

async fn engine(buffer: &MemoryBuffer, sink: &ScriptedSink<Player>) -> Engine {
    let options = EntityOptions::new().flush_every(Duration::from_secs(3_600));
    Engine::builder(buffer.clone()).entity::<Player>(sink.clone(), options).start().await.unwrap()
}

fn player(id: i64) -> Player {
    Player { id: u64::try_from(id).unwrap(), score: 0 }
}

fn row(sink: &ScriptedSink<Player>, id: i64) {
    sink.set_row(Id::of(&id).unwrap(), player(id));
}

#[tokio::test]
async fn ids_of_eight_tasks_and_two_engines_are_unique() {
    let (buffer, sink) = (MemoryBuffer::new(), ScriptedSink::new());
    let engines = [engine(&buffer, &sink).await, engine(&buffer, &sink).await];
    let mut tasks = Vec::new();
    for engine in &engines {
        let ids = engine.ids::<Player>(7).unwrap();
        for _ in 0..8 {
            let ids = ids.clone();
            tasks.push(tokio::spawn(async move {
                let mut made = Vec::new();
                for _ in 0..500 {
                    made.push(ids.next().await.unwrap());
                    tokio::task::yield_now().await;
                }
                made
            }));
        }
    }
    let made: Vec<Vec<i64>> = join_all(tasks).await.into_iter().map(Result::unwrap).collect();
    assert!(made.iter().all(|made| made.is_sorted()), "ids of one task ascend");
    let all: HashSet<i64> = made.iter().flatten().copied().collect();
    assert_eq!(all.len(), 16 * 500);
    assert!(all.iter().all(|id| (1..=16 * 500 + 14).contains(id)), "no more blocks than were used up");
}

#[tokio::test]
async fn callers_at_the_same_time_share_one_block() {
    let (buffer, sink) = (MemoryBuffer::new(), ScriptedSink::new());
    let engine = engine(&buffer, &sink).await;
    let ids = engine.ids::<Player>(100).unwrap();
    let mut made: Vec<i64> = join_all((0..100).map(|_| ids.next())).await.into_iter().map(Result::unwrap).collect();
    made.sort_unstable();
    assert_eq!(made, (1..=100).collect::<Vec<_>>());
    let other = engine.ids::<Player>(1).unwrap();
    assert_eq!(other.next().await.unwrap(), 101);
    assert_eq!(ids.next().await.unwrap(), 102);
}

#[tokio::test]
async fn a_table_that_has_rows_is_the_floor() {
    let (buffer, sink) = (MemoryBuffer::new(), ScriptedSink::new());
    row(&sink, 500);
    let first = engine(&buffer, &sink).await;
    let id = first.ids::<Player>(10).unwrap().next().await.unwrap();
    assert!(id > 500, "{id}");
    // Inserted by another program, above what was reserved: seen by the next process.
    row(&sink, 90_000);
    let second = engine(&buffer, &sink).await;
    let id = second.ids::<Player>(10).unwrap().next().await.unwrap();
    assert!(id > 90_000, "{id}");
}

/// Blocks that others hold are in no row yet: without the leap they are given out again.
#[tokio::test]
async fn negative_control_a_lost_counter_that_goes_on_at_the_sinks_rows() {
    let (buffer, sink) = (MemoryBuffer::new(), ScriptedSink::new());
    let options = || EntityOptions::new().without(Mechanism::IdLeap);
    let start = async || {
        let builder = Engine::builder(buffer.clone()).entity::<Player>(sink.clone(), options());
        builder.start().await.unwrap()
    };
    let (holder, fresh) = (start().await, start().await);
    let held = holder.ids::<Player>(10).unwrap();
    let mut used = HashSet::from([held.next().await.unwrap()]);
    row(&sink, 1);
    used.insert(held.next().await.unwrap());
    buffer.lose_ids();
    let fresh = fresh.ids::<Player>(10).unwrap();
    let mut again = 0;
    for _ in 0..25 {
        again += u32::from(!used.insert(fresh.next().await.unwrap()));
    }
    assert_ne!(again, 0, "no id is given twice without the leap");
}

#[tokio::test]
async fn after_the_counter_is_lost_ids_go_on_above_the_sinks_rows_and_above_what_others_hold() {
    let (buffer, sink) = (MemoryBuffer::new(), ScriptedSink::new());
    let engines = [engine(&buffer, &sink).await, engine(&buffer, &sink).await, engine(&buffer, &sink).await];
    let [mine, others, fresh] = engines.each_ref().map(|engine| engine.ids::<Player>(10).unwrap());
    let mut used = HashSet::from([mine.next().await.unwrap()]);
    row(&sink, 1);
    // Held by the other engine, and in no row yet.
    assert!(used.insert(others.next().await.unwrap()));
    buffer.lose_ids();
    for ids in [&fresh, &mine, &others, &fresh] {
        for _ in 0..25 {
            let id = ids.next().await.unwrap();
            assert!(used.insert(id), "{id} again");
        }
    }
    row(&sink, 1_000_000);
    buffer.lose_ids();
    let id = loop {
        let id = mine.next().await.unwrap();
        if used.iter().all(|used| id > used + 1_000) {
            break id;
        }
        assert!(used.insert(id), "{id} again");
    };
    assert!(id > 1_000_000, "{id}");
}

#[tokio::test]
async fn without_the_sinks_word_there_is_no_first_block() {
    let (buffer, sink) = (MemoryBuffer::new(), ScriptedSink::new());
    row(&sink, 5);
    let engine = engine(&buffer, &sink).await;
    let ids = engine.ids::<Player>(10).unwrap();
    sink.fail_always(ErrorKind::Unavailable);
    assert!(matches!(ids.next().await, Err(CacheError::Sink { .. })));
    sink.recover();
    // Until the next probe it is taken for away.
    let first = loop {
        match ids.next().await {
            Ok(first) => break first,
            Err(error) => assert!(matches!(error, CacheError::SinkAway { .. }), "{error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert!(first > 5);
    // From now on the sink is not needed.
    sink.fail_always(ErrorKind::Unavailable);
    for _ in 0..30 {
        ids.next().await.unwrap();
    }
    sink.recover();
    engine.shutdown(Duration::from_secs(1)).await.unwrap();
    let ended = async { while ids.next().await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(10), ended).await.unwrap();
    assert!(matches!(ids.next().await, Err(CacheError::Closed)));
}
