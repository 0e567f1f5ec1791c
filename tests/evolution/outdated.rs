//! An old program reads and changes what a newer one has written, and takes nothing away.

use std::time::Duration;

use write_behind::{CacheError, Role, State};
use write_behind_tests::{OwnRedis, eventually};

use crate::house::{House, row};

const PATIENCE: Duration = Duration::from_secs(30);

/// The same tests in each format and on each database.
macro_rules! outdated {
    ($name:ident, $format:ident, $database:ident) => {
        mod $name {
            use super::*;
            use crate::structs::$format::{Added, First};

            fn is_outdated<T: std::fmt::Debug>(changed: &Result<T, CacheError>) -> bool {
                matches!(changed, Err(CacheError::Outdated { .. }))
            }

            #[tokio::test]
            async fn p1_an_old_program_takes_no_new_field_away_however_often_it_tries() {
                let Some(house) = House::$database().await else { return };
                let old = house.engine::<First>(Role::Writer).await;
                let new = house.engine::<Added>(Role::Both).await;
                let (olds, news) = (old.cache::<First>().unwrap(), new.cache::<Added>().unwrap());
                let note = Some("kept".to_owned());
                news.put(&Added { id: 1, owner: "new".into(), balance: 10, note, level: 9 }).await.unwrap();
                assert!(news.flush_within(PATIENCE).await.unwrap());
                news.invalidate(&1).await.unwrap();
                assert_eq!(news.state(&1).await.unwrap(), State::Absent, "the row is cold");
                for n in 0..3 {
                    let changed = olds.update(&1, |account| account.balance += 1).await;
                    assert!(is_outdated(&changed), "try {n}: {changed:?}");
                }
                assert_eq!(olds.get(&1).await.unwrap().unwrap().balance, 10, "it reads what it knows");
                let changed = olds.update(&1, |account| account.balance += 1).await;
                assert!(is_outdated(&changed), "by way of what it has read: {changed:?}");
                news.update(&1, |account| account.balance += 1).await.unwrap();
                assert!(news.flush_within(PATIENCE).await.unwrap());
                assert_eq!(house.rows().await.into_values().collect::<Vec<_>>(), [row(1, "new", 11, Some("kept"), 9)]);
                // What the newer program has left in the buffer is whole.
                olds.update(&1, |account| account.balance += 1).await.unwrap();
                assert!(news.flush_within(PATIENCE).await.unwrap());
                assert_eq!(house.rows().await.into_values().collect::<Vec<_>>(), [row(1, "new", 12, Some("kept"), 9)]);
                old.shutdown(PATIENCE).await.unwrap();
                new.shutdown(PATIENCE).await.unwrap();
                house.close().await;
            }

            #[tokio::test]
            async fn p1_an_emptied_redis_forgets_no_new_field() {
                let Some(mut house) = House::$database().await else { return };
                let Some(server) = OwnRedis::start(&["--save", ""]).await else { return };
                house.redis = server.url();
                let old = house.engine::<First>(Role::Both).await;
                let new = house.engine::<Added>(Role::Writer).await;
                let news = new.cache::<Added>().unwrap();
                server.run(&["FLUSHALL"]).await;
                let note = Some("kept".to_owned());
                for id in 0..25 {
                    let account = Added { id, owner: "new".into(), balance: 10, note: note.clone(), level: 9 };
                    news.put(&account).await.unwrap();
                }
                // Beyond the time for which the list is young, and many cycles of the old worker.
                eventually("held", PATIENCE, async || (old.stats()["account"].held > 25 * 40).then_some(())).await;
                assert_eq!(house.rows().await.into_values().collect::<Vec<_>>(), []);
                let worker = house.engine::<Added>(Role::Both).await;
                assert!(worker.cache::<Added>().unwrap().flush_within(PATIENCE).await.unwrap());
                let expected: Vec<_> = (0..25).map(|id| row(id, "new", 10, Some("kept"), 9)).collect();
                assert_eq!(house.rows().await.into_values().collect::<Vec<_>>(), expected);
                for engine in [old, new, worker] {
                    engine.shutdown(PATIENCE).await.unwrap();
                }
                house.close().await;
            }

            /// The newer program has started, and the old one has not looked yet.
            #[tokio::test]
            async fn p1_what_an_old_program_has_read_is_nothing_to_build_on() {
                let Some(house) = House::$database().await else { return };
                let rows = [row(1, "a", 10, Some("one"), 1), row(2, "b", 20, Some("two"), 2)];
                house.insert(&rows).await;
                let old = house.engine::<First>(Role::Writer).await;
                let new = house.engine::<Added>(Role::Both).await;
                let (olds, news) = (old.cache::<First>().unwrap(), new.cache::<Added>().unwrap());
                assert_eq!(olds.get(&1).await.unwrap().unwrap().balance, 10);
                assert_eq!(olds.get_many(&[2]).await.unwrap().len(), 1);
                let changed = news.update(&1, |account| account.balance += 1).await.unwrap();
                assert_eq!((changed.note.as_deref(), changed.level), (Some("one"), 1));
                assert_eq!(news.get(&2).await.unwrap().unwrap().note.as_deref(), Some("two"));
                news.update(&2, |account| account.balance += 1).await.unwrap();
                assert!(news.flush_within(PATIENCE).await.unwrap());
                let expected = [row(1, "a", 11, Some("one"), 1), row(2, "b", 21, Some("two"), 2)];
                assert_eq!(house.rows().await.into_values().collect::<Vec<_>>(), expected);
                old.shutdown(PATIENCE).await.unwrap();
                new.shutdown(PATIENCE).await.unwrap();
                house.close().await;
            }
        }
    };
}

outdated!(json_on_sqlite, json, sqlite);
outdated!(json_on_postgres, json, postgres);
outdated!(msgpack_on_sqlite, msgpack, sqlite);
outdated!(msgpack_on_postgres, msgpack, postgres);
