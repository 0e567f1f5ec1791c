//! What this process knows of the epochs of its partitions, and since when: a write that was begun when an epoch was known to be
//! the open one is in that epoch, or in a later one.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The epochs that a process knows.
#[derive(Debug, Default)]
pub(crate) struct ObservedEpochs {
    /// Grows with everything that is learned.
    moment: AtomicU64,
    known: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Losses of the buffer that were known when the first of this was learned: a buffer that lost data counts anew.
    losses: u64,
    partitions: HashMap<u16, Known>,
}

/// Of one partition; each number with the moment at which it was learned.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    open: (u64, u64),
    vanished: (u64, u64),
}

/// What was known of a partition when a write was begun.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Before {
    /// The write is in this epoch, or in a later one; 0: nothing is known.
    pub(crate) epoch: u64,
    /// The last epoch that had lost records.
    pub(crate) vanished: u64,
}

impl ObservedEpochs {
    fn known(&self) -> MutexGuard<'_, State> {
        // No code that can panic runs under the lock.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn now(&self) -> u64 {
        self.moment.load(Ordering::Acquire)
    }

    /// A look that was begun when so many `losses` of the buffer were known. `vanished` is `None` where it was not looked for.
    pub(crate) fn saw(&self, partition: u16, losses: u64, open: u64, vanished: Option<u64>) {
        let mut state = self.known();
        if losses < state.losses {
            // It may be of the data that are lost.
            return;
        }
        if losses > state.losses {
            *state = State { losses, partitions: HashMap::new() };
        }
        let known = state.partitions.entry(partition).or_default();
        let vanished = vanished.filter(|vanished| *vanished > known.vanished.0);
        if open > known.open.0 || vanished.is_some() {
            let moment = self.moment.fetch_add(1, Ordering::AcqRel) + 1;
            if open > known.open.0 {
                known.open = (open, moment);
            }
            if let Some(vanished) = vanished {
                known.vanished = (vanished, moment);
            }
        }
    }

    /// What was known of a partition at a moment, with so many losses.
    pub(crate) fn before(&self, partition: u16, losses: u64, moment: u64) -> Before {
        let state = self.known();
        let known = state.partitions.get(&partition).copied().filter(|_| state.losses == losses).unwrap_or_default();
        let by_then = |(number, learned): (u64, u64)| if learned <= moment { number } else { 0 };
        Before { epoch: by_then(known.open), vanished: by_then(known.vanished) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_learned_after_a_write_says_nothing_of_it() {
        let observed = ObservedEpochs::default();
        let first = observed.now();
        observed.saw(3, 0, 7, Some(2));
        assert_eq!(observed.before(3, 0, first), Before::default());
        let second = observed.now();
        assert_eq!(observed.before(3, 0, second), Before { epoch: 7, vanished: 2 });
        observed.saw(3, 0, 8, None);
        assert_eq!(observed.before(3, 0, second), Before { epoch: 0, vanished: 2 });
        assert_eq!(observed.before(3, 0, observed.now()), Before { epoch: 8, vanished: 2 });
        // A buffer that lost its data counts from anew; a look of before says nothing any more.
        observed.saw(3, 1, 1, Some(0));
        observed.saw(3, 0, 9, Some(9));
        assert_eq!(observed.before(3, 1, observed.now()), Before { epoch: 1, vanished: 0 });
    }
}
