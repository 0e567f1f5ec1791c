//! Who flushes what, as workers join, leave, crash and freeze. Over the embedded buffer; the clock is paused but where
//! processes freeze.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod player;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::time::{Instant, sleep, timeout};
use wb_core::testing::ScriptedSink;
use wb_core::{
    Batch, BufferErrorKind, Cache, CacheError, Engine, EntityOptions, ErrorKind, Fence, Id, MemoryBuffer, Report,
    RetryPolicy, Role, Scope, Sink, SinkError,
};

use crate::player::Player;

const LEASE: Duration = Duration::from_secs(3);
const EVERY: Duration = Duration::from_millis(500);
const FOREVER: Duration = Duration::from_secs(3_600);
const PARTITIONS: u16 = 16;

fn options() -> EntityOptions {
    let retry = RetryPolicy::new().initial(Duration::from_millis(10)).cap(Duration::from_millis(500));
    EntityOptions::new().partitions(PARTITIONS).flush_every(EVERY).retry(retry)
}

fn player(id: u64, score: u64) -> Player {
    Player { id, score }
}

fn id(n: u64) -> Id {
    Id::of(&n).unwrap()
}

/// A sink that counts how often partitions are fenced, that is, taken.
#[derive(Clone)]
struct Counting {
    inner: ScriptedSink<Player>,
    fences: Arc<AtomicU64>,
}

#[async_trait]
impl Sink<Player> for Counting {
    async fn open(&self, scope: &Scope) -> Result<(), SinkError> {
        self.inner.open(scope).await
    }

    async fn fence(&self, scope: &Scope, partition: u16) -> Result<Option<Fence>, SinkError> {
        self.fences.fetch_add(1, Ordering::Relaxed);
        Sink::<Player>::fence(&self.inner, scope, partition).await
    }

    async fn write(&self, batch: &Batch<Player>) -> Result<Report, SinkError> {
        self.inner.write(batch).await
    }

    async fn load(&self, keys: &[u64]) -> Result<Vec<Player>, SinkError> {
        self.inner.load(keys).await
    }
}

/// Workers over one buffer and one sink.
struct Crew {
    buffer: MemoryBuffer,
    sink: Counting,
    engines: Vec<Engine>,
}

impl Crew {
    fn over(inner: ScriptedSink<Player>) -> Self {
        let sink = Counting { inner, fences: Arc::default() };
        Self { buffer: MemoryBuffer::new(), sink, engines: Vec::new() }
    }

    async fn of(workers: usize) -> Self {
        let mut crew = Self::over(ScriptedSink::new());
        for _ in 0..workers {
            crew.join().await;
        }
        crew
    }

    async fn start(&self, role: Role, options: EntityOptions) -> Engine {
        let builder = Engine::builder(self.buffer.clone()).lease(LEASE).role(role);
        builder.entity::<Player>(self.sink.clone(), options).start().await.unwrap()
    }

    async fn join(&mut self) {
        let engine = self.start(Role::Both, options()).await;
        self.engines.push(engine);
    }

    fn players(&self, worker: usize) -> Cache<Player> {
        self.engines[worker].cache().unwrap()
    }

    fn owned(&self) -> Vec<Vec<u16>> {
        self.engines.iter().map(|engine| engine.owned().remove("player").unwrap()).collect()
    }

    fn fences(&self) -> u64 {
        self.sink.fences.load(Ordering::Relaxed)
    }

    /// Whether every partition has one owner, and the owners have even shares.
    fn is_even(&self) -> bool {
        let owned = self.owned();
        let mut all: Vec<u16> = owned.iter().flatten().copied().collect();
        all.sort_unstable();
        let (least, most) = (owned.iter().map(Vec::len).min(), owned.iter().map(Vec::len).max());
        all == (0..PARTITIONS).collect::<Vec<_>>() && most.unwrap_or(0) - least.unwrap_or(0) <= 1
    }

    /// Waits until shares are even; how long it took, in leases.
    async fn even(&self, limit: u32) -> f64 {
        let begun = Instant::now();
        while !self.is_even() {
            assert!(begun.elapsed() < limit * LEASE, "not even after {limit} leases: {:?}", self.owned());
            sleep(Duration::from_millis(10)).await;
        }
        begun.elapsed().as_secs_f64() / LEASE.as_secs_f64()
    }
}

