//! The near cache over the embedded buffer and a scripted sink, on a paused clock.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod note;
mod player;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::sleep;
use wb_core::testing::ScriptedSink;
use wb_core::{
    Batch, Cache, CacheError, Engine, EntityOptions, EntityStats, Id, MemoryBuffer, NearCache, Report, Role, Scope,
    Sink, SinkError, StartError,
};

use self::note::Note;
use self::player::Player;

const AGE: Duration = Duration::from_secs(10);
const FOREVER: Duration = Duration::from_secs(3_600);

fn options() -> EntityOptions {
    EntityOptions::new().near_cache(NearCache::new(100).max_age(AGE))
}

struct Bench {
    engine: Engine,
    players: Cache<Player>,
}

impl Bench {
    async fn start(buffer: &MemoryBuffer, sink: &ScriptedSink<Player>, options: EntityOptions) -> Self {
        let engine = Engine::builder(buffer.clone()).entity::<Player>(sink.clone(), options).start().await.unwrap();
        Self { players: engine.cache().unwrap(), engine }
    }

    async fn put(&self, id: u64, score: u64) {
        self.players.put(&Player { id, score }).await.unwrap();
    }

    async fn get(&self, id: u64) -> Option<u64> {
        self.players.get(&id).await.unwrap().map(|player| player.score)
    }

    fn stats(&self) -> EntityStats {
        self.engine.stats().remove("player").unwrap()
    }
}

async fn bench() -> Bench {
    Bench::start(&MemoryBuffer::new(), &ScriptedSink::new(), options()).await
}

#[tokio::test(start_paused = true)]
async fn a_value_is_decoded_once_and_shared() {
    let bench = bench().await;
    bench.put(1, 1).await;
    let first = bench.players.get_shared(&1).await.unwrap().unwrap();
    let second = bench.players.get_shared(&1).await.unwrap().unwrap();
    assert!(Arc::ptr_eq(&first, &second));
    assert_eq!(bench.get(1).await, Some(1));
    assert_eq!(bench.players.get_many(&[1, 2]).await.unwrap(), [Some(Player { id: 1, score: 1 }), None]);
    assert_eq!((bench.stats().near_hits, bench.stats().near_misses), (3, 2));
    // "No such row" is kept, too.
    assert_eq!(bench.get(2).await, None);
    assert_eq!(bench.stats().near_hits, 4);
}

#[tokio::test(start_paused = true)]
async fn a_write_takes_away_what_is_kept_here_and_elsewhere() {
    let (buffer, sink) = (MemoryBuffer::new(), ScriptedSink::new());
    let here = Bench::start(&buffer, &sink, options()).await;
    let there = Bench::start(&buffer, &sink, options()).await;
    let both = async |expected: Option<u64>, doing: &str| {
        for bench in [&here, &there, &here, &there] {
            assert_eq!(bench.get(1).await, expected, "{doing}");
        }
    };
    both(None, "nothing").await;
    here.put(1, 1).await;
    both(Some(1), "put").await;
    there.players.update(&1, |player| player.score = 2).await.unwrap();
    both(Some(2), "update").await;
    here.players.delete(&1).await.unwrap();
    both(None, "delete").await;
    there.players.put_many(&[Player { id: 1, score: 3 }]).await.unwrap();
    both(Some(3), "put_many").await;
    here.players.flush().await.unwrap();
    both(Some(3), "flushed").await;
    sink.set_row(Id::of(&1_u64).unwrap(), Player { id: 1, score: 4 });
    both(Some(3), "changed in the sink").await;
    assert_eq!(there.players.refresh(&1).await.unwrap().unwrap().score, 4);
    both(Some(4), "refresh").await;
    assert!(here.stats().near_invalidations >= 4, "{:?}", here.stats());
}

#[tokio::test(start_paused = true)]
async fn what_nobody_tells_is_seen_after_the_age() {
    let sink = ScriptedSink::new();
    let bench = Bench::start(&MemoryBuffer::new(), &sink, options().cache_ttl(Duration::ZERO)).await;
    let row = |score| sink.set_row(Id::of(&1_u64).unwrap(), Player { id: 1, score });
    row(1);
    assert_eq!(bench.get(1).await, Some(1));
    row(2);
    sleep(AGE - Duration::from_millis(1)).await;
    assert_eq!(bench.get(1).await, Some(1));
    sleep(Duration::from_millis(1)).await;
    assert_eq!(bench.get(1).await, Some(2));
}

