//! A worker that is stopped between its last look at its lease and its write, overtaken, and continued.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use write_behind::Cache;
use write_behind_tests::{eventually, server, unique};

use crate::actor::{Actor, Part};
use crate::history::{History, Log, Outcome};
use crate::item::Item;
use crate::place::{Folder, held, redis};
use crate::report::Report;
use crate::target::{Gate, Target};

const KEYS: i64 = 60;
const LIMIT: Duration = Duration::from_secs(30);

/// What happens to a key while the worker is stopped: rewritten, deleted, or brought back.
async fn operate(cache: &Cache<Item>, log: &Log, key: i64, seq: i64) {
    // Brought back: first a delete, which is what the stopped worker has in its hands.
    let delete = match key % 3 {
        0 => false,
        1 => seq == 2,
        _ => seq == 1,
    };
    log.intent(key, seq, delete);
    if delete {
        cache.delete(&key).await.unwrap();
    } else {
        cache.put(&Item::state(key, seq)).await.unwrap();
    }
    log.answer(key, seq, Outcome::Acknowledged);
}

/// Worker A is stopped with the states of round 1 in its hands, B flushes round 2, A goes on.
async fn overtaken(name: &str, variable: &str, unfenced: bool) -> Option<Report> {
    let (redis_url, database_url) = (server("WB_REDIS_URL")?, server(variable)?);
    let (begun, namespace, folder) = (Instant::now(), unique("stopped"), Folder::create(name));
    let target = Target::create(&database_url, &namespace).await;
    let worker = Part { unfenced, ..Part::worker(&redis_url, &target, &namespace) };
    let writer = Part { flushes: false, ..worker.clone() }.start().await.unwrap();
    let cache = writer.cache::<Item>().unwrap();
    let log = Arc::new(Log::create(&folder.file("log")));

    for key in 0..KEYS {
        operate(&cache, &log, key, 1).await;
    }
    // Dies once its write has returned, whatever it returned: by then everything has happened that ever will.
    let mut a = Actor::start(&worker, &folder.file("a"), "before_write:1:stop,after_write:1");
    eventually("A is stopped before its write", LIMIT, async || a.is_stopped().then_some(())).await;

    for key in 0..KEYS {
        operate(&cache, &log, key, 2).await;
    }
    let mut b = Actor::start(&worker, &folder.file("b"), "");
    let mut connection = redis(&redis_url).await;
    eventually("B has flushed everything", LIMIT, async || {
        let held = held(&mut connection, &namespace).await?;
        (held.dirty == 0).then_some(())
    })
    .await;
    let newest: BTreeMap<i64, Item> =
        (0..KEYS).filter(|key| key % 3 != 1).map(|key| (key, Item::state(key, 2))).collect();
    assert_eq!(target.rows().await, newest, "B has overtaken A");

    assert!(a.is_stopped() && !b.has_ended());
    a.go_on();
    assert!(a.dies_within(LIMIT).await, "A has not returned from its write");
    let dead = held(&mut connection, &namespace).await.unwrap().dead;
    b.kill();
    writer.shutdown(Duration::from_secs(5)).await.unwrap();

    let report =
        Report::new(name, 0, begun.elapsed(), &History::read([folder.file("log")]), &target.memory().await, dead);
    target.remove(&database_url).await;
    report.print();
    Some(report)
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_a_stopped_worker_changes_nothing_on_postgres() {
    if let Some(report) = overtaken("stopped_postgres", "WB_POSTGRES_URL", false).await {
        report.assert_clean();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_a_stopped_worker_changes_nothing_on_mongo() {
    if let Some(report) = overtaken("stopped_mongo", "WB_MONGO_URL", false).await {
        report.assert_clean();
    }
}

/// Worker A is stopped in the middle of its transaction, when the database has done what it was told. Nobody can pass
/// it: a newer state is written after A's has been committed, or after the database has given A up.
#[tokio::test(flavor = "multi_thread")]
async fn p3_a_worker_stopped_in_its_transaction_is_not_overtaken() {
    let (Some(redis_url), Some(database_url)) = (server("WB_REDIS_URL"), server("WB_POSTGRES_URL")) else { return };
    let (begun, namespace, folder) = (Instant::now(), unique("stopped_inside"), Folder::create("stopped_inside"));
    let target = Target::create(&database_url, &namespace).await;
    let Target::Postgres(url) = &target else { panic!("{target:?}") };
    let gate = Gate::closed(url).await;
    let worker = Part::worker(&redis_url, &target, &namespace);
    let writer = Part { flushes: false, ..worker.clone() }.start().await.unwrap();
    let cache = writer.cache::<Item>().unwrap();
    let log = Log::create(&folder.file("log"));

    for key in 0..KEYS {
        operate(&cache, &log, key, 1).await;
    }
    let mut a = Actor::start(&worker, &folder.file("a"), "");
    eventually("A writes", LIMIT, async || gate.is_waited_for().await.then_some(())).await;
    a.stop();
    gate.open().await;
    eventually("A has written", LIMIT, async || gate.is_passed().await.then_some(())).await;

    for key in 0..KEYS {
        operate(&cache, &log, key, 2).await;
    }
    let mut b = Actor::start(&worker, &folder.file("b"), "");
    let mut connection = redis(&redis_url).await;
    let clean = async |connection: &mut MultiplexedConnection| {
        held(connection, &namespace).await.is_some_and(|held| held.dirty == 0)
    };
    // Two leases and more, in which B tries what it can.
    let until = Instant::now() + 4 * worker.lease;
    let mut passed = false;
    while Instant::now() < until && !passed {
        passed = clean(&mut connection).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!("A was {} in its transaction", if passed { "given up" } else { "waited for" });
    a.go_on();
    eventually("everything is flushed", LIMIT, async || clean(&mut connection).await.then_some(())).await;
    let dead = held(&mut connection, &namespace).await.unwrap().dead;
    a.kill();
    b.kill();
    writer.shutdown(Duration::from_secs(5)).await.unwrap();
    let history = History::read([folder.file("log")]);
    let report = Report::new("stopped_inside", 0, begun.elapsed(), &history, &target.memory().await, dead);
    target.remove(&database_url).await;
    report.print();
    report.assert_clean();
}

/// Without fences the stale write lands, and the audit sees it: an old state over a newer one, a deleted row that comes
/// back, and a row that a stale delete removes.
fn assert_went_back(report: &Report) {
    let keys = usize::try_from(KEYS).unwrap();
    assert!(report.regressions > keys / 2, "only {} of {keys} keys went back", report.regressions);
    assert!(report.lost > keys / 2, "only {} of {keys} keys are lost", report.lost);
}

#[tokio::test(flavor = "multi_thread")]
async fn negative_control_a_stopped_worker_without_fences_on_postgres() {
    if let Some(report) = overtaken("unfenced_postgres", "WB_POSTGRES_URL", true).await {
        assert_went_back(&report);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn negative_control_a_stopped_worker_without_fences_on_mongo() {
    if let Some(report) = overtaken("unfenced_mongo", "WB_MONGO_URL", true).await {
        assert_went_back(&report);
    }
}
