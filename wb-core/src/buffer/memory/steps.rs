//! The steps that finish records of a closed epoch.

use bytes::Bytes;
use tokio::time::Instant;

use super::marks::LeftOut;
use super::partition::Partition;
use crate::buffer::{Attempts, Clean, DeadLetter, Done, Moved, Step};
use crate::entity::key::Id;
use crate::fault::mechanism::Mechanism;

impl Partition {
    pub(super) fn holds(&self, step: &Step<'_>, now: Instant) -> bool {
        self.checks_nothing()
            || (self.owned_by(step.owner, now) && self.closed == step.epoch && self.stamp == step.stamp)
    }

    /// Whether a test has switched off what steps look at.
    pub(super) const fn checks_nothing(&self) -> bool {
        self.sabotage.lacks(Mechanism::AckCheck)
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
            self.marks.add(id, self.closed, LeftOut::Newer(*version));
        }
        self.done(step, records.len(), moved)
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
            self.reopen();
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
}
