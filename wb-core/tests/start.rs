//! Starts while the sink is away, over the embedded buffer, on a paused clock.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod heard;
mod player;

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use tokio::time::{Instant, sleep, timeout};
use tracing::Level;
use wb_core::testing::ScriptedSink;
use wb_core::{
    Batch, BufferErrorKind, Cache, CacheError, ConfigError, Engine, EntityOptions, ErrorKind, Event, Fence, Finding,
    Id, MemoryBuffer, Overflow, Report, Role, Scope, Severity, Sink, SinkError, StartError, TransactionError,
};

use self::player::Player;

const SECOND: Duration = Duration::from_secs(1);
/// Within this a sink that is back is noticed, and what waited is flushed.
const SOON: Duration = Duration::from_secs(7);

fn options() -> EntityOptions {
    EntityOptions::new().flush_every(SECOND)
}

fn away() -> ScriptedSink<Player> {
    let sink = ScriptedSink::new();
    sink.fail_always(ErrorKind::Unavailable);
    sink
}

async fn started(
    buffer: &MemoryBuffer,
    sink: impl Sink<Player>,
    role: Role,
    options: EntityOptions,
) -> (Engine, Cache<Player>) {
    let engine = Engine::builder(buffer.clone()).role(role).entity::<Player>(sink, options).start().await.unwrap();
    let players = engine.cache().unwrap();
    (engine, players)
}

async fn put(players: &Cache<Player>, ids: std::ops::Range<u64>) {
    for id in ids {
        players.put(&Player { id, score: id }).await.unwrap();
    }
}

fn said(findings: &[Finding]) -> Vec<(Severity, &'static str)> {
    findings.iter().map(|finding| (finding.severity, finding.code)).collect()
}

fn ready(engine: &Engine) -> bool {
    engine.stats().remove("player").unwrap().sink_ready
}

