//! Refusals that may be a record's fault or the configuration's, over the embedded buffer and a paused clock: no record stops an
//! entity, and none is a dead letter for what is wrong with all of them.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[macro_use]
mod json_entity;
mod heard;
mod player;

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::Level;
use wb_core::testing::ScriptedSink;
use wb_core::{AppendOnly, Cache, DeadLetters, Engine, Entity, EntityOptions, Id, MemoryBuffer, RetryPolicy};

use crate::player::Player;

const EVERY: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

const PAUSED: &str = "entity paused until the sink is put right";
const RESUMED: &str = "sink answers again, entity resumed";

fn options() -> EntityOptions {
    EntityOptions::new().flush_every(EVERY).retry(RetryPolicy::new().attempts(3))
}

fn id(n: u64) -> Id {
    Id::of(&n).unwrap()
}

struct Bench {
    sink: ScriptedSink<Player>,
    engine: Engine,
    players: Cache<Player>,
    letters: DeadLetters<Player>,
}

impl Bench {
    async fn start(options: EntityOptions) -> Self {
        let sink = ScriptedSink::<Player>::new();
        let builder = Engine::builder(MemoryBuffer::new()).entity::<Player>(sink.clone(), options);
        let engine = builder.start().await.unwrap();
        let (players, letters) = (engine.cache().unwrap(), engine.dead_letters().unwrap());
        Self { sink, engine, players, letters }
    }

    async fn put(&self, ids: impl IntoIterator<Item = u64>, score: u64) {
        let players: Vec<Player> = ids.into_iter().map(|id| Player { id, score }).collect();
        self.players.put_many(&players).await.unwrap();
    }

    async fn dead(&self) -> u64 {
        self.letters.count().await.unwrap()
    }

    fn landed(&self) -> BTreeSet<u64> {
        self.sink.rows().into_values().map(|player| player.id).collect()
    }

