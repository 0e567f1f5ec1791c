//! Transactions over the embedded buffer: a trade is never half in the sink, nor half visible.
//!
//! A failure prints the shortest history that fails and the seed; `WB_SEED=<seed>` plays the same cases again.
#![expect(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "a test fails by panicking")]

mod player;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use proptest::collection::vec;
use proptest::prelude::any;
use proptest::test_runner::{Config, RngSeed, TestError, TestRunner};
use tokio::sync::Notify;
use wb_core::testing::{Outcome, ScriptedSink};
use wb_core::{
    Batch, Cache, CacheError, Engine, EntityOptions, ErrorKind, Fence, Id, Mechanism, MemoryBuffer, Replay, Report,
    RetryPolicy, Scope, Sink, SinkError, TransactionError,
};

use crate::player::Player;

/// Players of a history; what they own together never changes.
const PLAYERS: u64 = 7;
const GOLD: u64 = 700;
const LEASE: Duration = Duration::from_millis(300);
const PATIENCE: Duration = Duration::from_secs(60);

/// What can happen.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Gold goes from one player to the next but so many.
    Trade(u64, u64),
    /// From one player to two others.
    Share(u64),
    /// A player leaves all gold to another, and goes.
    Leave(u64),
    Read,
    Flush,
    Crash,
    Restart,
    /// A second engine comes or goes.
    Second,
    Fail(ErrorKind),
    LoseReply(ErrorKind),
    /// The sink refuses a player, by name or not.
    Refuse(u64, bool),
    Accept,
    Hold,
    Release,
    Wait,
}

fn step((kind, n): (u8, u8)) -> Step {
    let (one, more) = (u64::from(n) % PLAYERS, u64::from(n) / PLAYERS);
    let failure = if n < 128 { ErrorKind::Transient } else { ErrorKind::Unavailable };
    match kind % 32 {
        0..=9 => Step::Trade(one, more % (PLAYERS - 1) + 1),
        10 | 11 => Step::Share(one),
        12 => Step::Leave(one),
        13 | 14 => Step::Read,
        15 => Step::Flush,
        16 => Step::Crash,
        17 => Step::Restart,
        18 => Step::Second,
        19 => Step::Fail(failure),
        20 => Step::LoseReply(failure),
        21 => Step::Refuse(one, n < 128),
        22 => Step::Accept,
        23 => Step::Hold,
        24 | 25 => Step::Release,
        _ => Step::Wait,
    }
}

struct World {
    buffer: MemoryBuffer,
    sink: ScriptedSink<Player>,
    options: EntityOptions,
    engine: Option<Engine>,
    second: Option<Engine>,
    gold: BTreeMap<u64, u64>,
}

impl World {
    async fn engine(&mut self) -> &Engine {
        if self.engine.is_none() {
            self.engine = Some(self.start().await);
        }
        self.engine.as_ref().unwrap()
    }

    async fn start(&self) -> Engine {
        let builder = Engine::builder(self.buffer.clone()).lease(LEASE);
        builder.entity::<Player>(self.sink.clone(), self.options.clone()).start().await.unwrap()
    }

    async fn cache(&mut self) -> Cache<Player> {
        self.engine().await.cache().unwrap()
    }

    /// What these players own now; who owns nothing at all is no player.
    async fn transact(&mut self, changes: &[(u64, u64)]) {
        self.engine()
            .await
            .transaction(|tx| {
                for &(id, score) in changes {
                    match score {
                        0 => tx.delete::<Player>(&id)?,
                        _ => tx.put(&Player { id, score })?,
                    }
                }
                Ok(())
            })
            .await
            .unwrap();
        self.gold.extend(changes.iter().copied());
    }

    fn of(&self, player: u64) -> u64 {
        self.gold.get(&player).copied().unwrap_or(0)
    }

