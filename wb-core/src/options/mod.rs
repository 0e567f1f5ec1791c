//! When and how an entity is flushed. The struct says *what*; these say *when*, so that operators tune without a rebuild.

#[cfg(feature = "near-cache")]
pub(crate) mod near_cache;
pub(crate) mod retry_policy;

use std::time::Duration;

use crate::error::ConfigError;
use crate::fault::mechanism::Sabotage;
use crate::options::retry_policy::RetryPolicy;

/// Options of one entity. Checked once, by [`EngineBuilder::start`](crate::EngineBuilder::start).
#[derive(Clone, Debug)]
#[must_use]
pub struct EntityOptions {
    pub(crate) partitions: u16,
    pub(crate) flush_every: Duration,
    pub(crate) flush_at: u64,
    pub(crate) max_batch: usize,
    pub(crate) max_batch_bytes: usize,
    pub(crate) flush_concurrency: usize,
    pub(crate) max_record_bytes: usize,
    pub(crate) cache_ttl: Duration,
    pub(crate) negative_ttl: Duration,
    pub(crate) load_timeout: Duration,
    pub(crate) retry: RetryPolicy,
    pub(crate) max_dirty: Option<MaxDirty>,
    pub(crate) rate_limit: Option<u32>,
    pub(crate) mode: Mode,
    pub(crate) persist_within: Duration,
    pub(crate) accept_unknown_fields: bool,
    #[cfg(feature = "near-cache")]
    pub(crate) near: Option<crate::options::near_cache::NearCache>,
    pub(crate) transactions: bool,
    pub(crate) sabotage: Sabotage,
}

/// When a write is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mode {
    /// When it is in the buffer; the sink gets it within [`EntityOptions::flush_every`].
    #[default]
    WriteBehind,
    /// When it is in the sink: it goes through the buffer all the same, and is flushed at once. For entities that must be
    /// in the database before the answer, beside others that need not.
    WriteThrough,
}

/// The most keys that may be dirty at once, and what happens to a write that would pass it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MaxDirty {
    pub(crate) keys: u64,
    pub(crate) overflow: Overflow,
}

/// What happens to a write that would make more keys dirty than [`EntityOptions::max_dirty`] allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Overflow {
    /// It waits for room; after `timeout` it is refused.
    Wait {
        /// How long at most.
        timeout: Duration,
    },
    /// It is refused at once.
    Reject,
}

impl Default for EntityOptions {
    fn default() -> Self {
        Self {
            partitions: 16,
            flush_every: Duration::from_secs(1),
            flush_at: 50_000,
            max_batch: 1_000,
            max_batch_bytes: 4 << 20,
            flush_concurrency: 2,
            max_record_bytes: 1 << 20,
            cache_ttl: Duration::from_secs(600),
            negative_ttl: Duration::from_secs(5),
            load_timeout: Duration::from_secs(5),
            retry: RetryPolicy::default(),
            max_dirty: None,
            rate_limit: None,
            mode: Mode::WriteBehind,
            persist_within: Duration::from_secs(30),
            accept_unknown_fields: false,
            #[cfg(feature = "near-cache")]
            near: None,
            transactions: false,
            sabotage: Sabotage::none(),
        }
    }
}