    /// Waits until this many letters are there.
    async fn until_dead(&self, letters: u64, limit: Duration) {
        let until = Instant::now() + limit;
        while self.dead().await < letters {
            assert!(Instant::now() < until, "{} letters", self.dead().await);
            sleep(EVERY / 10).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn p8_a_record_that_is_refused_while_others_land_is_a_dead_letter() {
    for whole in [false, true] {
        let bench = Bench::start(options()).await;
        let hits = |other: &Id| *other == id(17);
        if whole {
            bench.sink.refuse_whole_ambiguously(hits);
        } else {
            bench.sink.refuse_ambiguously(hits);
        }
        bench.put(0..40, 1).await;
        bench.until_dead(1, MINUTE).await;
        assert_eq!(bench.landed(), (0..40).filter(|n| *n != 17).collect(), "whole: {whole}");
        let letter = bench.letters.get(&17).await.unwrap().unwrap();
        assert_eq!((letter.kind.as_str(), letter.attempts), ("rejected", 3));
        assert_eq!(bench.engine.shutdown(MINUTE).await.unwrap().remaining, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn p8_what_is_wrong_with_all_records_is_no_dead_letter_and_heals_by_itself() {
    for whole in [false, true] {
        let (heard, _guard) = heard::listen();
        let bench = Bench::start(options().max_batch(100)).await;
        if whole {
            bench.sink.refuse_whole_ambiguously(|_| true);
        } else {
            bench.sink.refuse_ambiguously(|_| true);
        }
        bench.put(0..100, 1).await;
        sleep(30 * MINUTE).await;
        bench.put(100..110, 1).await;
        sleep(5 * MINUTE).await;
        assert_eq!((bench.dead().await, bench.landed().len()), (0, 0));
        let stats = bench.engine.stats();
        assert_eq!(stats[Player::NAME].refused, 0, "nothing is counted");
        assert_eq!((heard.count(Level::ERROR, PAUSED), heard.count(Level::INFO, RESUMED)), (1, 0), "whole: {whole}");
        let writes = bench.sink.writes();
        assert!(whole || writes < 120, "{writes} writes in 35 minutes");
        bench.sink.accept();
        sleep(2 * MINUTE).await;
        assert_eq!((bench.dead().await, bench.landed().len()), (0, 110), "whole: {whole}");
        assert_eq!(heard.count(Level::INFO, RESUMED), 1);
        assert_eq!(bench.engine.shutdown(MINUTE).await.unwrap().remaining, 0);
    }
}

/// Nobody knows whose fault it is, so nothing is counted; but it stops nobody either.
#[tokio::test(start_paused = true)]
async fn p8_lone_bad_records_wait_for_others_to_land_and_stop_none() {
    for whole in [false, true] {
        let bench = Bench::start(options()).await;
        let hits = |other: &Id| [id(13), id(14)].contains(other);
        if whole {
            bench.sink.refuse_whole_ambiguously(hits);
        } else {
            bench.sink.refuse_ambiguously(hits);
        }
        bench.put([13, 14], 1).await;
        sleep(60 * MINUTE).await;
        assert_eq!(bench.dead().await, 0, "nothing says that it is them");
        let begun = Instant::now();
        bench.put([1], 1).await;
        while !bench.landed().contains(&1) {
            assert!(begun.elapsed() < MINUTE, "whole: {whole}: they stop others");
            sleep(EVERY).await;
        }
        bench.until_dead(2, 2 * MINUTE).await;
        // Once it is known that it is the record, others are not delayed.
        bench.put([13], 2).await;
        let begun = Instant::now();
        bench.put(20..68, 1).await;
        while bench.landed().len() < 49 {
            assert!(begun.elapsed() < 3 * EVERY, "whole: {whole}: {:?}", bench.landed().len());
            sleep(EVERY / 10).await;
        }
        while bench.letters.get(&13).await.unwrap().is_none_or(|letter| letter.attempts < 3) {
            sleep(EVERY).await;
        }
    }
}

/// What landed before says nothing: the configuration may have changed since.
#[tokio::test(start_paused = true)]
async fn p8_rows_that_landed_before_acquit_no_configuration() {
    let bench = Bench::start(options()).await;
    bench.put(0..100, 1).await;
    sleep(2 * EVERY).await;
    assert_eq!(bench.landed().len(), 100);
    bench.sink.refuse_ambiguously(|_| true);
    bench.put([1], 2).await;
    sleep(10 * MINUTE).await;
    bench.put([2], 2).await;
    sleep(10 * MINUTE).await;
    assert_eq!(bench.dead().await, 0);
    bench.sink.accept();
    sleep(2 * MINUTE).await;
    assert_eq!(bench.sink.row(&id(1)).unwrap().score, 2);
    assert_eq!(bench.sink.row(&id(2)).unwrap().score, 2);
}

/// A right to delete says nothing about inserts.
#[tokio::test(start_paused = true)]
async fn p8_deletes_that_land_acquit_no_configuration_of_upserts() {
    let bench = Bench::start(options()).await;
    bench.put(0..10, 1).await;
    sleep(2 * EVERY).await;
    bench.sink.refuse_ambiguously(|other| (10..20).any(|n| *other == id(n)));
    for n in 0..10 {
        bench.players.delete(&n).await.unwrap();
        bench.put([n + 10], 1).await;
        sleep(2 * MINUTE).await;
    }
    assert_eq!((bench.dead().await, bench.landed().len()), (0, 0), "deletes land, no upsert does");
    bench.sink.accept();
    sleep(2 * MINUTE).await;
    assert_eq!(bench.landed(), (10..20).collect());
}

#[tokio::test(start_paused = true)]
async fn p8_a_transaction_that_is_refused_for_what_may_be_the_configuration_waits_whole() {
    let bench = Bench::start(options().transactions(true)).await;
    bench.sink.refuse_ambiguously(|_| true);
    let players = |ids: [u64; 2]| ids.map(|id| Player { id, score: 1 });
    for ids in [[1, 2], [3, 4]] {
        bench.engine.transaction(|tx| players(ids).iter().try_for_each(|player| tx.put(player))).await.unwrap();
    }
    sleep(30 * MINUTE).await;
    assert_eq!((bench.dead().await, bench.landed().len()), (0, 0));
    bench.sink.accept();
    // Only one of them may be at fault, and takes its unit with it.
    bench.sink.refuse_ambiguously(|other| *other == id(4));
    bench.until_dead(2, 5 * MINUTE).await;
    assert_eq!(bench.landed(), BTreeSet::from([1, 2]));
}

#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Line {
    id: u64,
}

json_entity!(Line, "line", const APPEND: bool = true;);

impl AppendOnly for Line {}

#[tokio::test(start_paused = true)]
async fn p8_entries_that_are_all_refused_wait_and_a_bad_one_stops_none() {
    let sink = ScriptedSink::<Line>::new();
    let builder = Engine::builder(MemoryBuffer::new()).entity::<Line>(sink.clone(), options());
    let engine = builder.start().await.unwrap();
    let (lines, letters) = (engine.appender::<Line>().unwrap(), engine.dead_letters::<Line>().unwrap());
    sink.refuse_ambiguously(|_| true);
    for n in 0..50 {
        lines.append(&Line { id: n }).await.unwrap();
    }
    sleep(30 * MINUTE).await;
    assert_eq!((letters.count().await.unwrap(), sink.rows().len()), (0, 0));
    sink.accept();
    sleep(2 * MINUTE).await;
    assert_eq!(sink.rows().len(), 50);
    // Alone in its log, and in the way of those that come later.
    sink.refuse_ambiguously(|other| *other == id(50));
    lines.append(&Line { id: 50 }).await.unwrap();
    sleep(10 * MINUTE).await;
    for n in 51..60 {
        lines.append(&Line { id: n }).await.unwrap();
    }
    sleep(3 * MINUTE).await;
    assert_eq!(sink.rows().len(), 59);
    assert_eq!(letters.count().await.unwrap(), 1);
    assert_eq!(engine.shutdown(MINUTE).await.unwrap().remaining, 0);
}
