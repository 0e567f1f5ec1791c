//! Where the parts of an engine meet: shutdown and a sink that hangs, user code that panics, callers that go away. Over the
//! embedded buffer; the clock is paused.
#![expect(clippy::panic, clippy::expect_used, reason = "a test fails by panicking")]

mod heard;
mod player;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout};
use tracing::Level;
use wb_core::testing::ScriptedSink;
use wb_core::{
    Batch, BufferErrorKind, CacheError, CodecError, Engine, Entity, EntityOptions, ErrorKind, Fence, Format,
    MemoryBuffer, Overflow, Replay, Report, RetryPolicy, Scope, Sink, SinkError, codec,
};

use crate::player::Player;

const SECOND: Duration = Duration::from_secs(1);
const FOREVER: Duration = Duration::from_secs(100_000);

fn player(id: u64, score: u64) -> Player {
    Player { id, score }
}

/// How a sink ends.
#[derive(Clone, Copy, Debug)]
enum End {
    Never,
    Panics,
}

/// A sink that ends badly, and names what it refuses twice.
struct Clumsy {
    inner: ScriptedSink<Player>,
    end: Option<End>,
}

#[async_trait]
impl Sink<Player> for Clumsy {
    async fn open(&self, scope: &Scope) -> Result<(), SinkError> {
        self.inner.open(scope).await
    }

    async fn fence(&self, scope: &Scope, partition: u16) -> Result<Option<Fence>, SinkError> {
        Sink::<Player>::fence(&self.inner, scope, partition).await
    }

    async fn write(&self, batch: &Batch<Player>) -> Result<Report, SinkError> {
        let mut report = self.inner.write(batch).await?;
        let again = report.rejected.iter().map(|(id, error)| (id.clone(), SinkError::new(error.kind(), "again")));
        let again: Vec<_> = again.collect();
        report.rejected.extend(again);
        Ok(report)
    }

    async fn load(&self, keys: &[u64]) -> Result<Vec<Player>, SinkError> {
        self.inner.load(keys).await
    }

    async fn close(&self) {
        match self.end {
            Some(End::Never) => std::future::pending().await,
            Some(End::Panics) => panic!("scripted panic"),
            None => {}
        }
    }
}