impl EntityOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Partitions of the entity, 1 to 4096; the same in every process. A deploy can change it: see
    /// [`topology_change_within`](crate::EngineBuilder::topology_change_within). Default: 16.
    pub const fn partitions(mut self, partitions: u16) -> Self {
        self.partitions = partitions;
        self
    }

    /// Time between two flushes: with a healthy sink nothing is dirty for longer than this and the flush itself.
    /// At most one day. Default: 1 s.
    pub const fn flush_every(mut self, interval: Duration) -> Self {
        self.flush_every = interval;
        self
    }

    /// Flushes early when this many keys became dirty in this process since the last flush began. Default: 50 000.
    pub const fn flush_at(mut self, keys: u64) -> Self {
        self.flush_at = keys;
        self
    }

    /// Rows in one sink transaction at most. Default: 1 000.
    pub const fn max_batch(mut self, rows: usize) -> Self {
        self.max_batch = rows;
        self
    }

    /// Bytes of payload in one sink transaction at most (a single larger record still goes alone). Default: 4 MiB.
    pub const fn max_batch_bytes(mut self, bytes: usize) -> Self {
        self.max_batch_bytes = bytes;
        self
    }

    /// Batches that are written to the sink at the same time, each on a connection of its own. Default: 2.
    pub const fn flush_concurrency(mut self, batches: usize) -> Self {
        self.flush_concurrency = batches;
        self
    }

    /// Largest key and payload together that is accepted, in bytes; at most 64 MiB. Default: 1 MiB.
    pub const fn max_record_bytes(mut self, bytes: usize) -> Self {
        self.max_record_bytes = bytes;
        self
    }

    /// How long a flushed record stays readable in the buffer; zero removes it once it is in the sink. Default: 600 s.
    pub const fn cache_ttl(mut self, ttl: Duration) -> Self {
        self.cache_ttl = ttl;
        self
    }

    /// How long "no such row" is remembered, after a delete and after a miss in the sink. Unused when `cache_ttl` is
    /// zero. Default: 5 s.
    pub const fn negative_ttl(mut self, ttl: Duration) -> Self {
        self.negative_ttl = ttl;
        self
    }

    /// How long one load from the sink may take, of one key or of many; above zero and at most an hour. A read that misses the
    /// buffer fails with [`CacheError::Sink`](crate::CacheError::Sink) after it, and the sink counts as not answering: reads that
    /// miss fail at once with [`CacheError::SinkAway`](crate::CacheError::SinkAway), but for one at a time that tries again, after
    /// the waits of [`retry`](Self::retry) and at most 5 s. A sink may have a shorter limit of its own. Default: 5 s.
    pub const fn load_timeout(mut self, limit: Duration) -> Self {
        self.load_timeout = limit;
        self
    }

    /// How failures are retried. Default: [`RetryPolicy::default`].
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = policy;
        self
    }

    /// Most keys of the entity that may be dirty at once, over all processes; every process should say the same. A write
    /// that would pass it waits or is refused with [`BufferErrorKind::Full`](crate::BufferErrorKind::Full), and never
    /// appears later; writes of keys that are dirty already pass. Writes of one call get in all or not at all, and never
    /// when they are of more keys than the limit. Redis counts a key twice that is written again while it is being flushed,
    /// until that flush ends: new keys may be refused early, never late. With a limit, writes are scripts instead of plain
    /// `HSET`s. Programs that write past this library do not look at it, nor do replays of dead letters. Default: no limit
    /// but the memory of the buffer.
    pub const fn max_dirty(mut self, keys: u64, overflow: Overflow) -> Self {
        self.max_dirty = Some(MaxDirty { keys, overflow });
        self
    }

    /// Most rows a second that this process sends to the sink for this entity, repeated ones included. Writes go on
    /// coalescing while a flush waits. A batch has at most the rows of one second, and time that goes by unused is not
    /// saved up: in any stretch of time no more than its seconds times the limit, and one batch, is sent. Default: no limit.
    pub const fn rate_limit(mut self, rows_per_second: u32) -> Self {
        self.rate_limit = Some(rows_per_second);
        self
    }

    /// When a write of this entity is answered. Default: [`Mode::WriteBehind`].
    pub const fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// How long a write that is answered when it is in the sink ([`Mode::WriteThrough`],
    /// [`Cache::put_through`](crate::Cache::put_through)) waits for that; above zero. After it the write fails with
    /// [`CacheError::NotPersisted`](crate::CacheError::NotPersisted), and is flushed all the same. Default: 30 s.
    pub const fn persist_within(mut self, limit: Duration) -> Self {
        self.persist_within = limit;
        self
    }

    /// Flushes records of newer programs too, without the fields that this program's struct does not know, and keeps those
    /// that do not decode as dead letters. By default such records wait, dirty and reported, for a worker that knows the
    /// fields. This is the way out after a deploy was taken back for good, and loses what the newer program has written into
    /// those fields.
    pub const fn accept_unknown_fields(mut self) -> Self {
        self.accept_unknown_fields = true;
        self
    }

    /// Keeps values in this process, beside the buffer; see [`NearCache`](crate::NearCache). Every process that writes the
    /// entity must say the same. Default: none.
    #[cfg(feature = "near-cache")]
    pub const fn near_cache(mut self, near: crate::options::near_cache::NearCache) -> Self {
        self.near = Some(near);
        self
    }

    /// Whether a [`transaction`](crate::Engine::transaction) may write records of several partitions; the same in every
    /// process; a deploy can change it like [`partitions`](Self::partitions). With it the entity is one unit of work: one worker at a time
    /// flushes all of its partitions (at most 256), and closes them at one instant, so that every flush is a state that the
    /// whole entity had. More workers take over when that one is gone; they do not share its work. The sink must have
    /// transactions. Transactions within one partition need no option: place records that belong together in one with
    /// `#[wb(partition_by)]`, or have only one. Default: false.
    pub const fn transactions(mut self, over_partitions: bool) -> Self {
        self.transactions = over_partitions;
        self
    }

    /// Switches a mechanism off, to see the promise break that rests on it.
    #[cfg(feature = "testing")]
    #[doc(hidden)]
    pub const fn without(mut self, mechanism: crate::fault::mechanism::Mechanism) -> Self {
        self.sabotage = self.sabotage.without(mechanism);
        self
    }

    pub(crate) fn check(&self, entity: &'static str) -> Result<(), ConfigError> {
        let wrong = |what: &'static str| Err(ConfigError::Option { entity, what });
        if self.partitions == 0 || self.partitions > 4096 {
            return wrong("partitions must be from 1 to 4096");
        }
        if self.transactions && self.partitions > 256 {
            return wrong(
                "with transactions over partitions there may be at most 256 of them: they are closed in one step",
            );
        }
        if self.flush_every.is_zero() || self.flush_every > Duration::from_secs(24 * 3_600) {
            return wrong("flush_every must be above zero and at most one day");
        }
        if self.flush_at == 0 || self.max_batch == 0 || self.max_batch_bytes == 0 || self.flush_concurrency == 0 {
            return wrong("flush_at, max_batch, max_batch_bytes and flush_concurrency must be above zero");
        }
        if self.max_record_bytes == 0 || self.max_record_bytes > 64 << 20 {
            return wrong(
                "max_record_bytes must be from 1 byte to 64 MiB: as a dead letter a record takes up to six times as much, and Redis holds 512 MiB in one value",
            );
        }
        if self.max_dirty.is_some_and(|limit| limit.keys == 0) || self.rate_limit == Some(0) {
            return wrong("max_dirty and rate_limit must be above zero");
        }
        if self.load_timeout.is_zero() || self.load_timeout > Duration::from_secs(3_600) {
            return wrong("load_timeout must be above zero and at most an hour");
        }
        if self.persist_within.is_zero() {
            return wrong("persist_within must be above zero");
        }
        #[cfg(feature = "near-cache")]
        if let Some(mistake) = self.near.as_ref().and_then(crate::options::near_cache::NearCache::mistake) {
            return wrong(mistake);
        }
        self.retry.check()
    }
}

/// What an engine does for its entities.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Role {
    /// Only writes and reads; other processes flush.
    Writer,
    /// Only flushes; writes and reads work too, but are not what it is for.
    Worker,
    /// Both.
    #[default]
    Both,
}

impl Role {
    pub(crate) const fn flushes(self) -> bool {
        matches!(self, Self::Worker | Self::Both)
    }
}
