//! One partition in memory: the same keys as in Redis, as maps.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::paged::{self, Closed, Dead};
use crate::buffer::{
    Attempts, Clean, DeadLetter, Done, Held, Holder, Letters, Look, Lookup, Mark, Marks, Moved, Origin, Page, Pending,
    Replay, Rotation, STALE_MARKS, Sight, Stamp, Status, Step, Stored, Token,
};
use crate::key::Id;
use crate::record::Record;
use crate::sabotage::{Mechanism, Sabotage};

/// What stands at `r:<id>`: bytes, and when they go.
#[derive(Debug)]
struct Copy {
    bytes: Bytes,
    expires: Option<Instant>,
}

/// Why a write is in no sink.
#[derive(Clone, Copy, Debug)]
enum LeftOut {
    /// The sink had a newer version than this one.
    Newer(i64),
    /// Its dead letter was discarded.
    Discarded,
}

#[derive(Debug, Default)]
pub(super) struct Partition {
    open: HashMap<Id, Record>,
    flushing: Closed,
    pub(super) log: VecDeque<Record>,
    /// The log of the epoch that is being flushed.
    pub(super) closed_log: VecDeque<Record>,
    /// Entries taken off closed logs since ever.
    pub(super) trimmed: u64,
    /// Keys that are in both.
    both: usize,
    copies: HashMap<Id, Copy>,
    attempts: HashMap<Id, Attempts>,
    dead: Dead,
    /// Writes that are in no sink although nothing waits, with the epoch that was closed last when that came to pass.
    marks: HashMap<Id, (u64, LeftOut)>,
    /// Last epoch of which marks are gone, and from how many marks on it is worth to look for more of them.
    unmarked: u64,
    marks_at: usize,
    lease: Option<(String, Option<Instant>)>,
    /// Epochs closed so far; the open one is this plus one.
    closed: u64,
    flushed: u64,
    /// The last epoch that has lost records, and how many of them nobody was told of.
    vanished: u64,
    untold: u64,
    /// Of the last rotation.
    stamp: Stamp,
    /// When the open epoch, and the one that is being flushed, began to take writes.
    opened_at: Option<Instant>,
    flushing_at: Option<Instant>,
    /// Marks of what transactions have written: in the open epoch, and in the one that is being flushed.
    groups: HashMap<Id, BTreeSet<Mark>>,
    groups_flushing: HashMap<Id, BTreeSet<Mark>>,
    /// Copies at the last sweep, so that sweeping costs O(1) a copy.
    swept: usize,
    /// Another layout is the entity's.
    sealed: bool,
    /// What a test has switched off.
    sabotage: Sabotage,
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
    pub(super) fn new(sabotage: Sabotage) -> Self {
        Self { sabotage, ..Self::default() }
    }

    /// The layout is left: nothing of it is dirty or dead, nobody works on it any more, and nobody writes into it.
    pub(super) fn seal(&mut self) {
        self.attempts.clear();
        self.marks.clear();
        self.lease = None;
        self.sealed = !self.sabotage.lacks(Mechanism::Seal);
    }

    /// The layout is used again; copies of its earlier life would be old.
    pub(super) fn unseal(&mut self) {
        self.copies.clear();
        self.sealed = false;
    }

    pub(super) const fn is_sealed(&self) -> bool {
        self.sealed
    }

    /// Returns whether the key became dirty.
    pub(super) fn put(&mut self, id: Id, record: Record) -> bool {
        if self.sabotage.lacks(Mechanism::ClosedEpochs) && self.flushing.replace(&id, &record) {
            return false;
        }
        let again = self.flushing.contains(&id);
        let fresh = self.open.insert(id, record).is_none();
        self.both += usize::from(fresh && again);
        fresh
    }

    pub(super) fn is_dirty(&self, id: &Id) -> bool {
        self.open.contains_key(id) || self.flushing.contains(id)
    }

    /// Keys that are dirty, each once, and entries.
    pub(super) fn dirty(&self) -> u64 {
        (self.open.len() + self.flushing.len() - self.both + self.log.len() + self.closed_log.len()) as u64
    }

    fn open_len(&self) -> u64 {
        (self.open.len() + self.log.len()) as u64
    }

    /// Whether an epoch was closed and is not flushed yet.
    pub(super) fn is_flushing(&self) -> bool {
        !self.flushing.is_empty() || !self.closed_log.is_empty()
    }

    fn flushing_len(&self) -> u64 {
        (self.flushing.len() + self.closed_log.len()) as u64
    }

