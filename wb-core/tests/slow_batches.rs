//! Batches that a sink cannot take in its time: what can land does, whatever is locked or slow beside it. The clock is
//! paused.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[macro_use]
mod json_entity;
mod player;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, sleep};
use wb_core::testing::ScriptedSink;
use wb_core::{
    AppendOnly, Batch, Cache, DeadLetters, Engine, Entity, EntityOptions, ErrorKind, Fence, Id, MemoryBuffer, Report,
    RetryPolicy, Scope, Sink, SinkError,
};

use crate::player::Player;

const SECOND: Duration = Duration::from_secs(1);
/// What the sink allows a statement.
const LIMIT: Duration = Duration::from_secs(2);

/// A sink whose statements have a limit, and that says so as `kind`. Rows take their time, and what is locked all of it.
#[derive(Clone)]
struct Timed<E> {
    inner: ScriptedSink<E>,
    kind: ErrorKind,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    row: Duration,
    locked: BTreeSet<Id>,
    table: bool,
    /// When each id landed first.
    landed: BTreeMap<Id, Instant>,
    /// Rows of each write, and whether it landed.
    tries: Vec<(usize, bool)>,
}

impl<E> Timed<E> {
    fn new(kind: ErrorKind) -> Self {
        Self { inner: ScriptedSink::new(), kind, state: Arc::default() }
    }

    fn row(self, row: Duration) -> Self {
        self.state.lock().unwrap().row = row;
        self
    }

    fn lock(&self, ids: impl IntoIterator<Item = u64>) {
        self.state.lock().unwrap().locked.extend(ids.into_iter().map(id));
    }

    fn unlock(&self) {
        let mut state = self.state.lock().unwrap();
        state.locked.clear();
        state.table = false;
    }

    fn lock_table(&self) {
        self.state.lock().unwrap().table = true;
    }

    fn landed(&self) -> BTreeMap<Id, Instant> {
        self.state.lock().unwrap().landed.clone()
    }

    fn tries(&self) -> Vec<(usize, bool)> {
        std::mem::take(&mut self.state.lock().unwrap().tries)
    }
}

#[async_trait]
impl<E: Entity + Clone> Sink<E> for Timed<E> {
    async fn open(&self, scope: &Scope) -> Result<(), SinkError> {
        Sink::<E>::open(&self.inner, scope).await
    }

    async fn fence(&self, scope: &Scope, partition: u16) -> Result<Option<Fence>, SinkError> {
        Sink::<E>::fence(&self.inner, scope, partition).await
    }

    async fn write(&self, batch: &Batch<E>) -> Result<Report, SinkError> {
        let ids: Vec<Id> = batch.upserts.iter().map(|upsert| upsert.id.clone()).collect();
        let ids: Vec<Id> = ids.into_iter().chain(batch.deletes.iter().map(|delete| delete.id.clone())).collect();
        let (takes, waits) = {
            let state = self.state.lock().unwrap();
            let waits = state.table || ids.iter().any(|id| state.locked.contains(id));
            (state.row * u32::try_from(ids.len()).unwrap(), waits)
        };
        let late = waits || takes > LIMIT;
        sleep(if late { LIMIT } else { takes }).await;
        self.state.lock().unwrap().tries.push((ids.len(), !late));
        if late {
            return Err(SinkError::new(self.kind, "statement timeout"));
        }
        let report = self.inner.write(batch).await?;
        let now = Instant::now();
        let mut state = self.state.lock().unwrap();
        for id in ids {
            state.landed.entry(id).or_insert(now);
        }
        Ok(report)
    }

    async fn load(&self, keys: &[E::Key]) -> Result<Vec<E>, SinkError> {
        self.inner.load(keys).await
    }
}

struct Bench {
    sink: Timed<Player>,
    engine: Engine,
    players: Cache<Player>,
    letters: DeadLetters<Player>,
}

fn id(n: u64) -> Id {
    Id::of(&n).unwrap()
}

fn options() -> EntityOptions {
    EntityOptions::new().flush_every(SECOND)
}

impl Bench {
    async fn start(sink: Timed<Player>, options: EntityOptions) -> Self {
        let engine =
            Engine::builder(MemoryBuffer::new()).entity::<Player>(sink.clone(), options).start().await.unwrap();
        let (players, letters) = (engine.cache().unwrap(), engine.dead_letters().unwrap());
        Self { sink, engine, players, letters }
    }

    async fn put(&self, ids: impl IntoIterator<Item = u64>, score: u64) {
        let players: Vec<Player> = ids.into_iter().map(|id| Player { id, score }).collect();
        self.players.put_many(&players).await.unwrap();
    }