#[tokio::test(start_paused = true)]
async fn p11_a_sink_that_does_not_close_does_not_hold_shutdown_up() {
    for end in [End::Never, End::Panics] {
        let sink = ScriptedSink::new();
        let clumsy = Clumsy { inner: sink.clone(), end: Some(end) };
        let buffer = MemoryBuffer::new();
        let builder = Engine::builder(buffer.clone()).entity::<Player>(clumsy, EntityOptions::new());
        let engine = builder.start().await.unwrap();
        engine.cache::<Player>().unwrap().put(&player(1, 1)).await.unwrap();
        let begun = Instant::now();
        let drained = timeout(FOREVER, engine.shutdown(10 * SECOND)).await;
        let drained = drained.unwrap_or_else(|_| panic!("{end:?}: shutdown does not end")).unwrap();
        assert_eq!((drained.flushed, drained.remaining), (1, 0), "{end:?}");
        assert!(begun.elapsed() <= 15 * SECOND, "{end:?}: {:?}", begun.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn p11_who_waits_for_a_flush_learns_that_the_engine_is_over() {
    let sink = ScriptedSink::new();
    let builder = Engine::builder(MemoryBuffer::new()).entity::<Player>(sink.clone(), EntityOptions::new());
    let engine = builder.start().await.unwrap();
    let players = engine.cache::<Player>().unwrap();
    sink.fail_always(ErrorKind::Unavailable);
    players.put(&player(1, 1)).await.unwrap();
    let waiting = tokio::spawn({
        let players = players.clone();
        async move { players.flush().await }
    });
    assert_eq!(engine.shutdown(5 * SECOND).await.unwrap().remaining, 1);
    let told = timeout(FOREVER, waiting).await.expect("the wait has an end").unwrap();
    assert!(matches!(told, Err(CacheError::Closed)), "{told:?}");
    // Later ones too.
    assert!(matches!(timeout(FOREVER, players.flush()).await, Ok(Err(CacheError::Closed))));
}

#[tokio::test(start_paused = true)]
async fn p11_who_waits_for_a_flush_while_the_engine_drains_is_served() {
    let sink = ScriptedSink::new();
    let builder = Engine::builder(MemoryBuffer::new()).entity::<Player>(sink.clone(), EntityOptions::new());
    let engine = builder.start().await.unwrap();
    let players = engine.cache::<Player>().unwrap();
    players.put(&player(1, 1)).await.unwrap();
    let (flushed, drained) = tokio::join!(players.flush(), engine.shutdown(60 * SECOND));
    assert!(flushed.is_ok(), "{flushed:?}");
    assert_eq!(drained.unwrap().remaining, 0);
}

#[tokio::test(start_paused = true)]
async fn p11_a_shutdown_that_is_given_up_is_told() {
    let (heard, _guard) = heard::listen();
    let sink = ScriptedSink::new();
    let builder = Engine::builder(MemoryBuffer::new()).entity::<Player>(sink.clone(), EntityOptions::new());
    let engine = builder.start().await.unwrap();
    let players = engine.cache::<Player>().unwrap();
    sink.fail_always(ErrorKind::Unavailable);
    players.put(&player(1, 1)).await.unwrap();
    assert!(timeout(SECOND, engine.shutdown(60 * SECOND)).await.is_err());
    let said = "engine dropped without shutdown; what is dirty waits for the next worker";
    assert_eq!(heard.count(Level::WARN, said), 1);
    assert!(matches!(players.put(&player(2, 1)).await, Err(CacheError::Closed)));
}

#[tokio::test(start_paused = true)]
async fn p8_a_record_that_is_refused_twice_over_is_refused_once() {
    let (heard, _guard) = heard::listen();
    let sink = ScriptedSink::new();
    let clumsy = Clumsy { inner: sink.clone(), end: None };
    let options = EntityOptions::new().partitions(1).retry(RetryPolicy::new().attempts(3));
    let engine = Engine::builder(MemoryBuffer::new()).entity::<Player>(clumsy, options).start().await.unwrap();
    let players = engine.cache::<Player>().unwrap();
    let bad = wb_core::Id::of(&1_u64).unwrap();
    sink.refuse(move |id| *id == bad);
    players.put_many(&[player(1, 1), player(2, 1)]).await.unwrap();
    tokio::time::sleep(60 * SECOND).await;
    let stats = engine.stats()["player"];
    assert_eq!((stats.refused, stats.dead_letters, stats.flushed, stats.vanished), (2, 1, 1, 0));
    assert_eq!(heard.count(Level::ERROR, "epoch vanished from the buffer while it was flushed"), 0);
    engine.shutdown(SECOND).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn replayed_letters_are_no_writes_and_change_no_figure_of_writes() {
    let sink = ScriptedSink::new();
    let options = EntityOptions::new().retry(RetryPolicy::new().attempts(1));
    let builder = Engine::builder(MemoryBuffer::new()).entity::<Player>(sink.clone(), options);
    let engine = builder.start().await.unwrap();
    let (players, letters) = (engine.cache::<Player>().unwrap(), engine.dead_letters::<Player>().unwrap());
    sink.refuse(|_| true);
    players.put(&player(1, 1)).await.unwrap();
    players.put(&player(1, 2)).await.unwrap();
    players.flush().await.unwrap();
    assert_eq!(engine.stats()["player"].coalesced_puts, 1);
    assert_eq!(letters.replay(&1).await.unwrap(), Replay::Again);
    assert_eq!(engine.stats()["player"].coalesced_puts, 1);
    engine.shutdown(SECOND).await.unwrap();
}

/// An entity whose own code panics on what another version has written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Fragile {
    id: u64,
    broken: bool,
}

static BREAKS: AtomicBool = AtomicBool::new(false);

impl Entity for Fragile {
    type Key = u64;
    const NAME: &'static str = "fragile";
    const FORMAT: Format = Format::Json;

    fn key(&self) -> u64 {
        assert!(!(self.broken && BREAKS.load(Ordering::Relaxed)), "scripted panic");
        self.id
    }

    fn encode(&self) -> Result<Vec<u8>, CodecError> {
        codec::encode(Self::FORMAT, self)
    }

    fn decode(payload: &[u8]) -> Result<Self, CodecError> {
        codec::decode(Self::FORMAT, payload)
    }
}

#[tokio::test(start_paused = true)]
async fn p8_a_record_whose_key_panics_blocks_no_other() {
    let sink = ScriptedSink::<Fragile>::new();
    let options = EntityOptions::new().partitions(1);
    let builder = Engine::builder(MemoryBuffer::new()).entity::<Fragile>(sink.clone(), options);
    let engine = builder.start().await.unwrap();
    let (cache, letters) = (engine.cache::<Fragile>().unwrap(), engine.dead_letters::<Fragile>().unwrap());
    let rows = [1, 2].map(|id| Fragile { id, broken: id == 1 });
    cache.put_many(&rows).await.unwrap();
    BREAKS.store(true, Ordering::Relaxed);
    assert!(cache.flush_within(60 * SECOND).await.unwrap(), "the flush ends");
    assert_eq!(sink.rows().len(), 1);
    assert_eq!(letters.get(&1).await.unwrap().unwrap().kind, "undecodable");
    engine.shutdown(SECOND).await.unwrap();
}

/// Nothing of a batch that waits for its first try can be under way in the sink.
#[tokio::test(start_paused = true)]
async fn a_handover_does_not_wait_for_the_rows_that_a_rate_limit_holds_back() {
    let sink = ScriptedSink::without_fencing();
    let buffer = MemoryBuffer::new();
    let options = EntityOptions::new().partitions(1).rate_limit(1);
    let builder = Engine::builder(buffer.clone()).lease(3 * SECOND).entity::<Player>(sink.clone(), options);
    let engine = builder.start().await.unwrap();
    let players = engine.cache::<Player>().unwrap();
    players.put_many(&(0..1_000).map(|id| player(id, 1)).collect::<Vec<_>>()).await.unwrap();
    sink_has(&sink, 2).await;
    let begun = Instant::now();
    engine.handover().await;
    assert!(begun.elapsed() < 10 * SECOND, "{:?}", begun.elapsed());
    let sent = sink.rows().len();
    assert!(sent < 20, "{sent}");
    engine.shutdown(SECOND).await.unwrap();
    let heir = Engine::builder(buffer).entity::<Player>(sink.clone(), EntityOptions::new().partitions(1));
    let heir = heir.start().await.unwrap();
    assert_eq!(heir.shutdown(60 * SECOND).await.unwrap().remaining, 0);
    assert_eq!(sink.rows().len(), 1_000);
}

/// Without a fence only the lease keeps the next worker away from what a write that was cut off may still do.
#[tokio::test(start_paused = true)]
async fn p3_a_write_that_shutdown_cuts_off_keeps_its_lease() {
    for (fences, waits) in [(false, true), (true, false)] {
        let sink = if fences { ScriptedSink::new() } else { ScriptedSink::without_fencing() };
        let buffer = MemoryBuffer::new();
        let start = async || {
            let options = EntityOptions::new().partitions(1);
            Engine::builder(buffer.clone())
                .lease(3 * SECOND)
                .entity::<Player>(sink.clone(), options)
                .start()
                .await
                .unwrap()
        };
        let engine = start().await;
        sink.hold();
        engine.cache::<Player>().unwrap().put(&player(1, 1)).await.unwrap();
        sink.waiting(1).await;
        assert_eq!(engine.shutdown(SECOND).await.unwrap().remaining, 1);
        sink.release();
        let begun = Instant::now();
        let heir = start().await;
        assert_eq!(heir.owned()["player"].is_empty(), waits, "fences: {fences}");
        assert!(heir.cache::<Player>().unwrap().flush_within(60 * SECOND).await.unwrap());
        assert_eq!(begun.elapsed() > SECOND, waits, "fences: {fences}");
        assert_eq!(heir.shutdown(60 * SECOND).await.unwrap().remaining, 0);
    }
}

/// Another program changes the topology, which it can only while nothing is dirty. This one, where a write may wait for room for
/// ever, is told at once.
#[tokio::test(start_paused = true)]
async fn nobody_waits_for_ever_under_a_topology_that_is_over() {
    let sink = ScriptedSink::new();
    let buffer = MemoryBuffer::new();
    let forever = Overflow::Wait { timeout: Duration::MAX };
    let options = EntityOptions::new().partitions(4).max_dirty(1, forever);
    let builder = Engine::builder(buffer.clone()).lease(3 * SECOND).entity::<Player>(sink.clone(), options);
    let old = builder.start().await.unwrap();
    let players = old.cache::<Player>().unwrap();
    let options = EntityOptions::new().partitions(8);
    let new = Engine::builder(buffer).entity::<Player>(ScriptedSink::new(), options).start().await.unwrap();
    sink.fail_always(ErrorKind::Unavailable);
    let one = player(1, 1);
    let (flushed, put) = tokio::join!(timeout(FOREVER, players.flush()), timeout(FOREVER, players.put(&one)));
    for told in [flushed.expect("the flush ends"), put.expect("the write ends").map(drop)] {
        let told = told.unwrap_err();
        assert!(matches!(&told, CacheError::Buffer(e) if e.kind() == BufferErrorKind::Topology), "{told}");
    }
    for engine in [old, new] {
        engine.shutdown(SECOND).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn p7_callers_that_give_up_leave_no_place_taken() {
    let sink = ScriptedSink::new();
    let forever = Overflow::Wait { timeout: Duration::MAX };
    let options = EntityOptions::new().partitions(2).max_dirty(1, forever);
    let builder = Engine::builder(MemoryBuffer::new()).entity::<Player>(sink.clone(), options);
    let engine = builder.start().await.unwrap();
    let players = engine.cache::<Player>().unwrap();
    sink.fail_always(ErrorKind::Unavailable);
    players.put(&player(0, 1)).await.unwrap();
    // More than may look for room at the same time; each gives up somewhere else in its wait.
    let gone: Vec<_> = (1..300).map(|id| player(id, 1)).collect();
    let waits =
        gone.iter().zip(1..).map(|(player, millis)| timeout(Duration::from_millis(millis), players.put(player)));
    assert!(futures::future::join_all(waits).await.iter().all(Result::is_err));
    assert!(timeout(SECOND, players.flush()).await.is_err());
    sink.recover();
    timeout(60 * SECOND, players.put(&player(1_000, 1))).await.expect("there is room").unwrap();
    assert!(players.flush_within(60 * SECOND).await.unwrap());
    let ids: Vec<u64> = sink.rows().into_values().map(|player| player.id).collect();
    assert_eq!(ids, [0, 1_000], "what was given up is not stored");
    let begun = Instant::now();
    assert_eq!(engine.shutdown(60 * SECOND).await.unwrap().remaining, 0);
    assert!(begun.elapsed() < SECOND, "nobody is in: {:?}", begun.elapsed());
}

async fn sink_has(sink: &ScriptedSink<Player>, rows: usize) {
    let has = async {
        while sink.rows().len() < rows {
            tokio::time::sleep(SECOND / 10).await;
        }
    };
    timeout(FOREVER, has).await.expect("rows reach the sink");
}
