//! Deletes of parents that wait for their children, and for what each of them waits. Only in this process: another worker
//! holds them anew, and is later by one flush of the children.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::buffer::Held;
use crate::buffer::record::digest;
use crate::entity::key::Id;
use crate::error::buffer::{BufferError, BufferErrorKind};
use crate::relations::Relative;
use crate::runtime::context::{Dirty, EpochOf};

/// Deletes that are remembered at most, some 12 MiB. Those beyond it wait until there is room.
const MOST: usize = 1 << 18;

#[derive(Default)]
pub(crate) struct DeferredDeletes(Mutex<Book>);

#[derive(Default)]
struct Book {
    by_id: HashMap<u64, Hold>,
    /// What is waited for, by number; what is over is not there any more.
    waits: BTreeMap<u64, Vec<Wait>>,
    numbers: u64,
    /// Of the flush cycle that is under way.
    round: u64,
}

#[derive(Clone, Copy, Debug)]
struct Hold {
    wait: u64,
    first_ms: u64,
    /// The last cycle that saw it.
    round: u64,
}

/// What an entity knows of a delete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// Nothing: it is new, or this worker is.
    Nothing,
    /// It has been waiting since then, and still is.
    Waits { first_ms: u64 },
    /// What it waited for is in the sink.
    Free,
}

/// What a child had dirty at one moment.
#[derive(Clone)]
pub(crate) struct Wait {
    child: Arc<dyn Relative>,
    epochs: Vec<EpochOf>,
    /// Partitions that could not be looked at: what they hold is waited for once they can.
    unknown: Vec<u16>,
    held: Vec<Held>,
}

impl Wait {
    /// What `child` has dirty now; `None` when that is nothing.
    pub(crate) async fn on(child: Arc<dyn Relative>) -> Result<Option<Self>, BufferError> {
        let Dirty { epochs, unknown } = child.dirty_now().await?;
        let unknown: Vec<u16> = unknown.into_iter().map(|(partition, _)| partition).collect();
        let waits = !epochs.is_empty() || !unknown.is_empty();
        Ok(waits.then(|| Self { child, epochs, unknown, held: Vec::new() }))
    }

    /// Whether all of it is in the sink, or refused. A delete that the child itself holds is not: it went into an epoch,
    /// and came out of it again.
    async fn is_over(&mut self) -> Result<bool, BufferError> {
        if !self.unknown.is_empty() {
            let now = self.child.dirty_in(&self.unknown).await?;
            self.epochs.extend(now.epochs);
            self.unknown = now.unknown.into_iter().map(|(partition, _)| partition).collect();
        }
        if !self.epochs.is_empty() {
            let left = self.child.unflushed(self.epochs.clone()).await?;
            if self.child.holds_deletes() {
                let ended = self.epochs.iter().filter(|epoch| !left.contains(epoch));
                let ended: Vec<u16> = ended.map(|(partition, _)| *partition).collect();
                self.held.extend(self.child.held(&ended).await?);
            }
            // Only now: a look that fails half-way leaves everything waited for.
            self.epochs = left;
        }
        if !self.held.is_empty() {
            self.held = self.child.still_held(self.held.clone()).await?;
        }
        Ok(self.epochs.is_empty() && self.unknown.is_empty() && self.held.is_empty())
    }
}

fn key(id: &Id) -> u64 {
    digest(&[id.as_bytes()])
}