    fn rows(&self) -> usize {
        self.sink.inner.rows().len()
    }

    async fn until(&self, rows: usize, limit: Duration) {
        let until = Instant::now() + limit;
        while self.rows() < rows {
            assert!(Instant::now() < until, "{} of {rows} rows after {limit:?}", self.rows());
            sleep(SECOND / 10).await;
        }
    }

    async fn end(self) {
        assert_eq!(self.letters.count().await.unwrap(), 0, "nothing of it is a record's fault");
        assert_eq!(self.engine.shutdown(60 * SECOND).await.unwrap().remaining, 0);
    }
}

/// 5 ms a row and a limit of 2 s: a batch of 1 000 never passes, one of 400 does.
async fn a_batch_that_is_slower_than_the_limit_lands_in_parts(kind: ErrorKind) {
    let bench = Bench::start(Timed::new(kind).row(Duration::from_millis(5)), options()).await;
    bench.put(0..2_000, 1).await;
    bench.until(2_000, 60 * SECOND).await;
    let tries = bench.sink.tries();
    // The limit is remembered: what comes later is not tried whole each time.
    for round in 2..6 {
        bench.put(0..2_000, round).await;
        assert!(bench.players.flush_within(60 * SECOND).await.unwrap());
    }
    let later = bench.sink.tries();
    let late = later.iter().filter(|(_, landed)| !landed).count();
    assert!(late <= 4, "{late} of {} later writes were too large, after {tries:?}: {later:?}", later.len());
    assert!(later.iter().any(|(rows, landed)| *landed && *rows > 250), "and it grows again: {later:?}");
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn p8_a_batch_that_is_slower_than_the_limit_of_a_statement_lands_in_parts() {
    a_batch_that_is_slower_than_the_limit_lands_in_parts(ErrorKind::Transient).await;
}

/// A server that says nothing while it works looks like one that is away.
#[tokio::test(start_paused = true)]
async fn p8_a_batch_that_is_slower_than_the_patience_with_a_silent_server_lands_in_parts() {
    a_batch_that_is_slower_than_the_limit_lands_in_parts(ErrorKind::Unavailable).await;
}

#[tokio::test(start_paused = true)]
async fn p8_a_locked_row_waits_alone() {
    let bench = Bench::start(Timed::new(ErrorKind::Transient), options()).await;
    bench.sink.lock([500]);
    bench.put(0..1_000, 1).await;
    let receipt = bench.players.put(&Player { id: 499, score: 2 }).await.unwrap();
    let locked = bench.players.put(&Player { id: 500, score: 2 }).await.unwrap();
    bench.until(999, 60 * SECOND).await;
    receipt.persisted_within(60 * SECOND).await.unwrap();
    assert!(locked.persisted_within(SECOND).await.is_err(), "it is not in the sink");
    assert!(!bench.players.flush_within(10 * SECOND).await.unwrap(), "a flush waits for it");
    // Others go on beside it, and are tried without it: one late write each time, not one of all of them.
    sleep(60 * SECOND).await;
    bench.sink.tries();
    let begun = Instant::now();
    for round in 3..23 {
        bench.put((0..1_000).filter(|n| *n != 500), round).await;
        sleep(3 * SECOND).await;
    }
    let tries = bench.sink.tries();
    let late: Vec<_> = tries.iter().filter(|(_, landed)| !landed).collect();
    assert!(late.iter().all(|(rows, _)| *rows == 1), "only the locked row is late: {late:?}");
    assert!(late.len() <= 6, "and it is asked for less and less: {} in {:?}", late.len(), begun.elapsed());
    assert!(!late.is_empty(), "and for ever");
    let scores: BTreeSet<u64> = bench.sink.inner.rows().into_values().map(|player| player.score).collect();
    assert!(scores.iter().all(|score| *score >= 21), "{scores:?}");
    assert_eq!(bench.players.get(&500).await.unwrap().map(|player| player.score), Some(2), "readable meanwhile");
    bench.sink.unlock();
    locked.persisted_within(60 * SECOND).await.unwrap();
    assert!(bench.players.flush_within(60 * SECOND).await.unwrap());
    bench.end().await;
}

/// Also where they stand together, and where only every other one is free.
#[tokio::test(start_paused = true)]
async fn p8_many_locked_rows_let_the_others_pass() {
    for every in [2, 3, 1_000] {
        let bench = Bench::start(Timed::new(ErrorKind::Transient), options()).await;
        let locked = |n: &u64| if every == 1_000 { *n < 150 } else { n.is_multiple_of(every) && *n < 150 };
        bench.sink.lock((0..1_000).filter(locked));
        bench.put(0..1_000, 1).await;
        let free = (0..1_000).filter(|n| !locked(n)).count();
        bench.until(free, 1_200 * SECOND).await;
        bench.sink.unlock();
        bench.until(1_000, 120 * SECOND).await;
        bench.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn p8_a_locked_table_is_waited_for_and_dead_letters_nothing() {
    let bench = Bench::start(Timed::new(ErrorKind::Transient), options()).await;
    bench.sink.lock_table();
    bench.put(0..3_000, 1).await;
    sleep(600 * SECOND).await;
    assert_eq!(bench.rows(), 0);
    bench.put(3_000..3_010, 1).await;
    bench.sink.unlock();
    let begun = Instant::now();
    bench.until(3_010, 90 * SECOND).await;
    assert!(begun.elapsed() < 90 * SECOND);
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn p11_a_shutdown_waits_for_a_locked_row_until_its_deadline() {
    let bench = Bench::start(Timed::new(ErrorKind::Transient), options()).await;
    bench.sink.lock([7]);
    bench.put(0..10, 1).await;
    bench.until(9, 60 * SECOND).await;
    sleep(200 * SECOND).await;
    let sink = bench.sink.clone();
    tokio::spawn(async move {
        sleep(20 * SECOND).await;
        sink.unlock();
    });
    let begun = Instant::now();
    assert_eq!(bench.engine.shutdown(60 * SECOND).await.unwrap().remaining, 0);
    assert!(begun.elapsed() < 30 * SECOND, "{:?}", begun.elapsed());
    assert_eq!(bench.sink.inner.rows().len(), 10);
}

/// Refusals keep their own budget, whatever else holds a record up.
#[tokio::test(start_paused = true)]
async fn p8_a_wait_for_a_lock_is_no_attempt() {
    let retry = RetryPolicy::new().attempts(3);
    let bench = Bench::start(Timed::new(ErrorKind::Transient), options().retry(retry)).await;
    bench.sink.inner.refuse(|other| *other == id(3));
    bench.sink.lock([3]);
    bench.put(0..10, 1).await;
    sleep(300 * SECOND).await;
    assert_eq!(bench.letters.count().await.unwrap(), 0);
    bench.sink.unlock();
    sleep(120 * SECOND).await;
    assert_eq!(bench.letters.count().await.unwrap(), 1, "refused three times since");
    assert_eq!(bench.rows(), 9);
}

#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Line {
    id: u64,
}

json_entity!(Line, "line", const APPEND: bool = true;);

impl AppendOnly for Line {}

/// The ids in the order in which they landed.
fn order(sink: &Timed<Line>) -> Vec<Id> {
    let log = sink.inner.log();
    log.into_iter().flat_map(|entry| entry.order).collect()
}

#[tokio::test(start_paused = true)]
async fn entries_that_are_too_many_for_the_limit_land_in_parts_in_their_order() {
    for kind in [ErrorKind::Transient, ErrorKind::Unavailable] {
        let sink = Timed::<Line>::new(kind).row(Duration::from_millis(5));
        let options = options().partitions(1);
        let engine = Engine::builder(MemoryBuffer::new()).entity::<Line>(sink.clone(), options).start().await.unwrap();
        let lines = engine.appender::<Line>().unwrap();
        let all: Vec<Line> = (0..2_500).map(|id| Line { id }).collect();
        lines.append_many(&all).await.unwrap();
        let until = Instant::now() + 90 * SECOND;
        while sink.inner.rows().len() < all.len() {
            assert!(Instant::now() < until, "{kind}: {} rows", sink.inner.rows().len());
            sleep(SECOND).await;
        }
        assert_eq!(order(&sink), (0..2_500).map(id).collect::<Vec<_>>(), "{kind}");
        assert_eq!(engine.shutdown(60 * SECOND).await.unwrap().remaining, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn entries_wait_for_a_locked_table_in_their_order() {
    let sink = Timed::<Line>::new(ErrorKind::Transient);
    let options = options().partitions(1);
    let engine = Engine::builder(MemoryBuffer::new()).entity::<Line>(sink.clone(), options).start().await.unwrap();
    let lines = engine.appender::<Line>().unwrap();
    sink.lock_table();
    for from in [0, 100, 200] {
        let some: Vec<Line> = (from..from + 100).map(|id| Line { id }).collect();
        lines.append_many(&some).await.unwrap();
        sleep(10 * SECOND).await;
    }
    assert!(sink.inner.rows().is_empty());
    sink.unlock();
    let until = Instant::now() + 90 * SECOND;
    while sink.inner.rows().len() < 300 {
        assert!(Instant::now() < until, "{} rows", sink.inner.rows().len());
        sleep(SECOND).await;
    }
    let landed: Vec<String> = order(&sink).iter().map(Id::to_string).collect();
    assert_eq!(landed, (0..300).map(|n| n.to_string()).collect::<Vec<_>>());
    assert_eq!(engine.shutdown(60 * SECOND).await.unwrap().remaining, 0);
}

/// One whose row is locked lands later than others, as one that was refused.
#[tokio::test(start_paused = true)]
async fn a_locked_entry_lets_the_others_pass_in_their_order() {
    let sink = Timed::<Line>::new(ErrorKind::Transient);
    let options = options().partitions(1);
    let engine = Engine::builder(MemoryBuffer::new()).entity::<Line>(sink.clone(), options).start().await.unwrap();
    let lines = engine.appender::<Line>().unwrap();
    sink.lock([40]);
    lines.append_many(&(0..100).map(|id| Line { id }).collect::<Vec<_>>()).await.unwrap();
    sleep(60 * SECOND).await;
    assert_eq!(order(&sink), (0..100).filter(|n| *n != 40).map(id).collect::<Vec<_>>());
    sink.unlock();
    sleep(60 * SECOND).await;
    assert_eq!(sink.landed().len(), 100);
    assert_eq!(engine.shutdown(60 * SECOND).await.unwrap().remaining, 0);
}

/// The members of a unit do not come due at the same time, and none of them is in the sink before all are.
#[tokio::test(start_paused = true)]
async fn a_flush_waits_for_a_unit_whose_members_wait_for_different_times() {
    let options = options().transactions(true).partitions(4);
    let bench = Bench::start(Timed::new(ErrorKind::Transient), options).await;
    bench.sink.lock([3]);
    let put = bench.engine.transaction(|tx| (0..10).try_for_each(|id| tx.put(&Player { id, score: 1 })));
    put.await.unwrap();
    assert!(!bench.players.flush_within(600 * SECOND).await.unwrap(), "nothing of it is in the sink");
    assert_eq!(bench.rows(), 0);
    bench.sink.unlock();
    assert!(bench.players.flush_within(120 * SECOND).await.unwrap());
    assert_eq!(bench.rows(), 10);
    bench.end().await;
}

/// Neither a state that waits for a lock nor those that take its place are in the sink.
#[tokio::test(start_paused = true)]
async fn a_flush_waits_for_what_takes_the_place_of_a_locked_record() {
    for together in [false, true] {
        let options = options().transactions(true).partitions(4);
        let bench = Bench::start(Timed::new(ErrorKind::Transient), options).await;
        let put = async |score| match together {
            false => bench.put([1], score).await,
            true => {
                let players = [Player { id: 1, score }, Player { id: 1 + score, score }];
                bench.engine.transaction(|tx| players.iter().try_for_each(|player| tx.put(player))).await.unwrap();
            }
        };
        bench.sink.lock([1]);
        put(1).await;
        sleep(30 * SECOND).await;
        let writing = async {
            for score in 2..40 {
                put(score).await;
                sleep(3 * SECOND).await;
            }
        };
        let (flushed, ()) = tokio::join!(bench.players.flush_within(300 * SECOND), writing);
        assert!(!flushed.unwrap(), "together {together}: the record is locked");
        bench.sink.unlock();
        assert!(bench.players.flush_within(120 * SECOND).await.unwrap(), "together {together}");
        assert_eq!(bench.sink.inner.rows().get(&id(1)).map(|row| row.score), Some(39), "together {together}");
        bench.end().await;
    }
}

/// Each transaction writes the bank's record, and one more: together they are one unit, and more than the sink takes in its time.
/// A single one of them would pass.
#[tokio::test(start_paused = true)]
#[ignore = "one unit of 201 records: nothing lands, for ever"]
async fn p8_transactions_over_a_hot_record_do_not_grow_beyond_what_lands() {
    let sink = Timed::<Player>::new(ErrorKind::Transient).row(LIMIT / 20);
    let options = EntityOptions::new().transactions(true).partitions(4).max_batch(20);
    let engine = Engine::builder(MemoryBuffer::new()).entity::<Player>(sink.clone(), options).start().await.unwrap();
    let players: Cache<Player> = engine.cache().unwrap();
    for n in 1..=200 {
        let put = engine.transaction(|tx| {
            tx.put(&Player { id: 0, score: n })?;
            tx.put(&Player { id: n, score: 1 })
        });
        put.await.unwrap();
    }
    let flushed = players.flush_within(600 * SECOND).await.unwrap();
    assert_eq!(sink.inner.rows().len(), 201, "{flushed} {:?} {:?}", sink.tries(), engine.stats());
}
