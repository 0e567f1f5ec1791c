//! The verbs on partitions in Redis.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use redis::{Pipeline, RedisResult, Script, ScriptInvocation};

use super::bulk::Bulk;
use super::classify::classify;
use super::connection::{Connection, Pinned};
use super::lineage::Watch;
use super::scripts::Scripts;
use super::signals::{Listener, Signals};
use super::transaction::rotation;
use super::verified::Verified;
use super::{held, keys, leases, letters, log, pending, reads, replay, signals, steps, topology};
use crate::buffer::record::{Record, Write};
use crate::buffer::redis::write::compare_and_set;
use crate::buffer::redis::write::group_commit::{Committer, Shelf, Verb};
use crate::buffer::{
    Attempts, Clean, Coordination, DeadLetter, DeadLetterStore, Done, Epochs, Guarded, Held, IdFloor, LeaseStore,
    Letters, Lineage, LogPage, Look, Lookup, Mark, Marks, Moved, Page, PendingReport, Reads, Replayed, Roll, Rotation,
    SeenShape, SeenShapes, Settled, Settlement, Stamp, Status, Step, Stored, Swap, Token, Topology, Transacted, Writes,
    no_logs,
};
use crate::entity::key::Id;
use crate::error::buffer::{BufferError, BufferErrorKind};
use crate::fault::mechanism::{Mechanism, Sabotage};
use crate::telemetry::scope::Scope;

pub(super) struct RedisSpace {
    pub(super) shelf: Arc<Shelf>,
    pub(super) committer: Arc<Committer>,
    pub(super) connection: Connection,
    /// For what is read in bulk.
    pub(super) bulk: Arc<Bulk>,
    /// Bytes of a record on average, of the epoch of each partition that is being claimed.
    pub(super) weights: Vec<AtomicU64>,
    pub(super) scripts: Arc<Scripts>,
    pub(super) scope: Arc<Scope>,
    pub(super) topology: Topology,
    pub(super) sabotage: Sabotage,
    pub(super) watch: Watch,
    pub(super) signals: Arc<Signals>,
    /// Who is to listen from the start on.
    pub(super) ear: Mutex<Option<Listener>>,
    /// What is known of the connection of readers, and of that of writes.
    pub(super) verified: (Arc<Verified>, Arc<Verified>),
}

impl RedisSpace {
    /// The connection of what is read in bulk.
    pub(super) async fn bulk(&self, doing: &str) -> Result<Pinned, BufferError> {
        self.bulk.current().await.map_err(|error| classify(doing, error))
    }

    pub(super) async fn run<T: redis::FromRedisValue>(
        &self,
        doing: &str,
        invocation: &ScriptInvocation<'_>,
    ) -> Result<T, BufferError> {
        self.judged(doing, invocation.invoke_async(&mut self.connection.clone()).await).await
    }

    /// An answer of Redis; see [`sealed`](Self::sealed).
    pub(super) async fn judged<T>(&self, doing: &str, answer: RedisResult<T>) -> Result<T, BufferError> {
        self.sealed(answer.map_err(|error| classify(doing, error))).await
    }

    /// What Redis refuses as such may be refused because this layout is sealed: then the topology is what is wrong, or is about to be, and it
    /// is said at once. It costs nothing where nothing is refused.
    async fn sealed<T>(&self, answer: Result<T, BufferError>) -> Result<T, BufferError> {
        match answer {
            Err(error) if error.kind() == BufferErrorKind::Misconfigured => {
                let reason = topology::reason(&self.connection, &self.scope, &self.topology).await;
                Err(reason.ok().flatten().unwrap_or(error))
            }
            answer => answer,
        }
    }

    pub(super) async fn query<T: redis::FromRedisValue>(
        &self,
        doing: &str,
        pipeline: &Pipeline,
    ) -> Result<T, BufferError> {
        self.judged(doing, pipeline.query_async(&mut self.connection.clone()).await).await
    }

