//! Counts of changes, so that what was read before a change is not kept after it.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::entity::key::Id;

/// Ids share so many counts; one that shares its count with a hot id is kept less often, never wrongly.
const STRIPES: usize = 256;

#[derive(Debug)]
pub(crate) struct Stripes {
    counts: Vec<Mutex<u64>>,
}

impl Stripes {
    pub(crate) fn new() -> Self {
        Self { counts: (0..STRIPES).map(|_| Mutex::new(0)).collect() }
    }

    /// Only what never panics runs under a lock, so a poisoned count is whole.
    fn count(&self, id: &Id) -> Option<MutexGuard<'_, u64>> {
        let mut hasher = DefaultHasher::new();
        id.hash(&mut hasher);
        let stripe = usize::try_from(hasher.finish() % STRIPES as u64).unwrap_or(0);
        Some(self.counts.get(stripe)?.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// To be taken before a state is read.
    pub(crate) fn stamp(&self, id: &Id) -> u64 {
        self.count(id).map_or(0, |count| *count)
    }

    /// Runs `keep` if nothing has changed since the stamp; nothing changes meanwhile.
    pub(crate) fn unless_changed(&self, id: &Id, stamp: u64, keep: impl FnOnce()) {
        if let Some(count) = self.count(id)
            && *count == stamp
        {
            keep();
        }
    }

    /// Something has changed; nothing that was read before is kept after `remove` has run.
    pub(crate) fn change(&self, id: &Id, remove: impl FnOnce()) {
        if let Some(mut count) = self.count(id) {
            *count += 1;
            remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_before_a_change_is_not_kept() -> Result<(), crate::entity::key::KeyError> {
        let (stripes, id) = (Stripes::new(), Id::of(&1_u64)?);
        let keeps = |stamp| {
            let mut kept = false;
            stripes.unless_changed(&id, stamp, || kept = true);
            kept
        };
        let before = stripes.stamp(&id);
        assert!(keeps(before));
        stripes.change(&id, || ());
        assert!(!keeps(before), "sent");
        let between = stripes.stamp(&id);
        assert!(keeps(between), "until it is acknowledged");
        stripes.change(&id, || ());
        assert!(!keeps(between), "acknowledged");
        assert!(keeps(stripes.stamp(&id)));
        Ok(())
    }
}
