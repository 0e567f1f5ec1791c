//! One program after the other: records of the old struct wait in Redis, and the new one flushes them.

use std::time::Duration;

use write_behind::{Engine, Entity, Role, SqlEntity};
use write_behind_tests::eventually;

use crate::house::House;

const PATIENCE: Duration = Duration::from_secs(30);

/// An old program writes, and ends before anything is flushed.
async fn left_behind<T: SqlEntity>(house: &House, values: &[T]) {
    let writer = house.engine::<T>(Role::Writer).await;
    writer.cache::<T>().unwrap().put_many(values).await.unwrap();
    writer.shutdown(PATIENCE).await.unwrap();
}

async fn flushed<T: Entity>(engine: &Engine) {
    assert!(engine.cache::<T>().unwrap().flush_within(PATIENCE).await.unwrap());
    eventually("everything is flushed or dead", PATIENCE, async || {
        (engine.stats().get(T::NAME)?.dirty_keys == 0).then_some(())
    })
    .await;
}

/// The same tests in each format and on each database.
macro_rules! changes {
    ($name:ident, $format:ident, $database:ident) => {
        mod $name {
            use super::*;
            use crate::house::row;
            use crate::structs::$format::{Added, First, Removed, Renamed, Retyped};

            fn first(id: i64) -> First {
                First { id, owner: format!("owner {id}"), balance: id * 10 }
            }

            #[tokio::test]
            async fn added_fields_get_their_defaults() {
                let Some(house) = House::$database().await else { return };
                left_behind(&house, &[first(1), first(2)]).await;
                let engine = house.engine::<Added>(Role::Both).await;
                let accounts = engine.cache::<Added>().unwrap();
                let read = accounts.get(&1).await.unwrap().unwrap();
                assert_eq!((read.balance, read.note, read.level), (10, None, 3), "read where it waits");
                flushed::<Added>(&engine).await;
                let expected = [row(1, "owner 1", 10, None, 3), row(2, "owner 2", 20, None, 3)];
                assert_eq!(house.rows().await.into_values().collect::<Vec<_>>(), expected);
                engine.shutdown(PATIENCE).await.unwrap();
                house.close().await;
            }

            #[tokio::test]
            async fn a_renamed_field_is_read_by_its_alias() {
                let Some(house) = House::$database().await else { return };
                left_behind(&house, &[first(1)]).await;
                let engine = house.engine::<Renamed>(Role::Both).await;
                let accounts = engine.cache::<Renamed>().unwrap();
                accounts.put(&Renamed { id: 2, holder: "new".into(), balance: 5 }).await.unwrap();
                assert_eq!(accounts.get(&1).await.unwrap().unwrap().holder, "owner 1");
                flushed::<Renamed>(&engine).await;
                let expected = [row(1, "owner 1", 10, None, 0), row(2, "new", 5, None, 0)];
                assert_eq!(house.rows().await.into_values().collect::<Vec<_>>(), expected);
                engine.shutdown(PATIENCE).await.unwrap();
                house.close().await;
            }

            #[tokio::test]
            async fn a_removed_field_is_ignored() {
                let Some(house) = House::$database().await else { return };
                left_behind(&house, &[first(1)]).await;
                let engine = house.engine::<Removed>(Role::Both).await;
                flushed::<Removed>(&engine).await;
                assert_eq!(house.rows().await.into_values().collect::<Vec<_>>(), [row(1, "owner 1", 0, None, 0)]);
                assert_eq!(engine.stats()["account"].held, 0, "nobody newer knows it");
                engine.shutdown(PATIENCE).await.unwrap();
                house.close().await;
            }

            #[tokio::test]
            async fn p12_what_no_longer_decodes_is_kept_whole_and_replayed_after_a_fix() {
                let Some(house) = House::$database().await else { return };
                left_behind(&house, &[first(1)]).await;
                let engine = house.engine::<Retyped>(Role::Both).await;
                let letters = engine.dead_letters::<Retyped>().unwrap();
                let letter = eventually("a dead letter", PATIENCE, async || letters.get(&1).await.unwrap()).await;
                assert_eq!((letter.kind.as_str(), letter.payload), ("undecodable", first(1).encode().unwrap()));
                assert!(house.rows().await.is_empty());
                engine.shutdown(PATIENCE).await.unwrap();
                let engine = house.engine::<First>(Role::Both).await;
                assert_eq!(engine.dead_letters::<First>().unwrap().replay_all().await.unwrap(), 1);
                flushed::<First>(&engine).await;
                let missing = "the row, held back while the wrong program counts as newer";
                eventually(missing, PATIENCE, async || house.rows().await.contains_key(&1).then_some(())).await;
                assert_eq!(house.rows().await.into_values().collect::<Vec<_>>(), [row(1, "owner 1", 10, None, 0)]);
                engine.shutdown(PATIENCE).await.unwrap();
                house.close().await;
            }
        }
    };
}

changes!(json_on_sqlite, json, sqlite);
changes!(json_on_postgres, json, postgres);
changes!(msgpack_on_sqlite, msgpack, sqlite);
changes!(msgpack_on_postgres, msgpack, postgres);
