//! What this process has written since the buffer lost data last: of nothing else can it say that it was not lost.

use std::collections::HashSet;
use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::entity::key::Id;

/// Ids that are remembered at least, the newest ones; twice as many at most.
const REMEMBERED: usize = 32_768;

/// Ids that were written since the last loss. Empty, and costs nothing, as long as there was none.
#[derive(Debug, Default)]
pub(crate) struct WrittenSinceLoss {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Losses of the buffer that were known when these writes were begun.
    losses: u64,
    newer: HashSet<Id>,
    older: HashSet<Id>,
}

impl WrittenSinceLoss {
    fn state(&self) -> MutexGuard<'_, State> {
        // No code that can panic runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Acknowledged; begun when so many `losses` were known.
    pub(crate) fn wrote<'a>(&self, losses: u64, ids: impl IntoIterator<Item = &'a Id>) {
        let mut state = self.state();
        if losses < state.losses {
            // It may be lost itself.
            return;
        }
        if losses > state.losses {
            *state = State { losses, ..State::default() };
        }
        for id in ids {
            if state.newer.len() >= REMEMBERED {
                state.older = mem::take(&mut state.newer);
            }
            state.newer.insert(id.clone());
        }
    }

    /// Whether a write of this id was begun and acknowledged when so many losses were known.
    pub(crate) fn has(&self, losses: u64, id: &Id) -> bool {
        let state = self.state();
        state.losses == losses && (state.newer.contains(id) || state.older.contains(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: usize) -> Id {
        Id::of(&(n as u64)).unwrap()
    }

    #[test]
    fn a_write_of_before_the_last_loss_is_not_remembered() {
        let renewed = WrittenSinceLoss::default();
        renewed.wrote(1, [&id(1)]);
        assert!(renewed.has(1, &id(1)) && !renewed.has(1, &id(2)));
        assert!(!renewed.has(2, &id(1)), "lost again");
        renewed.wrote(2, [&id(2)]);
        renewed.wrote(1, [&id(3)]);
        assert!(renewed.has(2, &id(2)) && !renewed.has(2, &id(1)) && !renewed.has(2, &id(3)));
    }

    #[test]
    fn the_newest_writes_are_remembered_and_no_more_than_twice_as_many() {
        let renewed = WrittenSinceLoss::default();
        let many = 3 * REMEMBERED;
        (0..many).for_each(|n| renewed.wrote(1, [&id(n)]));
        assert!((many - REMEMBERED..many).all(|n| renewed.has(1, &id(n))));
        let state = renewed.state();
        assert!(state.newer.len() + state.older.len() <= 2 * REMEMBERED);
        assert!(!state.newer.contains(&id(0)) && !state.older.contains(&id(0)));
    }
}
