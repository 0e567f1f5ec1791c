//! The near cache over Redis.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use write_behind::testing::ScriptedSink;
use write_behind::{Cache, Engine, EntityOptions, NearCache, Overflow, RedisBuffer};
use write_behind_tests::{Player, Wire, eventually, redis_url, unique};

const HOUR: Duration = Duration::from_secs(3_600);
const PATIENCE: Duration = Duration::from_secs(20);

fn near(age: Duration) -> EntityOptions {
    EntityOptions::new().flush_every(Duration::from_millis(50)).near_cache(NearCache::new(1_000).max_age(age))
}

async fn start(url: &str, namespace: &str, options: EntityOptions) -> (Engine, Cache<Player>) {
    let buffer = RedisBuffer::connect(url).await.unwrap();
    let builder = Engine::builder(buffer).namespace(namespace);
    let engine = builder.entity::<Player>(ScriptedSink::new(), options).start().await.unwrap();
    let players = engine.cache().unwrap();
    (engine, players)
}

async fn comes_to(players: &Cache<Player>, id: u64, score: Option<u64>) {
    eventually(&format!("{id} is {score:?}"), PATIENCE, async || {
        let found = players.get_shared(&id).await.unwrap().map(|player| player.score);
        (found == score).then_some(())
    })
    .await;
}

/// Each way of writing, by another process, is seen although what was kept may live for an hour.
#[tokio::test]
async fn what_another_process_writes_takes_values_away() {
    let Some(url) = redis_url() else { return };
    for limited in [false, true] {
        let namespace = unique("near");
        let options = if limited { near(HOUR).max_dirty(100, Overflow::Reject) } else { near(HOUR) };
        let (reader, seen) = start(&url, &namespace, options.clone()).await;
        let (writer, players) = start(&url, &namespace, options).await;
        comes_to(&seen, 1, None).await;
        players.put(&Player::new(1, 1)).await.unwrap();
        comes_to(&seen, 1, Some(1)).await;
        let many: Vec<Player> = (1..10).map(|id| Player::new(id, 2)).collect();
        players.put_many(&many).await.unwrap();
        for id in 1..10 {
            comes_to(&seen, id, Some(2)).await;
        }
        players.update(&1, |player| player.score = 3).await.unwrap();
        comes_to(&seen, 1, Some(3)).await;
        players.delete(&1).await.unwrap();
        comes_to(&seen, 1, None).await;
        players.put_if_absent(&Player::new(1, 4)).await.unwrap().unwrap();
        comes_to(&seen, 1, Some(4)).await;
        let stats = reader.stats().remove("player").unwrap();
        assert!(stats.near_invalidations > 0 && stats.near_drops == 0, "{stats:?}");
        reader.shutdown(PATIENCE).await.unwrap();
        writer.shutdown(PATIENCE).await.unwrap();
    }
}

#[tokio::test]
async fn what_is_not_told_is_seen_after_the_age() {
    let Some(url) = redis_url() else { return };
    let namespace = unique("near");
    let age = Duration::from_millis(200);
    let (reader, seen) = start(&url, &namespace, near(age)).await;
    // A process without a near cache does not tell what it writes.
    let (writer, players) = start(&url, &namespace, EntityOptions::new()).await;
    for score in 1..5 {
        players.put(&Player::new(1, score)).await.unwrap();
        let written = Instant::now();
        // When the last read began that still saw the old value; the next one may begin much later.
        let mut behind = Duration::ZERO;
        loop {
            let begun = written.elapsed();
            if seen.get(&1).await.unwrap() == Some(Player::new(1, score)) {
                break;
            }
            behind = begun;
        }
        assert!(behind <= age, "still old after {behind:?}");
    }
    reader.shutdown(PATIENCE).await.unwrap();
    writer.shutdown(PATIENCE).await.unwrap();
}

/// What is written while a reader hears nothing is seen once its connection was found broken.
#[tokio::test]
async fn a_broken_subscription_drops_what_is_kept() {
    let Some(url) = redis_url() else { return };
    let namespace = unique("near");
    let wire = Wire::to(&url).await.unwrap();
    let (reader, seen) = start(&wire.url, &namespace, near(HOUR)).await;
    let (writer, players) = start(&url, &namespace, near(HOUR)).await;
    for score in 1..6 {
        comes_to(&seen, 1, (score > 1).then_some(score - 1)).await;
        wire.cut();
        players.put(&Player::new(1, score)).await.unwrap();
        eventually(&format!("score {score}"), PATIENCE, async || {
            // The connection for reads was cut, too.
            let found = seen.get(&1).await.ok()??;
            (found.score == score).then_some(())
        })
        .await;
    }
    assert!(reader.stats().remove("player").unwrap().near_drops > 0);
    eventually("values are kept again", PATIENCE, async || {
        let before = reader.stats().remove("player").unwrap().near_hits;
        let _ = seen.get(&1).await.unwrap();
        let _ = seen.get(&1).await.unwrap();
        (reader.stats().remove("player").unwrap().near_hits > before).then_some(())
    })
    .await;
    reader.shutdown(PATIENCE).await.unwrap();
    writer.shutdown(PATIENCE).await.unwrap();
}

