//! One partition in memory: the same keys as in Redis, as maps.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::buffer::{Attempts, Clean, DeadLetter, Done, Holder, Lookup, Page, Pending, Rotation, Status, Step, Token};
use crate::key::Id;
use crate::record::Record;

/// What stands at `r:<id>`: bytes, and when they go.
#[derive(Debug)]
struct Copy {
    bytes: Bytes,
    expires: Option<Instant>,
}

#[derive(Debug, Default)]
pub(super) struct Partition {
    open: HashMap<Id, Record>,
    flushing: Closed,
    copies: HashMap<Id, Copy>,
    attempts: HashMap<Id, Attempts>,
    dead: BTreeMap<Id, DeadLetter>,
    lease: Option<(String, Option<Instant>)>,
    /// Epochs closed so far; the open one is this plus one.
    closed: u64,
    flushed: u64,
    /// When the open epoch, and the one that is being flushed, began to take writes.
    opened_at: Option<Instant>,
    flushing_at: Option<Instant>,
    /// Copies at the last sweep, so that sweeping costs O(1) a copy.
    swept: usize,
}

/// The records of the closed epoch. Each has a position from 1 that never changes, so that a page's cursor means the
/// same to every reader, whatever was removed in between.
#[derive(Debug, Default)]
struct Closed {
    positions: HashMap<Id, u64>,
    records: BTreeMap<u64, (Id, Record)>,
}

impl Closed {
    fn new(open: HashMap<Id, Record>) -> Self {
        let mut closed = Self::default();
        for (position, (id, record)) in (1..).zip(open) {
            closed.positions.insert(id.clone(), position);
            closed.records.insert(position, (id, record));
        }
        closed
    }

    fn len(&self) -> usize {
        self.positions.len()
    }

    fn is_empty(&self) -> bool {
        self.positions.is_empty()
    }

    fn get(&self, id: &Id) -> Option<&Record> {
        self.records.get(self.positions.get(id)?).map(|(_, record)| record)
    }

    fn remove(&mut self, id: &Id) -> Option<Record> {
        self.records.remove(&self.positions.remove(id)?).map(|(_, record)| record)
    }

    fn page(&self, cursor: u64, limit: usize) -> Page {
        let mut rest = self.records.range(cursor..);
        let records = rest.by_ref().take(limit.max(1)).map(|(_, record)| record.clone()).collect();
        Page { cursor: rest.next().map_or(0, |(&position, _)| position), records }
    }
}

/// When something ends that lives for `ttl`; `None` when that is beyond what the clock can say.
pub(super) fn end(now: Instant, ttl: Duration) -> Option<Instant> {
    now.checked_add(ttl)
}

