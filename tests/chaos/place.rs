//! What the tests share: settings, files, and a look at what is dirty.

use std::path::{Path, PathBuf};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use write_behind_tests::{eventually, unique};

use crate::actor::{Actor, Part};
use crate::item::Item;
use write_behind::Entity;

/// A number from the environment.
pub(crate) fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")))
}

/// The seed of this run, printed.
pub(crate) fn seed() -> u64 {
    let seed = setting("WB_SEED").unwrap_or_else(rand::random);
    println!("WB_SEED={seed}");
    seed
}

/// A temporary folder, kept when the test fails.
#[derive(Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn create(name: &str) -> Self {
        let path = std::env::temp_dir().join(unique(name));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("logs of the writers and what the actors said: {}", self.0.display());
        } else {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

/// What an entity's partitions hold in Redis.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) dirty: u64,
    pub(crate) dead: u64,
}

/// Looks past the framework; `None` while Redis does not answer.
pub(crate) async fn held(redis: &mut MultiplexedConnection, namespace: &str, partitions: u16) -> Option<Held> {
    let mut held = Held::default();
    assert!(partitions <= 100, "more digits");
    for partition in 0..partitions {
        let key = |what: &str| format!("{namespace}:{{{}:{partition:02}/{partitions}}}:{what}", Item::NAME);
        let mut pipeline = redis::pipe();
        pipeline.hlen(key("open")).hlen(key("flushing")).hlen(key("dead"));
        let (open, flushing, dead): (u64, u64, u64) = pipeline.query_async(redis).await.ok()?;
        held.dirty += open + flushing;
        held.dead += dead;
    }
    Some(held)
}

/// A connection past the framework.
pub(crate) async fn redis(url: &str) -> MultiplexedConnection {
    redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap()
}

/// A healthy worker flushes until nothing is dirty; how many dead letters there are then.
pub(crate) async fn drain(part: &Part, says: &Path, limit: Duration) -> u64 {
    let mut worker = Actor::start(part, says, "");
    let mut redis = redis(&part.redis).await;
    let held = eventually("nothing is dirty", limit, async || {
        let held = held(&mut redis, &part.namespace, part.partitions).await?;
        (held.dirty == 0).then_some(held)
    })
    .await;
    worker.kill();
    held.dead
}
