//! Where records wait: the port that [`RedisBuffer`](crate::RedisBuffer) and [`MemoryBuffer`] implement.
//!
//! A [`Buffer`] is a place (a Redis server, this process); a [`Space`] is one entity's share of it, and has one method
//! for each verb of the flow. Records move `open` → `flushing` → clean copy, in the order in which readers look, so
//! that none is missed.

mod error;
pub(crate) mod letter;
pub mod memory;
#[cfg(feature = "redis")]
pub mod redis;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

pub use error::{BufferError, BufferErrorKind};
pub use letter::{DeadLetter, Letters, Operation, Replay};
pub use memory::MemoryBuffer;

use crate::codec::Format;
use crate::doctor::Finding;
use crate::key::Id;
use crate::pressure::Pressure;
use crate::record::{Record, Write};
use crate::sabotage::Sabotage;
use crate::sink::Scope;

/// A place where records wait.
#[async_trait]
pub trait Buffer: Send + Sync + 'static {
    /// Opens an entity's share of the buffer, and fixes its topology (partitions, format) while anything is dirty.
    ///
    /// # Errors
    /// [`BufferErrorKind::Topology`] when the buffer holds dirty records of another topology; the error names both.
    async fn space(&self, registration: Registration) -> Result<Arc<dyn Space>, BufferError>;

    /// Ends the tasks of the buffer and waits for them; called once, at the end of shutdown. Writes that are on their
    /// way are finished first, later ones fail.
    async fn close(&self);

    /// Looks at the server: what an operator should know, and what an engine must not start with.
    ///
    /// # Errors
    /// When the server cannot be asked.
    async fn examine(&self) -> Result<Vec<Finding>, BufferError> {
        Ok(Vec::new())
    }
}

/// What an engine tells the buffer about an entity.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Registration {
    /// Namespace, entity, partitions.
    pub scope: Arc<Scope>,
    /// Format of the payloads.
    pub format: Format,
    /// Counts keys that become dirty through this engine.
    pub pressure: Arc<Pressure>,
    /// Most keys that may be dirty at once; `None`: as many as fit.
    pub max_dirty: Option<u64>,
    /// What a test has switched off.
    pub sabotage: Sabotage,
}

impl Registration {
    /// A registration; for tests of buffers.
    #[must_use]
    pub fn new(scope: Arc<Scope>, format: Format) -> Self {
        Self { scope, format, pressure: Arc::new(Pressure::new(u64::MAX)), max_dirty: None, sabotage: Sabotage::none() }
    }

    /// The topology as the buffer records it.
    #[must_use]
    pub fn topology(&self) -> Topology {
        Topology { layout: LAYOUT, partitions: self.scope.partitions, format: self.format.name().to_owned() }
    }
}

/// Version of the Redis data model.
pub const LAYOUT: u32 = 1;

/// How an entity's records are laid out: fixed while anything is dirty.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Topology {
    /// Version of the data model.
    pub layout: u32,
    /// Number of partitions.
    pub partitions: u16,
    /// Name of the payload format.
    pub format: String,
}

impl Topology {
    /// Reads what [`Display`](fmt::Display) writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (mut layout, mut partitions, mut format) = (None, None, None);
        for word in text.split(' ') {
            match word.split_once('=')? {
                ("layout", v) => layout = v.parse().ok(),
                ("partitions", v) => partitions = v.parse().ok(),
                ("format", v) => format = Some(v.to_owned()),
                _ => {}
            }
        }
        Some(Self { layout: layout?, partitions: partitions?, format: format? })
    }
}

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "layout={} partitions={} format={}", self.layout, self.partitions, self.format)
    }
}

