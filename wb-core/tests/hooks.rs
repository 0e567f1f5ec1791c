//! before_flush: rows that a hook rewrites, skips, and breaks on. The clock is paused.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod player;

use std::time::Duration;

use tokio::time::sleep;
use wb_core::testing::ScriptedSink;
use wb_core::{BeforeFlush, ConfigError, Engine, EntityOptions, ErrorKind, Id, MemoryBuffer, StartError};

use crate::player::Player;

const EVERY: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

fn options() -> EntityOptions {
    EntityOptions::new().flush_every(EVERY).cache_ttl(MINUTE)
}

fn player(id: u64, score: u64) -> Player {
    Player { id, score }
}

fn id(n: u64) -> Id {
    Id::of(&n).unwrap()
}

async fn start(hook: impl Fn(Player) -> BeforeFlush<Player> + Send + Sync + 'static) -> (Engine, ScriptedSink<Player>) {
    let sink = ScriptedSink::new();
    // Before its entity: the order does not matter.
    let builder = Engine::builder(MemoryBuffer::new()).before_flush(hook).entity::<Player>(sink.clone(), options());
    (builder.start().await.unwrap(), sink)
}

#[tokio::test(start_paused = true)]
async fn a_hook_rewrites_and_skips_rows_and_readers_see_what_was_put() {
    let (engine, sink) = start(|mut row| {
        if row.id % 2 == 1 {
            return BeforeFlush::Skip;
        }
        row.score += 1_000;
        BeforeFlush::Write(row)
    })
    .await;
    let players = engine.cache::<Player>().unwrap();
    players.put_many(&[player(1, 1), player(2, 2), player(3, 3)]).await.unwrap();
    sleep(2 * EVERY).await;
    assert_eq!(sink.rows().into_iter().collect::<Vec<_>>(), [(id(2), player(2, 1_002))]);
    let stats = engine.stats()["player"];
    assert_eq!((stats.flushed, stats.skipped, stats.rows_upserted, stats.dirty_keys), (3, 2, 1, 0), "{stats:?}");
    for n in 1..=3 {
        assert_eq!(players.get(&n).await.unwrap(), Some(player(n, n)), "as it was put");
    }
    sleep(2 * MINUTE).await;
    assert_eq!(players.get(&2).await.unwrap(), Some(player(2, 1_002)), "as the sink has it");
    assert_eq!(players.get(&1).await.unwrap(), None, "the sink has none");
    // Deletes are not shown to the hook.
    sink.set_row(id(1), player(1, 1));
    players.delete(&1).await.unwrap();
    sleep(2 * EVERY).await;
    assert_eq!(sink.row(&id(1)), None);
    assert_eq!(engine.stats()["player"].skipped, 2);
}

#[tokio::test(start_paused = true)]
async fn p8_what_a_hook_breaks_on_is_told_apart() {
    let (engine, sink) = start(|row| {
        assert_ne!(row.id, 13, "scripted panic");
        if row.id == 14 { BeforeFlush::Write(player(1, row.score)) } else { BeforeFlush::Write(row) }
    })
    .await;
    let players = engine.cache::<Player>().unwrap();
    let all: Vec<Player> = (0..100).map(|id| player(id, 5)).collect();
    players.put_many(&all).await.unwrap();
    sleep(2 * EVERY).await;
    assert_eq!(sink.rows().len(), 98);
    assert_eq!(sink.history(&id(1)), [Some(player(1, 5))], "never the other row");
    let letters = engine.dead_letters::<Player>().unwrap();
    for (n, said) in [(13, "panics"), (14, "another key")] {
        let letter = letters.get(&n).await.unwrap().unwrap();
        assert!(letter.kind == "hook" && letter.error.contains(said), "{letter:?}");
        assert_eq!(players.get(&n).await.unwrap(), Some(player(n, 5)), "readable");
    }
    assert_eq!(letters.count().await.unwrap(), 2);
    assert_eq!(engine.shutdown(MINUTE).await.unwrap().remaining, 0);
}

#[tokio::test(start_paused = true)]
async fn p3_a_batch_that_is_tried_again_is_written_as_the_hook_made_it() {
    let (engine, sink) = start(|mut row| {
        row.score += 1;
        BeforeFlush::Write(row)
    })
    .await;
    sink.fail_next(ErrorKind::Unavailable);
    sink.lose_next_reply(ErrorKind::Transient);
    engine.cache().unwrap().put(&player(1, 1)).await.unwrap();
    sleep(MINUTE).await;
    let states = sink.history(&id(1));
    assert!(states.len() >= 2 && states.iter().all(|row| *row == Some(player(1, 2))), "once a state: {states:?}");
}

#[tokio::test(start_paused = true)]
async fn a_hook_without_its_entity_and_a_second_one_are_refused() {
    let builder = || Engine::builder(MemoryBuffer::new());
    let lonely = builder().before_flush::<Player>(BeforeFlush::Write).entity::<Other>(ScriptedSink::new(), options());
    let twice = builder()
        .entity::<Player>(ScriptedSink::new(), options())
        .before_flush::<Player>(BeforeFlush::Write)
        .before_flush::<Player>(|_| BeforeFlush::Skip);
    for (builder, said) in [(lonely, "not given this entity"), (twice, "given twice")] {
        let error = builder.start().await.err().unwrap();
        let StartError::Config(error @ ConfigError::Hook { entity: "player", .. }) = error else {
            panic!("{error:?}");
        };
        assert!(error.to_string().contains(said), "{error}");
    }
}

#[derive(Clone, serde::Serialize, serde::Deserialize)]
struct Other {
    id: u64,
}

impl wb_core::Entity for Other {
    type Key = u64;
    const NAME: &'static str = "other";
    const FORMAT: wb_core::Format = wb_core::Format::Json;

    fn key(&self) -> u64 {
        self.id
    }

    fn encode(&self) -> Result<Vec<u8>, wb_core::CodecError> {
        wb_core::codec::encode(Self::FORMAT, self)
    }

    fn decode(payload: &[u8]) -> Result<Self, wb_core::CodecError> {
        wb_core::codec::decode(Self::FORMAT, payload)
    }
}
