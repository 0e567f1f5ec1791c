//! Through an engine: in a transaction, in one flush.

use std::time::Duration;

use write_behind::{Engine, Entity, EntityOptions, MemoryBuffer, RetryPolicy};

use super::{Named, engine, named, names, nothing_was_refused, rows, unique};
use crate::databases::Database;

named!(
    Tied in "moves_tied",
    Loose in "moves_loose",
    Apart in "moves_apart",
    Letter in "moves_letter",
    Chain in "moves_through",
);

async fn p13_a_transaction_moves_a_unique_value(database: Database) {
    let sink = &database.sink;
    unique::<Tied>(sink).await;
    // One attempt: the first refusal would be the last.
    let engine = engine::<Tied>(sink, 1).await;
    let cache = engine.cache::<Tied>().unwrap();
    engine.transaction(|tx| tx.put(&Tied::named(1, "neo"))).await.unwrap();
    cache.flush().await.unwrap();
    engine
        .transaction(|tx| {
            tx.delete::<Tied>(&1)?;
            tx.put(&Tied::named(2, "neo"))
        })
        .await
        .unwrap();
    cache.flush().await.unwrap();
    assert_eq!(names::<Tied>(sink, 0..9).await, named(&[(2, "neo")]));
    engine.transaction(|tx| tx.put(&Tied::named(1, "a"))).await.unwrap();
    cache.flush().await.unwrap();
    engine
        .transaction(|tx| {
            tx.put(&Tied::named(2, "b"))?;
            tx.put(&Tied::named(1, "neo"))
        })
        .await
        .unwrap();
    cache.flush().await.unwrap();
    assert_eq!(names::<Tied>(sink, 0..9).await, named(&[(1, "neo"), (2, "b")]));
    // Several that share a record are one unit, in which a value goes through several hands.
    for (id, name) in [(2, "c"), (3, "b"), (1, "d"), (4, "neo")] {
        engine
            .transaction(|tx| [Tied::named(9, ""), Tied::named(id, name)].iter().try_for_each(|row| tx.put(row)))
            .await
            .unwrap();
    }
    cache.flush().await.unwrap();
    assert_eq!(names::<Tied>(sink, 0..9).await, named(&[(1, "d"), (2, "c"), (3, "b"), (4, "neo")]));
    nothing_was_refused::<Tied>(&engine);
    engine.shutdown(Duration::from_secs(5)).await.unwrap();
}

async fn a_unique_value_moves_in_one_flush(database: Database) {
    let sink = &database.sink;
    unique::<Loose>(sink).await;
    let engine = engine::<Loose>(sink, 1).await;
    let cache = engine.cache::<Loose>().unwrap();
    cache.put_many(&rows::<Loose>(&[(1, "neo"), (2, "trinity"), (3, "tank")])).await.unwrap();
    cache.flush().await.unwrap();
    // Whenever a flush begins meanwhile, it finds a state that the database takes.
    cache.delete(&1).await.unwrap();
    cache.put(&Loose::named(4, "neo")).await.unwrap();
    cache.put(&Loose::named(3, "dozer")).await.unwrap();
    cache.put(&Loose::named(2, "tank")).await.unwrap();
    cache.flush().await.unwrap();
    assert_eq!(names::<Loose>(sink, 0..9).await, named(&[(2, "tank"), (3, "dozer"), (4, "neo")]));
    nothing_was_refused::<Loose>(&engine);
    engine.shutdown(Duration::from_secs(5)).await.unwrap();
}