/// One entity's share of a buffer: a method for each verb of the flow.
///
/// # Contract
/// - Every method is one atomic step per partition. A method may be repeated when its outcome is unknown.
/// - Worker verbs ([`rotate`](Space::rotate), [`ack`](Space::ack), [`back`](Space::back), [`bury`](Space::bury)) do
///   nothing for a worker that does not hold the partition's lease, and say so.
/// - What is dirty (in `open` or `flushing`) has no TTL and is never evicted.
#[async_trait]
pub trait Space: Send + Sync + 'static {
    /// Makes these writes the latest state of their keys, in this order. All are acknowledged, or an error says that
    /// some may not be; repeating is safe.
    async fn put(&self, writes: Vec<Write>) -> Result<(), BufferError>;

    /// Looks ids of one partition up, in the order `open`, `flushing`, clean copy. One answer per id.
    async fn get(&self, partition: u16, ids: &[Id]) -> Result<Vec<Lookup>, BufferError>;

    /// Leaves a load token where the clean copy would be, for `ttl`. `false` when something is there.
    async fn token(&self, partition: u16, id: &Id, token: &Token, ttl: Duration) -> Result<bool, BufferError>;

    /// Puts a loaded state (a tombstone: "no such row") as the clean copy if `token` still stands there; otherwise, an
    /// ack came in between and the state may be old. With a zero `ttl` the token is only removed. Returns whether it stood there.
    async fn fill(
        &self,
        partition: u16,
        id: &Id,
        token: &Token,
        record: &Record,
        ttl: Duration,
    ) -> Result<bool, BufferError>;

    /// Takes or renews the leases of these partitions; says for each whether `owner` holds it now.
    async fn take(&self, partitions: &[u16], owner: &str, ttl: Duration) -> Result<Vec<bool>, BufferError>;

    /// Says that a worker is alive, until `ttl` from now, and renews the leases that it holds; takes none. Tells who else
    /// works on this entity, and which leases are free. Only the buffer's clock counts.
    async fn heartbeat(&self, worker: &str, ttl: Duration) -> Result<Roll, BufferError>;

    /// Says that a worker works on this entity no more. Its leases stay as they are.
    async fn retire(&self, worker: &str) -> Result<(), BufferError>;

    /// Whether the topology is still the one that this space was opened with. Records of another one are looked for
    /// elsewhere: what is written under the old one is not flushed any more. A buffer that has lost it with its data takes
    /// this one again.
    ///
    /// # Errors
    /// [`BufferErrorKind::Topology`] when it is not.
    async fn confirm(&self) -> Result<(), BufferError>;

    /// Gives leases up.
    async fn release(&self, partitions: &[u16], owner: &str) -> Result<(), BufferError>;

    /// Which of these partitions have anything to flush, how much, and since when.
    async fn pending(&self, partitions: &[u16]) -> Result<Vec<Pending>, BufferError>;

    /// Closes the open epoch: `open` becomes `flushing`, in one step, whatever its size. Marks it, or the one that was
    /// left behind, with `stamp`: steps that carry another one do nothing from now on.
    async fn rotate(&self, partition: u16, owner: &str, stamp: Stamp) -> Result<Rotation, BufferError>;

    /// A page of the epoch that is being flushed; about `limit` records, some perhaps twice. Cursor 0 starts and ends.
    async fn claim(&self, partition: u16, cursor: u64, limit: usize) -> Result<Page, BufferError>;

    /// These records are in the sink: removes them from the epoch and leaves clean copies. Clears their attempts and
    /// dead letters. Ends the epoch when it was the last one.
    async fn ack(&self, step: &Step<'_>, ids: &[Id], clean: Clean) -> Result<Moved, BufferError>;

    /// These records must be tried again: back to `open` where no newer state is, else dropped (superseded). The
    /// value stays readable as the clean copy, without TTL.
    async fn back(&self, step: &Step<'_>, records: &[(Id, Attempts)]) -> Result<Moved, BufferError>;

    /// These records are dead letters: out of the epoch, kept with payload and reason, readable as the clean copy
    /// without TTL.
    async fn bury(&self, step: &Step<'_>, letters: &[(Id, DeadLetter)]) -> Result<Moved, BufferError>;

    /// Attempts that were counted for these ids.
    async fn attempts(&self, partition: u16, ids: &[Id]) -> Result<Vec<Option<Attempts>>, BufferError>;

    /// The dead letter of an id.
    async fn letter(&self, partition: u16, id: &Id) -> Result<Option<DeadLetter>, BufferError>;

    /// A page of the dead letters of a partition; about `limit`, some perhaps twice. Cursor 0 starts and ends.
    async fn letters(&self, partition: u16, cursor: u64, limit: usize) -> Result<Letters, BufferError>;

    /// Makes the payloads of these dead letters dirty again, with no attempts counted; the letters go. Where a newer state
    /// is in `open` or `flushing` nothing is done: it decides. A letter proves that nothing newer was flushed since,
    /// because every ack removes it. One answer per id.
    async fn replay(&self, partition: u16, ids: &[Id]) -> Result<Vec<Replay>, BufferError>;

    /// Removes these dead letters for good; where no newer state is dirty, their attempts and clean copies too, so that
    /// readers see the sink's row again. Returns how many there were.
    async fn discard(&self, partition: u16, ids: &[Id]) -> Result<u64, BufferError>;

    /// Where a partition stands.
    async fn status(&self, partition: u16) -> Result<Status, BufferError>;

    /// What became of the data since the last call; called about once a second in each process. A buffer that finds its
    /// data gone back drops the clean copies that may be older than the sink before it answers.
    async fn lineage(&self) -> Result<Lineage, BufferError> {
        Ok(Lineage::Unwatched)
    }
}

/// Whether a buffer still has the data that it had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lineage {
    /// It cannot lose any but with the process; not to be asked again.
    Unwatched,
    /// It has.
    Unbroken,
    /// It was restarted or replaced, and has everything that is known to have been there.
    Restarted {
        /// What was acknowledged after this time (in milliseconds since the Unix epoch) may be missing; `None`: nothing is.
        since_ms: Option<u64>,
        /// Clean copies that were dropped, because the sink may be newer.
        dropped: u64,
    },
    /// It lost data that was there.
    Broken {
        /// What was acknowledged after this time (in milliseconds since the Unix epoch) and not flushed may be missing;
        /// `None`: anything that was dirty may be.
        since_ms: Option<u64>,
        /// Clean copies that were dropped, because the sink may be newer.
        dropped: u64,
    },
}

/// What a worker hears when it says that it is alive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roll {
    /// The workers of the entity that are alive, the caller included, sorted.
    pub workers: Vec<String>,
    /// Who holds the lease of each partition, by number.
    pub leases: Vec<Holder>,
}

