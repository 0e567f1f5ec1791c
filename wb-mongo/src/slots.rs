//! Which slot of its fences a batch uses: one that no other batch of this process has now.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wb_core::Scope;

use crate::fence::SLOTS;

/// The free slots of every entity.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    entities: Mutex<HashMap<(String, &'static str), Arc<Free>>>,
}

/// The free slots of one entity, the longest unused first: a slot whose transaction was left open on the server comes
/// up again as late as can be.
#[derive(Debug)]
struct Free {
    numbers: Mutex<VecDeque<u8>>,
    count: Arc<Semaphore>,
}

impl Free {
    fn numbers(&self) -> MutexGuard<'_, VecDeque<u8>> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A slot that is in use until it is dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    number: u8,
    free: Arc<Free>,
    /// Given back after the number, so that who comes in finds one.
    _permit: Option<OwnedSemaphorePermit>,
}

impl Slots {
    /// Takes a slot; waits for one when all are in use.
    pub(crate) async fn take(&self, scope: &Scope) -> Slot {
        let free = self.of(scope);
        // Fails only when closed, which it never is; a slot that is shared costs a retry, and never safety.
        let permit = free.count.clone().acquire_owned().await.ok();
        let number = free.numbers().pop_front().unwrap_or_default();
        Slot { number, free, _permit: permit }
    }

    fn of(&self, scope: &Scope) -> Arc<Free> {
        let mut entities = self.entities.lock().unwrap_or_else(PoisonError::into_inner);
        let free = entities.entry((scope.namespace.clone(), scope.entity)).or_insert_with(|| {
            Arc::new(Free {
                numbers: Mutex::new((0..SLOTS).collect()),
                count: Arc::new(Semaphore::new(usize::from(SLOTS))),
            })
        });
        free.clone()
    }
}

impl Slot {
    pub(crate) const fn number(&self) -> u8 {
        self.number
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.free.numbers().push_back(self.number);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn no_two_batches_of_an_entity_have_the_same_slot() {
        let slots = Slots::default();
        let (posts, users) = (Scope::new("blog", "post", 16), Scope::new("blog", "user", 16));
        let mut taken = Vec::new();
        for _ in 0..SLOTS {
            taken.push(slots.take(&posts).await);
        }
        let mut numbers: Vec<u8> = taken.iter().map(Slot::number).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..SLOTS).collect::<Vec<_>>());

        // One more waits; another entity's does not.
        assert!(slots.take(&posts).now_or_never().is_none());
        drop(slots.take(&users).await);
        let freed = taken.swap_remove(3).number();
        assert_eq!(slots.take(&posts).await.number(), freed);
    }

    #[tokio::test]
    async fn a_slot_comes_up_again_as_late_as_can_be() {
        let slots = Slots::default();
        let posts = Scope::new("blog", "post", 16);
        let mut numbers = Vec::new();
        for _ in 0..=SLOTS {
            numbers.push(slots.take(&posts).await.number());
        }
        assert_eq!(numbers, (0..SLOTS).chain([0]).collect::<Vec<_>>());
    }
}
