//! Order and number, as PostgreSQL tells them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, Statement};
use write_behind::Role;
use write_behind_tests::eventually;

use crate::comment::{Comment, Place};
use crate::process::Worker;

const TABLE: &str =
    "CREATE TABLE append_comments (seq BIGSERIAL, id BIGINT PRIMARY KEY, post BIGINT NOT NULL, text TEXT NOT NULL)";
const POSTS: i64 = 30;

/// Where a worker dies, and how often it may pass there before: after a commit nothing is trimmed yet.
const STEPS: [&str; 5] = ["after_rotate:3", "before_write:3", "after_commit:2", "after_ack:3", "after_commit:4"];

/// Id and text of the comments of each post, in the order in which the database took them.
async fn rows(db: &DatabaseConnection) -> BTreeMap<i64, Vec<(i64, String)>> {
    let select = Statement::from_string(DbBackend::Postgres, "SELECT id, post, text FROM append_comments ORDER BY seq");
    let mut rows: BTreeMap<i64, Vec<(i64, String)>> = BTreeMap::new();
    for row in db.query_all_raw(select).await.unwrap() {
        let post: i64 = row.try_get("", "post").unwrap();
        rows.entry(post).or_default().push((row.try_get("", "id").unwrap(), row.try_get("", "text").unwrap()));
    }
    rows
}

/// Whatever a worker dies at: every comment is there, once, as it was first appended, and those of a post in their order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn appended_rows_come_once_and_in_order_while_workers_die() {
    let Some(place) = Place::open("WB_POSTGRES_URL", TABLE).await else { return };
    let writer = place.engine(Role::Writer).await;
    let comments = writer.appender::<Comment>().unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let (appender, stop) = (writer.appender::<Comment>().unwrap(), over.clone());
    let writing = tokio::spawn(async move {
        let mut id = 0;
        while !stop.load(Ordering::Relaxed) {
            let some: Vec<Comment> = (id..id + 20).map(|id| Comment::new(id, id % POSTS)).collect();
            appender.append_many(&some).await.unwrap();
            // What is appended again under a key that is there already changes nothing.
            appender.append(&Comment { text: "again".to_owned(), ..Comment::new(id, id % POSTS) }).await.unwrap();
            id += 20;
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        id
    });
    for step in STEPS.iter().cycle().take(2 * STEPS.len()) {
        let mut worker = Worker::start(&place, step);
        eventually(step, Duration::from_secs(60), async || worker.has_died().then_some(())).await;
    }
    over.store(true, Ordering::Relaxed);
    let appended = writing.await.unwrap();
    // Two that live share the partitions.
    let workers = [place.engine(Role::Worker).await, place.engine(Role::Worker).await];
    assert!(comments.flush_within(Duration::from_secs(60)).await.unwrap());
    let rows = rows(&place.connect().await).await;
    let expected: BTreeMap<i64, Vec<(i64, String)>> = (0..POSTS)
        .map(|post| (post, (post..appended).step_by(30).map(|id| (id, "first".to_owned())).collect()))
        .collect();
    println!("{appended} comments, {} deaths", 2 * STEPS.len());
    assert_eq!(rows, expected);
    for worker in workers {
        worker.shutdown(Duration::from_secs(10)).await.unwrap();
    }
}

/// A hundred thousand, from four tasks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_appends_are_a_hundred_thousand_rows() {
    let Some(place) = Place::open("WB_POSTGRES_URL", TABLE).await else { return };
    let engine = place.engine(Role::Both).await;
    let begun = Instant::now();
    let tasks = (0..4_i64).map(|task| {
        let comments = engine.appender::<Comment>().unwrap();
        tokio::spawn(async move {
            for chunk in 0..25 {
                let first = task * 25_000 + chunk * 1_000;
                let some: Vec<Comment> = (first..first + 1_000).map(|id| Comment::new(id, id % POSTS)).collect();
                comments.append_many(&some).await.unwrap();
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    let appended = begun.elapsed();
    engine.appender::<Comment>().unwrap().flush().await.unwrap();
    println!("100000 appends in {appended:.1?}, in the database after {:.1?}", begun.elapsed());
    let rows = rows(&place.connect().await).await;
    assert_eq!(rows.values().map(Vec::len).sum::<usize>(), 100_000);
    engine.shutdown(Duration::from_secs(10)).await.unwrap();
}