    async fn step(&mut self, step: Step) {
        match step {
            Step::Trade(one, more) => {
                let other = (one + more) % PLAYERS;
                let moved = self.of(one).div_ceil(3);
                self.transact(&[(one, self.of(one) - moved), (other, self.of(other) + moved)]).await;
            }
            Step::Share(one) => {
                let (two, three) = ((one + 2) % PLAYERS, (one + 3) % PLAYERS);
                let moved = self.of(one) / 4;
                let shares =
                    [(one, self.of(one) - 2 * moved), (two, self.of(two) + moved), (three, self.of(three) + moved)];
                self.transact(&shares).await;
            }
            Step::Leave(one) => {
                let other = (one + 1) % PLAYERS;
                self.transact(&[(other, self.of(other) + self.of(one)), (one, 0)]).await;
            }
            Step::Read => {
                let keys: Vec<u64> = (0..PLAYERS).collect();
                let found = self.cache().await.get_many(&keys).await.unwrap();
                let found: Vec<u64> = found.into_iter().map(|player| player.map_or(0, |player| player.score)).collect();
                let expected: Vec<u64> = keys.iter().map(|&player| self.of(player)).collect();
                assert_eq!(found, expected, "read wrong");
            }
            Step::Flush => {
                self.sink.accept();
                self.flush().await;
            }
            Step::Crash => self.engine = None,
            Step::Restart => {
                self.sink.release();
                self.sink.accept();
                if let Some(engine) = self.engine.take() {
                    engine.shutdown(PATIENCE).await.unwrap();
                }
            }
            Step::Second => match self.second.take() {
                None => self.second = Some(self.start().await),
                Some(engine) => drop(engine),
            },
            Step::Fail(kind) => self.sink.fail_next(kind),
            Step::LoseReply(kind) => self.sink.lose_next_reply(kind),
            Step::Refuse(player, named) => {
                let id = Id::of(&player).unwrap();
                let hits = move |hit: &Id| *hit == id;
                if named { self.sink.refuse(hits) } else { self.sink.refuse_whole(ErrorKind::Rejected, hits) }
            }
            Step::Accept => self.sink.accept(),
            Step::Hold => self.sink.hold(),
            Step::Release => self.sink.release(),
            Step::Wait => tokio::time::sleep(Duration::from_millis(30)).await,
        }
    }

    async fn flush(&mut self) {
        self.sink.release();
        let flushed = self.cache().await.flush_within(PATIENCE).await;
        assert!(matches!(flushed, Ok(true)), "flush: {flushed:?}");
    }

    /// A player whose row is not what was acknowledged.
    fn differs(&self) -> Option<(u64, u64, u64)> {
        let rows = self.sink.rows();
        let row = |player: u64| rows.get(&Id::of(&player).unwrap()).map_or(0, |row| row.score);
        (0..PLAYERS).map(|player| (player, row(player), self.of(player))).find(|(_, row, gold)| row != gold)
    }

    /// What the players of the sink owned together after each of its commits.
    fn audit(&self) {
        let mut rows: BTreeMap<Id, u64> = BTreeMap::new();
        for entry in self.sink.log() {
            let refused = match &entry.outcome {
                Outcome::Written { refused, .. } => refused.clone(),
                Outcome::ReplyLost(_) => Vec::new(),
                _ => continue,
            };
            for (id, row) in entry.records.iter().filter(|(id, _)| !refused.contains(id)) {
                rows.insert(id.clone(), row.as_ref().map_or(0, |row| row.score));
            }
            assert_eq!(rows.values().sum::<u64>(), GOLD, "gold is not conserved in the sink: {:?}", entry.records);
        }
    }
}

