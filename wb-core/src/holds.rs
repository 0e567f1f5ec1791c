//! Deletes of parents that wait for their children, and for what each of them waits. Only in this process: another worker
//! holds them anew, and is later by one flush of the children.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::buffer::{BufferError, Held};
use crate::key::Id;
use crate::kin::{EpochOf, Relative};
use crate::record::digest;

/// Deletes that are remembered at most, some 12 MiB. Those beyond it wait until there is room.
const MOST: usize = 1 << 18;

#[derive(Default)]
pub(crate) struct Holds(Mutex<Book>);

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
pub(crate) struct Wait {
    child: Arc<dyn Relative>,
    epochs: Vec<EpochOf>,
    held: Vec<Held>,
}

impl Wait {
    /// What `child` has dirty now; `None` when that is nothing.
    pub(crate) async fn on(child: Arc<dyn Relative>) -> Result<Option<Self>, BufferError> {
        let epochs = child.dirty_now().await?;
        Ok((!epochs.is_empty()).then(|| Self { child, epochs, held: Vec::new() }))
    }

    /// Whether all of it is in the sink, or refused. A delete that the child itself holds is not: it went into an epoch,
    /// and came out of it again.
    async fn is_over(&mut self) -> Result<bool, BufferError> {
        if !self.epochs.is_empty() {
            let before = std::mem::take(&mut self.epochs);
            self.epochs = self.child.unflushed(before.clone()).await?;
            if self.child.holds_deletes() {
                let ended = before.iter().filter(|epoch| !self.epochs.contains(epoch));
                let ended: Vec<u16> = ended.map(|(partition, _)| *partition).collect();
                self.held.extend(self.child.held(&ended).await?);
            }
        }
        if !self.held.is_empty() {
            self.held = self.child.still_held(std::mem::take(&mut self.held)).await?;
        }
        Ok(self.epochs.is_empty() && self.held.is_empty())
    }
}

fn key(id: &Id) -> u64 {
    digest(&[id.as_bytes()])
}

impl Holds {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.book().by_id.is_empty()
    }

    /// A flush cycle begins: looks what is not waited for any more.
    pub(crate) async fn begin(&self) -> Result<(), BufferError> {
        let waits = {
            let mut book = self.book();
            book.round += 1;
            std::mem::take(&mut book.waits)
        };
        let mut left = BTreeMap::new();
        let mut failed = Ok(());
        for (number, mut waits) in waits {
            let mut still = Vec::new();
            while let Some(mut wait) = waits.pop() {
                // A look that failed tells nothing: it is repeated with the next cycle.
                let over = if failed.is_ok() { wait.is_over().await } else { Ok(false) };
                if !matches!(over, Ok(true)) {
                    still.push(wait);
                }
                failed = failed.and(over.map(drop));
            }
            if !still.is_empty() {
                left.insert(number, still);
            }
        }
        self.book().waits = left;
        failed
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