    /// Starts a script that finishes records of an epoch: the keys and arguments that all of them share.
    pub(super) fn finish<'s>(
        &self,
        script: &'s Script,
        step: &Step<'_>,
        fourth: fn(&super::keys::PartitionKeys) -> &String,
    ) -> Result<ScriptInvocation<'s>, BufferError> {
        let keys = self.shelf.keys(step.partition)?;
        let mut call = script.prepare_invoke();
        call.key(&keys.flushing).key(&keys.meta).key(&keys.attempts).key(fourth(keys));
        call.arg(step.owner).arg(step.epoch).arg(step.stamp.to_string());
        Ok(call)
    }

    /// Runs one call of a finishing script, and adds what it did.
    pub(super) async fn step(
        &self,
        doing: &str,
        call: &ScriptInvocation<'_>,
        moved: &mut Moved,
    ) -> Result<Done, BufferError> {
        let (reply, records, missing): (i64, u64, u64) = self.run(doing, call).await?;
        let done = outcome(reply);
        *moved = Moved { done, records: moved.records + records, missing: moved.missing + missing };
        Ok(done)
    }

    /// Says that the states of these ids have changed, where somebody keeps values of them. When it is not said, what is kept
    /// grows old soon.
    pub(super) async fn tell<'a>(&self, ids: impl IntoIterator<Item = &'a Id>) {
        if let Some(channel) = &self.shelf.written {
            let _: RedisResult<u64> =
                signals::tell(channel, ids.into_iter()).query_async(&mut self.connection.clone()).await;
        }
    }

    /// A page of the records of a hash.
    async fn page(&self, doing: &str, hash: &str, cursor: u64, limit: usize) -> Result<Page, BufferError> {
        let mut command = redis::cmd("HSCAN");
        command.arg(hash).arg(cursor).arg("COUNT").arg(limit.max(1));
        let reply: RedisResult<(u64, Vec<(Bytes, Bytes)>)> = command.query_async(&mut self.bulk(doing).await?).await;
        let (cursor, fields) = self.judged(doing, reply).await?;
        let records = fields.into_iter().map(|(id, record)| (Id::found(id), Record::from_bytes(record))).collect();
        Ok(Page { cursor, records })
    }

    /// How many records of a closed epoch a page may have: those of `limit` records of [`LARGE`] bytes, and no more of larger
    /// ones. An epoch is weighed once, by some of its records, when its first page is asked for.
    async fn fitting(&self, partition: u16, hash: &str, cursor: u64, limit: usize) -> Result<usize, BufferError> {
        let Some(weight) = self.weights.get(usize::from(partition)).filter(|_| limit > 1) else { return Ok(limit) };
        if cursor == 0 {
            weight.store(self.weigh(hash).await?, Ordering::Relaxed);
        }
        Ok(fitting(limit, weight.load(Ordering::Relaxed)))
    }

    /// The values of these fields of a hash.
    pub(super) async fn values(&self, doing: &str, hash: &str, ids: &[Id]) -> Result<Vec<Option<Bytes>>, BufferError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut command = redis::cmd("HMGET");
        command.arg(hash);
        for id in ids {
            command.arg(id.as_bytes());
        }
        self.judged(doing, command.query_async(&mut self.bulk(doing).await?).await).await
    }
}

/// A record that a worker reckons with before it has seen one. A page of so many brings no more bytes than of these.
pub(super) const LARGE: usize = 16 << 10;

pub(super) fn fitting(limit: usize, weight: u64) -> usize {
    let weight = usize::try_from(weight).unwrap_or(usize::MAX);
    limit.saturating_mul(LARGE).checked_div(weight).map_or(limit, |fitting| fitting.clamp(1, limit.max(1)))
}

/// What became of an epoch, as the scripts say it.
pub(super) const fn outcome(reply: i64) -> Done {
    match reply {
        0 => Done::More,
        1 => Done::Epoch,
        2 => Done::Gone,
        _ => Done::NotOwner,
    }
}

/// What a step of no records does.
pub(super) const NOTHING: Moved = Moved { done: Done::More, records: 0, missing: 0 };

/// The longest TTL in milliseconds, a hundred years. Redis refuses one that its clock cannot add up, and an ack that is
/// refused would hold its epoch up for ever.
const LONGEST_MS: u64 = 100 * 365 * 24 * 3_600 * 1_000;

/// Milliseconds for `PX`; at least one, because zero is an error there.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(LONGEST_MS).clamp(u64::from(!duration.is_zero()), LONGEST_MS)
}

