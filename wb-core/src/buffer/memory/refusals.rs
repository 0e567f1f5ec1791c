//! What the sink has refused: attempts that were counted, and dead letters.

use super::marks::LeftOut;
use super::partition::Partition;
use crate::buffer::record::Record;
use crate::buffer::{Attempts, DeadLetter, Held, Letters, Mark, Replay, Together};
use crate::entity::key::Id;

impl Partition {
    /// A record that is to be tried again where no other is dirty under its id.
    pub(super) fn open_if_absent(&mut self, id: &Id, record: Record, attempts: Attempts) {
        self.reopen();
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

    /// What the letter of this id belongs together with.
    pub(super) fn together(&self, id: &Id) -> Option<Together> {
        self.dead.get(id).and_then(|letter| letter.together.clone())
    }

    /// The ids of the letters of a unit.
    pub(super) fn letters_of(&self, mark: Mark) -> Vec<Id> {
        self.dead.of_unit(mark)
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
            self.marks.add(id, self.closed, LeftOut::Discarded);
        }
        found
    }
}
