//! The whole house: Redis, a database, engines on both, and a look past the framework at each.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{FromRedisValue, ToRedisArgs};
use tokio::sync::oneshot;
use write_behind::{
    Cache, CacheError, Engine, EntityOptions, Id, Mechanism, RedisBuffer, RetryPolicy, Role, partition_of,
};
use write_behind_tests::{redis_url, unique};

use crate::account::Account;
use crate::events::Events;
use crate::gate::Gate;
use crate::store::{Address, Kind, Rows, Store};
use crate::violation::{Kept, Sort, Violation, ensure, until, within};

/// Partitions of the entity. More than one, and few enough that every engine soon has all.
pub(crate) const PARTITIONS: u16 = 2;

/// What is dirty or was refused, by the names of the keys.
pub(crate) const HASHES: [&str; 4] = ["open", "flushing", "attempts", "dead"];

pub(crate) struct House {
    pub(crate) namespace: String,
    pub(crate) redis: String,
    pub(crate) store: Store,
    connection: MultiplexedConnection,
    without: Option<Mechanism>,
}

impl House {
    /// A namespace and a database of its own; `None` where the servers are not there and need not be.
    pub(crate) async fn open(kind: Kind) -> Result<Option<Self>, Violation> {
        let Some(redis) = redis_url() else { return Ok(None) };
        let Some(store) = Store::open(kind).await? else { return Ok(None) };
        let connection = redis::Client::open(redis.as_str())?.get_multiplexed_async_connection().await?;
        Ok(Some(Self { namespace: unique("promises"), redis, store, connection, without: None }))
    }

    /// The same house with engines that lack a mechanism.
    pub(crate) fn without(self, mechanism: Mechanism) -> Self {
        Self { without: Some(mechanism), ..self }
    }

    pub(crate) async fn close(self) -> Kept {
        self.lose_redis().await?;
        self.store.close().await
    }

    /// An engine that only writes and reads.
    pub(crate) fn writer(&self) -> Plan {
        self.plan(Role::Writer)
    }

    /// An engine that flushes.
    pub(crate) fn worker(&self) -> Plan {
        self.plan(Role::Worker)
    }

    fn plan(&self, role: Role) -> Plan {
        let retry = RetryPolicy::new().initial(Duration::from_millis(5)).cap(Duration::from_millis(50)).attempts(3);
        let mut options =
            EntityOptions::new().partitions(PARTITIONS).flush_every(Duration::from_millis(20)).retry(retry);
        if let Some(mechanism) = self.without {
            options = options.without(mechanism);
        }
        Plan {
            namespace: self.namespace.clone(),
            redis: self.redis.clone(),
            address: self.store.address(),
            role,
            options,
            gate: Gate::open(),
        }
    }

    /// One command to Redis, as any client could send it.
    pub(crate) async fn ask<T: FromRedisValue>(&self, name: &str, args: &[impl ToRedisArgs]) -> Result<T, Violation> {
        Ok(redis::cmd(name).arg(args).query_async(&mut self.connection.clone()).await?)
    }

    /// Name of a key of a partition.
    pub(crate) fn key(&self, partition: u16, what: &str) -> String {
        format!("{}:{{account:{partition:02}/{PARTITIONS}}}:{what}", self.namespace)
    }

    /// Name of a key of an account's partition.
    pub(crate) fn key_of(&self, id: i64, what: &str) -> Result<String, Violation> {
        Ok(self.key(partition_of(&Id::of(&id)?, PARTITIONS), what))
    }

    /// So many accounts of one partition.
    pub(crate) fn of_partition(&self, partition: u16, count: usize) -> Result<Vec<i64>, Violation> {
        let mut ids = Vec::with_capacity(count);
        let mut next = 1_000;
        while ids.len() < count {
            if partition_of(&Id::of(&next)?, PARTITIONS) == partition {
                ids.push(next);
            }
            next += 1;
        }
        Ok(ids)
    }

    /// Fields in these hashes over all partitions, at one instant.
    pub(crate) async fn count(&self, hashes: &[&str]) -> Result<u64, Violation> {
        const SUM: &str =
            "local sum = 0 for _, key in ipairs(KEYS) do sum = sum + redis.call('HLEN', key) end return sum";
        let keys: Vec<String> =
            (0..PARTITIONS).flat_map(|partition| hashes.iter().map(move |what| self.key(partition, what))).collect();
        let mut args = vec![SUM.to_owned(), keys.len().to_string()];
        args.extend(keys);
        self.ask("EVAL", &args).await
    }

    /// Records that are not in the sink. At one instant, because one that waits (for another try, or for a newer program)
    /// goes from `open` to `flushing` and back all the time.
    pub(crate) async fn dirty(&self) -> Result<u64, Violation> {
        self.count(&["open", "flushing"]).await
    }

    /// Waits until nothing is dirty: whatever is not in the sink then never gets there.
    pub(crate) async fn drained(&self) -> Kept {
        until("nothing is dirty", async || Ok(self.dirty().await? == 0)).await
    }

    /// Everything that Redis holds for this namespace is gone.
    pub(crate) async fn lose_redis(&self) -> Kept {
        let pattern = format!("{}:*", self.namespace);
        let keys: Vec<Vec<u8>> = self.ask("KEYS", &[pattern]).await?;
        if !keys.is_empty() {
            self.ask::<u64>("DEL", &keys).await?;
        }
        Ok(())
    }

