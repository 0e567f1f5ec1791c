//! Group commit on a real server: every caller gets the result of its own writes, whatever happens to others.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use futures::{FutureExt, StreamExt, stream};
use redis::aio::MultiplexedConnection;
use tokio::time::{Instant, sleep, timeout};
use write_behind::buffer::{Lookup, Registration, Stored, Swap};
use write_behind::{Buffer, BufferErrorKind, Format, Id, Record, RedisBuffer, Scope, Space, Write};
use write_behind_tests::{Wire, redis_url, unique};

const PARTITIONS: u16 = 16;
/// Longer than anything here takes; a put that hangs ends the test.
const PATIENCE: Duration = Duration::from_secs(60);

async fn open(url: &str, namespace: &str) -> (RedisBuffer, Arc<dyn Space>) {
    let buffer = RedisBuffer::connect(url).await.unwrap();
    let scope = Arc::new(Scope::new(namespace, "specimen", PARTITIONS));
    let space = buffer.space(Registration::new(scope, Format::Json)).await.unwrap();
    (buffer, space)
}

async fn plain(url: &str) -> MultiplexedConnection {
    redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap()
}

fn write(key: u64, value: u64) -> Write {
    Write {
        partition: u16::try_from(key % u64::from(PARTITIONS)).unwrap(),
        id: Id::of(&key).unwrap(),
        record: Record::from_bytes(value.to_string()),
    }
}

