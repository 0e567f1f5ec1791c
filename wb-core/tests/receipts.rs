//! Receipts over the embedded buffer and a scripted sink, on a paused clock.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod player;

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use wb_core::testing::ScriptedSink;
use wb_core::{Cache, CacheError, Engine, EntityOptions, ErrorKind, MemoryBuffer, Mode, Receipt, RetryPolicy, Role};

use crate::player::Player;

const EVERY: Duration = Duration::from_secs(1);
const FOREVER: Duration = Duration::from_secs(3_600);

struct Bench {
    engine: Engine,
    players: Cache<Player>,
}

fn options() -> EntityOptions {
    let retry = RetryPolicy::new().initial(Duration::from_millis(100)).attempts(3);
    EntityOptions::new().flush_every(EVERY).retry(retry)
}

async fn bench(buffer: &MemoryBuffer, sink: &ScriptedSink<Player>, role: Role, options: EntityOptions) -> Bench {
    let engine =
        Engine::builder(buffer.clone()).role(role).entity::<Player>(sink.clone(), options).start().await.unwrap();
    let players = engine.cache().unwrap();
    Bench { engine, players }
}

fn player(id: u64, score: u64) -> Player {
    Player { id, score }
}

async fn persisted(receipt: &Receipt<Player>) -> Result<(), CacheError> {
    timeout(FOREVER, receipt.persisted()).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_receipt_is_persisted_when_the_sink_has_the_write() {
    let (buffer, sink) = (MemoryBuffer::new(), ScriptedSink::new());
    let bench = bench(&buffer, &sink, Role::Both, options()).await;
    let receipt = bench.players.put(&player(1, 10)).await.unwrap();
    assert!(sink.rows().is_empty(), "not yet");
    persisted(&receipt).await.unwrap();
    assert_eq!(sink.rows().into_values().collect::<Vec<_>>(), [player(1, 10)]);
    persisted(&receipt).await.unwrap();
    let many = bench.players.put_many(&[player(2, 1), player(3, 1)]).await.unwrap();
    persisted(&many).await.unwrap();
    persisted(&bench.players.delete(&1).await.unwrap()).await.unwrap();
    assert_eq!(sink.rows().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_receipt_waits_for_the_flush_of_another_process() {
    let (buffer, sink) = (MemoryBuffer::new(), ScriptedSink::new());
    let writer = bench(&buffer, &sink, Role::Writer, options()).await;
    let receipt = writer.players.put(&player(1, 10)).await.unwrap();
    let limit = Duration::from_secs(5);
    let early = receipt.persisted_within(limit).await;
    assert!(
        matches!(early, Err(CacheError::NotPersisted { waited, .. }) if waited == limit),
        "nobody flushes: {early:?}"
    );
    let _worker = bench(&buffer, &sink, Role::Worker, options()).await;
    persisted(&receipt).await.unwrap();
    assert_eq!(sink.rows().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_hot_key_does_not_keep_its_receipts() {
    let (buffer, sink) = (MemoryBuffer::new(), ScriptedSink::new());
    let bench = bench(&buffer, &sink, Role::Both, options()).await;
    let receipt = bench.players.put(&player(1, 0)).await.unwrap();
    let players = bench.players.clone();
    let busy = tokio::spawn(async move {
        for score in 1.. {
            players.put(&player(1, score)).await.unwrap();
            sleep(Duration::from_millis(10)).await;
        }
    });
    timeout(EVERY * 4, receipt.persisted()).await.unwrap().unwrap();
    busy.abort();
}

#[tokio::test(start_paused = true)]
async fn a_refused_write_fails_its_receipt_with_the_reason() {
    let (buffer, sink) = (MemoryBuffer::new(), ScriptedSink::new());
    let bench = bench(&buffer, &sink, Role::Both, options()).await;
    sink.refuse(|id| id.as_bytes() == b"13");
    let (bad, good) =
        (bench.players.put(&player(13, 1)).await.unwrap(), bench.players.put(&player(1, 1)).await.unwrap());
    persisted(&good).await.unwrap();
    let told = persisted(&bad).await;
    assert!(matches!(&told, Err(CacheError::DeadLettered { kind, .. }) if kind == "rejected"), "{told:?}");
    // A newer state of the key that the sink takes is all that anybody can want of the old one.
    sink.accept();
    let newer = bench.players.put(&player(13, 2)).await.unwrap();
    persisted(&newer).await.unwrap();
    persisted(&bad).await.unwrap();
}

/// Refused, and superseded while it was: neither the epoch's end nor the absence of a letter says that it is in the sink.
#[tokio::test(start_paused = true)]
async fn a_refused_write_that_is_superseded_waits_for_the_newer_one() {
    let (buffer, sink) = (MemoryBuffer::new(), ScriptedSink::new());
    let bench = bench(&buffer, &sink, Role::Both, options()).await;
    sink.refuse(|id| id.as_bytes() == b"13");
    let bad = bench.players.put(&player(13, 1)).await.unwrap();
    sink.hold();
    sink.waiting(1).await;
    let newer = bench.players.put(&player(13, 2)).await.unwrap();
    let mut asked = begun(bad.persisted());
    sink.release();
    sleep(EVERY / 2).await;
    assert!(asked.is_pending(), "its epoch is over, and the sink has nothing");
    sink.accept();
    asked.ready().await.unwrap();
    assert_eq!(sink.rows().into_values().collect::<Vec<_>>(), [player(13, 2)]);
    persisted(&newer).await.unwrap();
}

/// A future that was begun.
fn begun<'a, T: 'a>(future: impl Future<Output = T> + 'a) -> Begun<'a, T> {
    Begun { future: Box::pin(future) }
}

struct Begun<'a, T> {
    future: std::pin::Pin<Box<dyn Future<Output = T> + 'a>>,
}

impl<T> Begun<'_, T> {
    fn is_pending(&mut self) -> bool {
        use futures::FutureExt;
        (&mut self.future).now_or_never().is_none()
    }

    async fn ready(self) -> T {
        timeout(FOREVER, self.future).await.unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_holds_receipts_up_and_fails_none() {
    let (buffer, sink) = (MemoryBuffer::new(), ScriptedSink::new());
    let bench = bench(&buffer, &sink, Role::Both, options()).await;
    sink.fail_always(ErrorKind::Unavailable);
    let receipt = bench.players.put(&player(1, 1)).await.unwrap();
    let told = receipt.persisted_within(Duration::from_secs(600)).await;
    assert!(matches!(told, Err(CacheError::NotPersisted { .. })), "{told:?}");
    sink.recover();
    persisted(&receipt).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_receipt_ends_with_the_engine() {
    let (buffer, sink) = (MemoryBuffer::new(), ScriptedSink::new());
    let writer = bench(&buffer, &sink, Role::Writer, options()).await;
    let receipt = writer.players.put(&player(1, 1)).await.unwrap();
    let (told, _) = tokio::join!(receipt.persisted(), writer.engine.shutdown(Duration::from_secs(1)));
    assert!(matches!(told, Err(CacheError::Closed)), "{told:?}");
    let both = bench(&buffer, &sink, Role::Both, options()).await;
    let receipt = both.players.put(&player(2, 1)).await.unwrap();
    let (told, _) = tokio::join!(receipt.persisted(), both.engine.shutdown(Duration::from_secs(60)));
    told.unwrap();
}

#[tokio::test(start_paused = true)]
async fn put_through_flushes_without_waiting_for_the_interval() {
    let (buffer, sink) = (MemoryBuffer::new(), ScriptedSink::new());
    let bench = bench(&buffer, &sink, Role::Both, options().flush_every(Duration::from_secs(3_600))).await;
    let start = Instant::now();
    bench.players.put_through(&player(1, 1)).await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    assert_eq!(sink.rows().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn write_through_answers_when_the_sink_has_it() {
    let (buffer, sink) = (MemoryBuffer::new(), ScriptedSink::new());
    let options = options().flush_every(Duration::from_secs(3_600)).mode(Mode::WriteThrough);
    let bench = bench(&buffer, &sink, Role::Both, options.persist_within(Duration::from_secs(5))).await;
    bench.players.put(&player(1, 1)).await.unwrap();
    assert_eq!(sink.rows().len(), 1, "put");
    bench.players.update(&1, |player| player.score = 2).await.unwrap();
    assert_eq!(sink.rows().into_values().next(), Some(player(1, 2)), "update");
    bench.players.delete(&1).await.unwrap();
    assert_eq!(sink.rows().len(), 0, "delete");
    sink.fail_always(ErrorKind::Unavailable);
    let told = bench.players.put(&player(1, 3)).await;
    assert!(matches!(told, Err(CacheError::NotPersisted { .. })), "{told:?}");
    assert_eq!(bench.players.get(&1).await.unwrap(), Some(player(1, 3)), "it is in the buffer all the same");
    sink.recover();
    bench.players.put_many(&[player(2, 1), player(3, 1)]).await.unwrap();
    assert_eq!(sink.rows().len(), 3);
    sink.refuse(|id| id.as_bytes() == b"13");
    let told = bench.players.put(&player(13, 3)).await;
    assert!(matches!(told, Err(CacheError::NotPersisted { .. } | CacheError::DeadLettered { .. })), "{told:?}");
}

/// Whoever discards the letter has taken the write away: it is in no sink.
#[tokio::test(start_paused = true)]
async fn a_write_whose_letter_was_discarded_is_not_persisted() {
    let (buffer, sink) = (MemoryBuffer::new(), ScriptedSink::new());
    let bench = bench(&buffer, &sink, Role::Both, options()).await;
    sink.refuse(|id| id.as_bytes() == b"13");
    let receipt = bench.players.put(&player(13, 1)).await.unwrap();
    let letters = bench.engine.dead_letters::<Player>().unwrap();
    while letters.get(&13).await.unwrap().is_none() {
        sleep(EVERY).await;
    }
    assert!(letters.discard(&13).await.unwrap());
    let told = persisted(&receipt).await;
    assert!(sink.rows().is_empty());
    assert!(told.is_err(), "{told:?}");
}