/// Locks a partition. No code that can panic runs under the lock, so a poisoned one is whole.
pub(super) fn lock(partition: &Mutex<Partition>) -> MutexGuard<'_, Partition> {
    partition.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Partition {
    /// Returns whether the key became dirty.
    pub(super) fn put(&mut self, id: Id, record: Record) -> bool {
        self.open.insert(id, record).is_none()
    }

    pub(super) fn get(&self, id: &Id, now: Instant) -> Lookup {
        if let Some(record) = self.open.get(id).or_else(|| self.flushing.get(id)) {
            return Lookup::Dirty(record.clone());
        }
        self.copy(id, now).map_or(Lookup::Absent, |bytes| Token::or_record(bytes.clone()))
    }

    fn copy(&self, id: &Id, now: Instant) -> Option<&Bytes> {
        self.copies.get(id).filter(|copy| copy.expires.is_none_or(|at| at > now)).map(|copy| &copy.bytes)
    }

    fn set_copy(&mut self, id: Id, bytes: Bytes, now: Instant, ttl: Option<Duration>) {
        let expires = ttl.and_then(|ttl| end(now, ttl));
        self.copies.insert(id, Copy { bytes, expires });
        // Expired copies are swept when their number has doubled: amortized O(1).
        if self.copies.len() > 2 * self.swept.max(64) {
            self.copies.retain(|_, copy| copy.expires.is_none_or(|at| at > now));
            self.swept = self.copies.len();
        }
    }

    pub(super) fn token(&mut self, id: &Id, token: &Token, ttl: Duration, now: Instant) -> bool {
        let free = self.copy(id, now).is_none();
        if free {
            self.set_copy(id.clone(), Bytes::copy_from_slice(token.as_bytes()), now, Some(ttl));
        }
        free
    }

    pub(super) fn fill(&mut self, id: &Id, token: &Token, record: &Record, ttl: Duration, now: Instant) -> bool {
        let stands = self.copy(id, now).is_some_and(|bytes| bytes == token.as_bytes());
        if stands {
            if ttl.is_zero() {
                self.copies.remove(id);
            } else {
                self.set_copy(id.clone(), Bytes::copy_from_slice(record.as_bytes()), now, Some(ttl));
            }
        }
        stands
    }

    pub(super) fn take(&mut self, owner: &str, ttl: Duration, now: Instant) -> bool {
        let mine = self
            .lease
            .as_ref()
            .is_none_or(|(holder, until)| holder == owner || until.is_some_and(|until| until <= now));
        if mine {
            self.lease = Some((owner.to_owned(), end(now, ttl)));
        }
        mine
    }

    pub(super) fn renew(&mut self, worker: &str, ttl: Duration, now: Instant) -> Holder {
        match &mut self.lease {
            Some((_, until)) if until.is_some_and(|until| until <= now) => Holder::Nobody,
            Some((holder, until)) if holder == worker => {
                *until = end(now, ttl);
                Holder::Caller
            }
            Some(_) => Holder::Other,
            None => Holder::Nobody,
        }
    }

    pub(super) fn release(&mut self, owner: &str) {
        if self.lease.as_ref().is_some_and(|(holder, _)| holder == owner) {
            self.lease = None;
        }
    }

    fn owned_by(&self, owner: &str, now: Instant) -> bool {
        self.lease.as_ref().is_some_and(|(holder, until)| holder == owner && until.is_none_or(|until| until > now))
    }

    pub(super) fn pending(&self, partition: u16, now: Instant) -> Option<Pending> {
        let since = if self.flushing.is_empty() { self.opened_at } else { self.flushing_at };
        let (open, flushing) = (self.open.len() as u64, self.flushing.len() as u64);
        let age = since.map(|since| now.saturating_duration_since(since));
        (open + flushing > 0).then_some(Pending { partition, open, flushing, age })
    }

    pub(super) fn rotate(&mut self, owner: &str, now: Instant) -> Rotation {
        if !self.owned_by(owner, now) {
            return Rotation::NotOwner;
        }
        if self.flushing.is_empty() {
            if self.open.is_empty() {
                return Rotation::Empty;
            }
            self.flushing = Closed::new(std::mem::take(&mut self.open));
            self.closed += 1;
            self.flushing_at = Some(self.opened_at.unwrap_or(now));
            self.opened_at = Some(now);
        }
        Rotation::Epoch(self.closed)
    }

    pub(super) fn claim(&self, cursor: u64, limit: usize) -> Page {
        self.flushing.page(cursor, limit)
    }

    fn holds(&self, step: &Step<'_>, now: Instant) -> bool {
        self.owned_by(step.owner, now) && self.closed == step.epoch
    }

    fn done(&mut self, step: &Step<'_>) -> Done {
        if self.flushing.is_empty() {
            self.flushed = step.epoch;
            Done::Epoch
        } else {
            Done::More
        }
    }

    pub(super) fn ack(&mut self, step: &Step<'_>, ids: &[Id], clean: Clean, now: Instant) -> Done {
        if !self.holds(step, now) {
            return Done::NotOwner;
        }
        for id in ids {
            let Some(record) = self.flushing.remove(id) else { continue };
            let ttl = if record.is_tombstone() { clean.negative_ttl } else { clean.ttl };
            if clean.ttl.is_zero() || ttl.is_zero() {
                self.copies.remove(id);
            } else {
                self.set_copy(id.clone(), Bytes::copy_from_slice(record.as_bytes()), now, Some(ttl));
            }
            self.attempts.remove(id);
            self.dead.remove(id);
        }
        self.done(step)
    }

    pub(super) fn back(&mut self, step: &Step<'_>, records: &[(Id, Attempts)], now: Instant) -> Done {
        if !self.holds(step, now) {
            return Done::NotOwner;
        }
        for (id, attempts) in records {
            let Some(record) = self.flushing.remove(id) else { continue };
            // This moves against the readers' order: one that has looked into `open` already finds the copy.
            self.set_copy(id.clone(), Bytes::copy_from_slice(record.as_bytes()), now, None);
            if self.open.contains_key(id) {
                self.attempts.remove(id);
            } else {
                self.open.insert(id.clone(), record);
                self.attempts.insert(id.clone(), *attempts);
            }
        }
        self.done(step)
    }

    pub(super) fn bury(&mut self, step: &Step<'_>, letters: &[(Id, DeadLetter)], now: Instant) -> Done {
        if !self.holds(step, now) {
            return Done::NotOwner;
        }
        for (id, letter) in letters {
            let Some(record) = self.flushing.remove(id) else { continue };
            self.set_copy(id.clone(), Bytes::copy_from_slice(record.as_bytes()), now, None);
            self.attempts.remove(id);
            self.dead.insert(id.clone(), letter.clone());
        }
        self.done(step)
    }

    pub(super) fn attempts(&self, id: &Id) -> Option<Attempts> {
        self.attempts.get(id).copied()
    }

    pub(super) fn letter(&self, id: &Id) -> Option<DeadLetter> {
        self.dead.get(id).cloned()
    }

    pub(super) fn status(&self) -> Status {
        Status {
            open_epoch: self.closed + 1,
            flushed_epoch: self.flushed,
            open: self.open.len() as u64,
            flushing: self.flushing.len() as u64,
            dead: self.dead.len() as u64,
        }
    }
}