pub(super) fn corrupt(what: &str) -> BufferError {
    BufferError::new(BufferErrorKind::Misconfigured, format!("cannot read {what} that Redis holds"))
}

#[async_trait]
impl Writes for RedisSpace {
    async fn put(&self, writes: Vec<Write>) -> Result<(), BufferError> {
        if self.sabotage.lacks(Mechanism::ClosedEpochs) || self.sabotage.lacks(Mechanism::NoTtl) {
            return self.put_sabotaged(writes).await;
        }
        self.sealed(self.committer.commit(&self.shelf, Verb::Put, writes).await).await
    }

    async fn append(&self, writes: Vec<Write>) -> Result<(), BufferError> {
        if !self.shelf.append {
            return Err(no_logs(&self.scope));
        }
        self.sealed(self.committer.commit(&self.shelf, Verb::Append, writes).await).await
    }

    async fn transact(&self, mark: Mark, writes: &[Guarded]) -> Result<Transacted, BufferError> {
        self.sealed(self.transact_writes(mark, writes).await).await
    }

    async fn reserve_ids(&self, count: i64, floor: Option<IdFloor>) -> Result<Option<i64>, BufferError> {
        let mut call = self.scripts.ids.prepare_invoke();
        call.key(keys::ids(&self.scope)).key(keys::ids_notes(&self.scope)).key(keys::lineage(&self.scope));
        // Numbers travel as text: scripts count in floats.
        call.arg(count).arg(floor.map(|floor| floor.above.max(0).to_string()).unwrap_or_default());
        call.arg(u8::from(floor.is_some_and(|floor| floor.leap))).arg(IdFloor::LEAP);
        // A server without a name is told from the one before by the look at its connection alone.
        let reserved = call.invoke_async(&mut self.updater().await?).await;
        let last: Option<String> = self.judged("cannot reserve ids", reserved).await?;
        last.map(|last| last.parse().map_err(|_| corrupt("a counter of ids"))).transpose()
    }

    async fn swap(&self, expected: &Stored, write: &Write) -> Result<Swap, BufferError> {
        self.sealed(compare_and_set::swap(self, expected, write).await).await
    }
}

#[async_trait]
impl Reads for RedisSpace {
    async fn get(&self, partition: u16, ids: &[Id]) -> Result<Vec<Lookup>, BufferError> {
        reads::get(self, partition, ids).await
    }

    async fn token(
        &self,
        partition: u16,
        id: &Id,
        token: &Token,
        over: Option<&Stored>,
        ttl: Duration,
    ) -> Result<bool, BufferError> {
        reads::token(self, partition, id, token, over, ttl).await
    }

    async fn fill(
        &self,
        partition: u16,
        id: &Id,
        token: &Token,
        loaded: &Stored,
        ttl: Duration,
    ) -> Result<bool, BufferError> {
        reads::fill(self, partition, id, token, loaded, ttl).await
    }

    async fn stale(&self, partition: u16, id: &Id) -> Result<Option<i64>, BufferError> {
        steps::stale(self, partition, id).await
    }

    async fn get_together(&self, places: &[(u16, Vec<Id>)]) -> Result<Vec<Vec<Lookup>>, BufferError> {
        self.get_places(places).await
    }

    async fn look(&self, partition: u16, ids: &[Id]) -> Result<Vec<Look>, BufferError> {
        reads::look(self, partition, ids).await
    }

    async fn invalidate(&self, partition: u16, ids: &[Id]) -> Result<u64, BufferError> {
        reads::invalidate(self, partition, ids).await
    }

    async fn scan(&self, partition: u16, flushing: bool, cursor: u64, limit: usize) -> Result<Page, BufferError> {
        let keys = self.shelf.keys(partition)?;
        let hash = if flushing { &keys.flushing } else { &keys.open };
        let (cursor, fields) = self.light_page("cannot list what is dirty", hash, cursor, limit).await?;
        let records = fields.into_iter().map(|(id, record)| (Id::found(id), Record::from_bytes(record))).collect();
        Ok(Page { cursor, records })
    }
}