#[tokio::test(start_paused = true)]
async fn every_role_starts_while_its_sink_is_away_and_goes_on_when_it_is_there() {
    for kind in [ErrorKind::Unavailable, ErrorKind::Transient] {
        for role in [Role::Writer, Role::Worker, Role::Both] {
            let (heard, _guard) = heard::listen();
            let (buffer, sink) = (MemoryBuffer::new(), ScriptedSink::new());
            sink.fail_always(kind);
            let begun = Instant::now();
            let (engine, players) = started(&buffer, sink.clone(), role, options()).await;
            // A writer alone flushes nothing.
            let worker = match role {
                Role::Writer => Some(started(&buffer, sink.clone(), Role::Worker, options()).await.0),
                _ => None,
            };
            assert!(begun.elapsed() < SECOND, "{role:?}: {:?}", begun.elapsed());
            assert_eq!(said(engine.findings()), [(Severity::Warning, "sink-away")], "{role:?}");
            assert!(engine.findings()[0].text.contains("scripted failure"), "the cause is told");
            let mut events = engine.events();
            put(&players, 0..100).await;
            sleep(60 * SECOND).await;
            assert!(matches!(events.next().await.unwrap(), Event::SinkAway { entity: "player", .. }));
            // What is buffered is read, and nothing waits for the sink.
            let begun = Instant::now();
            assert_eq!(players.get(&7).await.unwrap(), Some(Player { id: 7, score: 7 }));
            let told = players.get(&1_000).await.unwrap_err();
            assert!(matches!(&told, CacheError::SinkAway { lasted, .. } if *lasted >= 60 * SECOND), "{told:?}");
            assert_eq!(begun.elapsed(), Duration::ZERO);
            assert_eq!((sink.loads(), sink.writes(), ready(&engine)), (0, 0, false), "{role:?}");
            assert!(engine.owned()["player"].is_empty(), "others may reach the sink");
            if role != Role::Writer {
                assert_eq!(engine.stats()["player"].dirty_keys, 100, "somebody has to see them");
            }

            sink.recover();
            assert!(timeout(SOON, players.flush()).await.is_ok(), "{kind} {role:?}: without a restart");
            assert_eq!(sink.rows().len(), 100);
            sleep(SOON).await;
            assert!(ready(&engine) && engine.findings().is_empty(), "{role:?}");
            assert_eq!(players.get(&1_000).await.unwrap(), None);
            let ended = events.filter(|event| {
                let ready = matches!(event, Event::SinkReady { lasted, .. } if *lasted >= 60 * SECOND);
                async move { ready }
            });
            assert!(timeout(SECOND, std::pin::pin!(ended).next()).await.unwrap().is_some());
            assert!(heard.count(Level::WARN, "sink is away since the start, nothing is flushed") > 5);
            assert_eq!(engine.shutdown(SECOND).await.unwrap().remaining, 0);
            if let Some(worker) = worker {
                worker.shutdown(SECOND).await.unwrap();
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn writes_are_taken_up_to_the_limit() {
    let (buffer, sink) = (MemoryBuffer::new(), away());
    let (engine, players) = started(&buffer, sink.clone(), Role::Both, options().max_dirty(50, Overflow::Reject)).await;
    put(&players, 0..50).await;
    match players.put(&Player { id: 50, score: 0 }).await {
        Err(CacheError::Buffer(error)) => assert_eq!(error.kind(), BufferErrorKind::Full),
        other => panic!("{other:?}"),
    }
    sink.recover();
    timeout(SOON, players.flush()).await.unwrap().unwrap();
    put(&players, 50..60).await;
    assert_eq!(engine.shutdown(SECOND).await.unwrap().remaining, 0);
    assert_eq!(sink.rows().len(), 60);
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_refuses_a_start_as_ever() {
    for kind in [ErrorKind::Misconfigured, ErrorKind::Rejected] {
        let sink = ScriptedSink::<Player>::new();
        sink.fail_always(kind);
        let builder = || Engine::builder(MemoryBuffer::new()).entity::<Player>(sink.clone(), options());
        assert!(matches!(builder().start().await, Err(StartError::Sink { entity: "player", .. })), "{kind}");
        assert_eq!(said(&builder().doctor().await), [(Severity::Fatal, "start")], "{kind}");
    }
    // A doctor finds of what is away what a start would.
    let doctor = Engine::builder(MemoryBuffer::new()).entity::<Player>(away(), options()).doctor().await;
    assert_eq!(said(&doctor), [(Severity::Warning, "sink-away")]);
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_comes_back_wrong_stops_writes_until_it_is_put_right() {
    let wrong = |text: &str| vec![Finding::fatal("missing-table", "entity `player`", text)];
    for by_finding in [true, false] {
        let (heard, _guard) = heard::listen();
        let (buffer, sink) = (MemoryBuffer::new(), away());
        let (engine, players) = started(&buffer, sink.clone(), Role::Both, options()).await;
        let mut events = engine.events();
        put(&players, 0..100).await;
        if by_finding {
            sink.find(wrong("table `players` does not exist"));
            sink.recover();
        } else {
            sink.fail_always(ErrorKind::Misconfigured);
        }
        sleep(60 * SECOND).await;
        let reason = if by_finding { "does not exist" } else { "scripted failure" };
        let code = if by_finding { "missing-table" } else { "sink-unfit" };
        for refused in [
            players.put(&Player { id: 7, score: 8 }).await.map(drop),
            players.delete(&7).await.map(drop),
            players.update(&7, |player| player.score = 8).await.map(drop),
            players.get(&1_000).await.map(drop),
        ] {
            assert!(
                matches!(&refused, Err(CacheError::SinkUnfit { reason: said }) if said.contains(reason)),
                "{refused:?}"
            );
        }
        assert_eq!(players.get(&7).await.unwrap(), Some(Player { id: 7, score: 7 }), "what was acknowledged stays");
        assert_eq!((sink.writes(), said(engine.findings())), (0, vec![(Severity::Fatal, code)]));
        assert_eq!(heard.count(Level::ERROR, "sink cannot be used as it is, writes are refused"), 1);
        loop {
            match events.next().await.unwrap() {
                Event::SinkUnfit { reason: said, .. } => break assert!(said.contains(reason), "{said}"),
                event => assert!(matches!(event, Event::SinkAway { .. }), "{event:?}"),
            }
        }
        // Away again, it is as wrong as it was.
        sink.fail_always(ErrorKind::Unavailable);
        sleep(60 * SECOND).await;
        assert!(matches!(players.delete(&7).await, Err(CacheError::SinkUnfit { .. })));
        sink.find(vec![Finding::note("server", "entity `player`", "is well")]);
        sink.recover();
        timeout(SOON, players.flush()).await.unwrap().unwrap();
        assert_eq!((sink.rows().len(), said(engine.findings())), (100, vec![(Severity::Note, "server")]));
        put(&players, 0..101).await;
        assert_eq!(engine.shutdown(SECOND).await.unwrap().remaining, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn transactions_wait_until_the_sink_says_that_it_has_them() {
    let (buffer, sink) = (MemoryBuffer::new(), away());
    let (engine, players) = started(&buffer, sink.clone(), Role::Worker, options().transactions(true)).await;
    put(&players, 0..100).await;
    let both = || {
        engine.transaction(|tx| {
            tx.put(&Player { id: 1, score: 10 })?;
            tx.put(&Player { id: 2, score: 20 })
        })
    };
    assert!(matches!(both().await, Err(TransactionError::Cache(CacheError::SinkAway { .. }))));
    sink.recover();
    timeout(SOON, players.flush()).await.unwrap().unwrap();
    assert_eq!(sink.rows().len(), 100);
    both().await.unwrap();
    assert_eq!(engine.shutdown(SECOND).await.unwrap().remaining, 0);
    assert_eq!(sink.row(&Id::of(&2_u64).unwrap()).unwrap().score, 20);

    // It has none: wrong, not away.
    let (buffer, sink) = (MemoryBuffer::new(), ScriptedSink::without_fencing());
    sink.fail_always(ErrorKind::Unavailable);
    let (engine, players) = started(&buffer, sink.clone(), Role::Worker, options().transactions(true)).await;
    sink.recover();
    sleep(SOON).await;
    assert!(
        matches!(players.delete(&1).await, Err(CacheError::SinkUnfit { reason }) if reason.contains("transactions"))
    );
    engine.shutdown(SECOND).await.unwrap();
    let started = Engine::builder(buffer).entity::<Player>(sink, options().transactions(true)).start().await;
    assert!(matches!(started, Err(StartError::Config(ConfigError::Option { entity: "player", .. }))));
}

#[tokio::test(start_paused = true)]
async fn p11_a_shutdown_while_the_sink_is_away_says_what_is_left() {
    let (buffer, sink) = (MemoryBuffer::new(), away());
    let (engine, players) = started(&buffer, sink.clone(), Role::Both, options()).await;
    put(&players, 0..100).await;
    let begun = Instant::now();
    assert_eq!(engine.shutdown(SECOND).await.unwrap().remaining, 100);
    assert!(begun.elapsed() <= SECOND, "{:?}", begun.elapsed());
    // A hand-over ends too.
    let (engine, _players) = started(&buffer, sink.clone(), Role::Both, options()).await;
    timeout(SOON, engine.handover()).await.unwrap();
    sink.recover();
    sleep(SOON).await;
    assert!(engine.owned()["player"].is_empty(), "it has handed over");
    let (next, players) = started(&buffer, sink.clone(), Role::Both, options()).await;
    timeout(SOON, players.flush()).await.unwrap().unwrap();
    assert_eq!(sink.rows().len(), 100);
    engine.shutdown(SECOND).await.unwrap();
    next.shutdown(SECOND).await.unwrap();
}

/// A sink that this worker cannot reach, or that panics when it is looked at.
struct Far {
    sink: ScriptedSink<Player>,
    mood: Arc<AtomicU8>,
}

#[async_trait]
impl Sink<Player> for Far {
    async fn open(&self, scope: &Scope) -> Result<(), SinkError> {
        match self.mood.load(Ordering::Relaxed) {
            0 => self.sink.open(scope).await,
            1 => Err(SinkError::new(ErrorKind::Unavailable, "no way there")),
            _ => panic!("on purpose"),
        }
    }

    async fn fence(&self, scope: &Scope, partition: u16) -> Result<Option<Fence>, SinkError> {
        self.sink.fence(scope, partition).await
    }

    async fn write(&self, batch: &Batch<Player>) -> Result<Report, SinkError> {
        self.sink.write(batch).await
    }

    async fn load(&self, keys: &[u64]) -> Result<Vec<Player>, SinkError> {
        self.sink.load(keys).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_alone_cannot_reach_the_sink_takes_nothing_from_others() {
    let (buffer, sink, mood) = (MemoryBuffer::new(), ScriptedSink::new(), Arc::new(AtomicU8::new(1)));
    let (near, players) = started(&buffer, sink.clone(), Role::Both, options()).await;
    let far = Far { sink: sink.clone(), mood: mood.clone() };
    let (far, far_players) = started(&buffer, far, Role::Both, options()).await;
    for round in 0..10 {
        put(&far_players, round * 10..round * 10 + 10).await;
        timeout(3 * SECOND, far_players.flush()).await.unwrap().unwrap();
    }
    assert_eq!((near.owned()["player"].len(), far.owned()["player"].len()), (16, 0));
    // One that panics is away, and does not end the task.
    mood.store(2, Ordering::Relaxed);
    sleep(60 * SECOND).await;
    mood.store(0, Ordering::Relaxed);
    sleep(SOON + 20 * SECOND).await;
    assert_eq!((near.owned()["player"].len(), far.owned()["player"].len()), (8, 8), "each its share");
    put(&players, 0..100).await;
    timeout(3 * SECOND, players.flush()).await.unwrap().unwrap();
    far.shutdown(SECOND).await.unwrap();
    near.shutdown(SECOND).await.unwrap();
}
