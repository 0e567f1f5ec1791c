//! What the tests share: settings, files, and a look at what is dirty.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use write_behind_tests::unique;

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

/// What the entity's partitions hold in Redis, of whatever topology.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) dirty: u64,
    pub(crate) dead: u64,
    /// Keys with dirty records, and how many.
    pub(crate) places: Vec<(String, u64)>,
}

/// Sizes of the hashes under a pattern. Something else may stand there for a while.
const SIZES: &str = "local sizes = {}
    for _, key in ipairs(redis.call('KEYS', ARGV[1])) do
        if redis.call('TYPE', key).ok == 'hash' then
            sizes[#sizes + 1] = key
            sizes[#sizes + 1] = tostring(redis.call('HLEN', key))
        end
    end
    return sizes";

/// What the dead letters say, of whatever topology.
pub(crate) async fn letters(redis: &mut MultiplexedConnection, namespace: &str) -> Vec<String> {
    let script = "local all = {}
        for _, key in ipairs(redis.call('KEYS', ARGV[1])) do
            if redis.call('TYPE', key).ok == 'hash' then
                for _, letter in ipairs(redis.call('HVALS', key)) do all[#all + 1] = key .. ' ' .. letter end
            end
        end
        return all";
    let mut command = redis::cmd("EVAL");
    command.arg(script).arg(0).arg(format!("{namespace}:{{{}:*}}:dead", Item::NAME));
    command.query_async(redis).await.unwrap()
}

/// Looks past the framework; `None` while Redis does not answer.
pub(crate) async fn held(redis: &mut MultiplexedConnection, namespace: &str) -> Option<Held> {
    let mut held = Held::default();
    for what in ["open", "flushing", "dead"] {
        let pattern = format!("{namespace}:{{{}:*}}:{what}", Item::NAME);
        let mut command = redis::cmd("EVAL");
        command.arg(SIZES).arg(0).arg(pattern);
        let sizes: Vec<String> = command.query_async(redis).await.ok()?;
        for pair in sizes.chunks_exact(2) {
            let size: u64 = pair[1].parse().unwrap();
            if what == "dead" {
                held.dead += size;
            } else if size > 0 {
                held.dirty += size;
                held.places.push((pair[0].clone(), size));
            }
        }
    }
    Some(held)
}

/// The partitions that the stored topology says; `None` where there is none, or Redis does not answer.
pub(crate) async fn partitions(redis: &mut MultiplexedConnection, namespace: &str) -> Option<u16> {
    let mut command = redis::cmd("HGET");
    command.arg(format!("{namespace}:topology")).arg(Item::NAME);
    let stored: String = command.query_async::<Option<String>>(redis).await.ok()??;
    stored.split(' ').find_map(|word| word.strip_prefix("partitions=")?.parse().ok())
}

/// A connection past the framework.
pub(crate) async fn redis(url: &str) -> MultiplexedConnection {
    redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap()
}

/// A healthy worker flushes until nothing is dirty; how many dead letters there are then. `None`: not within the limit.
pub(crate) async fn drain(part: &Part, says: &Path, limit: Duration) -> Option<u64> {
    let mut worker = Actor::start(part, says, "");
    let mut redis = redis(&part.redis).await;
    let until = Instant::now() + limit;
    let mut dead = None;
    while dead.is_none() && Instant::now() < until {
        dead = held(&mut redis, &part.namespace).await.filter(|held| held.dirty == 0).map(|held| held.dead);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    worker.kill();
    dead
}
