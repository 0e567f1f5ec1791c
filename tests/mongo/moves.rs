//! Unique values that move between records: in a transaction, in a batch, in one flush.

use std::time::Duration;

use mongodb::bson::{Document, doc};
use mongodb::options::IndexOptions;
use mongodb::{Database, IndexModel};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use write_behind::mongo::MongoSink;
use write_behind::{Engine, EntityOptions, ErrorKind, MemoryBuffer, Report, RetryPolicy, Sink};

use crate::entities::Player;
use crate::server::{batch, on_replica_set, on_standalone, opened};

/// Emails differ, and scores are below ten.
async fn unique(database: &Database) -> MongoSink {
    database.create_collection("players").validator(doc! { "score": { "$lt": 10 } }).await.unwrap();
    let options = IndexOptions::builder().unique(true).build();
    let index = IndexModel::builder().keys(doc! { "email": 1 }).options(options).build();
    database.collection::<Document>("players").create_index(index).await.unwrap();
    opened::<Player>(database).await
}

fn player(id: i64, email: &str) -> Player {
    Player { email: email.to_owned(), ..Player::new(id) }
}

fn players(rows: &[(i64, &str)]) -> Vec<Player> {
    rows.iter().map(|(id, email)| player(*id, email)).collect()
}

async fn write(sink: &MongoSink, upserts: &[Player], deletes: &[Player]) -> Report {
    let report = sink.write(&batch(upserts, deletes)).await.unwrap();
    assert!(report.rejected.is_empty(), "{:?}", report.rejected);
    report
}

async fn emails(sink: &MongoSink, ids: std::ops::Range<i64>) -> Vec<(i64, String)> {
    let mut found: Vec<Player> = Sink::<Player>::load(sink, &ids.collect::<Vec<_>>()).await.unwrap();
    found.sort_by_key(|player| player.id);
    found.into_iter().map(|player| (player.id, player.email)).collect()
}

fn named(rows: &[(i64, &str)]) -> Vec<(i64, String)> {
    rows.iter().map(|(id, email)| (*id, (*email).to_owned())).collect()
}

/// The refused ids, and why.
fn refused(report: Report) -> Vec<(String, String)> {
    for (id, error) in &report.rejected {
        assert_eq!(error.kind(), ErrorKind::Rejected, "{id}: {}", error.chain());
    }
    let mut refused: Vec<_> = report.rejected.into_iter().map(|(id, error)| (id.to_string(), error.chain())).collect();
    refused.sort();
    refused
}

#[tokio::test]
async fn p13_a_transaction_moves_a_unique_value() {
    on_replica_set(|database| async move {
        let sink = unique(&database).await;
        // One attempt: the first refusal would be the last.
        let retry = RetryPolicy::new().attempts(1);
        let options = EntityOptions::new().flush_every(Duration::from_millis(20)).transactions(true).retry(retry);
        let engine =
            Engine::builder(MemoryBuffer::new()).entity::<Player>(sink.clone(), options).start().await.unwrap();
        let cache = engine.cache::<Player>().unwrap();
        cache.put(&player(1, "neo")).await.unwrap();
        cache.flush().await.unwrap();
        engine
            .transaction(|tx| {
                tx.delete::<Player>(&1)?;
                tx.put(&player(2, "neo"))
            })
            .await
            .unwrap();
        cache.flush().await.unwrap();
        assert_eq!(emails(&sink, 0..9).await, named(&[(2, "neo")]));
        cache.put(&player(1, "a")).await.unwrap();
        cache.flush().await.unwrap();
        engine
            .transaction(|tx| {
                tx.put(&player(2, "b"))?;
                tx.put(&player(1, "neo"))
            })
            .await
            .unwrap();
        cache.flush().await.unwrap();
        assert_eq!(emails(&sink, 0..9).await, named(&[(1, "neo"), (2, "b")]));
        // Outside of a transaction, too.
        cache.delete(&1).await.unwrap();
        cache.put(&player(3, "neo")).await.unwrap();
        cache.flush().await.unwrap();
        assert_eq!(emails(&sink, 0..9).await, named(&[(2, "b"), (3, "neo")]));
        let stats = engine.stats()["players"];
        assert_eq!((stats.refused, stats.dead_letters), (0, 0));

        // A true swap is a letter that says so.
        engine
            .transaction(|tx| {
                tx.put(&player(2, "neo"))?;
                tx.put(&player(3, "b"))
            })
            .await
            .unwrap();
        cache.flush().await.unwrap();
        let letters = engine.dead_letters::<Player>().unwrap();
        for id in [2, 3] {
            let letter = letters.get(&id).await.unwrap().unwrap();
            assert!(letter.error.contains("records `2`, `3` exchange unique values"), "{}", letter.error);
        }
        engine.shutdown(Duration::from_secs(5)).await.unwrap();
    })
    .await;
}