/// Who holds a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// Nobody.
    Nobody,
    /// The caller, who has just renewed it.
    Caller,
    /// Another worker.
    Other,
}

/// Where a lookup found a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// Dirty: in `open` or `flushing`.
    Dirty(Record),
    /// A clean copy.
    Clean(Record),
    /// Somebody is loading it from the sink.
    Loading(Token),
    /// Nowhere in the buffer.
    Absent,
}

/// A mark that somebody is loading a key; a byte that no payload starts with, and a nonce.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Token(Bytes);

impl Token {
    /// `0xC1`: no JSON text starts with it, and MessagePack never uses it.
    pub const MARK: u8 = 0xC1;

    /// A token that was never used before.
    #[must_use]
    pub fn fresh() -> Self {
        let mut bytes = Vec::with_capacity(17);
        bytes.push(Self::MARK);
        bytes.extend_from_slice(uuid::Uuid::new_v4().as_bytes());
        Self(bytes.into())
    }

    /// What stands where the clean copy would be: a token or a record.
    #[must_use]
    pub fn or_record(bytes: Bytes) -> Lookup {
        if bytes.first() == Some(&Self::MARK) {
            Lookup::Loading(Self(bytes))
        } else {
            Lookup::Clean(Record::from_bytes(bytes))
        }
    }

    /// The bytes of the token.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// What a partition has to flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pending {
    /// The partition.
    pub partition: u16,
    /// Records in the open epoch.
    pub open: u64,
    /// Records in the epoch that is being flushed.
    pub flushing: u64,
    /// How long the oldest epoch that holds any of them has been taking writes, or took them: none of its records has
    /// been dirty for longer. `None` before the first rotation.
    pub age: Option<Duration>,
}

impl Pending {
    /// Keys that are not in the sink yet (one that is both open and flushing counts twice).
    #[must_use]
    pub const fn dirty(&self) -> u64 {
        self.open + self.flushing
    }
}

/// What a rotation found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotation {
    /// This epoch is closed now, or was closed before and is not flushed yet.
    Epoch(u64),
    /// Nothing is dirty.
    Empty,
    /// The caller does not hold the lease.
    NotOwner,
}

