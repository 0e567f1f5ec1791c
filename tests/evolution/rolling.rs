//! A rolling deploy: old and new programs at once over one Redis and one PostgreSQL.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use write_behind::{Cache, Engine, Entity, Event, Role, SqlEntity};
use write_behind_tests::eventually;

use crate::house::House;

const PATIENCE: Duration = Duration::from_secs(30);
/// Keys that the new program writes; the old one writes those above.
const KEYS: i64 = 200;
/// How long each stage of a deploy takes.
const STAGE: Duration = Duration::from_millis(1_500);

fn owned(engine: &Engine) -> usize {
    engine.owned().get("account").unwrap().len()
}

/// Puts random states of random keys for a while; `last` is what was acknowledged.
async fn write<T: Entity>(
    rng: &mut StdRng,
    accounts: &Cache<T>,
    from: i64,
    last: &mut BTreeMap<i64, i64>,
    make: impl Fn(i64, i64) -> T,
) {
    let (id, balance) = (from + rng.random_range(0..KEYS), rng.random_range(0..1_000_000));
    accounts.put(&make(id, balance)).await.unwrap();
    last.insert(id, balance);
}

macro_rules! rolling {
    ($name:ident, $format:ident) => {
        mod $name {
            use super::*;
            use crate::structs::$format::{Added, First};

            fn added(id: i64, balance: i64) -> Added {
                Added { id, owner: "new".into(), balance, note: Some(format!("note {balance}")), level: 9 }
            }

            fn first(id: i64, balance: i64) -> First {
                First { id, owner: "old".into(), balance }
            }

            /// Both programs write for a stage.
            async fn stage(
                rng: &mut StdRng,
                (news, last_new): (&Cache<Added>, &mut BTreeMap<i64, i64>),
                (olds, last_old): (&Cache<First>, &mut BTreeMap<i64, i64>),
            ) {
                let until = Instant::now() + STAGE;
                while Instant::now() < until {
                    write(rng, news, 0, last_new, added).await;
                    write(rng, olds, KEYS, last_old, first).await;
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }

            /// No row of the new program is there without its new fields; how many there are.
            async fn whole(house: &House, when: &str) -> usize {
                let rows = house.rows().await;
                let news = rows.range(..KEYS).inspect(|(id, row)| {
                    let note = format!("note {}", row.balance);
                    assert!(
                        row.note.as_ref() == Some(&note) && row.level == 9,
                        "{when}: {id} lost its fields: {row:?}"
                    );
                });
                news.count()
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn p1_a_rolling_deploy_loses_no_new_field() {
                let Some(house) = House::postgres().await else { return };
                let seed: u64 = std::env::var("WB_SEED").map_or_else(|_| rand::random(), |seed| seed.parse().unwrap());
                eprintln!("seed {seed}");
                let rng = &mut StdRng::seed_from_u64(seed);
                let (mut last_new, mut last_old) = (BTreeMap::new(), BTreeMap::new());

                let old = house.engine::<First>(Role::Both).await;
                let mut events = old.events();
                let olds = &old.cache::<First>().unwrap();
                let writer = house.engine::<Added>(Role::Writer).await;
                let news = &writer.cache::<Added>().unwrap();
                stage(rng, (news, &mut last_new), (olds, &mut last_old)).await;
                assert_eq!(whole(&house, "only an old worker").await, 0, "it leaves all of them alone");
                let flushed = async || (!house.rows().await.is_empty()).then_some(());
                eventually("it goes on with its own", PATIENCE, flushed).await;

                let worker = house.engine::<Added>(Role::Worker).await;
                stage(rng, (news, &mut last_new), (olds, &mut last_old)).await;
                eventually("the newer worker has all", PATIENCE, async || (owned(&worker) == 8).then_some(())).await;
                stage(rng, (news, &mut last_new), (olds, &mut last_old)).await;
                let flushed = async || (whole(&house, "old and new workers").await > 0).then_some(());
                eventually("they are flushed as they come", PATIENCE, flushed).await;

                worker.shutdown(PATIENCE).await.unwrap();
                stage(rng, (news, &mut last_new), (olds, &mut last_old)).await;
                eventually("the old worker is back", PATIENCE, async || (owned(&old) == 8).then_some(())).await;
                stage(rng, (news, &mut last_new), (olds, &mut last_old)).await;
                whole(&house, "only an old worker again").await;
                let held = eventually("a held record", PATIENCE, async || match events.next().await.unwrap() {
                    Event::Held { records, .. } => Some(records),
                    _ => None,
                })
                .await;
                assert!(held > 0);

                // The old program ends: what it cannot flush is counted, and the new one does it.
                let drained = old.shutdown(PATIENCE).await.unwrap();
                assert!(drained.remaining > 0, "{drained:?}");
                let worker = house.engine::<Added>(Role::Both).await;
                assert!(worker.cache::<Added>().unwrap().flush_within(PATIENCE).await.unwrap());
                assert_eq!(worker.shutdown(PATIENCE).await.unwrap().remaining, 0);
                writer.shutdown(PATIENCE).await.unwrap();
                assert_eq!(whole(&house, "at the end").await, last_new.len());
                let rows = house.rows().await;
                let balances: BTreeMap<i64, i64> = rows.into_values().map(|row| (row.id, row.balance)).collect();
                last_new.append(&mut last_old);
                assert_eq!(balances, last_new, "seed {seed}: the last state of every key");
                house.close().await;
            }

            #[tokio::test]
            async fn after_a_rollback_new_records_wait_and_nothing_is_lost() {
                let Some(house) = House::postgres().await else { return };
                left(&house, first(500, 1)).await;
                left(&house, added(1, 5)).await;
                let old = house.engine::<First>(Role::Both).await;
                eventually("its own record", PATIENCE, async || house.rows().await.get(&500).cloned()).await;
                eventually("held", PATIENCE, async || (old.stats()["account"].held > 3).then_some(())).await;
                assert_eq!(house.rows().await.len(), 1);
                let stats = old.stats()["account"];
                assert_eq!((stats.dead_letters, stats.dirty_keys), (0, 1), "{stats:?}");
                assert_eq!(old.shutdown(PATIENCE).await.unwrap().remaining, 1);
                let new = house.engine::<Added>(Role::Both).await;
                eventually("the new row", PATIENCE, async || house.rows().await.get(&1).cloned()).await;
                assert_eq!(whole(&house, "deployed again").await, 1);
                new.shutdown(PATIENCE).await.unwrap();
                house.close().await;
            }
        }
    };
}

async fn left<T: SqlEntity>(house: &House, value: T) {
    let writer = house.engine::<T>(Role::Writer).await;
    writer.cache::<T>().unwrap().put(&value).await.unwrap();
    writer.shutdown(PATIENCE).await.unwrap();
}

rolling!(json, json);
rolling!(msgpack, msgpack);