#[async_trait]
impl Epochs for RedisSpace {
    async fn read_log(&self, partition: u16, skip: u64, limit: usize) -> Result<LogPage, BufferError> {
        log::read(self, partition, skip, limit).await
    }

    async fn pending(&self, partitions: &[u16]) -> Result<PendingReport, BufferError> {
        pending::pending(self, partitions).await
    }

    async fn broken(&self) -> Result<Vec<(u16, BufferError)>, BufferError> {
        pending::broken(self).await
    }

    async fn rotate(&self, partition: u16, owner: &str, stamp: Stamp) -> Result<Rotation, BufferError> {
        let keys = self.shelf.keys(partition)?;
        let mut call = self.scripts.rotate.prepare_invoke();
        call.key(&keys.open).key(&keys.flushing).key(&keys.meta);
        call.key(&keys.groups).key(&keys.groups_flushing).arg(owner).arg(stamp.to_string());
        if self.shelf.append {
            call.key(&keys.log).key(&keys.closed_log);
        }
        let (number, marked) = self.run("cannot rotate a partition", &call).await?;
        Ok(rotation(number, marked))
    }

    async fn claim(&self, partition: u16, cursor: u64, limit: usize) -> Result<Page, BufferError> {
        let hash = &self.shelf.keys(partition)?.flushing;
        let limit = self.fitting(partition, hash, cursor, limit).await?;
        self.page("cannot claim records", hash, cursor, limit).await
    }

    async fn rotate_all(&self, owner: &str, stamp: Stamp) -> Result<Vec<Rotation>, BufferError> {
        self.rotate_partitions(owner, stamp).await
    }

    async fn marks(&self, partition: u16, cursor: u64, limit: usize) -> Result<Marks, BufferError> {
        self.page_of_marks(partition, cursor, limit).await
    }

    async fn pick(&self, partition: u16, ids: &[Id]) -> Result<Vec<Option<Record>>, BufferError> {
        let keys = self.shelf.keys(partition)?;
        let found = self.large_values("cannot claim records by name", &keys.flushing, ids).await?;
        Ok(found.into_iter().map(|bytes| bytes.map(Record::from_bytes)).collect())
    }

    async fn status(&self, partition: u16) -> Result<Status, BufferError> {
        pending::status(self, partition).await
    }
}

#[async_trait]
impl Settlement for RedisSpace {
    async fn trim(&self, step: &Step<'_>, number: u64, settled: &[Settled]) -> Result<Moved, BufferError> {
        log::trim(self, step, number, settled).await
    }

    async fn ack(&self, step: &Step<'_>, ids: &[Id], clean: Clean) -> Result<Moved, BufferError> {
        steps::ack(self, step, ids, clean).await
    }

    async fn copies(&self, partition: u16, ids: &[Id]) -> Result<Vec<Option<Stored>>, BufferError> {
        reads::copies(self, partition, ids).await
    }

    async fn ack_stale(&self, step: &Step<'_>, records: &[(Id, i64)]) -> Result<Moved, BufferError> {
        steps::ack_stale(self, step, records).await
    }

    async fn back(&self, step: &Step<'_>, records: &[(Id, Attempts)]) -> Result<Moved, BufferError> {
        steps::back(self, step, records).await
    }

    async fn bury(&self, step: &Step<'_>, letters: &[(Id, DeadLetter)]) -> Result<Moved, BufferError> {
        steps::bury(self, step, letters).await
    }

    async fn attempts(&self, partition: u16, ids: &[Id]) -> Result<Vec<Option<Attempts>>, BufferError> {
        let keys = self.shelf.keys(partition)?;
        let texts: Vec<Option<Bytes>> = self.values("cannot read attempts", &keys.attempts, ids).await?;
        // What is no such text was written by another program; counting starts anew.
        let parse = |text: Bytes| std::str::from_utf8(&text).ok().and_then(Attempts::parse);
        Ok(texts.into_iter().map(|text| text.and_then(parse)).collect())
    }

    async fn held(&self, partitions: &[u16]) -> Result<Vec<Held>, BufferError> {
        held::held(self, partitions).await
    }