    /// Takes a record out of the closed epoch.
    fn remove(&mut self, id: &Id) -> Option<Record> {
        let record = self.flushing.remove(id)?;
        self.both -= usize::from(self.open.contains_key(id));
        Some(record)
    }

    pub(super) fn get(&self, id: &Id, now: Instant) -> Lookup {
        if let Some(record) = self.open.get(id).or_else(|| self.flushing.get(id)) {
            return Lookup::Dirty(record.clone());
        }
        self.copy(id, now).map_or(Lookup::Absent, |bytes| Lookup::of_copy(bytes.clone()))
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

    pub(super) fn token(&mut self, id: &Id, token: &Token, over: Option<&Stored>, ttl: Duration, now: Instant) -> bool {
        let free = self
            .copy(id, now)
            .is_none_or(|bytes| over.is_some_and(|over| over.origin != Origin::Written && over.bytes() == bytes));
        if free {
            self.set_copy(id.clone(), Bytes::copy_from_slice(token.as_bytes()), now, Some(ttl));
        }
        free
    }

    pub(super) fn fill(&mut self, id: &Id, token: &Token, loaded: &Stored, ttl: Duration, now: Instant) -> bool {
        let stands = self.copy(id, now).is_some_and(|bytes| bytes == token.as_bytes());
        if stands {
            if ttl.is_zero() {
                self.copies.remove(id);
            } else {
                self.set_copy(id.clone(), loaded.bytes(), now, Some(ttl));
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

    pub(super) fn owned_by(&self, owner: &str, now: Instant) -> bool {
        self.lease.as_ref().is_some_and(|(holder, until)| holder == owner && until.is_none_or(|until| until > now))
    }

    pub(super) fn pending(&self, partition: u16, now: Instant) -> Option<Pending> {
        let (open, flushing) = (self.open_len(), self.flushing_len());
        let since = if !self.is_flushing() { self.opened_at } else { self.flushing_at };
        let age = since.map(|since| now.saturating_duration_since(since));
        (open + flushing > 0).then_some(Pending { partition, open, flushing, age })
    }

    pub(super) fn rotate(&mut self, owner: &str, stamp: Stamp, now: Instant) -> Rotation {
        if !self.owned_by(owner, now) {
            return Rotation::NotOwner;
        }
        if !self.is_flushing() {
            if self.open_len() == 0 {
                return Rotation::Empty;
            }
            self.flushing = Closed::new(std::mem::take(&mut self.open));
            self.closed_log = std::mem::take(&mut self.log);
            self.closed += 1;
            self.untold = 0;
            self.flushing_at = Some(self.opened_at.unwrap_or(now));
            self.opened_at = Some(now);
            self.groups_flushing = std::mem::take(&mut self.groups);
        }
        self.stamp = stamp;
        if self.groups_flushing.is_empty() { Rotation::Epoch(self.closed) } else { Rotation::Marked(self.closed) }
    }

    pub(super) fn marks_of(&self, id: &Id) -> impl Iterator<Item = Mark> {
        self.groups.get(id).into_iter().flatten().copied()
    }

    pub(super) fn mark(&mut self, id: &Id, mark: Mark) {
        self.groups.entry(id.clone()).or_default().insert(mark);
    }

    /// All of them: nothing here takes long.
    pub(super) fn marks(&self) -> Marks {
        let marks = self.groups_flushing.iter().map(|(id, marks)| (id.clone(), marks.iter().copied().collect()));
        Marks { cursor: 0, marks: marks.collect() }
    }

    pub(super) fn pick(&self, id: &Id) -> Option<Record> {
        self.flushing.get(id).cloned()
    }

    pub(super) fn claim(&self, cursor: u64, limit: usize) -> Page {
        self.flushing.page(cursor, limit)
    }

    pub(super) fn holds(&self, step: &Step<'_>, now: Instant) -> bool {
        self.checks_nothing()
            || (self.owned_by(step.owner, now) && self.closed == step.epoch && self.stamp == step.stamp)
    }

    /// Whether a test has switched off what steps look at.
    pub(super) const fn checks_nothing(&self) -> bool {
        self.sabotage.lacks(Mechanism::AckCheck)
    }

    /// A record that is to be tried again where no other is dirty under its id.
    pub(super) fn open_if_absent(&mut self, id: &Id, record: Record, attempts: Attempts) {
        if !self.open.contains_key(id) {
            self.both += usize::from(self.flushing.contains(id));
            self.open.insert(id.clone(), record);
            self.attempts.insert(id.clone(), attempts);
        }
    }

    /// What the sink has taken settles what was refused before.
    pub(super) fn settle_refusals(&mut self, id: &Id) {
        self.attempts.remove(id);
        self.dead.remove(id);
    }

    pub(super) fn has_refusals(&self) -> bool {
        !self.attempts.is_empty() || self.dead.len() > 0
    }

    pub(super) fn keep_letter(&mut self, id: &Id, letter: &DeadLetter) {
        self.dead.insert(id.clone(), letter.clone());
    }

    /// `asked` and `records`: how many the step was to move, and how many it has.
    pub(super) fn done(&mut self, step: &Step<'_>, asked: usize, records: u64) -> Moved {
        let lost = self.vanished == step.epoch || records < asked as u64;
        let done = if self.is_flushing() {
            Done::More
        } else if lost && self.flushed < step.epoch {
            Done::Gone
        } else {
            self.flushed = step.epoch;
            Done::Epoch
        };
        let untold = std::mem::take(&mut self.untold);
        let strange =
            if done == Done::Gone && self.vanished != step.epoch { (asked as u64).saturating_sub(records) } else { 0 };
        Moved { done, records, missing: untold + strange }
    }

    /// Forgets the epoch that is being flushed, as a server does whose data is deleted.
    #[cfg(feature = "testing")]
    pub(super) fn vanish(&mut self) {
        self.untold += self.flushing_len();
        if self.is_flushing() {
            self.vanished = self.closed;
        }
        self.flushing = Closed::default();
        self.closed_log.clear();
        self.both = 0;
    }

    pub(super) fn ack(&mut self, step: &Step<'_>, ids: &[Id], clean: Clean, now: Instant) -> Moved {
        if !self.holds(step, now) {
            return Moved::NOT_OWNER;
        }
        let mut moved = 0;
        for id in ids {
            let Some(record) = self.remove(id) else { continue };
            moved += 1;
            let ttl = if record.is_tombstone() { clean.negative_ttl } else { clean.ttl };
            if clean.ttl.is_zero() || ttl.is_zero() {
                self.copies.remove(id);
            } else {
                self.set_copy(id.clone(), Bytes::copy_from_slice(record.as_bytes()), now, Some(ttl));
            }
            self.attempts.remove(id);
            self.dead.remove(id);
            self.marks.remove(id);
        }
        self.done(step, ids.len(), moved)
    }

    pub(super) fn ack_stale(&mut self, step: &Step<'_>, records: &[(Id, i64)], now: Instant) -> Moved {
        if !self.holds(step, now) {
            return Moved::NOT_OWNER;
        }
        let mut moved = 0;
        for (id, version) in records {
            if self.remove(id).is_none() {
                continue;
            }
            moved += 1;
            self.copies.remove(id);
            self.attempts.remove(id);
            self.dead.remove(id);
            self.leave_out(id, LeftOut::Newer(*version));
        }
        self.done(step, records.len(), moved)
    }

    /// Beyond so many marks the older half goes, but none of this epoch: who waits for a write asks soon after its epoch.
    fn leave_out(&mut self, id: &Id, what: LeftOut) {
        let epoch = self.closed;
        self.marks.insert(id.clone(), (epoch, what));
        if self.marks.len() <= STALE_MARKS.max(self.marks_at) {
            return;
        }
        let mut old: Vec<(u64, Id)> =
            self.marks.iter().filter(|(_, (of, _))| *of < epoch).map(|(id, (of, _))| (*of, id.clone())).collect();
        old.sort_unstable();
        for (of, id) in old.into_iter().take(self.marks.len() / 2) {
            self.marks.remove(&id);
            self.unmarked = self.unmarked.max(of);
        }
        self.marks_at = 2 * self.marks.len();
    }

    pub(super) fn stale(&self, id: &Id) -> Option<i64> {
        match self.marks.get(id) {
            Some((_, LeftOut::Newer(version))) => Some(*version),
            Some((_, LeftOut::Discarded)) | None => None,
        }
    }

    pub(super) fn back(&mut self, step: &Step<'_>, records: &[(Id, Attempts)], now: Instant) -> Moved {
        if !self.holds(step, now) {
            return Moved::NOT_OWNER;
        }
        let mut moved = 0;
        for (id, attempts) in records {
            let Some(record) = self.remove(id) else { continue };
            moved += 1;
            // This moves against the readers' order: one that has looked into `open` already finds the copy.
            self.set_copy(id.clone(), Bytes::copy_from_slice(record.as_bytes()), now, None);
            if !self.open.contains_key(id) || self.sabotage.lacks(Mechanism::BackIfAbsent) {
                self.open.insert(id.clone(), record);
            }
            self.attempts.insert(id.clone(), *attempts);
        }
        self.done(step, records.len(), moved)
    }

    pub(super) fn bury(&mut self, step: &Step<'_>, letters: &[(Id, DeadLetter)], now: Instant) -> Moved {
        if !self.holds(step, now) {
            return Moved::NOT_OWNER;
        }
        let mut moved = 0;
        for (id, letter) in letters {
            let Some(record) = self.remove(id) else { continue };
            moved += 1;
            self.set_copy(id.clone(), Bytes::copy_from_slice(record.as_bytes()), now, None);
            self.attempts.remove(id);
            self.dead.insert(id.clone(), letter.clone());
        }
        self.done(step, letters.len(), moved)
    }

    pub(super) fn look(&self, ids: &[Id]) -> Look {
        let sight = |id: &Id| Sight {
            open: self.open.contains_key(id),
            flushing: self.flushing.contains(id),
            refused: self.attempts.contains_key(id),
            dead: self.dead.get(id).is_some(),
            stale: self.stale(id).is_some(),
            discarded: matches!(self.marks.get(id), Some((_, LeftOut::Discarded))),
        };
        Look {
            open_epoch: self.closed + 1,
            flushed_epoch: self.flushed,
            vanished_epoch: self.vanished,
            unmarked_epoch: self.unmarked,
            entries: self.log.len() as u64,
            closed_entries: self.closed_log.len() as u64,
            sights: ids.iter().map(sight).collect(),
        }
    }

    /// Whether this is what a reader finds now.
    pub(super) fn stands(&self, id: &Id, expected: &Stored, now: Instant) -> bool {
        match self.get(id, now) {
            Lookup::Dirty(record) => Stored::written(record) == *expected,
            Lookup::Clean(stored) => stored == *expected,
            Lookup::Loading(_) | Lookup::Absent => false,
        }
    }

    pub(super) fn attempts(&self, id: &Id) -> Option<Attempts> {
        self.attempts.get(id).copied()
    }

    pub(super) fn held(&self, partition: u16) -> Vec<Held> {
        let held = self.attempts.iter().filter(|(_, attempts)| attempts.is_held());
        held.map(|(id, &attempts)| Held { partition, id: id.clone(), attempts }).collect()
    }

    pub(super) fn letter(&self, id: &Id) -> Option<DeadLetter> {
        self.dead.get(id).cloned()
    }

    pub(super) fn letters(&self, cursor: u64, limit: usize) -> Letters {
        self.dead.page(cursor, limit)
    }

    /// The letter's payload dirty again, if nothing newer is.
    pub(super) fn replay(&mut self, id: &Id) -> Replay {
        if self.is_dirty(id) && self.dead.get(id).is_some() {
            return Replay::Superseded;
        }
        let Some(letter) = self.dead.remove(id) else { return Replay::Absent };
        self.attempts.remove(id);
        self.open.insert(id.clone(), Record::from_bytes(letter.payload));
        Replay::Again
    }

    /// Whether there was a letter.
    pub(super) fn discard(&mut self, id: &Id) -> bool {
        let found = self.dead.remove(id).is_some();
        // A newer state has attempts and a copy of its own.
        if found && !self.is_dirty(id) {
            self.attempts.remove(id);
            self.copies.remove(id);
            // Who waits for the write is not to take it for one that is in the sink.
            self.leave_out(id, LeftOut::Discarded);
        }
        found
    }

    /// Whether there was a copy, or the mark of a load, that has an end.
    pub(super) fn invalidate(&mut self, id: &Id, now: Instant) -> bool {
        let ends = self.copies.get(id).is_some_and(|copy| copy.expires.is_some());
        let stood = ends && self.copy(id, now).is_some();
        if ends {
            self.copies.remove(id);
        }
        stood
    }

    pub(super) fn scan_open(&self, cursor: u64, limit: usize) -> Page {
        paged::by_place(&self.open, cursor, limit)
    }

    pub(super) fn status(&self) -> Status {
        Status {
            open_epoch: self.closed + 1,
            flushed_epoch: self.flushed,
            vanished_epoch: self.vanished,
            missing: self.untold,
            open: self.open_len(),
            flushing: self.flushing_len(),
            dead: self.dead.len() as u64,
        }
    }
}