/// Readers and writers of one process race over a few keys: no read is older than what was acknowledged when it began.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_read_is_older_than_an_acknowledged_write_of_its_process() {
    let Some(url) = redis_url() else { return };
    let (engine, players) = start(&url, &unique("near"), near(HOUR)).await;
    let acked: Arc<Vec<AtomicU64>> = Arc::new((0..4).map(|_| AtomicU64::new(0)).collect());
    let (least, over) = (Instant::now() + Duration::from_secs(2), Arc::new(AtomicBool::new(false)));
    let mut tasks = Vec::new();
    for id in 0..4 {
        let (players, acked, over) = (players.clone(), acked.clone(), over.clone());
        tasks.push(tokio::spawn(async move {
            let mut score = 0;
            while !over.load(Ordering::Relaxed) {
                score += 1;
                if score % 5 == 0 {
                    players.update(&id, move |player| player.score = score).await.unwrap();
                } else {
                    players.put(&Player::new(id, score)).await.unwrap();
                }
                acked.get(id as usize).unwrap().store(score, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(score % 8)).await;
            }
        }));
    }
    for task in 0..16_u64 {
        let (players, acked, over) = (players.clone(), acked.clone(), over.clone());
        tasks.push(tokio::spawn(async move {
            let mut n = task;
            while !over.load(Ordering::Relaxed) {
                n += 1;
                let id = n % 4;
                let floor = acked.get(id as usize).unwrap().load(Ordering::SeqCst);
                let found = match n % 3 {
                    0 => players.get(&id).await.unwrap().map(|player| player.score),
                    1 => players.get_shared(&id).await.unwrap().map(|player| player.score),
                    _ => players.get_many(&[id]).await.unwrap().pop().flatten().map(|player| player.score),
                };
                assert!(found.unwrap_or(0) >= floor, "key {id}: read {found:?} after {floor} was acknowledged");
                if n.is_multiple_of(64) {
                    tokio::task::yield_now().await;
                }
            }
        }));
    }
    eventually("a race to speak of", 3 * PATIENCE, async || {
        let stats = engine.stats().remove("player").unwrap();
        let raced = stats.near_hits > 20 && stats.near_misses > 100 && stats.near_invalidations > 20;
        (raced && Instant::now() > least).then_some(())
    })
    .await;
    over.store(true, Ordering::Relaxed);
    for task in join_all(tasks).await {
        task.unwrap();
    }
    engine.shutdown(PATIENCE).await.unwrap();
}

/// The socket that carries what other processes tell goes silent; those of the requests live on.
#[tokio::test]
async fn a_subscription_that_went_silent_is_noticed_and_its_values_dropped() {
    let Some(url) = redis_url() else { return };
    let namespace = unique("near");
    let wire = Wire::to(&url).await.unwrap();
    let (reader, seen) = start(&wire.url, &namespace, near(HOUR)).await;
    let (writer, players) = start(&url, &namespace, near(HOUR)).await;
    players.put(&Player::new(1, 1)).await.unwrap();
    comes_to(&seen, 1, Some(1)).await;
    comes_to(&seen, 1, Some(1)).await;
    assert_eq!(reader.stats().get("player").unwrap().near_drops, 0);
    wire.silence();
    players.put(&Player::new(1, 2)).await.unwrap();
    let written = Instant::now();
    eventually("the new value", PATIENCE, async || {
        let found = seen.get_shared(&1).await.ok()?.map(|player| player.score);
        (found == Some(2)).then_some(())
    })
    .await;
    println!("stale for {:?}", written.elapsed());
    let drops = reader.stats().get("player").unwrap().near_drops;
    assert!(drops > 0, "what was kept was dropped, and counted");
    // It hears again.
    eventually("values are kept and taken away again", PATIENCE, async || {
        let before = reader.stats().get("player").unwrap().near_invalidations;
        seen.get_shared(&1).await.ok()?;
        players.put(&Player::new(1, 3)).await.ok()?;
        tokio::time::sleep(Duration::from_millis(20)).await;
        (reader.stats().get("player").unwrap().near_invalidations > before).then_some(())
    })
    .await;
    comes_to(&seen, 1, Some(3)).await;
    reader.shutdown(PATIENCE).await.unwrap();
    writer.shutdown(PATIENCE).await.unwrap();
}