async fn play(bytes: &[(u8, u8)], cache: bool, options: EntityOptions) {
    let retry = RetryPolicy::new().initial(Duration::from_millis(1)).cap(Duration::from_millis(5)).attempts(10_000);
    let ttl = if cache { Duration::from_secs(60) } else { Duration::ZERO };
    let options = options.flush_every(Duration::from_millis(20)).max_batch(3).flush_concurrency(3).cache_ttl(ttl);
    let mut world = World {
        buffer: MemoryBuffer::new(),
        sink: ScriptedSink::new(),
        options: options.retry(retry),
        engine: None,
        second: None,
        gold: BTreeMap::new(),
    };
    let first: Vec<_> = (0..PLAYERS).map(|player| (player, GOLD / PLAYERS)).collect();
    world.transact(&first).await;
    for bytes in bytes {
        world.step(step(*bytes)).await;
    }
    world.step(Step::Flush).await;
    world.step(Step::Read).await;
    // What was refused a moment ago does not hold a flush up, and waits for its next try.
    for _ in 0..1_000 {
        if world.differs().is_none() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    world.step(Step::Restart).await;
    world.audit();
    assert_eq!(world.differs(), None, "player, gold in the sink, gold that was acknowledged");
}

/// What a history is made of: its steps, and whether there are clean copies.
type Given = (Vec<(u8, u8)>, bool);

fn histories(cases: u32, options: &EntityOptions) -> Result<(), TestError<Given>> {
    let given = std::env::var("WB_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| u64::from(uuid::Uuid::new_v4().as_fields().0));
    eprintln!("WB_SEED={seed}");
    let config = Config { cases, rng_seed: RngSeed::Fixed(seed), failure_persistence: None, ..Config::default() };
    TestRunner::new(config).run(&(vec(any::<(u8, u8)>(), 0..80), any::<bool>()), |(bytes, cache)| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(play(&bytes, cache, options.clone()));
        Ok(())
    })
}

fn told(failure: TestError<Given>) {
    match failure {
        TestError::Fail(reason, (bytes, cache)) => {
            panic!("{reason}: cache {cache}, {:?}", bytes.into_iter().map(step).collect::<Vec<_>>())
        }
        TestError::Abort(reason) => panic!("{reason}"),
    }
}

#[test]
fn p13_gold_is_conserved_at_every_commit() {
    let result = histories(400, &EntityOptions::new().partitions(5).transactions(true));
    result.unwrap_or_else(told);
}

#[test]
fn p13_gold_is_conserved_in_one_partition() {
    let result = histories(200, &EntityOptions::new().partitions(1));
    result.unwrap_or_else(told);
}

#[test]
fn negative_control_p13_batches_without_marks() {
    match histories(400, &EntityOptions::new().partitions(5).transactions(true).without(Mechanism::Marks)) {
        Err(TestError::Fail(reason, (bytes, _))) => {
            eprintln!("{reason}: {:?}", bytes.into_iter().map(step).collect::<Vec<_>>());
            assert!(reason.message().contains("not conserved"), "{reason}");
        }
        other => panic!("no history breaks without marks: {other:?}"),
    }
}

fn options() -> EntityOptions {
    let retry = RetryPolicy::new().initial(Duration::from_millis(1)).cap(Duration::from_millis(5)).attempts(3);
    EntityOptions::new().partitions(8).flush_every(Duration::from_millis(20)).retry(retry)
}

async fn engine(buffer: &MemoryBuffer, sink: &ScriptedSink<Player>, options: EntityOptions) -> Engine {
    Engine::builder(buffer.clone()).lease(LEASE).entity::<Player>(sink.clone(), options).start().await.unwrap()
}

fn player(id: u64, score: u64) -> Player {
    Player { id, score }
}

async fn put_all(engine: &Engine, players: &[Player]) -> Result<(), TransactionError> {
    engine.transaction(|tx| players.iter().try_for_each(|player| tx.put(player))).await
}

#[tokio::test(start_paused = true)]
async fn p12_what_cannot_be_written_together_gets_a_typed_error() {
    let (buffer, sink) = (MemoryBuffer::new(), ScriptedSink::new());
    let apart = engine(&buffer, &sink, options()).await;
    let several = put_all(&apart, &[player(1, 1), player(2, 1), player(3, 1)]).await;
    let Err(TransactionError::SeveralPartitions { entity: "player", .. }) = &several else { panic!("{several:?}") };
    let said = several.unwrap_err().to_string();
    for word in ["transactions(true)", "partition_by", "partitions(1)"] {
        assert!(said.contains(word), "{said}");
    }
    // One record is a transaction wherever it is.
    put_all(&apart, &[player(1, 1), player(1, 2)]).await.unwrap();
    apart.shutdown(PATIENCE).await.unwrap();
    let together = engine(&buffer, &sink, options().transactions(true)).await;
    let many: Vec<Player> = (0..201).map(|id| player(id, 1)).collect();
    let full = put_all(&together, &many).await;
    assert!(matches!(full, Err(TransactionError::TooMany { limit: 200, .. })), "{full:?}");
    put_all(&together, many.get(1..).unwrap()).await.unwrap();
    let changed = together.transaction(|tx| {
        tx.put(&player(300, 1))?;
        Err::<(), _>(CacheError::Closed.into())
    });
    assert!(matches!(changed.await, Err(TransactionError::Cache(CacheError::Closed))), "what `fill` says");
    let returned = together.transaction(|tx| tx.put(&player(1, 5)).map(|()| 7)).await;
    assert!(matches!(returned, Ok(7)), "{returned:?}");
    together.transaction(|_| Ok(())).await.unwrap();
    let players: Cache<Player> = together.cache().unwrap();
    assert_eq!(players.get(&300).await.unwrap(), None, "nothing is stored");
    assert_eq!(players.get(&1).await.unwrap(), Some(player(1, 5)));
    together.shutdown(PATIENCE).await.unwrap();
    let too_many = options().partitions(300).transactions(true);
    let refused = Engine::builder(MemoryBuffer::new()).entity::<Player>(sink.clone(), too_many).start().await;
    assert!(refused.unwrap_err().to_string().contains("misconfigured"));
}

#[tokio::test(start_paused = true)]
async fn p13_one_poisoned_record_refuses_the_pair_whole() {
    let (buffer, sink) = (MemoryBuffer::new(), ScriptedSink::new());
    let engine = engine(&buffer, &sink, options().transactions(true)).await;
    sink.refuse(|id| id.as_bytes() == b"2");
    put_all(&engine, &[player(1, 1), player(2, 1)]).await.unwrap();
    put_all(&engine, &[player(3, 1), player(4, 1)]).await.unwrap();
    let players: Cache<Player> = engine.cache().unwrap();
    players.put(&player(5, 1)).await.unwrap();
    assert!(players.flush_within(PATIENCE).await.unwrap());
    tokio::time::sleep(Duration::from_secs(1)).await;
    let ids = |rows: BTreeMap<Id, Player>| rows.into_keys().map(|id| id.to_string()).collect::<Vec<_>>();
    assert_eq!(ids(sink.rows()), ["3", "4", "5"], "the others are not held up");
    let letters = engine.dead_letters::<Player>().unwrap();
    for id in [1, 2] {
        let letter = letters.get(&id).await.unwrap().unwrap_or_else(|| panic!("{id} has no letter"));
        assert_eq!((letter.kind.as_str(), letter.attempts), ("rejected", 3), "{id}");
        assert_eq!(players.get(&id).await.unwrap(), Some(player(id, 1)), "still readable");
    }
    // A newer state of both supersedes the letters.
    sink.accept();
    put_all(&engine, &[player(1, 2), player(2, 2)]).await.unwrap();
    assert!(players.flush_within(PATIENCE).await.unwrap());
    assert_eq!(ids(sink.rows()), ["1", "2", "3", "4", "5"]);
    assert!(letters.get(&1).await.unwrap().is_none() && letters.get(&2).await.unwrap().is_none());
    engine.shutdown(PATIENCE).await.unwrap();
}

/// A sink whose load is of no one instant: it asks for one row after the other.
struct Piecemeal {
    inner: ScriptedSink<Player>,
    /// After the first row: says so, and waits.
    pauses: AtomicBool,
    paused: Notify,
    goes_on: Notify,
}

#[async_trait]
impl Sink<Player> for Piecemeal {
    async fn open(&self, scope: &Scope) -> Result<(), SinkError> {
        self.inner.open(scope).await
    }

    async fn fence(&self, scope: &Scope, partition: u16) -> Result<Option<Fence>, SinkError> {
        self.inner.fence(scope, partition).await
    }

    async fn write(&self, batch: &Batch<Player>) -> Result<Report, SinkError> {
        self.inner.write(batch).await
    }

    async fn writes_whole(&self) -> Result<bool, SinkError> {
        self.inner.writes_whole().await
    }

    async fn load(&self, keys: &[u64]) -> Result<Vec<Player>, SinkError> {
        let mut rows = Vec::new();
        for key in keys {
            rows.extend(self.inner.load(&[*key]).await?);
            if self.pauses.swap(false, Ordering::SeqCst) {
                self.paused.notify_one();
                self.goes_on.notified().await;
            }
        }
        Ok(rows)
    }
}

/// Without clean copies nothing is left in the buffer of a transaction that was written and flushed while its records were
/// loaded: a reader must not take one before it and one after it.
#[tokio::test(start_paused = true)]
async fn p13_what_is_flushed_during_a_load_is_read_whole() {
    let inner = ScriptedSink::new();
    let (pauses, paused, goes_on) = (AtomicBool::new(false), Notify::new(), Notify::new());
    let sink = Arc::new(Piecemeal { inner: inner.clone(), pauses, paused, goes_on });
    let options = EntityOptions::new().transactions(true).partitions(4).cache_ttl(Duration::ZERO);
    let engine = Engine::builder(MemoryBuffer::new()).entity::<Player>(sink.clone(), options).start().await.unwrap();
    let players = engine.cache::<Player>().unwrap();
    for round in 0..20 {
        let both = |score| [Player { id: 2 * round, score }, Player { id: 2 * round + 1, score }];
        put_all(&engine, &both(1)).await.unwrap();
        players.flush().await.unwrap();
        sink.pauses.store(true, Ordering::SeqCst);
        let keys = [2 * round, 2 * round + 1];
        let reading = players.get_many(&keys);
        let writing = async {
            sink.paused.notified().await;
            put_all(&engine, &both(2)).await.unwrap();
            players.flush().await.unwrap();
            sink.goes_on.notify_one();
        };
        let (read, ()) = tokio::join!(reading, writing);
        let scores: Vec<u64> = read.unwrap().into_iter().flatten().map(|player| player.score).collect();
        assert!(scores == [1, 1] || scores == [2, 2], "round {round}: half of a transaction is read: {scores:?}");
    }
    engine.shutdown(PATIENCE).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_whole_entity_has_one_worker_at_a_time() {
    let (buffer, sink) = (MemoryBuffer::new(), ScriptedSink::new());
    let mut engines = Vec::new();
    for _ in 0..3 {
        engines.push(engine(&buffer, &sink, options().transactions(true)).await);
    }
    for round in 0..3 {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let owned: Vec<usize> =
                engines.iter().map(|engine| engine.owned().values().map(Vec::len).sum::<usize>()).collect();
            let workers = owned.iter().filter(|&&owned| owned == 8).count();
            if workers == 1 && owned.iter().sum::<usize>() == 8 {
                break;
            }
            assert!(tokio::time::Instant::now() < deadline, "round {round}: {owned:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let Some(engine) = engines.last() else { panic!("an engine is left") };
        put_all(engine, &[player(1, round), player(2, round), player(3, round)]).await.unwrap();
        let players: Cache<Player> = engine.cache().unwrap();
        assert!(players.flush_within(PATIENCE).await.unwrap(), "round {round}");
        assert!(sink.rows().values().all(|row| row.score == round), "round {round}");
        // Whoever works goes, with and without saying so.
        let at = engines.iter().position(|engine| !engine.owned().values().all(Vec::is_empty)).unwrap();
        if engines.len() > 1 {
            let engine = engines.remove(at);
            if round == 0 { drop(engine) } else { drop(engine.shutdown(PATIENCE).await.unwrap()) }
        }
    }
}

/// Both are dead letters, and only one of them is the reason. Gold goes from 1 to 2.
#[tokio::test(start_paused = true)]
async fn p13_a_transaction_that_is_replayed_is_never_half() {
    let (buffer, sink) = (MemoryBuffer::new(), ScriptedSink::new());
    let engine = engine(&buffer, &sink, options().transactions(true)).await;
    let players: Cache<Player> = engine.cache().unwrap();
    put_all(&engine, &[player(1, 100), player(2, 0)]).await.unwrap();
    assert!(players.flush_within(PATIENCE).await.unwrap());
    sink.refuse(|id| id.as_bytes() == b"2");
    put_all(&engine, &[player(1, 0), player(2, 100)]).await.unwrap();
    let letters = engine.dead_letters::<Player>().unwrap();
    while letters.count().await.unwrap() < 2 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(letters.replay_all().await.unwrap(), 2);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(sink.rows().values().map(|row| row.score).sum::<u64>(), 100, "{:?}", sink.rows());
    // Letters again, both. When the reason is gone, either stands for both.
    while letters.count().await.unwrap() < 2 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    sink.accept();
    let before = sink.log().len();
    assert_eq!(letters.replay(&1).await.unwrap(), Replay::Again);
    assert_eq!(letters.replay(&2).await.unwrap(), Replay::Absent);
    assert!(players.flush_within(PATIENCE).await.unwrap());
    let written: Vec<usize> = sink.log().iter().skip(before).map(|entry| entry.records.len()).collect();
    assert_eq!(written, [2], "in one commit");
    assert_eq!(sink.rows().into_values().map(|row| row.score).collect::<Vec<_>>(), [0, 100]);
    assert_eq!(letters.count().await.unwrap(), 0);
    engine.shutdown(PATIENCE).await.unwrap();
}
