//! What an entity has done in this process.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Figures of one entity since the engine started, in this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct EntityStats {
    /// Writes that were acknowledged, deletes included.
    pub puts: u64,
    /// Rows that were written to the sink.
    pub rows_upserted: u64,
    /// Rows that were deleted from the sink.
    pub rows_deleted: u64,
    /// Sink transactions.
    pub batches: u64,
    /// Statements in them.
    pub statements: u64,
    /// Batches that failed and were tried again.
    pub retries: u64,
    /// Records that became dead letters.
    pub dead_letters: u64,
    /// Times the buffer was found to have lost data.
    pub lineage_breaks: u64,
    /// Time spent in the sink, summed over batches.
    pub flush_time: Duration,
    /// Longest time from a rotation to the end of its flush.
    pub slowest_cycle: Duration,
}

impl EntityStats {
    /// Rows that reached the sink.
    #[must_use]
    pub const fn rows(&self) -> u64 {
        self.rows_upserted + self.rows_deleted
    }

    /// Writes per row that reached the sink; above 1, writes were coalesced.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
    pub fn coalescing(&self) -> f64 {
        self.puts as f64 / self.rows().max(1) as f64
    }
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) puts: Counter,
    pub(crate) rows_upserted: Counter,
    pub(crate) rows_deleted: Counter,
    pub(crate) batches: Counter,
    pub(crate) statements: Counter,
    pub(crate) retries: Counter,
    pub(crate) dead_letters: Counter,
    pub(crate) lineage_breaks: Counter,
    pub(crate) flush_micros: Counter,
    slowest_cycle_micros: AtomicU64,
}

impl Counters {
    pub(crate) fn cycle(&self, took: Duration) {
        self.slowest_cycle_micros.fetch_max(micros(took), Ordering::Relaxed);
    }

    pub(crate) fn flushed(&self, took: Duration) {
        self.flush_micros.add(micros(took));
    }

    pub(crate) fn snapshot(&self) -> EntityStats {
        EntityStats {
            puts: self.puts.get(),
            rows_upserted: self.rows_upserted.get(),
            rows_deleted: self.rows_deleted.get(),
            batches: self.batches.get(),
            statements: self.statements.get(),
            retries: self.retries.get(),
            dead_letters: self.dead_letters.get(),
            lineage_breaks: self.lineage_breaks.get(),
            flush_time: Duration::from_micros(self.flush_micros.get()),
            slowest_cycle: Duration::from_micros(self.slowest_cycle_micros.load(Ordering::Relaxed)),
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
