//! What an entity has done in this process.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::error::sink::ErrorKind;

/// Figures of one entity since the engine started, in this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct EntityStats {
    /// Writes that were acknowledged, deletes included.
    pub puts: u64,
    /// Of these, writes of keys that were dirty already: they cost the sink nothing.
    pub coalesced_puts: u64,
    /// Rows that were written to the sink.
    pub rows_upserted: u64,
    /// Rows that were deleted from the sink.
    pub rows_deleted: u64,
    /// Sink transactions.
    pub batches: u64,
    /// Statements in them.
    pub statements: u64,
    /// Batches that failed and were tried again.
    pub retries: Retries,
    /// Loads that failed because the sink did not answer in time.
    pub failed_loads: u64,
    /// Loads that were not sent, because the sink did not answer others: the reads failed at once.
    pub refused_loads: u64,
    /// Records that were acknowledged as flushed.
    pub flushed: u64,
    /// Records that were left out because the sink had newer versions of them; they are among the flushed ones.
    pub stale: u64,
    /// Refusals of single records that were tried again later.
    pub refused: u64,
    /// Rows that the `before_flush` hook skipped. They count as flushed.
    pub skipped: u64,
    /// Times a record was held back because a newer program wrote it.
    pub held: u64,
    /// Records that became dead letters.
    pub dead_letters: u64,
    /// Dead letters that were made dirty again by this process.
    pub replayed: u64,
    /// Records that were gone from the buffer before they were acknowledged: it lost data under a flush.
    pub vanished: u64,
    /// Writes that the sink refused because another worker has the partition.
    pub fenced_writes: u64,
    /// Times the buffer was found to have lost data.
    pub lineage_breaks: u64,
    /// Reads that the near cache answered.
    pub near_hits: u64,
    /// Reads of an entity with a near cache that went to the buffer.
    pub near_misses: u64,
    /// Values that writes have taken out of the near cache.
    pub near_invalidations: u64,
    /// Times the near cache was dropped whole, because signals of other processes may have been missed.
    pub near_drops: u64,
    /// Time spent in the sink, summed over batches.
    pub flush_time: Duration,
    /// Longest time from a rotation to the end of its flush.
    pub slowest_cycle: Duration,
    /// Whether the sink can be used: it was there at the start, or has been since.
    pub sink_ready: bool,
    /// Partitions that this process holds.
    pub leases: u32,
    /// Partitions that cannot be used, because the buffer holds a value of a foreign type under one of their keys. What is dirty
    /// in them waits until that is mended. (With transactions, what is dirty in all partitions does.)
    pub broken_partitions: u32,
    /// Dirty keys in the partitions that this process holds, when they were last looked at (every flush, and every 5 s at least). A
    /// worker whose sink was not there since its start holds none, and counts those of all.
    pub dirty_keys: u64,
    /// None of these has been dirty for longer than this; `None` when there are none.
    pub oldest_dirty: Option<Duration>,
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

/// Batches that failed and were tried again, by kind of failure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retries {
    /// The sink did not answer.
    pub unavailable: u64,
    /// Deadlocks and the like.
    pub transient: u64,
    /// A table, column or permission was missing.
    pub misconfigured: u64,
    /// The data was refused, and the record had to be found.
    pub rejected: u64,
    /// A foreign key's parent was not there yet.
    pub deferred: u64,
}

impl Retries {
    /// All of them.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.unavailable + self.transient + self.misconfigured + self.rejected + self.deferred
    }

    /// Each kind with its count.
    pub(crate) const fn by_kind(&self) -> [(ErrorKind, u64); 5] {
        [
            (ErrorKind::Unavailable, self.unavailable),
            (ErrorKind::Transient, self.transient),
            (ErrorKind::Misconfigured, self.misconfigured),
            (ErrorKind::Rejected, self.rejected),
            (ErrorKind::Deferred, self.deferred),
        ]
    }
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) puts: Counter,
    pub(crate) rows_upserted: Counter,
    pub(crate) rows_deleted: Counter,
    pub(crate) batches: Counter,
    pub(crate) statements: Counter,
    /// Failed batches by kind of the error; a panic counts as unavailable.
    pub(crate) failed: ByKind,
    /// Batches that the sink's fence held off.
    pub(crate) fenced: Counter,
    /// Records that were acknowledged as flushed.
    pub(crate) acked: Counter,
    /// Records that a step should have found in its epoch, and did not.
    pub(crate) vanished: Counter,
    /// Records of which the sink had newer versions.
    pub(crate) stale: Counter,
    /// Refusals of single records that were tried again later.
    pub(crate) refused: Counter,
    /// Rows that a hook skipped.
    pub(crate) skipped: Counter,
    /// Times a record was held back.
    pub(crate) held: Counter,
    /// Dead letters that were made dirty again.
    pub(crate) replayed: Counter,
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

    /// What was counted; what is measured otherwise is zero here.
    pub(crate) fn snapshot(&self) -> EntityStats {
        EntityStats {
            puts: self.puts.get(),
            rows_upserted: self.rows_upserted.get(),
            rows_deleted: self.rows_deleted.get(),
            batches: self.batches.get(),
            statements: self.statements.get(),
            retries: Retries {
                unavailable: self.failed.unavailable.get(),
                transient: self.failed.transient.get(),
                misconfigured: self.failed.misconfigured.get(),
                rejected: self.failed.rejected.get(),
                deferred: self.failed.deferred.get(),
            },
            fenced_writes: self.fenced.get(),
            flushed: self.acked.get(),
            stale: self.stale.get(),
            refused: self.refused.get(),
            vanished: self.vanished.get(),
            skipped: self.skipped.get(),
            held: self.held.get(),
            replayed: self.replayed.get(),
            dead_letters: self.dead_letters.get(),
            lineage_breaks: self.lineage_breaks.get(),
            flush_time: Duration::from_micros(self.flush_micros.get()),
            slowest_cycle: Duration::from_micros(self.slowest_cycle_micros.load(Ordering::Relaxed)),
            ..EntityStats::default()
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// A counter for each kind of sink error.
#[derive(Debug, Default)]
pub(crate) struct ByKind {
    unavailable: Counter,
    transient: Counter,
    rejected: Counter,
    deferred: Counter,
    misconfigured: Counter,
    fenced: Counter,
}

impl ByKind {
    pub(crate) const fn of(&self, kind: ErrorKind) -> &Counter {
        match kind {
            ErrorKind::Unavailable => &self.unavailable,
            ErrorKind::Transient => &self.transient,
            ErrorKind::Rejected => &self.rejected,
            ErrorKind::Deferred => &self.deferred,
            ErrorKind::Misconfigured => &self.misconfigured,
            ErrorKind::Fenced => &self.fenced,
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
