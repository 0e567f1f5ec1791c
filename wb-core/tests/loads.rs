//! Loads over the embedded buffer and a scripted sink that does not answer, on a paused clock.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod heard;
mod player;

use std::time::Duration;

use futures::future::join_all;
use tokio::time::{Instant, sleep, timeout};
use tracing::Level;
use wb_core::testing::ScriptedSink;
use wb_core::{
    Cache, CacheError, ConfigError, Engine, EntityOptions, ErrorKind, Event, Id, MemoryBuffer, RetryPolicy, Role,
    StartError,
};

use self::player::Player;

const LIMIT: Duration = Duration::from_secs(2);
/// Longest wait before the next probe.
const PROBE: Duration = Duration::from_secs(5);
const SECOND: Duration = Duration::from_secs(1);

struct Bench {
    sink: ScriptedSink<Player>,
    engine: Engine,
    players: Cache<Player>,
}

async fn bench(role: Role) -> Bench {
    let retry = RetryPolicy::new().jitter(0.0);
    let options = EntityOptions::new().load_timeout(LIMIT).retry(retry).cache_ttl(Duration::ZERO);
    let sink = ScriptedSink::new();
    for n in 0..100 {
        sink.set_row(Id::of(&n).unwrap(), Player { id: n, score: n });
    }
    let engine =
        Engine::builder(MemoryBuffer::new()).role(role).entity::<Player>(sink.clone(), options).start().await.unwrap();
    Bench { sink, players: engine.cache().unwrap(), engine }
}

/// What a read says, and how long it took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Found,
    /// The sink was asked.
    Failed(ErrorKind),
    /// It was not, for so long now.
    Away(Duration),
}

impl Bench {
    async fn get(&self, id: u64) -> (Said, Duration) {
        let begun = Instant::now();
        let said = match self.players.get(&id).await {
            Ok(found) => {
                assert_eq!(found, Some(Player { id, score: id }));
                Said::Found
            }
            Err(CacheError::Sink { source }) => Said::Failed(source.kind()),
            Err(CacheError::SinkAway { lasted, source }) => {
                assert!(!source.chain().contains('\n'), "{}", source.chain());
                Said::Away(lasted)
            }
            Err(other) => panic!("{other:?}"),
        };
        (said, begun.elapsed())
    }