/// Whoever gives the value up may be in another batch.
async fn a_unique_value_moves_between_the_batches_of_a_flush(database: Database) {
    let sink = &database.sink;
    unique::<Apart>(sink).await;
    let options = EntityOptions::new()
        .flush_every(Duration::from_secs(3_600))
        .transactions(true)
        .max_batch(3)
        .retry(RetryPolicy::new().attempts(1));
    let engine = Engine::builder(MemoryBuffer::new()).entity::<Apart>(sink.clone(), options).start().await.unwrap();
    let cache = engine.cache::<Apart>().unwrap();
    let all = |shift: i64| -> Vec<Apart> {
        (0..30)
            .map(|id| Apart::named(id, &format!("name {}", if id % 3 < 2 { id + shift } else { id + 100 * shift })))
            .collect()
    };
    for row in all(0) {
        cache.put(&row).await.unwrap();
    }
    cache.flush().await.unwrap();
    // Chains of three, a delete whose value is taken, and two transactions of which one waits for the other.
    for row in all(1) {
        cache.put(&row).await.unwrap();
    }
    cache.flush().await.unwrap();
    cache.delete(&0).await.unwrap();
    cache.put(&Apart::named(50, "name 1")).await.unwrap();
    for pair in [[(40, "name 2"), (41, "x")], [(1, "y"), (42, "z")]] {
        engine.transaction(|tx| rows::<Apart>(&pair).iter().try_for_each(|row| tx.put(row))).await.unwrap();
    }
    cache.flush().await.unwrap();
    nothing_was_refused::<Apart>(&engine);
    let expected = named(&[(40, "name 2"), (41, "x"), (42, "z"), (50, "name 1")]);
    assert_eq!(names::<Apart>(sink, 40..60).await, expected);
    assert_eq!(names::<Apart>(sink, 0..3).await, named(&[(1, "y"), (2, "name 102")]));
    // What nobody gives up is refused after all, and counted once.
    cache.put(&Apart::named(60, "x")).await.unwrap();
    cache.put_many(&all(2)[10..20]).await.unwrap();
    cache.flush().await.unwrap();
    let stats = engine.stats()[Apart::NAME];
    assert_eq!(stats.dead_letters, 1);
    let letter = engine.dead_letters::<Apart>().unwrap().get(&60).await.unwrap().unwrap();
    assert_eq!(letter.attempts, 1);
    engine.shutdown(Duration::from_secs(5)).await.unwrap();
}

/// Through all of them, each record waiting for another batch's.
async fn a_chain_of_moves_goes_through_the_batches_of_a_flush(database: Database) {
    const ROWS: i64 = 120;
    let sink = &database.sink;
    unique::<Chain>(sink).await;
    let options = EntityOptions::new().flush_every(Duration::from_secs(3_600)).partitions(4).max_batch(7);
    let options = options.retry(RetryPolicy::new().attempts(1));
    let engine = Engine::builder(MemoryBuffer::new()).entity::<Chain>(sink.clone(), options).start().await.unwrap();
    let cache = engine.cache::<Chain>().unwrap();
    let all = |shift: i64| -> Vec<Chain> {
        (0..ROWS).map(|id| Chain::named(id, &format!("name {:03}", id + shift))).collect()
    };
    for shift in [0, 1, 0] {
        cache.put_many(&all(shift)).await.unwrap();
        cache.flush().await.unwrap();
        let expected: Vec<_> = (0..ROWS).map(|id| (id, format!("name {:03}", id + shift))).collect();
        assert_eq!(names::<Chain>(sink, 0..ROWS).await, expected);
    }
    nothing_was_refused::<Chain>(&engine);
    engine.shutdown(Duration::from_secs(5)).await.unwrap();
}

async fn the_letter_of_a_swap_says_who_is_in_the_way(database: Database) {
    let sink = &database.sink;
    unique::<Letter>(sink).await;
    let engine = engine::<Letter>(sink, 1).await;
    let cache = engine.cache::<Letter>().unwrap();
    cache.put_many(&rows::<Letter>(&[(1, "a"), (2, "b")])).await.unwrap();
    cache.flush().await.unwrap();
    let swap = rows::<Letter>(&[(1, "b"), (2, "a")]);
    engine.transaction(|tx| swap.iter().try_for_each(|row| tx.put(row))).await.unwrap();
    cache.flush().await.unwrap();
    let letters = engine.dead_letters::<Letter>().unwrap();
    for id in [1, 2] {
        let letter = letters.get(&id).await.unwrap().unwrap();
        assert_eq!(letter.kind, "rejected");
        assert!(letter.error.contains("records `1`, `2` exchange unique values"), "{}", letter.error);
    }
    engine.shutdown(Duration::from_secs(5)).await.unwrap();
}

on_every_database!(
    p13_a_transaction_moves_a_unique_value,
    a_unique_value_moves_in_one_flush,
    a_unique_value_moves_between_the_batches_of_a_flush,
    a_chain_of_moves_goes_through_the_batches_of_a_flush,
    the_letter_of_a_swap_says_who_is_in_the_way,
);
