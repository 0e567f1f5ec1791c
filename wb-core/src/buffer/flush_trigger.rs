//! How many keys have become dirty since the last rotation, and the nudge when they are many.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

/// Counts keys that become dirty; wakes the worker when a threshold is passed, or when somebody asks for a flush.
#[derive(Debug)]
pub struct Pressure {
    fresh: AtomicU64,
    total: AtomicU64,
    threshold: u64,
    wake: Notify,
}

impl Pressure {
    /// Wakes at `threshold` keys.
    #[must_use]
    pub fn new(threshold: u64) -> Self {
        Self { fresh: AtomicU64::new(0), total: AtomicU64::new(0), threshold, wake: Notify::new() }
    }

    /// So many keys became dirty.
    pub fn add(&self, keys: u64) {
        self.total.fetch_add(keys, Ordering::Relaxed);
        let before = self.fresh.fetch_add(keys, Ordering::Relaxed);
        // Once per crossing, not once per put above it.
        if before < self.threshold && before.saturating_add(keys) >= self.threshold {
            self.wake.notify_one();
        }
    }

    /// Keys that became dirty since the start; a write that adds none was coalesced.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// Asks for a flush now.
    pub fn nudge(&self) {
        self.wake.notify_one();
    }

    /// Starts counting anew; at each rotation.
    pub fn reset(&self) {
        self.fresh.store(0, Ordering::Relaxed);
    }

    /// Whether a wait would end at once; for tests of buffers.
    #[cfg(feature = "testing")]
    pub(crate) fn is_nudged(&self) -> bool {
        use futures::FutureExt;
        self.wait().now_or_never().is_some()
    }

    /// Waits for the threshold or a nudge.
    pub async fn wait(&self) {
        self.wake.notified().await;
    }
}
