//! Lets writes in until shutdown, and knows when the last one is through.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{Notify, Semaphore, SemaphorePermit, watch};

use crate::error::CacheError;
use crate::error::buffer::BufferError;

/// Writes under way at once; more than any process has tasks.
const PLACES: u32 = u32::MAX >> 4;

#[derive(Debug)]
pub(crate) struct Intake {
    closed: Latch,
    over: Latch,
    /// Why nobody is let in for now.
    shut: watch::Sender<Option<BufferError>>,
    places: Semaphore,
}

/// Something that happens once, and can be waited for.
#[derive(Debug, Default)]
struct Latch {
    set: AtomicBool,
    told: Notify,
}

impl Latch {
    fn set(&self) {
        self.set.store(true, Ordering::Release);
        self.told.notify_waiters();
    }

    fn is_set(&self) -> bool {
        self.set.load(Ordering::Acquire)
    }

    async fn wait(&self) {
        // Registered before the look: what is set in between is not missed.
        let told = self.told.notified();
        if !self.is_set() {
            told.await;
        }
    }
}

impl Intake {
    pub(crate) fn new() -> Self {
        Self {
            closed: Latch::default(),
            over: Latch::default(),
            shut: watch::channel(None).0,
            places: Semaphore::new(PLACES as usize),
        }
    }

    /// A place for one write; given back on drop.
    pub(crate) fn enter(&self) -> Result<SemaphorePermit<'_>, CacheError> {
        if self.closed.is_set() {
            return Err(CacheError::Closed);
        }
        self.open()?;
        // Fails only once the gate waits for the last writes, that is, when it is closed.
        self.places.try_acquire().map_err(|_| CacheError::Closed)
    }

    /// Why this engine must not go on now, if so: what it would read and write is not the entity's.
    pub(crate) fn open(&self) -> Result<(), CacheError> {
        self.shut.borrow().as_ref().map_or(Ok(()), |reason| Err(CacheError::Buffer(reason.clone())))
    }

    /// Lets nobody in until it is [reopened](Self::reopen), for this reason; `false` when it was shut before.
    pub(crate) fn shut(&self, reason: BufferError) -> bool {
        let mut first = false;
        self.shut.send_modify(|shut| first = shut.replace(reason).is_none());
        first
    }

    /// Whether it is shut.
    pub(crate) fn is_shut(&self) -> bool {
        self.shut.borrow().is_some()
    }

    /// The reason why it was shut is gone.
    pub(crate) fn reopen(&self) {
        self.shut.send_replace(None);
    }

    /// Lets no more writes in.
    pub(crate) fn close(&self) {
        self.closed.set();
    }

    /// Waits until it is closed.
    pub(crate) async fn closed(&self) {
        self.closed.wait().await;
    }

    /// The engine flushes nothing any more.
    pub(crate) fn end(&self) {
        self.over.set();
    }

    /// Waits until the engine flushes nothing any more, because it ended or is shut out; says which.
    pub(crate) async fn over(&self) -> CacheError {
        let mut shut = self.shut.subscribe();
        // The reason is taken at once: the gate may be open again a moment later.
        let reason = async move { shut.wait_for(Option::is_some).await.ok().and_then(|shut| shut.clone()) };
        tokio::select! {
            biased;
            reason = reason => reason.map_or(CacheError::Closed, CacheError::Buffer),
            () = self.over.wait() => CacheError::Closed,
        }
    }

    /// Waits until those that are in are through.
    pub(crate) async fn quiet(&self) {
        if let Ok(all) = self.places.acquire_many(PLACES).await {
            all.forget();
        }
    }
}