/// A page of a closed epoch.
#[derive(Clone, Debug)]
pub struct Page {
    /// Where to go on; 0 at the end.
    pub cursor: u64,
    /// The records.
    pub records: Vec<(Id, Record)>,
}

/// Who does a step of the flow, and on what.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    /// The partition.
    pub partition: u16,
    /// The worker that holds its lease.
    pub owner: &'a str,
    /// The epoch that is being flushed.
    pub epoch: u64,
    /// What it was marked with when it was rotated.
    pub stamp: Stamp,
}

/// Tells one rotation of an epoch from every other. Numbers alone cannot: a buffer that lost its data counts epochs from
/// anew, and a late step of the old one would be taken for one of the new.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Stamp(uuid::Uuid);

impl Stamp {
    /// A stamp that was never used before.
    #[must_use]
    pub fn fresh() -> Self {
        Self(uuid::Uuid::new_v4())
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.simple().fmt(f)
    }
}

/// How clean copies are left.
#[derive(Clone, Copy, Debug)]
pub struct Clean {
    /// TTL of the copy of a row; zero: no copies.
    pub ttl: Duration,
    /// TTL of "no such row" after a delete.
    pub negative_ttl: Duration,
}

/// What became of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// Done; records of the epoch are left.
    More,
    /// Done; the epoch is flushed.
    Epoch,
    /// Nothing of the epoch is left, but records that the step was to move were not there: somebody has taken them away.
    /// The epoch does not count as flushed.
    Gone,
    /// Nothing was done: the lease or the epoch is not the caller's any more.
    NotOwner,
}

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// What became of the epoch.
    pub done: Done,
    /// Records that the step took out of the epoch. Fewer than it was to: it was carried out before, or somebody else has
    /// taken them away.
    pub records: u64,
}

impl PartialEq<Done> for Moved {
    fn eq(&self, other: &Done) -> bool {
        self.done == *other
    }
}

/// How often a record was refused. Counts belong to a payload: a newer one starts anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attempts {
    /// Times the sink refused it for its own data.
    pub count: u32,
    /// When it was first refused or deferred, in milliseconds since the Unix epoch; for people.
    pub first_ms: u64,
    /// Times the sink deferred it: a foreign key's parent was not there.
    pub deferrals: u32,
    /// [`Record::digest`] of the payload that was refused.
    pub digest: u64,
}

impl Attempts {
    /// Reads what [`Display`](fmt::Display) writes: `count first_ms deferrals digest`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let (count, first_ms) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let deferrals = words.next()?.parse().ok()?;
        let digest = u64::from_str_radix(words.next()?, 16).ok()?;
        Some(Self { count, first_ms, deferrals, digest })
    }
}

impl fmt::Display for Attempts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} {:016x}", self.count, self.first_ms, self.deferrals, self.digest)
    }
}

/// Where a partition stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Number of the epoch that writes go to now; the first is 1.
    pub open_epoch: u64,
    /// Last epoch that is flushed; 0 before the first.
    pub flushed_epoch: u64,
    /// Records in the open epoch.
    pub open: u64,
    /// Records in the epoch that is being flushed.
    pub flushing: u64,
    /// Dead letters.
    pub dead: u64,
}

impl Status {
    /// Keys that are not in the sink yet (one that is both open and flushing counts twice).
    #[must_use]
    pub const fn dirty(&self) -> u64 {
        self.open + self.flushing
    }
}

fn topology_mismatch(scope: &Scope, stored: &str, asked: &Topology, dirty: u64) -> BufferError {
    BufferError::new(
        BufferErrorKind::Topology,
        format!(
            "entity `{}` in namespace `{}` is stored with `{stored}`, this program asks for `{asked}`, and {dirty} \
             records are not flushed yet; run a worker with the stored topology until nothing is dirty, then change it",
            scope.entity, scope.namespace,
        ),
    )
}

fn topology_changed(scope: &Scope, stored: &str, own: &Topology) -> BufferError {
    BufferError::new(
        BufferErrorKind::Topology,
        format!(
            "entity `{}` in namespace `{}` is stored with `{stored}` now, this program runs with `{own}`; end it, and start it \
             with the stored topology",
            scope.entity, scope.namespace,
        ),
    )
}
