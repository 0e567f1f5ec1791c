//! What is done to Redis past the framework: refusals, a memory limit, keys that vanish or are of a wrong type. Nothing
//! here loses anything that was acknowledged, and all of it heals.

use std::time::{Duration, Instant};

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, FromRedisValue};

use crate::item::Item;
use crate::place::partitions;
use write_behind::Entity;

/// Sorted by what is evicted first.
const POLICIES: [&str; 4] = ["volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl"];
/// The password while it is a wrong one; without a password, Redis takes any.
const PASSWORD: &str = "another";
/// What a key of a wrong type holds.
const FOREIGN: &str = "foreign";
const PATIENCE: Duration = Duration::from_secs(20);

/// Something that ends after a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ill {
    Password,
    ReadOnly,
    NoReplicas,
    Full,
    /// This key is of a wrong type.
    WrongType(String),
}

/// An administrator of the Redis under the storm.
pub(crate) struct Admin {
    url: String,
    namespace: &'static str,
}

impl Admin {
    /// Of the server at this URL, which names no user.
    pub(crate) fn new(url: &str, namespace: &'static str) -> Self {
        Self { url: url.replace("redis://", &format!("redis://default:{PASSWORD}@")), namespace }
    }

    async fn connection(&self) -> redis::RedisResult<MultiplexedConnection> {
        let patient =
            AsyncConnectionConfig::new().set_connection_timeout(Some(PATIENCE)).set_response_timeout(Some(PATIENCE));
        redis::Client::open(self.url.as_str())?.get_multiplexed_async_connection_with_config(&patient).await
    }

    async fn ask<T: FromRedisValue>(&self, words: &[&str]) -> T {
        let (name, arguments) = words.split_first().unwrap();
        let asked = async {
            let mut connection = self.connection().await?;
            redis::cmd(name).arg(arguments).query_async(&mut connection).await
        };
        asked.await.unwrap_or_else(|error: redis::RedisError| panic!("{words:?}: {error}"))
    }

    async fn run(&self, words: &[&str]) {
        self.ask::<redis::Value>(words).await;
    }

    /// The partitions that the stored topology says; `None` where there is none.
    pub(crate) async fn partitions(&self) -> Option<u16> {
        partitions(&mut self.connection().await.unwrap(), self.namespace).await
    }

    /// Waits until a program has made its shape known.
    pub(crate) async fn await_shape(&self) {
        let key = format!("{}:shapes:{}", self.namespace, Item::NAME);
        let until = Instant::now() + PATIENCE;
        // The first member says since when the list is kept.
        while self.ask::<u64>(&["ZCARD", &key]).await < 2 {
            assert!(Instant::now() < until, "no program has started");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Ends what an [`Ill`] is. A restart of the server has ended most of them before.
    pub(crate) async fn heal(&self, ill: &Ill) {
        match ill {
            Ill::Password => self.run(&["CONFIG", "SET", "requirepass", ""]).await,
            Ill::ReadOnly => self.run(&["REPLICAOF", "NO", "ONE"]).await,
            Ill::NoReplicas => self.run(&["CONFIG", "SET", "min-replicas-to-write", "0"]).await,
            Ill::Full => {
                self.run(&["CONFIG", "SET", "maxmemory", "0"]).await;
                self.run(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]).await;
            }
            Ill::WrongType(key) => {
                // Wherever a rotation has moved it meanwhile; what the keys hold by now may be somebody's.
                let script = "for _, key in ipairs(KEYS) do
                                  if redis.call('TYPE', key).ok == 'string' and redis.call('GET', key) == ARGV[1] then
                                      redis.call('DEL', key)
                                  end
                              end";
                let moved = key.replace(":groups", ":groups_flushing").replace(":open", ":flushing");
                self.run(&["EVAL", script, "2", key, &moved, FOREIGN]).await;
            }
        }
    }

    /// From now on nobody's password is right; who is connected stays.
    pub(crate) async fn change_password(&self) -> Ill {
        self.run(&["CONFIG", "SET", "requirepass", PASSWORD]).await;
        Ill::Password
    }

    /// A replica of nobody: it keeps its data, and takes no writes.
    pub(crate) async fn demote(&self) -> Ill {
        self.run(&["REPLICAOF", "127.0.0.1", "1"]).await;
        Ill::ReadOnly
    }

    pub(crate) async fn want_replicas(&self) -> Ill {
        self.run(&["CONFIG", "SET", "min-replicas-to-write", "1"]).await;
        Ill::NoReplicas
    }

    /// Little more memory than is used, some of it by what can be evicted.
    pub(crate) async fn fill(&self, random: &mut StdRng) -> Ill {
        let mut fillers = redis::pipe();
        for n in 0..random.random_range(50..500) {
            fillers.cmd("SET").arg(format!("filler:{n}")).arg("x".repeat(1_000)).arg("PX").arg(60_000).ignore();
        }
        // Fails when the server is full already, or takes no writes.
        let _ = fillers.exec_async(&mut self.connection().await.unwrap()).await;
        let info: String = self.ask(&["INFO", "memory"]).await;
        let used: u64 =
            info.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap().trim().parse().unwrap();
        self.run(&["CONFIG", "SET", "maxmemory-policy", POLICIES.choose(random).unwrap()]).await;
        self.run(&["CONFIG", "SET", "maxmemory", &(used + (16 << 10)).to_string()]).await;
        Ill::Full
    }

    async fn keys(&self, end: &str) -> Vec<String> {
        self.ask(&["KEYS", &format!("{}:{{{}:*}}:{end}", self.namespace, Item::NAME)]).await
    }

    /// Deletes what holds nothing that was acknowledged: clean copies, leases, the list of workers, notes about epochs.
    pub(crate) async fn delete_keys(&self, random: &mut StdRng) {
        let metas = self.keys("meta").await;
        let mut pipeline = redis::pipe();
        match random.random_range(0..4) {
            0 => metas.iter().for_each(|meta| _ = pipeline.hdel(meta, &["owner", "until_ms"])),
            1 => _ = pipeline.del(format!("{}:workers", self.namespace)),
            2 => metas.choose(random).iter().for_each(|meta| _ = pipeline.del(meta)),
            _ => {
                let mut copies = self.keys("r:*").await;
                copies.shuffle(random);
                copies.iter().take(50).for_each(|copy| _ = pipeline.del(copy));
            }
        }
        // Fails while the server takes no writes.
        let _ = pipeline.exec_async(&mut self.connection().await.unwrap()).await;
    }

    /// Puts a string where a partition would have a hash and has none now.
    pub(crate) async fn wrong_type(&self, random: &mut StdRng) -> Option<Ill> {
        let meta = self.keys("meta").await.choose(random)?.clone();
        let prefix = meta.strip_suffix("meta")?;
        let mut places = ["open", "flushing", "attempts", "dead", "groups", "groups_flushing"];
        places.shuffle(random);
        let mut connection = self.connection().await.unwrap();
        for place in places {
            let key = format!("{prefix}{place}");
            let mut set = redis::cmd("SET");
            set.arg(&key).arg(FOREIGN).arg("NX");
            match set.query_async::<Option<String>>(&mut connection).await {
                Ok(Some(_)) => return Some(Ill::WrongType(key)),
                Ok(None) => {}
                // Full, or takes no writes.
                Err(_) => return None,
            }
        }
        None
    }
}
