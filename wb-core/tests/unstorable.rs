//! What the sink can never hold is refused before it is stored, on every way that makes a new state.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod player;

use std::time::Duration;

use futures::future::join_all;
use wb_core::testing::ScriptedSink;
use wb_core::{
    BeforeFlush, Cache, CacheError, Counter, Engine, EntityOptions, ErrorKind, MemoryBuffer, Patch, Role, State,
    TransactionError, Unstorable,
};

use crate::player::Player;

const SCORE: Counter<Player, u64> = Counter::new("score", |player| &mut player.score);
const MOST: u64 = i64::MAX as u64;

struct Scored(u64);

impl Patch<Player> for Scored {
    fn apply(&self, player: &mut Player) {
        player.score = self.0;
    }
}

fn sink() -> ScriptedSink<Player> {
    let sink = ScriptedSink::new();
    sink.cannot_hold(|player: &Player| (player.score > MOST).then(|| Unstorable::new("score", "is too large")));
    sink
}

fn player(id: u64, score: u64) -> Player {
    Player { id, score }
}

fn is_refused<T: std::fmt::Debug>(told: Result<T, CacheError>, id: u64) {
    let text = match &told {
        Err(error @ CacheError::Unstorable { .. }) => error.to_string(),
        other => format!("{other:?}"),
    };
    assert_eq!(text, format!("the sink cannot hold record `{id}`: field `score` is too large"));
}

async fn stands(players: &Cache<Player>, id: u64, score: Option<u64>) {
    assert_eq!(players.get(&id).await.unwrap(), score.map(|score| player(id, score)));
}

#[tokio::test(start_paused = true)]
async fn p12_what_the_sink_can_never_hold_is_refused_before_it_is_stored() {
    for role in [Role::Both, Role::Writer] {
        let sink = sink();
        let options = EntityOptions::new().transactions(true);
        let builder = Engine::builder(MemoryBuffer::new()).role(role);
        let engine = builder.entity::<Player>(sink.clone(), options).start().await.unwrap();
        let players = engine.cache::<Player>().unwrap();
        is_refused(players.put(&player(1, MOST + 1)).await, 1);
        is_refused(players.put_many(&[player(2, 1), player(1, u64::MAX)]).await, 1);
        is_refused(players.put_through(&player(1, u64::MAX)).await, 1);
        is_refused(players.put_if_absent(&player(1, u64::MAX)).await, 1);
        let told = engine.transaction(|tx| {
            tx.put(&player(2, 1))?;
            tx.put(&player(1, u64::MAX))
        });
        let Err(TransactionError::Cache(told)) = told.await else { unreachable!("it is refused") };
        is_refused::<()>(Err(told), 1);
        for id in [1, 2] {
            stands(&players, id, None).await;
            assert_eq!(players.state(&id).await.unwrap(), State::Absent);
        }

        players.put(&player(1, MOST)).await.unwrap();
        is_refused(players.replace(&player(1, u64::MAX)).await, 1);
        is_refused(players.update(&1, |player| player.score += 1).await, 1);
        is_refused(players.compute(&1, |_| Some(player(1, u64::MAX))).await, 1);
        is_refused(players.increment(&1, SCORE, 1).await, 1);
        is_refused(players.patch(&1, Scored(u64::MAX)).await, 1);
        stands(&players, 1, Some(MOST)).await;
        // One change of many is refused, and the others are not.
        let (one, other, third) = tokio::join!(
            players.increment(&1, SCORE, -2),
            players.increment(&1, SCORE, 3),
            players.increment(&1, SCORE, 1)
        );
        assert_eq!((one.unwrap(), third.unwrap()), (MOST - 2, MOST - 1));
        is_refused(other, 1);
        stands(&players, 1, Some(MOST - 1)).await;
        let stats = engine.stats()["player"];
        assert_eq!((stats.refused, stats.dead_letters), (0, 0));
        engine.shutdown(Duration::from_secs(5)).await.unwrap();
    }
}