/// A sink whose loads take a second.
struct Slow(ScriptedSink<Player>);

#[async_trait]
impl Sink<Player> for Slow {
    async fn open(&self, scope: &Scope) -> Result<(), SinkError> {
        self.0.open(scope).await
    }

    async fn write(&self, batch: &Batch<Player>) -> Result<Report, SinkError> {
        self.0.write(batch).await
    }

    async fn load(&self, keys: &[u64]) -> Result<Vec<Player>, SinkError> {
        let found = self.0.load(keys).await;
        sleep(Duration::from_secs(1)).await;
        found
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_read_before_a_write_is_not_kept_after_it() {
    for shared in [false, true] {
        let sink = ScriptedSink::new();
        sink.set_row(Id::of(&1_u64).unwrap(), Player { id: 1, score: 1 });
        let builder = Engine::builder(MemoryBuffer::new()).entity::<Player>(Slow(sink.clone()), options());
        let engine = builder.start().await.unwrap();
        let players: Cache<Player> = engine.cache().unwrap();
        let reader = {
            let players = players.clone();
            tokio::spawn(async move {
                if shared {
                    players.get_shared(&1).await.unwrap().unwrap().score
                } else {
                    players.get(&1).await.unwrap().unwrap().score
                }
            })
        };
        sleep(Duration::from_millis(500)).await;
        players.put(&Player { id: 1, score: 2 }).await.unwrap();
        assert_eq!(reader.await.unwrap(), 1, "it read before the write");
        assert_eq!(players.get(&1).await.unwrap().unwrap().score, 2);
        assert_eq!(engine.stats().remove("player").unwrap().near_hits, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_discarded_letter_is_not_read_any_more() {
    let sink = ScriptedSink::new();
    let bench = Bench::start(&MemoryBuffer::new(), &sink, options()).await;
    sink.refuse(|_| true);
    bench.put(1, 1).await;
    bench.players.flush_within(FOREVER).await.unwrap();
    while bench.stats().dead_letters == 0 {
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(bench.get(1).await, Some(1));
    assert!(bench.engine.dead_letters::<Player>().unwrap().discard(&1).await.unwrap());
    assert_eq!(bench.get(1).await, None);
}

#[tokio::test(start_paused = true)]
async fn senseless_settings_are_refused_at_start() {
    for near in [NearCache::new(0), NearCache::new(1).max_age(Duration::ZERO), NearCache::new(1).max_age(Duration::MAX)]
    {
        let options = EntityOptions::new().near_cache(near);
        let builder = Engine::builder(MemoryBuffer::new()).entity::<Player>(ScriptedSink::new(), options);
        assert!(matches!(builder.start().await, Err(StartError::Config { .. })), "{near:?}");
    }
}

/// A worker elsewhere leaves a write out, because the sink has a newer row: who has kept the older state does not serve it on.
#[tokio::test(start_paused = true)]
async fn what_the_sink_has_left_out_is_not_served_by_who_has_kept_it() {
    let (buffer, sink) = (MemoryBuffer::new(), ScriptedSink::<Note>::new());
    let start = async |role| {
        let options = EntityOptions::new().near_cache(NearCache::new(100).max_age(FOREVER));
        Engine::builder(buffer.clone()).role(role).entity::<Note>(sink.clone(), options).start().await.unwrap()
    };
    let (_worker, writer) = (start(Role::Worker).await, start(Role::Writer).await);
    let (notes, note) = (writer.cache::<Note>().unwrap(), |version| Note { id: 1, version, text: String::new() });
    sink.set_row(Id::of(&1_u64).unwrap(), note(9));
    let receipt = notes.put(&note(2)).await.unwrap();
    assert_eq!(notes.get(&1).await.unwrap(), Some(note(2)), "dirty, and kept");
    let told = receipt.persisted().await;
    assert!(matches!(told, Err(CacheError::Stale { .. })), "{told:?}");
    assert_eq!(notes.get(&1).await.unwrap(), Some(note(9)));
}
