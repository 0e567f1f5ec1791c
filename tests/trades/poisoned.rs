//! A record that the database refuses takes those with it that were written together with it, and nobody else.

use std::time::Duration;

use write_behind::{Cache, Role};
use write_behind_tests::eventually;

use crate::market::{Market, Trader, options, store};

async fn poisoned(variable: &str) {
    let Some(market) = Market::open(variable).await else { return };
    let engine = market.engine(Role::Both, options().max_batch(100)).await;
    let traders: Cache<Trader> = engine.cache().unwrap();
    let trader = |id, gold| Trader { id, gold };
    store(&engine, &[trader(1, -1), trader(2, 101), trader(3, 100)]).await.unwrap();
    store(&engine, &[trader(4, 70), trader(5, 130)]).await.unwrap();
    traders.put(&trader(6, 100)).await.unwrap();
    let letters = engine.dead_letters::<Trader>().unwrap();
    for id in 1..=3 {
        let letter = eventually("a letter", Duration::from_secs(30), async || letters.get(&id).await.unwrap()).await;
        assert_eq!((letter.kind.as_str(), letter.attempts), ("rejected", 3), "{id}: {}", letter.error);
    }
    let looker = market.looker().await;
    let rows = market.look(&looker).await;
    assert_eq!(rows.into_iter().collect::<Vec<_>>(), [(4, 70), (5, 130), (6, 100)], "the others are not held up");
    let read = traders.get_many(&[1, 2, 3]).await.unwrap();
    assert_eq!(read, [Some(trader(1, -1)), Some(trader(2, 101)), Some(trader(3, 100))], "still readable");
    // What is good supersedes them.
    store(&engine, &[trader(1, 0), trader(2, 100), trader(3, 100)]).await.unwrap();
    assert!(traders.flush_within(Duration::from_secs(30)).await.unwrap());
    assert_eq!(market.look(&looker).await.values().sum::<i64>(), 500);
    assert!(letters.get(&2).await.unwrap().is_none());
    engine.shutdown(Duration::from_secs(10)).await.unwrap();
    market.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_poisoned_record_refuses_its_transaction_whole_on_postgres() {
    poisoned("WB_POSTGRES_URL").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_poisoned_record_refuses_its_transaction_whole_on_mongo() {
    poisoned("WB_MONGO_URL").await;
}
