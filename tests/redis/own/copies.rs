//! Clean copies and records that are no value: a bad key costs that key.

use std::time::Duration;

use write_behind::testing::ScriptedSink;
use write_behind::{CacheError, Engine, EntityOptions, RedisBuffer, Role};
use write_behind_tests::OwnRedis;

use crate::player::{Player, id};

const PATIENCE: Duration = Duration::from_secs(30);
const NOTHING: &[&str] = &["--save", "", "--appendonly", "no"];

/// Three rows in the sink, and nobody who flushes.
async fn three(server: &OwnRedis, transactions: bool) -> Engine {
    let sink = ScriptedSink::new();
    for n in 1..=3 {
        sink.set_row(id(n), Player::new(n, n));
    }
    let options = EntityOptions::new().partitions(1).transactions(transactions);
    let builder = Engine::builder(RedisBuffer::connect(&server.url()).await.unwrap()).role(Role::Writer);
    builder.entity::<Player>(sink, options).start().await.unwrap()
}

fn tag(transactions: bool) -> &'static str {
    if transactions { "wb:{player:00/1+tx}" } else { "wb:{player:00/1}" }
}

fn rows() -> Vec<Option<Player>> {
    (1..=3).map(|n| Some(Player::new(n, n))).collect()
}

#[tokio::test]
async fn p8_a_clean_copy_of_a_wrong_type_is_as_good_as_none_and_is_replaced() {
    let Some(server) = OwnRedis::start(NOTHING).await else { return };
    for transactions in [false, true] {
        let engine = three(&server, transactions).await;
        let players = engine.cache::<Player>().unwrap();
        let copy = format!("{}:r:2", tag(transactions));
        let breaks: [&[&str]; 2] = [&["RPUSH", &copy, "x"], &["HSET", &copy, "x", "y"]];
        for wrong in breaks {
            let again = async || {
                server.run(&["DEL", &copy]).await;
                server.run(wrong).await;
            };
            again().await;
            assert_eq!(players.get_many(&[1, 2, 3]).await.unwrap(), rows(), "{wrong:?}");
            again().await;
            assert_eq!(players.get(&2).await.unwrap(), Some(Player::new(2, 2)), "{wrong:?}");
            assert_eq!(players.get(&2).await.unwrap(), Some(Player::new(2, 2)), "replaced: {wrong:?}");
        }
        server.run(&["DEL", &copy]).await;
        server.run(&["RPUSH", &copy, "x"]).await;
        let changed = players.update(&2, |player| player.score += 1).await.unwrap();
        assert_eq!(changed, Player::new(2, 3));
        server.run(&["DEL", &format!("{}:open", tag(transactions))]).await;
        engine.shutdown(PATIENCE).await.unwrap();
        server.run(&["FLUSHALL"]).await;
    }
}

#[tokio::test]
async fn p8_a_record_that_is_no_value_costs_its_own_key() {
    let Some(server) = OwnRedis::start(NOTHING).await else { return };
    for transactions in [false, true] {
        let engine = three(&server, transactions).await;
        let players = engine.cache::<Player>().unwrap();
        let open = format!("{}:open", tag(transactions));
        server.run(&["HSET", &open, "2", "no value"]).await;
        let each = players.get_each(&[1, 2, 3]).await.unwrap();
        let [Ok(Some(one)), Err(CacheError::Codec { id, .. }), Ok(Some(three))] = each.as_slice() else {
            unreachable!("{each:?}")
        };
        assert_eq!((one, id.as_str(), three), (&Player::new(1, 1), "2", &Player::new(3, 3)));
        let told = players.get_many(&[1, 2, 3]).await;
        assert!(matches!(&told, Err(CacheError::Codec { id, .. }) if id == "2"), "{told:?}");
        assert_eq!(players.get_many(&[1, 3]).await.unwrap().len(), 2);
        server.run(&["DEL", &open]).await;
        engine.shutdown(PATIENCE).await.unwrap();
        server.run(&["FLUSHALL"]).await;
    }
}
