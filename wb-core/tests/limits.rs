//! The limit of dirty keys in a running engine. The clock is paused: waits cost nothing and nothing is slow.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod player;

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::{Instant, sleep};
use wb_core::testing::ScriptedSink;
use wb_core::{BufferErrorKind, Cache, CacheError, Engine, EntityOptions, ErrorKind, MemoryBuffer, Overflow};

use crate::player::Player;

const EVERY: Duration = Duration::from_secs(60);
const TIMEOUT: Duration = Duration::from_secs(5);

struct Bench {
    sink: ScriptedSink<Player>,
    engine: Engine,
    players: Cache<Player>,
}

impl Bench {
    async fn start(keys: u64, overflow: Overflow) -> Self {
        let sink = ScriptedSink::new();
        let options = EntityOptions::new().flush_every(EVERY).max_dirty(keys, overflow);
        let engine =
            Engine::builder(MemoryBuffer::new()).entity::<Player>(sink.clone(), options).start().await.unwrap();
        let players = engine.cache().unwrap();
        Self { sink, engine, players }
    }

    async fn put(&self, id: u64, score: u64) -> Result<(), CacheError> {
        self.players.put(&Player { id, score }).await.map(drop)
    }

    fn scores(&self) -> BTreeMap<u64, u64> {
        self.sink.rows().into_values().map(|player| (player.id, player.score)).collect()
    }
}

fn is_full<T>(result: &Result<T, CacheError>) -> bool {
    matches!(result, Err(CacheError::Buffer(error)) if error.kind() == BufferErrorKind::Full)
}

fn waiting() -> Overflow {
    Overflow::Wait { timeout: TIMEOUT }
}

#[tokio::test(start_paused = true)]
async fn p7_a_write_is_refused_at_the_limit_and_never_appears() {
    let bench = Bench::start(2, Overflow::Reject).await;
    bench.put(1, 1).await.unwrap();
    bench.put(2, 1).await.unwrap();
    let begun = Instant::now();
    assert!(is_full(&bench.put(3, 1).await));
    assert!(is_full(&bench.players.delete(&4).await));
    assert!(is_full(&bench.players.put_many(&[Player { id: 1, score: 9 }, Player { id: 5, score: 9 }]).await));
    assert_eq!(begun.elapsed(), Duration::ZERO, "at once");
    bench.put(1, 2).await.unwrap();
    bench.players.delete(&2).await.unwrap();
    bench.players.flush().await.unwrap();
    assert_eq!(bench.scores(), BTreeMap::from([(1, 2)]));
    bench.put(3, 3).await.unwrap();
    bench.engine.shutdown(TIMEOUT).await.unwrap();
    assert_eq!(bench.sink.rows().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn p7_waiting_writes_make_the_worker_flush_and_all_get_through() {
    let bench = Bench::start(10, waiting()).await;
    let begun = Instant::now();
    let puts = join_all((0..2_000).map(|id| bench.put(id, 1))).await;
    assert!(puts.iter().all(Result::is_ok), "{:?}", puts.iter().find(|put| put.is_err()));
    assert!(begun.elapsed() < EVERY, "nobody waited for the interval: {:?}", begun.elapsed());
    bench.players.flush().await.unwrap();
    assert_eq!(bench.scores().len(), 2_000);
}

#[tokio::test(start_paused = true)]
async fn p7_a_wait_ends_at_its_timeout_and_leaves_nothing() {
    let bench = Bench::start(1, waiting()).await;
    bench.sink.fail_always(ErrorKind::Unavailable);
    bench.put(1, 1).await.unwrap();
    let begun = Instant::now();
    // More than look for room at the same time: those in the queue give up in time too.
    let refused = join_all((2..202).map(|id| bench.put(id, 1))).await;
    assert!(refused.iter().all(is_full));
    assert_eq!(begun.elapsed(), TIMEOUT);
    // What is dirty is written all the same, meanwhile.
    let (again, new) = tokio::join!(bench.put(1, 2), bench.put(2, 2));
    assert!(again.is_ok() && is_full(&new));
    // What could never fit is not waited for.
    let begun = Instant::now();
    let two = [Player { id: 1, score: 3 }, Player { id: 2, score: 3 }];
    assert!(is_full(&bench.players.put_many(&two).await));
    assert_eq!(begun.elapsed(), Duration::ZERO);
    bench.sink.recover();
    bench.players.flush().await.unwrap();
    assert_eq!(bench.scores(), BTreeMap::from([(1, 2)]));
}

#[tokio::test(start_paused = true)]
async fn p7_room_that_comes_is_found_soon() {
    let bench = Bench::start(1, waiting()).await;
    bench.sink.hold();
    bench.put(1, 1).await.unwrap();
    let begun = Instant::now();
    let release = async {
        sleep(Duration::from_secs(3)).await;
        bench.sink.release();
    };
    let (put, ()) = tokio::join!(bench.put(2, 1), release);
    put.unwrap();
    assert!(begun.elapsed() < Duration::from_millis(3_500), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn p11_a_waiting_write_does_not_hold_shutdown_up_and_is_not_stored_after_it() {
    let bench = Bench::start(1, Overflow::Wait { timeout: Duration::MAX }).await;
    bench.sink.fail_always(ErrorKind::Unavailable);
    bench.put(1, 1).await.unwrap();
    let players = bench.players.clone();
    let waiting: Vec<_> = (2..202)
        .map(|id| {
            let players = players.clone();
            tokio::spawn(async move { players.put(&Player { id, score: 1 }).await })
        })
        .collect();
    sleep(Duration::from_secs(60)).await;
    let sink = bench.sink.clone();
    let begun = Instant::now();
    let recover = async {
        sleep(Duration::from_secs(2)).await;
        sink.recover();
    };
    let (drained, ()) = tokio::join!(bench.engine.shutdown(Duration::from_secs(3_600)), recover);
    assert_eq!(drained.unwrap().remaining, 0);
    assert!(begun.elapsed() < Duration::from_secs(300), "{:?}", begun.elapsed());
    for put in waiting {
        assert!(put.is_finished(), "ended before shutdown did");
        let put = put.await.unwrap();
        assert!(matches!(put, Err(CacheError::Closed)), "{put:?}");
    }
    assert_eq!(bench.sink.rows().len(), 1);
}
