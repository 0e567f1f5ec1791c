//! What is read page by page: the closed epoch, and the dead letters.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::buffer::record::Record;
use crate::buffer::{DeadLetter, Letters, Mark, Page};
use crate::entity::key::Id;

/// A page of records that come and go: each has a place that only its id decides, so that what is there all the time is not
/// missed. Looks at all of them: for people and tools.
pub(super) fn by_place(records: &HashMap<Id, Record>, cursor: u64, limit: usize) -> Page {
    let place = |id: &Id| {
        let mut hasher = DefaultHasher::new();
        id.hash(&mut hasher);
        // Zero is the start.
        hasher.finish().max(1)
    };
    let mut rest: Vec<_> = records.iter().map(|(id, record)| (place(id), id, record)).collect();
    rest.retain(|(place, ..)| *place >= cursor);
    rest.sort_unstable_by_key(|(place, ..)| *place);
    // Those of one place are not parted.
    let last = rest.get(limit.max(1) - 1).map_or(u64::MAX, |(place, ..)| *place);
    let (page, later) = rest.split_at(rest.partition_point(|(place, ..)| *place <= last));
    Page {
        cursor: later.first().map_or(0, |(place, ..)| *place),
        records: page.iter().map(|&(_, id, record)| (id.clone(), record.clone())).collect(),
    }
}

/// The records of the closed epoch. Each has a position from 1 that never changes, so that a page's cursor means the
/// same to every reader, whatever was removed in between.
#[derive(Debug, Default)]
pub(super) struct Closed {
    positions: HashMap<Id, u64>,
    records: BTreeMap<u64, (Id, Record)>,
}

impl Closed {
    pub(super) fn new(open: HashMap<Id, Record>) -> Self {
        let mut closed = Self::default();
        for (position, (id, record)) in (1..).zip(open) {
            closed.positions.insert(id.clone(), position);
            closed.records.insert(position, (id, record));
        }
        closed
    }

    pub(super) fn len(&self) -> usize {
        self.positions.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.positions.is_empty()
    }

    pub(super) fn contains(&self, id: &Id) -> bool {
        self.positions.contains_key(id)
    }

    pub(super) fn get(&self, id: &Id) -> Option<&Record> {
        self.records.get(self.positions.get(id)?).map(|(_, record)| record)
    }

    /// Changes what must not change; only a test gets here.
    pub(super) fn replace(&mut self, id: &Id, record: &Record) -> bool {
        let found = self.positions.get(id).and_then(|position| self.records.get_mut(position));
        found.map(|(_, before)| *before = record.clone()).is_some()
    }

    pub(super) fn remove(&mut self, id: &Id) -> Option<Record> {
        self.records.remove(&self.positions.remove(id)?).map(|(_, record)| record)
    }

    pub(super) fn page(&self, cursor: u64, limit: usize) -> Page {
        let mut rest = self.records.range(cursor..);
        let records = rest.by_ref().take(limit.max(1)).map(|(_, record)| record.clone()).collect();
        Page { cursor: rest.next().map_or(0, |(&position, _)| position), records }
    }
}

/// Dead letters, numbered in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Dead {
    numbers: HashMap<Id, u64>,
    letters: BTreeMap<u64, (Id, DeadLetter)>,
    last: u64,
}

impl Dead {
    pub(super) fn len(&self) -> usize {
        self.numbers.len()
    }

    pub(super) fn get(&self, id: &Id) -> Option<&DeadLetter> {
        self.letters.get(self.numbers.get(id)?).map(|(_, letter)| letter)
    }

    pub(super) fn insert(&mut self, id: Id, letter: DeadLetter) {
        self.last += 1;
        if let Some(before) = self.numbers.insert(id.clone(), self.last) {
            self.letters.remove(&before);
        }
        self.letters.insert(self.last, (id, letter));
    }

    pub(super) fn remove(&mut self, id: &Id) -> Option<DeadLetter> {
        self.letters.remove(&self.numbers.remove(id)?).map(|(_, letter)| letter)
    }

    /// The ids of the letters of a unit.
    pub(super) fn of_unit(&self, mark: Mark) -> Vec<Id> {
        let is_of = |letter: &DeadLetter| letter.together.as_ref().is_some_and(|together| together.mark == mark);
        self.letters.values().filter(|(_, letter)| is_of(letter)).map(|(id, _)| id.clone()).collect()
    }

    /// Newest first, so that letters that come while somebody reads on do not make the reading endless.
    pub(super) fn page(&self, cursor: u64, limit: usize) -> Letters {
        let end = if cursor == 0 { u64::MAX } else { cursor };
        let mut rest = self.letters.range(..end).rev();
        let page: Vec<_> = rest.by_ref().take(limit.max(1)).collect();
        let cursor = rest.next().and(page.last()).map_or(0, |&(&number, _)| number);
        Letters { cursor, letters: page.into_iter().map(|(_, letter)| letter.clone()).collect() }
    }
}