    fn stats(&self) -> wb_core::EntityStats {
        self.engine.stats().remove("player").unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_does_not_answer_costs_one_read_its_limit_and_the_others_nothing() {
    let (heard, _guard) = heard::listen();
    let bench = bench(Role::Writer).await;
    let mut events = bench.engine.events();
    bench.sink.hold_loads(|_| true);
    // Readers of one key share a load, and its answer.
    let joined = join_all((0..5).map(|_| bench.get(1))).await;
    assert_eq!(joined, [(Said::Failed(ErrorKind::Unavailable), LIMIT); 5]);
    assert_eq!(bench.sink.loads(), 1);
    for n in 2..50 {
        assert_eq!(bench.get(n).await, (Said::Away(Duration::ZERO), Duration::ZERO));
    }
    assert!(matches!(bench.players.get_many(&[51, 52]).await, Err(CacheError::SinkAway { .. })));
    assert!(matches!(bench.players.update(&53, |player| player.score = 1).await, Err(CacheError::SinkAway { .. })));
    assert_eq!(bench.sink.loads(), 1, "nothing of that was sent");
    let stats = bench.stats();
    assert_eq!((stats.failed_loads, stats.refused_loads), (1, 50));
    assert!(matches!(events.next().await.unwrap(), Event::LoadsStopped { entity: "player", .. }));

    // When a probe is due, it is one read's, whoever else comes meanwhile.
    sleep(SECOND).await;
    let (probe, others) = tokio::join!(bench.get(60), async {
        sleep(Duration::from_millis(1)).await;
        join_all((61..70).map(|n| bench.get(n))).await
    });
    assert_eq!(probe, (Said::Failed(ErrorKind::Unavailable), LIMIT));
    assert!(others.iter().all(|other| matches!(other, (Said::Away(_), Duration::ZERO))), "{others:?}");
    // The waits grow, and end at the cap.
    for _ in 0..20 {
        sleep(PROBE).await;
        assert_eq!(bench.get(1).await.0, Said::Failed(ErrorKind::Unavailable));
    }
    assert!(matches!(bench.get(1).await, (Said::Away(lasted), Duration::ZERO) if lasted > PROBE * 20));
    assert_eq!(heard.count(Level::WARN, "sink does not answer, reads of what is not in the buffer fail at once"), 1);

    // Dirty records and writes have nothing to do with it.
    bench.players.put(&Player { id: 1, score: 1 }).await.unwrap();
    assert_eq!(bench.get(1).await, (Said::Found, Duration::ZERO));

    bench.sink.release_loads();
    sleep(PROBE).await;
    let all = join_all((2..50).map(|n| bench.get(n))).await;
    assert_eq!(all.first(), Some(&(Said::Found, Duration::ZERO)));
    assert_eq!(bench.get(2).await, (Said::Found, Duration::ZERO));
    assert_eq!(heard.count(Level::INFO, "sink answers loads again"), 1);
    assert!(matches!(events.next().await.unwrap(), Event::LoadsResumed { .. }));
    bench.engine.shutdown(SECOND).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_failed_write_stops_loads_and_one_that_lands_lets_them_go() {
    let bench = bench(Role::Both).await;
    bench.sink.fail_always(ErrorKind::Unavailable);
    bench.sink.hold_loads(|_| true);
    bench.players.put(&Player { id: 99, score: 99 }).await.unwrap();
    while bench.sink.writes() == 0 {
        sleep(SECOND).await;
    }
    // The first read tries; nobody else waits for it.
    let (probe, other) = tokio::join!(bench.get(1), async {
        sleep(Duration::from_millis(1)).await;
        bench.get(2).await
    });
    assert_eq!(probe, (Said::Failed(ErrorKind::Unavailable), LIMIT));
    assert!(matches!(other, (Said::Away(_), Duration::ZERO)), "{other:?}");
    bench.sink.recover();
    bench.sink.release_loads();
    assert!(bench.players.flush_within(60 * SECOND).await.unwrap());
    let all = join_all((1..50).map(|n| bench.get(n))).await;
    assert!(all.iter().all(|read| *read == (Said::Found, Duration::ZERO)), "{all:?}");
    bench.engine.shutdown(SECOND).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn loads_that_are_answered_are_not_stopped_by_writes_that_are_not() {
    let bench = bench(Role::Both).await;
    // A server that only reads.
    bench.players.put(&Player { id: 99, score: 99 }).await.unwrap();
    for _ in 0..10_000 {
        bench.sink.fail_next(ErrorKind::Unavailable);
    }
    for round in 0..20 {
        let writes = bench.sink.writes();
        while bench.sink.writes() == writes {
            sleep(SECOND).await;
        }
        // The very first one may be a probe.
        let reads = if round == 0 { 1 } else { 50 };
        let all = join_all((0..reads).map(|n| bench.get(n))).await;
        assert!(all.iter().all(|read| *read == (Said::Found, Duration::ZERO)), "round {round}: {all:?}");
    }
    // A load never stops writes.
    bench.sink.recover();
    bench.sink.hold_loads(|_| true);
    assert_eq!(bench.get(1).await, (Said::Failed(ErrorKind::Unavailable), LIMIT));
    bench.players.put(&Player { id: 98, score: 98 }).await.unwrap();
    assert!(bench.players.flush_within(60 * SECOND).await.unwrap());
    bench.engine.shutdown(SECOND).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_the_sink_says_of_one_row_stops_no_load() {
    let bench = bench(Role::Writer).await;
    for kind in [ErrorKind::Rejected, ErrorKind::Misconfigured, ErrorKind::Transient] {
        bench.sink.fail_always(kind);
        assert_eq!(bench.get(1).await, (Said::Failed(kind), Duration::ZERO));
        bench.sink.recover();
        assert_eq!(bench.get(1).await, (Said::Found, Duration::ZERO), "after {kind}");
    }
    // A load that is slow alone: others were answered meanwhile.
    let slow = Id::of(&1_u64).unwrap();
    bench.sink.hold_loads(move |id| *id == slow);
    let (slow, other) = tokio::join!(bench.get(1), async {
        sleep(SECOND).await;
        bench.get(2).await
    });
    assert_eq!((slow.0, other.0), (Said::Failed(ErrorKind::Unavailable), Said::Found));
    assert_eq!(bench.get(3).await, (Said::Found, Duration::ZERO));
    bench.engine.shutdown(SECOND).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn readers_that_give_up_early_stop_loads_too() {
    let bench = bench(Role::Writer).await;
    bench.sink.hold_loads(|_| true);
    assert!(timeout(LIMIT / 2, bench.get(1)).await.is_err());
    assert_eq!(bench.get(2).await, (Said::Away(Duration::ZERO), Duration::ZERO));
    sleep(PROBE).await;
    // A probe whose reader goes at once leaves its place to the next one.
    assert!(timeout(Duration::from_millis(1), bench.get(3)).await.is_err());
    bench.sink.release_loads();
    assert_eq!(bench.get(4).await, (Said::Found, Duration::ZERO));
    bench.engine.shutdown(SECOND).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_first_block_of_ids_waits_no_longer_than_a_load() {
    let bench = bench(Role::Writer).await;
    bench.sink.hold_loads(|_| true);
    assert_eq!(bench.get(1).await.0, Said::Failed(ErrorKind::Unavailable));
    let ids = bench.engine.ids::<Player>(10).unwrap();
    assert!(matches!(ids.next().await, Err(CacheError::SinkAway { .. })));
    bench.sink.release_loads();
    sleep(PROBE).await;
    assert!(ids.next().await.unwrap() > 99);
    bench.engine.shutdown(SECOND).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_load_longer_than_the_default_is_filled_in() {
    let sink = ScriptedSink::<Player>::new();
    sink.set_row(Id::of(&1_u64).unwrap(), Player { id: 1, score: 1 });
    let options = EntityOptions::new().load_timeout(60 * SECOND);
    let engine = Engine::builder(MemoryBuffer::new()).entity::<Player>(sink.clone(), options).start().await.unwrap();
    let players = engine.cache::<Player>().unwrap();
    sink.hold_loads(|_| true);
    let (read, ()) = tokio::join!(players.get(&1), async {
        sleep(40 * SECOND).await;
        sink.release_loads();
    });
    assert_eq!(read.unwrap().unwrap().score, 1);
    players.get(&1).await.unwrap();
    assert_eq!(sink.loads(), 1, "the second read found its copy");
    engine.shutdown(SECOND).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn senseless_limits_are_refused() {
    for limit in [Duration::ZERO, Duration::from_secs(3_601)] {
        let options = EntityOptions::new().load_timeout(limit);
        let started = Engine::builder(MemoryBuffer::new()).entity::<Player>(ScriptedSink::new(), options).start().await;
        assert!(matches!(started, Err(StartError::Config(ConfigError::Option { entity: "player", .. }))));
    }
}
