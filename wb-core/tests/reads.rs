//! Reads over the embedded buffer and a scripted sink, on a paused clock.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod player;

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::sleep;
use wb_core::testing::ScriptedSink;
use wb_core::{Cache, DirtyCursor, Engine, EntityOptions, Id, MemoryBuffer, Operation, RetryPolicy, State};

use self::player::Player;

const FOREVER: Duration = Duration::from_secs(3_600);
const NEGATIVE: Duration = Duration::from_secs(5);

struct Bench {
    sink: ScriptedSink<Player>,
    engine: Engine,
    players: Cache<Player>,
}

async fn bench() -> Bench {
    let retry = RetryPolicy::new().initial(Duration::from_secs(1)).attempts(2);
    let options = EntityOptions::new().retry(retry).negative_ttl(NEGATIVE);
    let sink = ScriptedSink::new();
    let engine = Engine::builder(MemoryBuffer::new()).entity::<Player>(sink.clone(), options).start().await.unwrap();
    Bench { sink, players: engine.cache().unwrap(), engine }
}

impl Bench {
    async fn put(&self, id: u64, score: u64) {
        self.players.put(&Player { id, score }).await.unwrap();
    }

    async fn get(&self, id: u64) -> Option<u64> {
        self.players.get(&id).await.unwrap().map(|player| player.score)
    }

    async fn state(&self, id: u64) -> State {
        self.players.state(&id).await.unwrap()
    }

    fn row(&self, id: u64, score: u64) {
        self.sink.set_row(Id::of(&id).unwrap(), Player { id, score });
    }

    async fn flush(&self) {
        assert!(self.players.flush_within(FOREVER).await.unwrap());
    }

    /// A dead letter of this state.
    async fn dead(&self, id: u64, score: u64) {
        self.sink.refuse(|_| true);
        self.put(id, score).await;
        let before = self.engine.stats().remove("player").unwrap().dead_letters;
        while self.engine.stats().remove("player").unwrap().dead_letters == before {
            sleep(Duration::from_millis(100)).await;
        }
        self.sink.accept();
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_miss_and_after_a_delete_the_sink_is_not_asked_again() {
    let bench = bench().await;
    bench.put(2, 1).await;
    bench.players.delete(&2).await.unwrap();
    bench.flush().await;
    for _ in 0..3 {
        assert_eq!((bench.get(1).await, bench.get(2).await), (None, None));
        assert_eq!(bench.players.get_many(&[1, 2]).await.unwrap(), [None, None]);
    }
    assert_eq!(bench.sink.loads(), 1, "the one miss");
    sleep(NEGATIVE).await;
    assert_eq!((bench.get(1).await, bench.get(2).await), (None, None));
    assert_eq!(bench.sink.loads(), 3, "each once more after `negative_ttl`");
}

#[tokio::test(start_paused = true)]
async fn a_state_is_told_wherever_the_record_is() {
    let bench = bench().await;
    assert_eq!(bench.state(1).await, State::Absent);
    bench.put(1, 1).await;
    assert_eq!(bench.state(1).await, State::Dirty);
    bench.sink.hold();
    bench.sink.waiting(1).await;
    assert_eq!(bench.state(1).await, State::Flushing);
    bench.put(1, 2).await;
    assert_eq!(bench.state(1).await, State::Dirty, "the latest state");
    bench.sink.release();
    bench.flush().await;
    assert_eq!(bench.state(1).await, State::Clean);
    bench.dead(2, 1).await;
    assert_eq!(bench.state(2).await, State::Dead);
    bench.players.delete(&1).await.unwrap();
    bench.flush().await;
    assert_eq!(bench.state(1).await, State::Absent, "deleted");
}

#[tokio::test(start_paused = true)]
async fn peek_never_asks_the_sink() {
    let bench = bench().await;
    bench.row(1, 1);
    assert_eq!(bench.players.peek(&1).await.unwrap(), None);
    bench.put(1, 2).await;
    assert_eq!(bench.players.peek(&1).await.unwrap().unwrap().score, 2);
    bench.flush().await;
    assert_eq!(bench.players.peek(&1).await.unwrap().unwrap().score, 2);
    assert_eq!(bench.sink.loads(), 0);
}

#[tokio::test(start_paused = true)]
async fn refresh_and_invalidate_forget_what_is_clean_and_nothing_else() {
    let bench = bench().await;
    bench.put(1, 1).await;
    bench.flush().await;
    bench.row(1, 2);
    assert_eq!(bench.get(1).await, Some(1), "its copy");
    assert_eq!(bench.players.refresh(&1).await.unwrap().unwrap().score, 2);
    assert_eq!(bench.get(1).await, Some(2), "the new copy");
    bench.row(1, 3);
    assert!(bench.players.invalidate(&1).await.unwrap());
    assert!(!bench.players.invalidate(&1).await.unwrap());
    assert_eq!(bench.get(1).await, Some(3));

    bench.put(1, 4).await;
    bench.row(1, 0);
    assert_eq!(bench.players.refresh(&1).await.unwrap().unwrap().score, 4, "dirty");
    bench.sink.hold();
    bench.sink.waiting(1).await;
    assert_eq!(bench.players.refresh(&1).await.unwrap().unwrap().score, 4, "flushing");
    bench.sink.release();
    bench.flush().await;
    assert_eq!(bench.sink.row(&Id::of(&1_u64).unwrap()).unwrap().score, 4);

    bench.dead(2, 5).await;
    bench.row(2, 0);
    assert!(!bench.players.invalidate(&2).await.unwrap());
    assert_eq!(bench.players.refresh(&2).await.unwrap().unwrap().score, 5, "the letter's state is all there is of it");
}

#[tokio::test(start_paused = true)]
async fn a_scan_lists_all_that_is_dirty() {
    let bench = bench().await;
    bench.sink.hold();
    for id in 0..300 {
        bench.put(id, 1).await;
    }
    bench.sink.waiting(1).await;
    for id in 200..400 {
        bench.players.delete(&id).await.unwrap();
    }
    let (mut found, mut cursor) = (BTreeSet::new(), None);
    loop {
        let page = bench.players.scan_dirty(cursor, 7).await.unwrap();
        for dirty in page.keys {
            let delete = match dirty.operation {
                Operation::Delete => true,
                Operation::Upsert => false,
                other => panic!("{other:?}"),
            };
            found.insert((dirty.key::<u64>().unwrap(), delete, dirty.state == State::Flushing));
        }
        // As a page of a program would hand it out.
        cursor = page.next.map(|next| next.to_string().parse::<DirtyCursor>().unwrap());
        if cursor.is_none() {
            break;
        }
    }
    let flushing = (0..300).map(|id| (id, false, true));
    let open = (200..400).map(|id| (id, true, false));
    assert_eq!(found, flushing.chain(open).collect());
    bench.sink.release();
    bench.flush().await;
    let rest = bench.players.scan_dirty(None, 1_000).await.unwrap();
    assert!(rest.keys.is_empty() && rest.next.is_none());
}