/// A schema that was altered since the sink looked at it refuses nothing: each way to write looks again, and is let pass.
#[tokio::test(start_paused = true)]
async fn what_an_altered_schema_can_hold_is_not_refused() {
    const TOO_MUCH: u64 = MOST + 1;
    for role in [Role::Both, Role::Writer] {
        for way in 0..8 {
            let sink = sink();
            let options = EntityOptions::new().transactions(true);
            let builder = Engine::builder(MemoryBuffer::new()).role(role);
            let engine = builder.entity::<Player>(sink.clone(), options).start().await.unwrap();
            let players = engine.cache::<Player>().unwrap();
            if way > 1 {
                players.put(&player(1, MOST)).await.unwrap();
            }
            if way == 0 {
                is_refused(players.put(&player(1, TOO_MUCH)).await, 1);
                assert_eq!(sink.refreshes(), 1);
                // Not once more within the second.
                is_refused(players.put(&player(1, TOO_MUCH)).await, 1);
                assert_eq!(sink.refreshes(), 1);
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            sink.alter();
            match way {
                0 => drop(players.put(&player(1, TOO_MUCH)).await.unwrap()),
                1 => drop(players.put_if_absent(&player(1, TOO_MUCH)).await.unwrap().unwrap()),
                2 => drop(players.put_many(&[player(2, 1), player(1, TOO_MUCH)]).await.unwrap()),
                3 => drop(players.replace(&player(1, TOO_MUCH)).await.unwrap().unwrap()),
                4 => drop(players.update(&1, |player| player.score += 1).await.unwrap()),
                5 => drop(players.compute(&1, |_| Some(player(1, TOO_MUCH))).await.unwrap()),
                6 => drop(players.increment(&1, SCORE, 1).await.unwrap()),
                _ => {
                    // Its closure runs once: the one after it passes.
                    let told = engine.transaction(|tx| tx.put(&player(1, TOO_MUCH))).await;
                    let Err(TransactionError::Cache(told)) = told else { unreachable!("it is refused") };
                    is_refused::<()>(Err(told), 1);
                    engine.transaction(|tx| tx.put(&player(1, TOO_MUCH))).await.unwrap();
                }
            }
            stands(&players, 1, Some(TOO_MUCH)).await;
            engine.shutdown(Duration::from_secs(5)).await.unwrap();
        }
    }
}

/// A thousand refused writes at once are one look, and one at a sink that is away holds none of them up for long.
#[tokio::test(start_paused = true)]
async fn refused_writes_ask_the_sink_at_most_once_a_second() {
    let sink = sink();
    let engine = Engine::builder(MemoryBuffer::new())
        .entity::<Player>(sink.clone(), EntityOptions::new())
        .start()
        .await
        .unwrap();
    let players = engine.cache::<Player>().unwrap();
    let refused = || {
        join_all((0..1_000).map(|id| {
            let players = players.clone();
            async move { is_refused(players.put(&player(id, u64::MAX)).await, id) }
        }))
    };
    for looks in 1..=3 {
        refused().await;
        refused().await;
        assert_eq!(sink.refreshes(), looks);
        tokio::time::sleep(Duration::from_secs(1)).await;
        if looks == 2 {
            sink.fail_always(ErrorKind::Unavailable);
        }
    }
    sink.recover();
    engine.shutdown(Duration::from_secs(5)).await.unwrap();
}

/// A hook may put right what the sink cannot hold.
#[tokio::test(start_paused = true)]
async fn rows_that_a_hook_rewrites_are_not_judged_before_it() {
    let sink = sink();
    let engine = Engine::builder(MemoryBuffer::new())
        .entity::<Player>(sink.clone(), EntityOptions::new())
        .before_flush::<Player>(|row| BeforeFlush::Write(Player { score: row.score.min(MOST), ..row }))
        .start()
        .await
        .unwrap();
    let players = engine.cache::<Player>().unwrap();
    players.put(&player(1, u64::MAX)).await.unwrap().persisted().await.unwrap();
    assert_eq!(sink.rows().into_values().collect::<Vec<_>>(), [player(1, MOST)]);
    engine.shutdown(Duration::from_secs(5)).await.unwrap();
}