impl DeferredDeletes {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.book().by_id.is_empty()
    }

    /// A flush cycle begins: looks what is not waited for any more. The book is changed only by what was seen: a look that
    /// fails, or is given up half-way, tells nothing, and is repeated with the next cycle.
    pub(crate) async fn begin(&self) -> Result<(), BufferError> {
        let numbers: Vec<u64> = {
            let mut book = self.book();
            book.round += 1;
            book.waits.keys().copied().collect()
        };
        for number in numbers {
            let Some(waits) = self.book().waits.get(&number).cloned() else { continue };
            let mut still = Vec::new();
            for mut wait in waits {
                match wait.is_over().await {
                    Ok(true) => {}
                    Ok(false) => still.push(wait),
                    // A partition of the child that cannot be used is told by the child, and holds up what waits for it.
                    Err(error) if error.kind() == BufferErrorKind::Misconfigured => still.push(wait),
                    Err(error) => return Err(error),
                }
            }
            let mut book = self.book();
            if still.is_empty() {
                book.waits.remove(&number);
            } else {
                book.waits.insert(number, still);
            }
        }
        Ok(())
    }

    /// A flush cycle has settled everything that was dirty: what it has not seen is held no more.
    pub(crate) fn end(&self) {
        let mut book = self.book();
        let round = book.round;
        book.by_id.retain(|_, hold| hold.round == round);
        if book.by_id.is_empty() {
            book.waits.clear();
            book.by_id.shrink_to_fit();
        }
    }

    /// A delete is about to be flushed: may it be?
    pub(crate) fn ask(&self, id: &Id) -> Known {
        let mut book = self.book();
        let Book { by_id, waits, round, .. } = &mut *book;
        let Some(hold) = by_id.get_mut(&key(id)) else { return Known::Nothing };
        hold.round = *round;
        if waits.contains_key(&hold.wait) { Known::Waits { first_ms: hold.first_ms } } else { Known::Free }
    }

    /// Deletes may wait for these from now on; returns their number.
    pub(crate) fn wait_for(&self, waits: Vec<Wait>) -> u64 {
        let mut book = self.book();
        book.numbers += 1;
        let number = book.numbers;
        book.waits.insert(number, waits);
        number
    }

    /// This delete waits from now on, if there is room to remember it.
    pub(crate) fn add(&self, id: &Id, wait: u64, first_ms: u64) {
        let mut book = self.book();
        if book.by_id.len() < MOST {
            let round = book.round;
            book.by_id.insert(key(id), Hold { wait, first_ms, round });
        }
    }

    /// The key was settled, or is written again: a later delete of it waits anew.
    pub(crate) fn forget<'a>(&self, ids: impl Iterator<Item = &'a Id>) {
        let mut book = self.book();
        if !book.by_id.is_empty() {
            ids.for_each(|id| {
                book.by_id.remove(&key(id));
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
    use std::time::Duration;

    use async_trait::async_trait;
    use tokio::sync::watch;

    use super::*;
    use crate::buffer::Attempts;

    /// A child with one dirty epoch, out of which a delete of its own comes that is held.
    #[derive(Default)]
    struct Child {
        flushed: AtomicBool,
        /// Calls before the one that fails; after it the buffer is well again.
        good: AtomicU32,
        fails: AtomicBool,
        hangs: AtomicBool,
    }

    impl Child {
        async fn pass(&self) -> Result<(), BufferError> {
            if self.good.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
                return Ok(());
            }
            if self.hangs.load(Ordering::SeqCst) {
                std::future::pending::<()>().await;
            }
            match self.fails.swap(false, Ordering::SeqCst) {
                true => Err(BufferError::new(BufferErrorKind::Unavailable, "for a moment")),
                false => Ok(()),
            }
        }
    }

    #[async_trait]
    impl Relative for Child {
        fn nudge(&self) {}
        fn child_flushed(&self) {}
        fn cycles(&self) -> watch::Receiver<u64> {
            watch::channel(0).1
        }
        fn holds_deletes(&self) -> bool {
            true
        }
        async fn dirty_now(&self) -> Result<Dirty, BufferError> {
            Ok(Dirty { epochs: vec![(0, 1)], unknown: Vec::new() })
        }
        async fn dirty_in(&self, _: &[u16]) -> Result<Dirty, BufferError> {
            self.dirty_now().await
        }
        async fn unflushed(&self, epochs: Vec<EpochOf>) -> Result<Vec<EpochOf>, BufferError> {
            self.pass().await?;
            Ok(Vec::from_iter(epochs.into_iter().filter(|_| !self.flushed.load(Ordering::SeqCst))))
        }
        async fn held(&self, partitions: &[u16]) -> Result<Vec<Held>, BufferError> {
            self.pass().await?;
            let id = Id::of(&7_u64).expect("a key");
            Ok(partitions
                .iter()
                .map(|&partition| Held { partition, id: id.clone(), attempts: Attempts::held(1) })
                .collect())
        }
        async fn holds_rows(&self) -> Result<bool, BufferError> {
            Ok(false)
        }

        async fn still_held(&self, held: Vec<Held>) -> Result<Vec<Held>, BufferError> {
            self.pass().await?;
            Ok(held)
        }
    }

    async fn waiting(child: &Arc<Child>) -> (DeferredDeletes, Id) {
        let (holds, id) = (DeferredDeletes::default(), Id::of(&1_u64).expect("a key"));
        let wait = Wait::on(child.clone()).await.expect("it answers").expect("it is dirty");
        let number = holds.wait_for(vec![wait]);
        holds.add(&id, number, 1);
        (holds, id)
    }

    #[tokio::test]
    async fn a_look_that_fails_releases_no_delete() {
        for good in 0..3 {
            let child = Arc::new(Child::default());
            let (holds, id) = waiting(&child).await;
            child.flushed.store(good > 0, Ordering::SeqCst);
            child.good.store(good, Ordering::SeqCst);
            child.fails.store(true, Ordering::SeqCst);
            assert!(holds.begin().await.is_err(), "after {good} answers");
            assert_eq!(holds.ask(&id), Known::Waits { first_ms: 1 }, "after {good} answers");
            child.flushed.store(true, Ordering::SeqCst);
            holds.begin().await.expect("the buffer is well again");
            assert_eq!(holds.ask(&id), Known::Waits { first_ms: 1 }, "the child holds a delete of its own");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_that_is_given_up_releases_no_delete() {
        for good in 0..3 {
            let child = Arc::new(Child::default());
            let (holds, id) = waiting(&child).await;
            child.flushed.store(true, Ordering::SeqCst);
            child.good.store(good, Ordering::SeqCst);
            child.hangs.store(true, Ordering::SeqCst);
            assert!(tokio::time::timeout(Duration::from_secs(1), holds.begin()).await.is_err(), "it hangs");
            assert_eq!(holds.ask(&id), Known::Waits { first_ms: 1 }, "after {good} answers");
        }
    }
}