    /// The payload of an account in one of the hashes.
    pub(crate) async fn field(&self, id: i64, what: &str) -> Result<Option<String>, Violation> {
        self.ask("HGET", &[self.key_of(id, what)?, id.to_string()]).await
    }

    /// The dead letter of an account.
    pub(crate) async fn letter(&self, id: i64) -> Result<Option<serde_json::Value>, Violation> {
        Ok(self.field(id, "dead").await?.map(|text| serde_json::from_str(&text)).transpose()?)
    }

    /// Every row is this state, `None`: there is none; else it is a violation of this sort.
    pub(crate) async fn holds(&self, sort: Sort, expected: &[(i64, Option<i64>)]) -> Kept {
        let rows: Rows = self.store.rows().await?;
        for &(id, state) in expected {
            let found = rows.get(&id).copied();
            ensure(found == state, sort, || format!("account {id} must be {state:?} in the sink, and is {found:?}"))?;
        }
        Ok(())
    }

    /// Waits until the row is in this state.
    pub(crate) async fn row_becomes(&self, id: i64, state: Option<i64>) -> Kept {
        until("the row in the sink", async || Ok(self.store.rows().await?.get(&id).copied() == state)).await
    }
}

/// An engine to be.
#[derive(Clone)]
pub(crate) struct Plan {
    namespace: String,
    redis: String,
    address: Address,
    role: Role,
    options: EntityOptions,
    gate: Gate,
}

/// The shortest lease that survives a busy machine for a while; a lost one costs time, no promise.
const LEASE: Duration = Duration::from_millis(300);

impl Plan {
    pub(crate) fn options(mut self, change: impl FnOnce(EntityOptions) -> EntityOptions) -> Self {
        self.options = change(self.options);
        self
    }

    pub(crate) fn gate(mut self, gate: &Gate) -> Self {
        self.gate = gate.clone();
        self
    }

    /// Reaches Redis by this URL.
    pub(crate) fn redis(mut self, url: &str) -> Self {
        url.clone_into(&mut self.redis);
        self
    }

    /// Reaches the database by this URL.
    pub(crate) fn database(mut self, url: &str) -> Self {
        url.clone_into(&mut self.address.url);
        self
    }

    pub(crate) async fn start(self) -> Result<Resident, Violation> {
        let sink = self.gate.before(self.address.sink().await?);
        let engine = Engine::builder(RedisBuffer::connect(&self.redis).await?)
            .namespace(self.namespace)
            .role(self.role)
            .lease(LEASE)
            .entity::<Account>(sink, self.options)
            .start()
            .await?;
        let accounts = engine.cache()?;
        Ok(Resident { engine, accounts })
    }

    /// Starts the engine on a thread of its own, as another process would be: a gate that freezes stops all of it.
    pub(crate) async fn start_apart(self) -> Result<Apart, Violation> {
        let (gate, (ready, started), (stop, stopped)) = (self.gate.clone(), oneshot::channel(), oneshot::channel());
        let live = async move {
            match self.start().await {
                Ok(resident) => {
                    _ = ready.send(Ok(()));
                    if stopped.await.is_ok() {
                        // Every task ends by itself, so everything that it was about to do is done.
                        _ = resident.engine.shutdown(Duration::from_secs(10)).await;
                    }
                }
                Err(violation) => _ = ready.send(Err(violation)),
            }
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let events = Events::default();
        let ear = events.clone();
        let thread = std::thread::spawn(move || {
            let _guard = ear.listen();
            runtime.block_on(live);
        });
        let apart = Apart { gate, events, stop: Some(stop), thread };
        within("an engine starts", started).await???;
        Ok(apart)
    }
}

/// A running engine. Dropped, it is killed.
pub(crate) struct Resident {
    pub(crate) engine: Engine,
    pub(crate) accounts: Cache<Account>,
}

impl Resident {
    pub(crate) async fn put(&self, id: i64, state: i64) -> Result<(), CacheError> {
        self.accounts.put(&Account::new(id, state)).await.map(drop)
    }

    pub(crate) async fn delete(&self, id: i64) -> Result<(), CacheError> {
        self.accounts.delete(&id).await.map(drop)
    }

    pub(crate) async fn get(&self, id: i64) -> Result<Option<i64>, CacheError> {
        Ok(self.accounts.get(&id).await?.map(|account| account.state))
    }

    /// A read sees this state; else it is a violation.
    pub(crate) async fn sees(&self, id: i64, state: Option<i64>, when: &str) -> Kept {
        let found = self.get(id).await?;
        ensure(found == state, Sort::Unread, || {
            format!("{when}: account {id} must read {state:?}, and reads {found:?}")
        })
    }
}

/// An engine on a thread of its own.
pub(crate) struct Apart {
    gate: Gate,
    /// What it says.
    pub(crate) events: Events,
    stop: Option<oneshot::Sender<()>>,
    thread: std::thread::JoinHandle<()>,
}

impl Apart {
    /// Lets it go on where it stands, and returns when it has done all that it was about to do.
    pub(crate) async fn wake_and_finish(mut self) -> Kept {
        self.gate.release();
        // Without a receiver it has ended already.
        _ = self.stop.take().map(|stop| stop.send(()));
        let ended = || self.thread.is_finished();
        until("a woken engine ends", async || Ok(ended())).await
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        // A frozen thread would never end.
        self.gate.release();
    }
}
