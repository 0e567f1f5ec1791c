//! The domain: players whose scores change all the time.

use std::collections::BTreeMap;

use indicatif::ProgressBar;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};
use write_behind::{Cache, WriteBehind};

/// A row of the score board.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, WriteBehind)]
#[wb(name = "player", table = "quickstart_players")]
pub(crate) struct Player {
    #[wb(key)]
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) score: i64,
    #[wb(rename = "best_streak")]
    pub(crate) streak: i32,
    #[wb(json)]
    pub(crate) badges: Vec<String>,
}

/// What was written last of each player; `None` for a deleted one.
pub(crate) type Last = BTreeMap<i64, Option<Player>>;

const WRITERS: u64 = 8;

/// Plays: each writer has players of its own, so that "last" is well defined. One move in fifty is a player who leaves.
pub(crate) async fn play(cache: &Cache<Player>, updates: u64, players: u64, bar: &ProgressBar) -> anyhow::Result<Last> {
    let writers = (0..WRITERS).map(|writer| {
        let (cache, bar) = (cache.clone(), bar.clone());
        let mine: Vec<i64> = (0..players as i64).filter(|id| id.unsigned_abs() % WRITERS == writer).collect();
        let moves = updates / WRITERS + u64::from(writer < updates % WRITERS);
        tokio::spawn(async move {
            let mut last = Last::new();
            let mut random = StdRng::seed_from_u64(writer);
            if mine.is_empty() {
                return anyhow::Ok(last);
            }
            for turn in 0..moves {
                let Some(&id) = mine.get(random.random_range(0..mine.len())) else { continue };
                if random.random_ratio(1, 50) {
                    cache.delete(&id).await?;
                    last.insert(id, None);
                } else {
                    let player = Player {
                        id,
                        name: format!("player {id}"),
                        score: random.random_range(0..1_000_000),
                        streak: (turn % 100) as i32,
                        badges: (0..turn % 4).map(|n| format!("badge {n}")).collect(),
                    };
                    cache.put(&player).await?;
                    last.insert(id, Some(player));
                }
                bar.inc(1);
            }
            anyhow::Ok(last)
        })
    });
    let mut last = Last::new();
    for writer in writers.collect::<Vec<_>>() {
        last.extend(writer.await??);
    }
    Ok(last)
}
