//! Marks of writes that are in no sink although nothing waits, so that nobody who waits for one takes it for written.

use std::collections::HashMap;

use crate::buffer::STALE_MARKS;
use crate::entity::key::Id;

/// Why a write is in no sink.
#[derive(Clone, Copy, Debug)]
pub(super) enum LeftOut {
    /// The sink had a newer version than this one.
    Newer(i64),
    /// Its dead letter was discarded.
    Discarded,
}

/// The marks of a partition, each with the epoch that was closed last when it was left.
#[derive(Debug, Default)]
pub(super) struct Marked {
    marks: HashMap<Id, (u64, LeftOut)>,
    /// Last epoch of which marks are gone.
    gone_until: u64,
    /// From how many marks on it is worth to look for more that may go.
    again_at: usize,
}

impl Marked {
    /// Beyond so many marks the older half goes, but none of this epoch: who waits for a write asks soon after its epoch.
    pub(super) fn add(&mut self, id: &Id, epoch: u64, what: LeftOut) {
        self.marks.insert(id.clone(), (epoch, what));
        if self.marks.len() <= STALE_MARKS.max(self.again_at) {
            return;
        }
        let mut old: Vec<(u64, Id)> =
            self.marks.iter().filter(|(_, (of, _))| *of < epoch).map(|(id, (of, _))| (*of, id.clone())).collect();
        old.sort_unstable();
        for (of, id) in old.into_iter().take(self.marks.len() / 2) {
            self.marks.remove(&id);
            self.gone_until = self.gone_until.max(of);
        }
        self.again_at = 2 * self.marks.len();
    }

    /// A later state of the key is in the sink.
    pub(super) fn remove(&mut self, id: &Id) {
        self.marks.remove(id);
    }

    /// The version that the sink had a newer one of.
    pub(super) fn newer(&self, id: &Id) -> Option<i64> {
        match self.marks.get(id) {
            Some((_, LeftOut::Newer(version))) => Some(*version),
            Some((_, LeftOut::Discarded)) | None => None,
        }
    }

    pub(super) fn is_discarded(&self, id: &Id) -> bool {
        matches!(self.marks.get(id), Some((_, LeftOut::Discarded)))
    }

    pub(super) const fn gone_until(&self) -> u64 {
        self.gone_until
    }
}