#[tokio::test(start_paused = true)]
async fn partitions_move_when_workers_join_leave_and_crash() {
    let mut crew = Crew::of(1).await;
    assert!(crew.is_even(), "a lone worker has all of them at once");
    for workers in 2..=5 {
        crew.join().await;
        let took = crew.even(3).await;
        eprintln!("worker {workers} joined: even after {took:.2} leases");
    }
    assert_eq!(crew.owned().iter().map(Vec::len).max(), Some(4), "16 over 5");
    for workers in (1..=4).rev() {
        if workers % 2 == 0 {
            let drained = crew.engines.remove(0).shutdown(FOREVER).await.unwrap();
            assert_eq!(drained.remaining, 0);
        } else {
            drop(crew.engines.remove(0));
        }
        let took = crew.even(3).await;
        let how = if workers % 2 == 0 { "left" } else { "crashed" };
        eprintln!("a worker {how}, {workers} are left: even after {took:.2} leases");
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_moves_while_nobody_joins_or_leaves() {
    for workers in 1..=5 {
        let crew = Crew::of(workers).await;
        crew.even(3).await;
        let (owned, fences) = (crew.owned(), crew.fences());
        let players = crew.players(0);
        let until = Instant::now() + 20 * LEASE;
        let mut n = 0;
        while Instant::now() < until {
            players.put(&player(n % 100, n)).await.unwrap();
            assert_eq!(crew.owned(), owned, "{workers} workers");
            sleep(Duration::from_millis(50)).await;
            n += 1;
        }
        assert_eq!(crew.fences(), fences, "{workers} workers: fenced again, so the right was lost in between");
    }
}

/// Joins, leaves, handovers, crashes and writes in any order: in the end everything is flushed, nothing went back, and
/// every partition has one owner.
#[tokio::test(start_paused = true)]
async fn p1_p3_any_order_of_joins_leaves_and_crashes_ends_even() {
    let given = std::env::var("WB_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = given.unwrap_or_else(|| u64::from(rand::random::<u32>()));
    eprintln!("WB_SEED={seed}");
    for round in 0..20 {
        let mut random = StdRng::seed_from_u64(seed + round);
        let mut crew = Crew::of(1).await;
        let writer = crew.start(Role::Writer, options()).await;
        let players = writer.cache::<Player>().unwrap();
        let (mut state, mut score) = (BTreeMap::new(), 0);
        for _ in 0..60 {
            let workers = crew.engines.len();
            match random.random_range(0..6) {
                0 if workers < 5 => crew.join().await,
                1 if workers > 1 => {
                    let leaver = crew.engines.remove(random.random_range(0..workers));
                    leaver.shutdown(LEASE).await.unwrap();
                }
                2 if workers > 1 => drop(crew.engines.remove(random.random_range(0..workers))),
                3 if workers > 1 => {
                    let leaver = crew.engines.remove(random.random_range(0..workers));
                    leaver.handover().await;
                    assert_eq!(leaver.shutdown(FOREVER).await.unwrap().remaining, 0);
                }
                4 => sleep(LEASE * random.random_range(0..20) / 10).await,
                _ => {
                    for _ in 0..20 {
                        score += 1;
                        let n = random.random_range(0..100);
                        players.put(&player(n, score)).await.unwrap();
                        state.insert(n, score);
                    }
                }
            }
        }
        // One that joined and crashed just now has a share until its lease ends: even before that is not yet at rest.
        sleep(LEASE).await;
        crew.even(3).await;
        assert!(players.flush_within(FOREVER).await.unwrap());
        let sink = &crew.sink.inner;
        let rows: BTreeMap<u64, u64> = sink.rows().into_values().map(|row| (row.id, row.score)).collect();
        assert_eq!(rows, state, "round {round}");
        for n in state.keys() {
            let scores: Vec<u64> = sink.history(&id(*n)).into_iter().flatten().map(|row| row.score).collect();
            assert!(scores.is_sorted(), "round {round}: key {n} went back: {scores:?}");
        }
        crew.even(1).await;
    }
}

#[tokio::test(start_paused = true)]
async fn p3_a_partition_is_not_given_up_while_a_batch_of_it_is_on_its_way() {
    let mut crew = Crew::of(1).await;
    let players = crew.players(0);
    players.put_many(&(0..100).map(|n| player(n, 1)).collect::<Vec<_>>()).await.unwrap();
    crew.sink.inner.hold();
    crew.sink.inner.waiting(1).await;
    crew.join().await;
    sleep(10 * LEASE).await;
    assert_eq!(crew.owned()[0].len(), 16, "the batch may land at any time");
    crew.sink.inner.release();
    crew.even(3).await;
    assert!(players.flush_within(FOREVER).await.unwrap());
    assert_eq!(crew.sink.inner.rows().len(), 100);
}

/// A worker that cannot reach the sink does not keep others from trying, where a late try of its own does no harm.
#[tokio::test(start_paused = true)]
async fn p3_an_outage_holds_partitions_only_where_nothing_else_stops_a_late_write() {
    for (sink, fences) in [(ScriptedSink::new(), true), (ScriptedSink::without_fencing(), false)] {
        let mut crew = Crew::over(sink);
        crew.join().await;
        let players = crew.players(0);
        players.put_many(&(0..100).map(|n| player(n, 1)).collect::<Vec<_>>()).await.unwrap();
        crew.sink.inner.hold();
        crew.sink.inner.waiting(1).await;
        // Only writes wait: another worker can start.
        crew.join().await;
        crew.sink.inner.fail_always(ErrorKind::Unavailable);
        crew.sink.inner.release();
        sleep(4 * LEASE).await;
        assert_eq!(crew.is_even(), fences, "{:?}", crew.owned());
        crew.sink.inner.recover();
        crew.even(4).await;
        assert!(players.flush_within(FOREVER).await.unwrap());
        assert_eq!(crew.sink.inner.rows().len(), 100);
    }
}

#[tokio::test(start_paused = true)]
async fn p11_after_a_handover_others_flush_and_this_one_writes_on() {
    let mut crew = Crew::of(2).await;
    crew.even(3).await;
    let players = crew.players(0);
    players.put_many(&(0..100).map(|n| player(n, 1)).collect::<Vec<_>>()).await.unwrap();
    let begun = Instant::now();
    crew.engines[0].handover().await;
    assert!(begun.elapsed() < LEASE / 10, "{:?}", begun.elapsed());
    assert_eq!(crew.owned()[0], [0_u16; 0]);
    // The other one takes everything at its next tick.
    sleep(LEASE / 3 + Duration::from_millis(10)).await;
    assert_eq!(crew.owned()[1].len(), 16);
    players.put(&player(7, 2)).await.unwrap();
    assert_eq!(players.get(&7).await.unwrap(), Some(player(7, 2)));
    assert!(players.flush_within(FOREVER).await.unwrap());
    assert_eq!(crew.sink.inner.row(&id(7)), Some(player(7, 2)));
    assert_eq!(crew.sink.inner.rows().len(), 100);
    sleep(10 * LEASE).await;
    assert_eq!(crew.owned()[0], [0_u16; 0], "for good");
    crew.engines[0].handover().await;
    players.put(&player(8, 2)).await.unwrap();
    let drained = crew.engines.remove(0).shutdown(FOREVER).await.unwrap();
    assert_eq!(drained.remaining, 0, "it owns nothing");
    assert!(crew.players(0).flush_within(FOREVER).await.unwrap());
    assert_eq!(crew.sink.inner.row(&id(8)), Some(player(8, 2)));
}

#[tokio::test(start_paused = true)]
async fn p3_a_handover_waits_for_what_is_on_its_way() {
    let crew = Crew::of(1).await;
    let players = crew.players(0);
    players.put(&player(1, 1)).await.unwrap();
    crew.sink.inner.hold();
    crew.sink.inner.waiting(1).await;
    players.put(&player(1, 2)).await.unwrap();
    // Whoever is asked waits, and may stop waiting.
    assert!(timeout(5 * LEASE, crew.engines[0].handover()).await.is_err());
    assert_eq!(crew.owned()[0].len(), 16, "renewed as long as it lasts");
    crew.sink.inner.release();
    timeout(LEASE, crew.engines[0].handover()).await.unwrap();
    assert_eq!(crew.sink.inner.row(&id(1)), Some(player(1, 1)), "what was on its way");
    sleep(10 * EVERY).await;
    assert_eq!(crew.sink.inner.row(&id(1)), Some(player(1, 1)), "and nothing more");
    // The next worker has everything at once, and goes on.
    let next = crew.start(Role::Worker, options()).await;
    assert_eq!(next.owned()["player"].len(), 16);
    assert!(players.flush_within(FOREVER).await.unwrap());
    assert_eq!(crew.sink.inner.row(&id(1)), Some(player(1, 2)));
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_only_writes_has_no_share() {
    let mut crew = Crew::of(1).await;
    let writer = crew.start(Role::Writer, options()).await;
    sleep(2 * LEASE).await;
    assert!(crew.is_even());
    timeout(Duration::from_millis(1), writer.handover()).await.unwrap();
    assert_eq!(writer.shutdown(FOREVER).await.unwrap().remaining, 0);
    crew.join().await;
    crew.even(3).await;
}

#[tokio::test(start_paused = true)]
async fn p1_an_engine_whose_topology_was_changed_takes_no_more_writes() {
    for role in [Role::Writer, Role::Both] {
        let mut crew = Crew::over(ScriptedSink::new());
        let old = crew.start(role, options()).await;
        let players = old.cache::<Player>().unwrap();
        players.put(&player(1, 1)).await.unwrap();
        if role == Role::Both {
            assert!(players.flush_within(FOREVER).await.unwrap());
        } else {
            let worker = crew.start(Role::Worker, options()).await;
            assert!(players.flush_within(FOREVER).await.unwrap());
            worker.shutdown(FOREVER).await.unwrap();
        }
        let new = crew.start(Role::Both, options().partitions(8)).await;
        sleep(LEASE / 3 + Duration::from_millis(10)).await;
        let is_topology =
            |error: &CacheError| matches!(error, CacheError::Buffer(e) if e.kind() == BufferErrorKind::Topology);
        let (put, got) = (players.put(&player(1, 2)).await.unwrap_err(), players.get(&1).await.unwrap_err());
        assert!(is_topology(&put) && is_topology(&got), "{role:?}: {put} {got}");
        let text = wb_chain(&put);
        assert!(text.contains("partitions=16") && text.contains("partitions=8"), "both sides are named: {text}");
        sleep(LEASE).await;
        assert!(old.owned()["player"].is_empty(), "{role:?}: flushes nothing more");
        assert_eq!(new.owned()["player"].len(), 8);
        assert_eq!(old.shutdown(FOREVER).await.unwrap().remaining, 0);
        crew.engines.push(new);
        crew.players(0).put(&player(1, 3)).await.unwrap();
        assert!(crew.players(0).flush_within(FOREVER).await.unwrap());
        assert_eq!(crew.sink.inner.row(&id(1)), Some(player(1, 3)));
    }
}

fn wb_chain(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {}", wb_chain(source)))
}

/// A process that stops for longer than its leases live, as by SIGSTOP: its whole runtime is blocked in mid-flush, its
/// timers are due when it wakes. The sink does not fence, so that the leases are all there is.
#[tokio::test]
async fn p3_a_frozen_worker_writes_nothing_when_it_wakes() {
    let lease = Duration::from_millis(300);
    let (buffer, sink) = (MemoryBuffer::new(), ScriptedSink::<Player>::without_fencing());
    let start = move |buffer: MemoryBuffer, sink: ScriptedSink<Player>| async move {
        let options = options().partitions(2).flush_every(Duration::from_millis(20));
        Engine::builder(buffer).lease(lease).entity::<Player>(sink, options).start().await.unwrap()
    };
    let (froze, frozen) = tokio::sync::oneshot::channel();
    let (thaw, thawed) = std::sync::mpsc::channel::<()>();
    let (woke, awake) = tokio::sync::oneshot::channel();
    let thread = std::thread::spawn({
        let (buffer, sink) = (buffer.clone(), sink.clone());
        move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let engine = start(buffer, sink.clone()).await;
                sink.fail_always(ErrorKind::Unavailable);
                engine.cache::<Player>().unwrap().put(&player(1, 1)).await.unwrap();
                while sink.writes() == 0 {
                    sleep(Duration::from_millis(1)).await;
                }
                froze.send(()).unwrap();
                thawed.recv().unwrap();
                // It takes part again: its share is one of two.
                while engine.owned()["player"].len() != 1 {
                    sleep(Duration::from_millis(1)).await;
                }
                woke.send(()).unwrap();
                engine.shutdown(FOREVER).await.unwrap();
            });
        }
    });
    frozen.await.unwrap();
    sink.recover();
    let other = start(buffer, sink.clone()).await;
    let players = other.cache::<Player>().unwrap();
    players.put(&player(1, 2)).await.unwrap();
    assert!(players.flush_within(20 * lease).await.unwrap(), "not stuck");
    assert_eq!(sink.row(&id(1)), Some(player(1, 2)));
    thaw.send(()).unwrap();
    timeout(20 * lease, awake).await.unwrap().unwrap();
    players.put(&player(2, 1)).await.unwrap();
    assert!(players.flush_within(20 * lease).await.unwrap());
    let scores: Vec<u64> = sink.history(&id(1)).into_iter().flatten().map(|row| row.score).collect();
    assert!(scores.ends_with(&[2]) && scores.is_sorted(), "the state went back: {scores:?}");
    tokio::task::spawn_blocking(|| thread.join().unwrap()).await.unwrap();
    assert_eq!(other.shutdown(FOREVER).await.unwrap().remaining, 0);
}