async fn moves_land(database: Database) {
    let sink = unique(&database).await;
    write(&sink, &players(&[(1, "neo"), (2, "a"), (3, "b")]), &[]).await;
    write(&sink, &players(&[(2, "b"), (3, "c"), (4, "neo")]), &players(&[(1, "")])).await;
    assert_eq!(emails(&sink, 0..9).await, named(&[(2, "b"), (3, "c"), (4, "neo")]));
    for seed in [None, Some(1_u64), Some(2)] {
        // Each takes the email of the next one, in the order of the ids, or of none.
        let mut ids: Vec<i64> = (100..300).collect();
        if let Some(seed) = seed {
            ids.shuffle(&mut StdRng::seed_from_u64(seed));
        }
        let place = |shift: usize| -> Vec<Player> {
            ids.iter().enumerate().map(|(n, id)| player(*id, &format!("email {}", n + shift))).collect()
        };
        write(&sink, &[], &Player::range(100..300)).await;
        write(&sink, &place(0), &[]).await;
        let report = write(&sink, &place(1), &[]).await;
        eprintln!("{seed:?}: {} commands", report.statements);
        assert!(report.statements <= 8, "{}", report.statements);
        let mut expected: Vec<_> = place(1).into_iter().map(|player| (player.id, player.email)).collect();
        expected.sort();
        assert_eq!(emails(&sink, 100..300).await, expected);
    }
}

#[tokio::test]
async fn a_chain_of_moves_lands_in_few_commands() {
    on_replica_set(moves_land).await;
}

#[tokio::test]
async fn a_chain_of_moves_lands_on_a_standalone_server() {
    on_standalone(moves_land).await;
}