    async fn back_unit(
        &self,
        mark: Mark,
        parts: &[(Step<'_>, Vec<(Id, Attempts)>)],
    ) -> Result<Vec<Moved>, BufferError> {
        self.back_together(mark, parts).await
    }

    async fn bury_unit(&self, parts: &[(Step<'_>, Vec<(Id, DeadLetter)>)]) -> Result<Vec<Moved>, BufferError> {
        self.bury_together(parts).await
    }
}

#[async_trait]
impl DeadLetterStore for RedisSpace {
    async fn letter(&self, partition: u16, id: &Id) -> Result<Option<DeadLetter>, BufferError> {
        letters::letter(self, partition, id).await
    }

    async fn letters(&self, partition: u16, cursor: u64, limit: usize) -> Result<Letters, BufferError> {
        letters::page(self, partition, cursor, limit).await
    }

    async fn replay(&self, partition: u16, ids: &[Id]) -> Result<Replayed, BufferError> {
        replay::replay(self, partition, ids).await
    }

    async fn discard(&self, partition: u16, ids: &[Id]) -> Result<u64, BufferError> {
        letters::discard(self, partition, ids).await
    }
}

#[async_trait]
impl LeaseStore for RedisSpace {
    async fn take(&self, partitions: &[u16], owner: &str, ttl: Duration) -> Result<Vec<bool>, BufferError> {
        leases::take(self, partitions, owner, ttl).await
    }

    async fn heartbeat(&self, worker: &str, ttl: Duration) -> Result<Roll, BufferError> {
        leases::heartbeat(self, worker, ttl).await
    }

    async fn retire(&self, worker: &str) -> Result<(), BufferError> {
        leases::retire(self, worker).await
    }

    async fn release(&self, partitions: &[u16], owner: &str) -> Result<(), BufferError> {
        leases::release(self, partitions, owner).await
    }
}

#[async_trait]
impl Coordination for RedisSpace {
    async fn start(&self) -> Result<(), BufferError> {
        self.watch.begin(&self.connection, &self.scripts, &self.scope).await?;
        let ear = self.ear.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(ear) = ear {
            self.signals.listen(ear).await;
        }
        Ok(())
    }

    async fn confirm(&self) -> Result<(), BufferError> {
        topology::confirm(&self.connection, &self.scripts, &self.scope, &self.topology, &self.shelf.partitions).await
    }

    async fn shapes(&self, shape: &str, seen: &[SeenShape]) -> Result<SeenShapes, BufferError> {
        let mut call = self.scripts.shapes.prepare_invoke();
        call.key(keys::shapes(&self.scope)).key(keys::lineage(&self.scope)).arg(SeenShape::MOST).arg(shape);
        for SeenShape { shape, since_ms } in seen {
            call.arg(shape).arg(since_ms);
        }
        let (age_ms, seen): (u64, Vec<(Bytes, f64)>) =
            self.run("cannot look at the shapes of the entity", &call).await?;
        // A time of this century is exact as a float; what another program has written saturates.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
        let seen = seen
            .into_iter()
            .map(|(shape, since_ms)| SeenShape::new(String::from_utf8_lossy(&shape).into_owned(), since_ms as u64));
        Ok(SeenShapes::new(seen.collect(), Duration::from_millis(age_ms)))
    }

    async fn nudge(&self) -> Result<(), BufferError> {
        let mut command = redis::cmd("PUBLISH");
        command.arg(keys::nudges(&self.scope)).arg("");
        let heard: RedisResult<u64> = command.query_async(&mut self.connection.clone()).await;
        heard.map(drop).map_err(|error| classify("cannot ask for a flush", error))
    }

    async fn lineage(&self) -> Result<Lineage, BufferError> {
        self.watch.look(&self.connection, &self.scripts, &self.scope).await
    }
}

#[cfg(test)]
mod tests {
    use super::{LARGE, fitting};

    #[test]
    fn a_page_of_large_records_has_few() {
        let large = LARGE as u64;
        for (limit, weight, expected) in [
            (256, 0, 256),
            (256, 300, 256),
            (256, large, 256),
            (256, 4 * large, 64),
            (16, 1 << 20, 1),
            (256, 1 << 20, 4),
            (1, u64::MAX, 1),
            (0, 300, 1),
        ] {
            assert_eq!(fitting(limit, weight), expected, "{limit} of {weight}");
        }
    }
}
