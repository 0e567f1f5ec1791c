//! Every metric, in one place. They go through the `metrics` facade: without a recorder they cost nothing.
//!
//! All carry the labels `namespace` and `entity`. Counters and gauges are published every few seconds, at every look at
//! what waits; the histogram at every sink transaction.

use std::time::Duration;

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

use crate::telemetry::scope::Scope;
use crate::telemetry::stats::EntityStats;

/// Writes that were acknowledged, deletes included.
pub const PUTS: &str = "wb_puts_total";
/// Of these, writes of keys that were dirty already: they cost the sink nothing.
pub const COALESCED_PUTS: &str = "wb_coalesced_puts_total";
/// Sink transactions.
pub const BATCHES: &str = "wb_batches_total";
/// Rows that reached the sink; label `operation`: `upsert` or `delete`.
pub const ROWS: &str = "wb_rows_total";
/// Statements in sink transactions.
pub const STATEMENTS: &str = "wb_statements_total";
/// Time of a sink transaction, in seconds.
pub const FLUSH_SECONDS: &str = "wb_flush_seconds";
/// Batches that failed and were tried again; label `kind`: `unavailable`, `transient`, …
pub const RETRIES: &str = "wb_retries_total";
/// Loads that failed because the sink did not answer in time.
pub const FAILED_LOADS: &str = "wb_failed_loads_total";
/// Loads that were not sent, because the sink did not answer others: the reads failed at once.
pub const REFUSED_LOADS: &str = "wb_refused_loads_total";
/// Records that were left out because the sink had newer versions of them.
pub const STALE: &str = "wb_stale_records_total";
/// Refusals of single records that were tried again later.
pub const REFUSED: &str = "wb_refused_records_total";
/// Records that were gone from the buffer before they were acknowledged: it lost data under a flush.
pub const VANISHED: &str = "wb_vanished_records_total";
/// Rows that the `before_flush` hook skipped.
pub const SKIPPED: &str = "wb_skipped_rows_total";
/// Times a record was held back because a newer program wrote it.
pub const HELD: &str = "wb_held_records_total";
/// Records that became dead letters.
pub const DEAD_LETTERS: &str = "wb_dead_letters_total";
/// Writes that the sink refused because another worker has the partition.
pub const FENCED_WRITES: &str = "wb_fenced_writes_total";
/// Times the buffer was found to have lost data.
pub const LINEAGE_BREAKS: &str = "wb_lineage_breaks_total";
/// Reads that the near cache answered.
pub const NEAR_HITS: &str = "wb_near_hits_total";
/// Reads of entities with a near cache that went to the buffer.
pub const NEAR_MISSES: &str = "wb_near_misses_total";
/// Values that writes have taken out of the near cache.
pub const NEAR_INVALIDATIONS: &str = "wb_near_invalidations_total";
/// Times the near cache was dropped whole, because signals of other processes may have been missed.
pub const NEAR_DROPS: &str = "wb_near_drops_total";
/// Partitions that this process holds.
pub const LEASES: &str = "wb_leases";
/// 1 when the sink can be used; 0 when it was away at the start of this process and has not been there since, or is wrong.
pub const SINK_READY: &str = "wb_sink_ready";
/// Partitions that cannot be used, because the buffer holds a value of a foreign type under one of their keys.
pub const BROKEN_PARTITIONS: &str = "wb_broken_partitions";
/// Records of an entity, entries of logs included, that wait in the buffer and that nobody flushes: no worker of it is alive,
/// and this process does not have it, or another topology is stored. The label `entity` names theirs. Each process publishes it:
/// take the maximum, not the sum.
pub const ORPHANED_KEYS: &str = "wb_orphaned_keys";
/// Dead letters of an entity that nobody has, like [`ORPHANED_KEYS`].
pub const ORPHANED_LETTERS: &str = "wb_orphaned_letters";
/// Dirty keys in the partitions that this process holds; summed over processes, of the entity. A worker whose sink was not there
/// since its start holds none, and counts those of all.
pub const DIRTY_KEYS: &str = "wb_dirty_keys";
/// No dirty key in the partitions that this process holds is older than this, in seconds.
pub const OLDEST_DIRTY_SECONDS: &str = "wb_oldest_dirty_seconds";