async fn value(space: &dyn Space, key: u64) -> Option<u64> {
    let Write { partition, id, .. } = write(key, 0);
    match space.get(partition, &[id]).await.unwrap().remove(0) {
        Lookup::Dirty(record) => std::str::from_utf8(record.as_bytes()).unwrap().parse().ok(),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p5_a_thousand_tasks_all_get_their_writes_through() {
    let Some(url) = redis_url() else { return };
    let (buffer, space) = open(&url, &unique("redis")).await;
    let tasks = (0..1_000_u64).map(|task| {
        let space = space.clone();
        tokio::spawn(async move {
            for round in 0..100_u64 {
                // A key of its own, whose last write must win, and one that all tasks write.
                if round % 5 == 4 {
                    let many =
                        vec![write(task, round * 2), write(2_000 + task % 50, round), write(task, round * 2 + 1)];
                    space.put(many).await.unwrap();
                } else {
                    space.put(vec![write(task, round * 2 + 1)]).await.unwrap();
                }
            }
        })
    });
    for task in timeout(PATIENCE, join_all(tasks)).await.unwrap() {
        task.unwrap();
    }
    let keys = stream::iter(0..1_000).map(|key| value(&*space, key).map(move |value| (key, value)));
    let wrong: Vec<_> =
        keys.buffer_unordered(64).filter(|(_, value)| std::future::ready(*value != Some(199))).collect().await;
    assert!(wrong.is_empty(), "{wrong:?}");
    for key in 2_000..2_050 {
        assert!(value(&*space, key).await.is_some());
    }
    buffer.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_of_another_type_fails_only_those_who_write_to_it() {
    let Some(url) = redis_url() else { return };
    let namespace = unique("redis");
    let (_buffer, space) = open(&url, &namespace).await;
    let mut other = plain(&url).await;
    let stolen = format!("{namespace}:{{specimen:03/16}}:open");
    redis::cmd("SET").arg(&stolen).arg("text").exec_async(&mut other).await.unwrap();
    let puts = join_all((0..640).map(|key| {
        let space = space.clone();
        tokio::spawn(async move {
            // Every tenth caller writes to two partitions at once.
            let mut writes = vec![write(key, 1)];
            if key % 10 == 0 {
                writes.push(write(key + 1_000, 1));
            }
            let hit = writes.iter().any(|write| write.partition == 3);
            (hit, space.put(writes).await)
        })
    }));
    for put in timeout(PATIENCE, puts).await.unwrap() {
        let (hit, result) = put.unwrap();
        assert_eq!(
            result.as_ref().err().map(write_behind::BufferError::kind),
            hit.then_some(BufferErrorKind::Misconfigured)
        );
    }
    redis::cmd("DEL").arg(&stolen).exec_async(&mut other).await.unwrap();
    space.put(vec![write(3, 2)]).await.unwrap();
    assert_eq!(value(&*space, 3).await, Some(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_that_give_up_block_nobody() {
    let Some(url) = redis_url() else { return };
    let (buffer, space) = open(&url, &unique("redis")).await;
    let impatient = (0..200_u64).map(|task| {
        let space = space.clone();
        tokio::spawn(async move {
            for round in 0..50 {
                // Given up at its first wait, or some time later.
                let put = space.put(vec![write(10_000 + task, round)]);
                let _ = timeout(Duration::from_micros((task * 37 + round * 101) % 400), put).await;
            }
        })
    });
    let patient = (0..200_u64).map(|task| {
        let space = space.clone();
        tokio::spawn(async move {
            for round in 0..50 {
                space.put(vec![write(task, round)]).await.unwrap();
            }
        })
    });
    for task in timeout(PATIENCE, join_all(impatient.chain(patient))).await.unwrap() {
        task.unwrap();
    }
    for key in 0..200 {
        assert_eq!(value(&*space, key).await, Some(49), "{key}");
    }
    // Nothing of those who gave up holds a place: the buffer is idle, and ends.
    space.put(vec![write(1, 100)]).await.unwrap();
    timeout(PATIENCE, buffer.close()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p2_a_cut_connection_fails_whoever_was_on_it_and_heals() {
    let Some(url) = redis_url() else { return };
    let wire = Wire::to(&url).await.unwrap();
    let (buffer, space) = open(&wire.url, &unique("redis")).await;
    let until = Instant::now() + Duration::from_secs(2);
    let tasks: Vec<_> = (0..64_u64)
        .map(|task| {
            let space = space.clone();
            tokio::spawn(async move {
                let (mut acknowledged, mut failures, mut round) = (None, 0, 0);
                while Instant::now() < until {
                    round += 1;
                    match space.put(vec![write(task, round), write(task + 64, round)]).await {
                        Ok(()) => acknowledged = Some(round),
                        Err(error) => {
                            let kind = error.kind();
                            assert!(matches!(kind, BufferErrorKind::Unknown | BufferErrorKind::Unavailable), "{error}");
                            failures += 1;
                            sleep(Duration::from_millis(1)).await;
                        }
                    }
                }
                (task, acknowledged, failures, round)
            })
        })
        .collect();
    while Instant::now() + Duration::from_millis(300) < until {
        sleep(Duration::from_millis(100)).await;
        wire.cut();
    }
    let mut failed = 0;
    for task in timeout(PATIENCE, join_all(tasks)).await.unwrap() {
        let (key, acknowledged, failures, last) = task.unwrap();
        failed += failures;
        let held = value(&*space, key).await;
        assert!(held >= acknowledged && held <= Some(last), "{key}: {held:?}, acknowledged {acknowledged:?}");
    }
    assert!(failed > 0, "nobody was on a connection that was cut");
    // The last cut may not have been noticed yet: one failure more, then it is well again.
    let deadline = Instant::now() + PATIENCE;
    while space.put(vec![write(0, 0)]).await.is_err() {
        assert!(Instant::now() < deadline, "never well again");
        sleep(Duration::from_millis(10)).await;
    }
    for key in 0..64 {
        space.put(vec![write(key, u64::MAX)]).await.unwrap();
        assert_eq!(value(&*space, key).await, Some(u64::MAX));
    }
    timeout(PATIENCE, buffer.close()).await.unwrap();
}

/// Callers give up while nothing can be answered: what has not left by then does not leave, least of all on top of a newer
/// write that was acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p3_a_write_whose_caller_gave_up_in_the_queue_never_lands() {
    let Some(url) = redis_url() else { return };
    let wire = Wire::to(&url).await.unwrap();
    let (buffer, space) = open(&wire.url, &unique("redis")).await;
    space.put(vec![write(7, 1)]).await.unwrap();
    // A swap goes its own way, past the queue; its script is known.
    assert_eq!(space.swap(&Stored::written(write(7, 1).record), &write(7, 2)).await.unwrap(), Swap::Stored);
    wire.delay(Duration::from_millis(700));
    let put = |key, value| {
        let space = space.clone();
        tokio::spawn(async move { space.put(vec![write(key, value)]).await })
    };
    // Two are on their way; the others wait in the queue.
    let first = put(1, 1);
    sleep(Duration::from_millis(50)).await;
    let second = put(2, 1);
    sleep(Duration::from_millis(50)).await;
    let given_up = (100..400_u64).map(|key| timeout(Duration::from_millis(50), space.put(vec![write(key, 1)])));
    let old = timeout(Duration::from_millis(50), space.put(vec![write(7, 3)]));
    let (given_up, old) = futures::join!(join_all(given_up), old);
    assert!(old.is_err() && given_up.iter().all(Result::is_err), "nobody has waited long enough");
    let swapped = space.swap(&Stored::written(write(7, 2).record), &write(7, 4)).await.unwrap();
    assert_eq!(swapped, Swap::Stored);
    wire.delay(Duration::ZERO);
    first.await.unwrap().unwrap();
    second.await.unwrap().unwrap();
    // The queue is empty when this is through.
    for key in 500..510 {
        space.put(vec![write(key, 1)]).await.unwrap();
    }
    assert_eq!(value(&*space, 7).await, Some(4), "the newer one, which was acknowledged");
    let mut landed = Vec::new();
    for key in 100..400 {
        landed.extend(value(&*space, key).await.map(|_| key));
    }
    assert!(landed.is_empty(), "{} writes landed that nobody waits for: {landed:?}", landed.len());
    buffer.close().await;
}
