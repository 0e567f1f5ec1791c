//! One partition in memory: the same keys as in Redis, as maps. Its verbs are in the files beside it.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::marks::Marked;
use super::paged::{self, Closed, Dead};
use crate::buffer::record::Record;
use crate::buffer::{Attempts, Look, Lookup, Mark, Marks, Page, Pending, Rotation, Sight, Stamp, Status, Stored};
use crate::entity::key::Id;
use crate::fault::mechanism::{Mechanism, Sabotage};

/// What stands at `r:<id>`: bytes, and when they go.
#[derive(Debug)]
pub(super) struct Copy {
    pub(super) bytes: Bytes,
    pub(super) expires: Option<Instant>,
}

#[derive(Debug, Default)]
pub(super) struct Partition {
    pub(super) open: HashMap<Id, Record>,
    pub(super) flushing: Closed,
    pub(super) log: VecDeque<Record>,
    /// The log of the epoch that is being flushed.
    pub(super) closed_log: VecDeque<Record>,
    /// Entries taken off closed logs since ever.
    pub(super) trimmed: u64,
    /// Keys that are in both.
    pub(super) both: usize,
    pub(super) copies: HashMap<Id, Copy>,
    pub(super) attempts: HashMap<Id, Attempts>,
    pub(super) dead: Dead,
    pub(super) marks: Marked,
    pub(super) lease: Option<(String, Option<Instant>)>,
    /// Epochs closed so far; the open one is this plus one.
    pub(super) closed: u64,
    pub(super) flushed: u64,
    /// The last epoch that has lost records, and how many of them nobody was told of.
    pub(super) vanished: u64,
    pub(super) untold: u64,
    /// Of the last rotation.
    pub(super) stamp: Stamp,
    /// When the open epoch, and the one that is being flushed, began to take writes.
    opened_at: Option<Instant>,
    flushing_at: Option<Instant>,
    /// Marks of what transactions have written: in the open epoch, and in the one that is being flushed.
    groups: HashMap<Id, BTreeSet<Mark>>,
    groups_flushing: HashMap<Id, BTreeSet<Mark>>,
    /// Copies at the last sweep, so that sweeping costs O(1) a copy.
    pub(super) swept: usize,
    seal: Seal,
    /// A program has said that the layout is to be left, until then.
    leaving: Option<Instant>,
    /// What a test has switched off.
    pub(super) sabotage: Sabotage,
}

/// What keeps writes out of a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Seal {
    #[default]
    Open,
    /// The layout is being left. Nothing is open.
    Leaving,
    /// Another layout is the entity's.
    Left,
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
        self.marks = Marked::default();
        self.lease = None;
        self.leaving = None;
        self.seal = if self.sabotage.lacks(Mechanism::Seal) { Seal::Open } else { Seal::Left };
    }

    /// The layout is used again; copies of its earlier life would be old.
    pub(super) fn unseal(&mut self) {
        self.copies.clear();
        self.seal = Seal::Open;
    }

    pub(super) fn is_sealed(&self) -> bool {
        self.seal == Seal::Left
    }

    /// Whether writes are refused, for whatever layout.
    pub(super) fn is_shut(&self) -> bool {
        self.seal != Seal::Open
    }

    /// The layout is to be left until then, unless it is said again.
    pub(super) fn announce(&mut self, until: Option<Instant>) {
        self.leaving = until;
        self.close();
    }

    /// The layout is not to be left: not after all, or not any more where nobody has said it lately.
    pub(super) fn stay(&mut self, forsaken: Option<Instant>) {
        let fresh = |now| self.leaving.is_some_and(|until| until > now);
        if !forsaken.is_some_and(fresh) {
            self.leaving = None;
            self.reopen();
        }
    }

    /// Takes no more writes, where nothing is open.
    fn close(&mut self) {
        if self.open_len() == 0 && !self.sabotage.lacks(Mechanism::Seal) {
            self.seal = Seal::Leaving;
        }
    }

    pub(super) fn reopen(&mut self) {
        if self.seal == Seal::Leaving {
            self.seal = Seal::Open;
        }
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

    pub(super) fn open_len(&self) -> u64 {
        (self.open.len() + self.log.len()) as u64
    }

    /// Whether an epoch was closed and is not flushed yet.
    pub(super) fn is_flushing(&self) -> bool {
        !self.flushing.is_empty() || !self.closed_log.is_empty()
    }

    pub(super) fn flushing_len(&self) -> u64 {
        (self.flushing.len() + self.closed_log.len()) as u64
    }

    /// Takes a record out of the closed epoch.
    pub(super) fn remove(&mut self, id: &Id) -> Option<Record> {
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
        let leaves = self.leaving.is_some_and(|until| until > now);
        if !self.is_flushing() {
            if self.open_len() == 0 {
                if leaves {
                    self.close();
                }
                return Rotation::Empty;
            }
            self.flushing = Closed::new(std::mem::take(&mut self.open));
            self.closed_log = std::mem::take(&mut self.log);
            self.closed += 1;
            self.untold = 0;
            self.flushing_at = Some(self.opened_at.unwrap_or(now));
            self.opened_at = Some(now);
            self.groups_flushing = std::mem::take(&mut self.groups);
            if leaves {
                self.close();
            }
        }
        self.stamp = stamp;
        if self.groups_flushing.is_empty() { Rotation::Epoch(self.closed) } else { Rotation::Marked(self.closed) }
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

    pub(super) fn stale(&self, id: &Id) -> Option<i64> {
        self.marks.newer(id)
    }

    pub(super) fn look(&self, ids: &[Id]) -> Look {
        let sight = |id: &Id| Sight {
            open: self.open.contains_key(id),
            flushing: self.flushing.contains(id),
            refused: self.attempts.contains_key(id),
            dead: self.dead.get(id).is_some(),
            stale: self.marks.newer(id).is_some(),
            discarded: self.marks.is_discarded(id),
        };
        Look {
            open_epoch: self.closed + 1,
            flushed_epoch: self.flushed,
            vanished_epoch: self.vanished,
            unmarked_epoch: self.marks.gone_until(),
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