/// Tells the recorder what the metrics mean; at every start, because the recorder may be newer than the last one.
pub(crate) fn describe() {
    describe_counter!(PUTS, Unit::Count, "Writes that were acknowledged, deletes included");
    describe_counter!(COALESCED_PUTS, Unit::Count, "Writes of keys that were dirty already");
    describe_counter!(BATCHES, Unit::Count, "Sink transactions");
    describe_counter!(ROWS, Unit::Count, "Rows that reached the sink");
    describe_counter!(STATEMENTS, Unit::Count, "Statements in sink transactions");
    describe_histogram!(FLUSH_SECONDS, Unit::Seconds, "Time of a sink transaction");
    describe_counter!(RETRIES, Unit::Count, "Batches that failed and were tried again, by kind of failure");
    describe_counter!(FAILED_LOADS, Unit::Count, "Loads that failed because the sink did not answer in time");
    describe_counter!(REFUSED_LOADS, Unit::Count, "Loads not sent because the sink did not answer others");
    describe_counter!(STALE, Unit::Count, "Records left out because the sink had newer versions of them");
    describe_counter!(REFUSED, Unit::Count, "Refusals of single records that were tried again later");
    describe_counter!(VANISHED, Unit::Count, "Records gone from the buffer before they were acknowledged");
    describe_counter!(SKIPPED, Unit::Count, "Rows that the before_flush hook skipped");
    describe_counter!(HELD, Unit::Count, "Times a record was held back because a newer program wrote it");
    describe_counter!(DEAD_LETTERS, Unit::Count, "Records that became dead letters");
    describe_counter!(FENCED_WRITES, Unit::Count, "Writes refused because another worker has the partition");
    describe_counter!(LINEAGE_BREAKS, Unit::Count, "Times the buffer was found to have lost data");
    describe_counter!(NEAR_HITS, Unit::Count, "Reads that the near cache answered");
    describe_counter!(NEAR_MISSES, Unit::Count, "Reads of entities with a near cache that went to the buffer");
    describe_counter!(NEAR_INVALIDATIONS, Unit::Count, "Values that writes have taken out of the near cache");
    describe_counter!(NEAR_DROPS, Unit::Count, "Times the near cache was dropped whole");
    describe_gauge!(LEASES, Unit::Count, "Partitions that this process holds");
    describe_gauge!(
        BROKEN_PARTITIONS,
        Unit::Count,
        "Partitions that hold a value of a foreign type, and cannot be flushed"
    );
    describe_gauge!(SINK_READY, Unit::Count, "1 when the sink can be used, 0 when it was not there since the start");
    describe_gauge!(ORPHANED_KEYS, Unit::Count, "Records that nobody flushes; the maximum over processes");
    describe_gauge!(ORPHANED_LETTERS, Unit::Count, "Dead letters that nobody has; the maximum over processes");
    describe_gauge!(DIRTY_KEYS, Unit::Count, "Dirty keys in the partitions that this process holds");
    describe_gauge!(OLDEST_DIRTY_SECONDS, Unit::Seconds, "Bound of the age of the oldest dirty key in them");
}

/// One sink transaction took this long.
pub(crate) fn flushed(scope: &Scope, took: Duration) {
    histogram!(FLUSH_SECONDS, "namespace" => scope.namespace.clone(), "entity" => scope.entity).record(took);
}

/// Publishes what nobody flushes of an entity.
#[expect(clippy::cast_precision_loss, reason = "gauges are floats")]
pub(crate) fn orphaned(namespace: &str, entity: &str, dirty: u64, letters: u64) {
    let labels = [("namespace", namespace.to_owned()), ("entity", entity.to_owned())];
    gauge!(ORPHANED_KEYS, &labels).set(dirty as f64);
    gauge!(ORPHANED_LETTERS, &labels).set(letters as f64);
}

/// Publishes the figures as they are now.
pub(crate) fn publish(scope: &Scope, stats: &EntityStats) {
    let labels = || [("namespace", scope.namespace.clone()), ("entity", scope.entity.to_owned())];
    counter!(PUTS, &labels()).absolute(stats.puts);
    counter!(COALESCED_PUTS, &labels()).absolute(stats.coalesced_puts);
    counter!(BATCHES, &labels()).absolute(stats.batches);
    counter!(STATEMENTS, &labels()).absolute(stats.statements);
    counter!(FAILED_LOADS, &labels()).absolute(stats.failed_loads);
    counter!(REFUSED_LOADS, &labels()).absolute(stats.refused_loads);
    counter!(STALE, &labels()).absolute(stats.stale);
    counter!(REFUSED, &labels()).absolute(stats.refused);
    counter!(VANISHED, &labels()).absolute(stats.vanished);
    counter!(SKIPPED, &labels()).absolute(stats.skipped);
    counter!(HELD, &labels()).absolute(stats.held);
    counter!(DEAD_LETTERS, &labels()).absolute(stats.dead_letters);
    counter!(FENCED_WRITES, &labels()).absolute(stats.fenced_writes);
    counter!(LINEAGE_BREAKS, &labels()).absolute(stats.lineage_breaks);
    counter!(NEAR_HITS, &labels()).absolute(stats.near_hits);
    counter!(NEAR_MISSES, &labels()).absolute(stats.near_misses);
    counter!(NEAR_INVALIDATIONS, &labels()).absolute(stats.near_invalidations);
    counter!(NEAR_DROPS, &labels()).absolute(stats.near_drops);
    let with = |key: &'static str, value: &'static str| {
        let [namespace, entity] = labels();
        [namespace, entity, (key, value.to_owned())]
    };
    counter!(ROWS, &with("operation", "upsert")).absolute(stats.rows_upserted);
    counter!(ROWS, &with("operation", "delete")).absolute(stats.rows_deleted);
    for (kind, count) in stats.retries.by_kind() {
        counter!(RETRIES, &with("kind", kind.name())).absolute(count);
    }
    // What a gauge loses beyond 2^53 nobody misses.
    #[expect(clippy::cast_precision_loss, reason = "gauges are floats")]
    gauge!(DIRTY_KEYS, &labels()).set(stats.dirty_keys as f64);
    gauge!(BROKEN_PARTITIONS, &labels()).set(f64::from(stats.broken_partitions));
    gauge!(SINK_READY, &labels()).set(if stats.sink_ready { 1.0 } else { 0.0 });
    gauge!(LEASES, &labels()).set(f64::from(stats.leases));
    gauge!(OLDEST_DIRTY_SECONDS, &labels()).set(stats.oldest_dirty.unwrap_or_default().as_secs_f64());
}