/// A chain through all batches of a flush.
async fn a_chain_goes_through_batches(database: Database) {
    const ROWS: i64 = 150;
    let sink = unique(&database).await;
    let options = EntityOptions::new().flush_every(Duration::from_secs(3_600)).partitions(4).max_batch(7);
    let options = options.retry(RetryPolicy::new().attempts(1));
    let engine = Engine::builder(MemoryBuffer::new()).entity::<Player>(sink.clone(), options).start().await.unwrap();
    let cache = engine.cache::<Player>().unwrap();
    let place =
        |shift: i64| -> Vec<Player> { (0..ROWS).map(|n| player(n, &format!("email {:03}", n + shift))).collect() };
    for shift in [0, 1, 0] {
        cache.put_many(&place(shift)).await.unwrap();
        let begun = std::time::Instant::now();
        cache.flush().await.unwrap();
        eprintln!("{:?}", begun.elapsed());
        let expected: Vec<_> = place(shift).into_iter().map(|player| (player.id, player.email)).collect();
        assert_eq!(emails(&sink, 0..ROWS).await, expected);
    }
    let stats = engine.stats().get("players").copied().unwrap();
    assert_eq!((stats.refused, stats.dead_letters), (0, 0));
    engine.shutdown(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test]
async fn a_chain_of_moves_goes_through_the_batches_of_a_flush() {
    on_replica_set(a_chain_goes_through_batches).await;
}

#[tokio::test]
async fn a_chain_of_moves_goes_through_the_batches_of_a_flush_on_a_standalone_server() {
    on_standalone(a_chain_goes_through_batches).await;
}

/// The reason is that of the last attempt, which they make together.
#[tokio::test]
async fn p8_an_exchange_is_named_after_several_attempts() {
    on_replica_set(|database| async move {
        let sink = unique(&database).await;
        let retry = RetryPolicy::new().attempts(4).initial(Duration::from_millis(50)).cap(Duration::from_millis(400));
        let options = EntityOptions::new().flush_every(Duration::from_millis(20)).partitions(1).retry(retry);
        let builder = Engine::builder(MemoryBuffer::new()).entity::<Player>(sink, options);
        let engine = builder.start().await.unwrap();
        let cache = engine.cache::<Player>().unwrap();
        cache.put_many(&players(&[(1, "a"), (2, "b"), (3, "c")])).await.unwrap();
        cache.flush().await.unwrap();
        cache.put_many(&players(&[(1, "b"), (2, "c"), (3, "a")])).await.unwrap();
        let letters = engine.dead_letters::<Player>().unwrap();
        let until = std::time::Instant::now() + Duration::from_secs(20);
        while letters.count().await.unwrap() < 3 {
            assert!(std::time::Instant::now() < until, "three letters");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        for letter in letters.page(None, 10).await.unwrap().letters {
            assert_eq!(letter.letter.attempts, 4);
            assert!(letter.letter.error.contains("exchange unique values"), "{}", letter.letter.error);
        }
        engine.shutdown(Duration::from_secs(5)).await.unwrap();
    })
    .await;
}

async fn what_cannot_move_is_named(database: Database) {
    let sink = unique(&database).await;
    let mut before: Vec<Player> = (100..200).map(|n| player(n, &format!("email {n}"))).collect();
    before.extend(players(&[(1, "a"), (2, "b"), (3, "c"), (4, "d"), (5, "e")]));
    write(&sink, &before, &[]).await;
    // A swap, a chain whose holder is bad, a value that nobody gives up, a value that a delete frees; others move.
    let mut moved: Vec<Player> = (100..200).map(|n| player(n, &format!("email {}", n + 1))).collect();
    moved.get_mut(50).unwrap().score = 11;
    moved.extend(players(&[(1, "b"), (2, "a"), (6, "c"), (7, "d"), (5, "f"), (8, "e")]));
    let found = refused(sink.write(&batch(&moved, &players(&[(4, "")]))).await.unwrap());
    let of = |id: i64| found.iter().find(|(refused, _)| *refused == id.to_string()).map(|(_, why)| why.as_str());
    assert_eq!(found.len(), 54, "{:?}", found.iter().map(|(id, _)| id).collect::<Vec<_>>());
    assert!(of(150).unwrap().contains("failed validation"), "{:?}", of(150));
    assert!(of(149).unwrap().contains("held by record `150`, which is refused itself"), "{:?}", of(149));
    assert!(
        of(1).unwrap().contains("cannot take its unique value of `email`: records `1`, `2` exchange"),
        "{:?}",
        of(1)
    );
    assert!(of(2).unwrap().contains("records `2`, `1` exchange unique values"), "{:?}", of(2));
    assert!(of(6).unwrap().contains("duplicate key"), "{:?}", of(6));
    let expected = [(1, "a"), (2, "b"), (3, "c"), (5, "f"), (7, "d"), (8, "e")];
    assert_eq!(emails(&sink, 0..9).await, named(&expected));
    assert_eq!(emails(&sink, 151..153).await, named(&[(151, "email 152"), (152, "email 153")]));
}

#[tokio::test]
async fn p8_what_cannot_move_is_named_and_the_others_land() {
    on_replica_set(what_cannot_move_is_named).await;
}

#[tokio::test]
async fn p8_what_cannot_move_is_named_on_a_standalone_server() {
    on_standalone(what_cannot_move_is_named).await;
}

#[tokio::test]
async fn p13_whole_batches_of_moves_are_all_or_nothing() {
    on_replica_set(|database| async move {
        let sink = unique(&database).await;
        let before = players(&[(1, "neo"), (2, "a"), (3, "b"), (4, "x")]);
        write(&sink, &before, &[]).await;
        let whole = async |upserts: &[(i64, &str)], bad: Option<i64>| {
            let mut upserts = players(upserts);
            upserts.iter_mut().filter(|player| Some(player.id) == bad).for_each(|player| player.score = 11);
            sink.write(&batch(&upserts, &before[..1]).whole()).await
        };
        // What is wrong in itself is named, not what waits for it.
        let error = whole(&[(2, "b"), (3, "c"), (5, "neo")], Some(3)).await.unwrap_err();
        assert!(error.to_string().contains("`3`"), "{}", error.chain());
        let error = whole(&[(2, "b"), (3, "c"), (5, "x")], None).await.unwrap_err();
        assert!(error.to_string().contains("`5`"), "{}", error.chain());
        let error = whole(&[(2, "b"), (3, "a"), (5, "neo")], None).await.unwrap_err();
        assert!(error.chain().contains("exchange unique values"), "{}", error.chain());
        assert_eq!(emails(&sink, 0..9).await, named(&[(1, "neo"), (2, "a"), (3, "b"), (4, "x")]));
        whole(&[(2, "b"), (3, "c"), (5, "neo")], None).await.unwrap();
        assert_eq!(emails(&sink, 0..9).await, named(&[(2, "b"), (3, "c"), (4, "x"), (5, "neo")]));
    })
    .await;
}

/// Whatever moves between documents lands, unless values go in a circle.
async fn random_moves(database: Database) {
    let seed: u64 = std::env::var("WB_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(rand::random);
    eprintln!("WB_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let sink = unique(&database).await;
    let mut table = std::collections::BTreeMap::<i64, String>::new();
    for round in 0..40 {
        let mut batch_of = std::collections::BTreeMap::<i64, Option<String>>::new();
        let mut now = table.clone();
        for _ in 0..random.random_range(1..60) {
            let id = random.random_range(0..40);
            let email = format!("email {}", random.random_range(0..50));
            if random.random_bool(0.2) {
                now.remove(&id);
                batch_of.insert(id, None);
            } else if !now.values().any(|held| *held == email) {
                now.insert(id, email.clone());
                batch_of.insert(id, Some(email));
            }
        }
        let upserts: Vec<Player> =
            batch_of.iter().filter_map(|(id, email)| Some(player(*id, email.as_ref()?))).collect();
        let gone: Vec<Player> =
            batch_of.iter().filter(|(_, email)| email.is_none()).map(|(id, _)| player(*id, "")).collect();
        let found = refused(sink.write(&batch(&upserts, &gone)).await.unwrap());
        let circles = found.iter().filter(|(_, why)| why.contains("exchange unique values")).count();
        assert!(found.is_empty() || circles > 1, "round {round}: {found:?}");
        assert!(found.iter().all(|(_, why)| why.contains("cannot take its unique value")), "round {round}: {found:?}");
        for (id, email) in batch_of {
            match email {
                _ if found.iter().any(|(refused, _)| *refused == id.to_string()) => {}
                Some(email) => drop(table.insert(id, email)),
                None => drop(table.remove(&id)),
            }
        }
        assert_eq!(emails(&sink, 0..40).await, table.clone().into_iter().collect::<Vec<_>>(), "round {round}");
    }
}

#[tokio::test]
async fn random_moves_land() {
    on_replica_set(random_moves).await;
}

#[tokio::test]
async fn random_moves_land_on_a_standalone_server() {
    on_standalone(random_moves).await;
}
