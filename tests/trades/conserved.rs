//! P13, for the whole entity: whoever looks into the database finds all of a trade or nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use write_behind::Role;
use write_behind_tests::eventually;

use crate::market::{EACH, Market, TRADERS, Trader, Trades, options, store};
use crate::process::Worker;

/// Where a worker dies, and how often it may pass there before.
const STEPS: [&str; 8] = [
    "after_rotate:3",
    "after_claim:9",
    "before_write:14",
    "after_write:9",
    "after_commit:11",
    "after_ack:12",
    "after_back:2",
    "after_renew:3",
];

/// Rounds over all steps.
const ROUNDS: usize = 2;

/// What somebody saw who looked again and again until `over`.
pub(crate) struct Seen {
    pub(crate) looks: u64,
    pub(crate) torn: Option<i64>,
}

/// Looks into the database until `over`, or until gold is missing there, or too much.
pub(crate) async fn watch(market: Market, over: Arc<AtomicBool>) -> Seen {
    let looker = market.looker().await;
    let mut looks = 0;
    while !over.load(Ordering::Relaxed) {
        let rows = market.look(&looker).await;
        looks += 1;
        let sum: i64 = rows.values().sum();
        // Before the first flush there is nobody.
        if !rows.is_empty() && sum != TRADERS * EACH {
            return Seen { looks, torn: Some(sum) };
        }
    }
    Seen { looks, torn: None }
}

async fn conserved(variable: &str) {
    let Some(market) = Market::open(variable).await else { return };
    let seed = std::env::var("WB_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    println!("WB_SEED={seed}");
    let begun = Instant::now();
    let writer = Arc::new(market.engine(Role::Writer, options()).await);
    let mut trades = Trades::new(seed);
    trades.open(&writer).await;
    let over = Arc::new(AtomicBool::new(false));
    let watching = tokio::spawn(watch(market.clone(), over.clone()));
    // Readers see all of a trade or nothing, too.
    let (reader, reading) = (writer.clone(), over.clone());
    let reads = Arc::new(AtomicU64::new(0));
    let counted = reads.clone();
    let readers = tokio::spawn(async move {
        let (cache, keys) = (reader.cache::<Trader>().unwrap(), (0..TRADERS).collect::<Vec<_>>());
        while !reading.load(Ordering::Relaxed) {
            let found = cache.get_many(&keys).await.unwrap();
            let sum: i64 = found.into_iter().flatten().map(|trader| trader.gold).sum();
            assert_eq!(sum, TRADERS * EACH, "a reader sees a half of a trade");
            counted.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    // One trade in so many is refused at first: debts are none that the database takes.
    let (trading, stop) = (writer.clone(), over.clone());
    let trader = tokio::spawn(async move {
        let mut count = 0_u64;
        while !stop.load(Ordering::Relaxed) {
            store(&trading, &trades.next()).await.unwrap();
            count += 1;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        (trades, count)
    });
    // Outside of the trades, so that they touch no gold: one of each pair is refused, and both go back.
    let (refusing, stop) = (writer.clone(), over.clone());
    let refused = tokio::spawn(async move {
        let mut round = 0;
        while !stop.load(Ordering::Relaxed) {
            // Few at a time: each costs a dozen statements, and a slow machine must have time for the trades too.
            round = (round + 1) % 3;
            let pair = [Trader { id: 1_000 + 2 * round, gold: -1 }, Trader { id: 1_001 + 2 * round, gold: 0 }];
            store(&refusing, &pair).await.unwrap();
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
    });
    let mut deaths = 0;
    for step in STEPS.iter().cycle().take(ROUNDS * STEPS.len()) {
        let mut worker = Worker::start(&market, step, "");
        eventually(step, Duration::from_secs(40), async || worker.has_died().then_some(())).await;
        deaths += 1;
    }
    over.store(true, Ordering::Relaxed);
    let (trades, count) = trader.await.unwrap();
    let (seen, ()) = (watching.await.unwrap(), refused.await.unwrap());
    readers.await.unwrap();
    // A last worker that lives.
    let worker = market.engine(Role::Worker, options()).await;
    let cache = worker.cache::<Trader>().unwrap();
    assert!(cache.flush_within(Duration::from_secs(60)).await.unwrap());
    let rows = market.look(&market.looker().await).await;
    println!(
        "{count} trades, {deaths} deaths, {} looks into the database, {} reads, in {:.1?}",
        seen.looks,
        reads.load(Ordering::Relaxed),
        begun.elapsed()
    );
    assert_eq!(seen.torn, None, "gold was not conserved in the database");
    let traded: Vec<_> = rows.iter().filter(|(id, _)| **id < TRADERS).map(|(id, gold)| (*id, *gold)).collect();
    assert_eq!(traded, trades.gold.into_iter().collect::<Vec<_>>(), "the database ends as was acknowledged");
    assert!(rows.keys().all(|id| *id < TRADERS), "no half of a refused pair: {rows:?}");
    assert!(seen.looks > 100 && count > 500, "idle");
    worker.shutdown(Duration::from_secs(10)).await.unwrap();
    market.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p13_gold_is_conserved_while_workers_die_on_postgres() {
    conserved("WB_POSTGRES_URL").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p13_gold_is_conserved_while_workers_die_on_mongo() {
    conserved("WB_MONGO_URL").await;
}
