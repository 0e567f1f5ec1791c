//! Without the marks, the same look finds gold that is not there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use write_behind::{Mechanism, Role};

use crate::conserved::watch;
use crate::market::{Market, Trades, options, store};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn negative_control_p13_batches_without_marks() {
    let Some(market) = Market::open("WB_POSTGRES_URL").await else { return };
    let engine = market.engine(Role::Both, options().without(Mechanism::Marks)).await;
    let mut trades = Trades::new(rand::random());
    let over = Arc::new(AtomicBool::new(false));
    let mut watching = tokio::spawn(watch(market.clone(), over.clone()));
    let trading = async {
        trades.open(&engine).await;
        loop {
            store(&engine, &trades.next()).await.unwrap();
        }
    };
    let seen = tokio::select! {
        seen = &mut watching => seen.unwrap(),
        () = trading => unreachable!("trades never end"),
        () = tokio::time::sleep(Duration::from_secs(60)) => {
            over.store(true, Ordering::Relaxed);
            watching.await.unwrap()
        }
    };
    println!("{} looks, gold {:?}", seen.looks, seen.torn);
    assert!(seen.torn.is_some(), "conserved without marks: the test cannot fail");
    engine.shutdown(Duration::from_secs(10)).await.unwrap();
    market.close().await;
}
