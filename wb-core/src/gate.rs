//! Lets writes in until shutdown, and knows when the last one is through.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{Notify, Semaphore, SemaphorePermit};

use crate::buffer::BufferError;
use crate::error::CacheError;

/// Writes under way at once; more than any process has tasks.
const PLACES: u32 = u32::MAX >> 4;

#[derive(Debug)]
pub(crate) struct Gate {
    closed: AtomicBool,
    shut: OnceLock<BufferError>,
    closing: Notify,
    places: Semaphore,
}

impl Gate {
    pub(crate) fn new() -> Self {
        Self {
            closed: AtomicBool::new(false),
            shut: OnceLock::new(),
            closing: Notify::new(),
            places: Semaphore::new(PLACES as usize),
        }
    }

    /// A place for one write; given back on drop.
    pub(crate) fn enter(&self) -> Result<SemaphorePermit<'_>, CacheError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(CacheError::Closed);
        }
        self.open()?;
        // Fails only once the gate waits for the last writes, that is, when it is closed.
        self.places.try_acquire().map_err(|_| CacheError::Closed)
    }

    /// Why this engine must not go on, if so: what it would read and write is not the entity's any more.
    pub(crate) fn open(&self) -> Result<(), CacheError> {
        self.shut.get().map_or(Ok(()), |reason| Err(CacheError::Buffer(reason.clone())))
    }

    /// Lets nobody in any more, for this reason; `false` when there was one before, which stays.
    pub(crate) fn shut(&self, reason: BufferError) -> bool {
        self.shut.set(reason).is_ok()
    }

    /// Lets no more writes in.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.closing.notify_waiters();
    }

    /// Waits until it is closed.
    pub(crate) async fn closed(&self) {
        // Registered before the look: a close in between is not missed.
        let closing = self.closing.notified();
        if !self.closed.load(Ordering::Acquire) {
            closing.await;
        }
    }

    /// Waits until those that are in are through.
    pub(crate) async fn quiet(&self) {
        if let Ok(all) = self.places.acquire_many(PLACES).await {
            all.forget();
        }
    }
}
