//! Every event, in one place: constant messages, data in fields. WARN recovers by itself; ERROR needs a person. What a
//! program may want to act on goes to [`Engine::events`](crate::Engine::events) from here too.

use std::fmt::Display;
use std::time::Duration;

use crate::entity::key::Id;
use crate::error::buffer::BufferError;
use crate::error::chain;
use crate::error::finding::{Finding, Severity};
use crate::error::sink::SinkError;
use crate::telemetry::event::{Event, Listeners};
use crate::telemetry::scope::Scope;

pub(crate) fn started(scope: &Scope, flushes: bool) {
    tracing::info!(namespace = %scope.namespace, entity = scope.entity, partitions = scope.partitions, flushes, "entity started");
}

pub(crate) fn found(finding: &Finding) {
    match finding.severity {
        Severity::Note => {
            tracing::info!(code = finding.code, subject = finding.subject, text = finding.text, "found at start");
        }
        Severity::Warning => {
            tracing::warn!(code = finding.code, subject = finding.subject, text = finding.text, "found at start");
        }
        Severity::Fatal => {
            tracing::error!(code = finding.code, subject = finding.subject, text = finding.text, "found at start");
        }
    }
}

/// Away at start, and still; what is acknowledged waits in the buffer.
pub(crate) fn sink_away(scope: &Scope, looks: u32, wait: Duration, error: &SinkError) {
    scope.tell(|| Event::SinkAway { entity: scope.entity, reason: error.chain(), wait });
    tracing::warn!(
        entity = scope.entity,
        looks,
        wait_ms = wait.as_millis(),
        error = error.chain(),
        "sink is away since the start, nothing is flushed"
    );
}

pub(crate) fn sink_unfit(scope: &Scope, reason: &str) {
    scope.tell(|| Event::SinkUnfit { entity: scope.entity, reason: reason.to_owned() });
    tracing::error!(entity = scope.entity, reason, "sink cannot be used as it is, writes are refused");
}

pub(crate) fn sink_ready(scope: &Scope, lasted: Duration) {
    scope.tell(|| Event::SinkReady { entity: scope.entity, lasted });
    tracing::info!(
        entity = scope.entity,
        lasted_ms = lasted.as_millis(),
        "sink is there, entity is flushed from now on"
    );
}

pub(crate) fn dropped() {
    tracing::warn!("engine dropped without shutdown; what is dirty waits for the next worker");
}

pub(crate) fn lease_gained(scope: &Scope, partition: u16) {
    scope.tell(|| Event::PartitionGained { entity: scope.entity, partition });
    tracing::debug!(entity = scope.entity, partition, "lease gained");
}

pub(crate) fn lease_lost(scope: &Scope, partition: u16) {
    scope.tell(|| Event::PartitionLost { entity: scope.entity, partition, given_up: false });
    tracing::warn!(entity = scope.entity, partition, "lease lost");
}

pub(crate) fn leases_given_up(scope: &Scope, partitions: &[u16]) {
    for &partition in partitions {
        scope.tell(|| Event::PartitionLost { entity: scope.entity, partition, given_up: true });
    }
    tracing::debug!(entity = scope.entity, ?partitions, "leases given up");
}

pub(crate) fn topology_changed(scope: &Scope, error: &BufferError) {
    scope.tell(|| Event::TopologyShut { entity: scope.entity, reason: chain(error) });
    tracing::error!(entity = scope.entity, error = chain(error), "entity laid out anew, no more writes are taken");
}

pub(crate) fn topology_draining(scope: &Scope, stored: &impl Display, dirty: u64, within: Duration) {
    tracing::info!(
        entity = scope.entity,
        %stored,
        dirty,
        within = ?within,
        "entity to be laid out anew, what is dirty is flushed first"
    );
}

pub(crate) fn topology_restored(scope: &Scope) {
    scope.tell(|| Event::TopologyRestored { entity: scope.entity });
    tracing::info!(entity = scope.entity, "entity laid out as this engine asks again, writes are taken");
}

pub(crate) fn lease_failed(scope: &Scope, error: &BufferError) {
    tracing::warn!(entity = scope.entity, error = chain(error), "leases not renewed");
}

pub(crate) fn fence_failed(scope: &Scope, partition: u16, error: &SinkError) {
    tracing::warn!(entity = scope.entity, partition, error = error.chain(), "partition not fenced");
}

pub(crate) fn fence_panicked(scope: &Scope, partition: u16) {
    tracing::error!(entity = scope.entity, partition, "sink panicked while fencing, trying again");
}

pub(crate) fn rotated(scope: &Scope, partition: u16, epoch: u64) {
    tracing::trace!(entity = scope.entity, partition, epoch, "epoch rotated");
}

pub(crate) fn flushed(scope: &Scope, upserts: usize, deletes: usize, statements: u64, took: Duration) {
    scope.tell(|| Event::Flushed { entity: scope.entity, upserts: upserts as u64, deletes: deletes as u64, took });
    tracing::debug!(entity = scope.entity, upserts, deletes, statements, took_us = took.as_micros(), "batch flushed");
}

/// The sink has newer versions of these records (each with its own) than the buffer had: another program wrote them, or the
/// buffer's data went back.
pub(crate) fn stale(scope: &Scope, records: &[(Id, i64)]) {
    for (id, version) in records {
        scope.tell(|| Event::Stale { entity: scope.entity, id: id.clone(), version: *version });
    }
    let first = records.first().map(|(id, _)| tracing::field::display(id));
    let records = records.len();
    tracing::warn!(entity = scope.entity, first, records, "sink has newer versions, older ones left out");
}

pub(crate) fn waits_for_parents(scope: &Scope, partitions: usize, waited: Duration) {
    let waited_ms = waited.as_millis();
    tracing::warn!(entity = scope.entity, partitions, waited_ms, "parents are not flushed yet, still waiting");
}

pub(crate) fn deletes_held(scope: &Scope, deletes: usize) {
    tracing::debug!(entity = scope.entity, deletes, "deletes held until the children are flushed");
}

pub(crate) fn retrying(scope: &Scope, rows: usize, failures: u32, wait: Duration, error: &SinkError) {
    scope.tell(|| Event::Retried { entity: scope.entity, rows: rows as u64, failures, wait, reason: error.chain() });
    tracing::warn!(
        entity = scope.entity,
        rows,
        failures,
        wait_ms = wait.as_millis(),
        error = error.chain(),
        "batch not flushed, trying again"
    );
}

/// A batch met a limit of time, or a lock: what can land does.
pub(crate) fn halving(scope: &Scope, rows: usize, error: &SinkError) {
    tracing::warn!(entity = scope.entity, rows, error = error.chain(), "batch not flushed, trying smaller parts");
}

/// Records that are locked, or were not tried because too many others are. They are dirty, and tried again soon.
pub(crate) fn set_aside(scope: &Scope, rows: usize, error: &SinkError) {
    if rows > 0 {
        tracing::warn!(
            entity = scope.entity,
            rows,
            error = error.chain(),
            "records not flushed, others go on without them"
        );
    }
}

pub(crate) fn paused(scope: &Scope, error: &SinkError) {
    scope.tell(|| Event::Paused { entity: scope.entity, reason: error.chain() });
    tracing::error!(entity = scope.entity, error = error.chain(), "entity paused until the sink is put right");
}

/// The sink answers again after an outage or a pause.
pub(crate) fn resumed(scope: &Scope, failures: u32, lasted: Duration, paused: bool) {
    scope.tell(|| Event::Resumed { entity: scope.entity, lasted });
    let lasted_ms = lasted.as_millis();
    tracing::info!(entity = scope.entity, failures, lasted_ms, paused, "sink answers again, entity resumed");
}

/// Not given up: what it does in the sink may still land.
pub(crate) fn slow_write(scope: &Scope, rows: usize, age: Duration) {
    tracing::warn!(entity = scope.entity, rows, age_ms = age.as_millis(), "sink has not answered yet, still waiting");
}

pub(crate) fn write_panicked(scope: &Scope, rows: usize, panics: u32) {
    tracing::error!(entity = scope.entity, rows, panics, "sink panicked while writing, trying again");
}

pub(crate) fn close_panicked(scope: &Scope) {
    tracing::error!(entity = scope.entity, "sink panicked while closing");
}

pub(crate) fn not_given_up(entity: &str) {
    tracing::warn!(entity, "leases not given up in time, they end by themselves");
}

pub(crate) fn not_closed(entity: &str) {
    tracing::warn!(entity, "sink or buffer did not close in time, shutdown does not wait for it");
}

pub(crate) fn load_panicked(scope: &Scope) {
    tracing::error!(entity = scope.entity, "sink panicked while loading");
}

pub(crate) fn loads_stopped(scope: &Scope, error: &SinkError) {
    scope.tell(|| Event::LoadsStopped { entity: scope.entity, reason: error.chain() });
    tracing::warn!(
        entity = scope.entity,
        error = error.chain(),
        "sink does not answer, reads of what is not in the buffer fail at once"
    );
}

pub(crate) fn loads_resumed(scope: &Scope, failures: u32, lasted: Duration) {
    scope.tell(|| Event::LoadsResumed { entity: scope.entity, lasted });
    tracing::info!(entity = scope.entity, failures, lasted_ms = lasted.as_millis(), "sink answers loads again");
}

/// Records that a flush was about were taken out of the buffer by somebody else.
pub(crate) fn vanished(scope: &Scope, partition: u16, epoch: u64, records: u64) {
    scope.tell(|| Event::Vanished { entity: scope.entity, partition, records });
    tracing::error!(
        entity = scope.entity,
        partition,
        epoch,
        records,
        "epoch vanished from the buffer while it was flushed"
    );
}

pub(crate) fn replayed(scope: &Scope, partition: u16, letters: u64) {
    tracing::info!(entity = scope.entity, partition, letters, "dead letters replayed");
}

pub(crate) fn discarded(scope: &Scope, id: &Id) {
    tracing::info!(entity = scope.entity, %id, "dead letter discarded");
}

pub(crate) fn isolating(scope: &Scope, rows: usize, error: &SinkError) {
    tracing::warn!(entity = scope.entity, rows, error = error.chain(), "batch refused, looking for the record");
}

pub(crate) fn refused(scope: &Scope, id: &Id, (count, deferrals): (u32, u32), wait: Duration, error: &SinkError) {
    scope.tell(|| Event::Refused {
        entity: scope.entity,
        id: id.clone(),
        attempts: count.saturating_add(deferrals),
        wait,
        reason: error.chain(),
    });
    let wait_ms = wait.as_millis();
    tracing::warn!(
        entity = scope.entity,
        %id,
        attempts = count,
        deferrals,
        wait_ms,
        error = error.chain(),
        "record refused, trying again"
    );
}

pub(crate) fn dead_lettered(scope: &Scope, id: &Id, kind: &str, error: &str) {
    scope.tell(|| Event::DeadLettered {
        entity: scope.entity,
        id: id.clone(),
        kind: kind.to_owned(),
        reason: error.to_owned(),
    });
    tracing::error!(entity = scope.entity, %id, kind, error, "record dead-lettered");
}

/// Records of a newer program, once a pause: a newer worker flushes them.
pub(crate) fn held(scope: &Scope, records: usize) {
    scope.tell(|| Event::Held { entity: scope.entity, records: records as u64 });
    tracing::warn!(
        entity = scope.entity,
        records,
        "records with fields of a newer program are held back, they wait for a newer worker"
    );
}

pub(crate) fn held_no_more(scope: &Scope) {
    tracing::info!(entity = scope.entity, "no more records are held back");
}

pub(crate) fn fenced(scope: &Scope, error: &SinkError) {
    scope.tell(|| Event::Fenced { entity: scope.entity, reason: error.chain() });
    tracing::warn!(entity = scope.entity, error = error.chain(), "batch fenced, partitions given up");
}

pub(crate) fn step_refused(scope: &Scope, partition: u16, epoch: u64, step: &'static str) {
    tracing::warn!(entity = scope.entity, partition, epoch, step, "partition is another worker's");
}

pub(crate) fn cycle_failed(scope: &Scope, error: &BufferError) {
    tracing::warn!(entity = scope.entity, error = chain(error), "flush interrupted, trying again");
}

pub(crate) fn cycle_panicked(scope: &Scope) {
    tracing::error!(entity = scope.entity, "sink or codec panicked, trying again");
}

pub(crate) fn partition_broken(scope: &Scope, partition: u16, holds_up_all: bool, error: &BufferError) {
    scope.tell(|| Event::PartitionBroken { entity: scope.entity, partition, reason: chain(error) });
    // Transactions are flushed as a cut over all partitions, or not at all.
    tracing::error!(
        namespace = %scope.namespace, entity = scope.entity, partition, holds_up_all, error = chain(error),
        "partition cannot be used, what is dirty waits"
    );
}

pub(crate) fn partition_mended(scope: &Scope, partition: u16) {
    scope.tell(|| Event::PartitionMended { entity: scope.entity, partition });
    tracing::info!(namespace = %scope.namespace, entity = scope.entity, partition, "partition can be used again");
}

pub(crate) fn orphaned(
    listeners: &Listeners,
    namespace: &str,
    (entity, topology): (&str, &impl Display),
    (records, letters): (u64, u64),
) {
    listeners.tell(|| Event::Orphaned { entity: entity.to_owned(), records, letters });
    tracing::error!(namespace, entity, %topology, records, letters, "records wait that no program alive flushes");
}

pub(crate) fn orphaned_no_more(listeners: &Listeners, namespace: &str, (entity, topology): (&str, &impl Display)) {
    listeners.tell(|| Event::OrphanedNoMore { entity: entity.to_owned() });
    tracing::info!(namespace, entity, %topology, "records that nobody flushed are gone, or have a worker again");
}

pub(crate) fn backlog_unknown(scope: &Scope, error: &BufferError) {
    tracing::debug!(entity = scope.entity, error = chain(error), "what waits was not looked up");
}

pub(crate) fn copy_undecodable(scope: &Scope, id: &Id) {
    tracing::warn!(entity = scope.entity, %id, "clean copy does not decode, read from the sink instead");
}

pub(crate) fn fill_failed(scope: &Scope, error: &BufferError) {
    tracing::warn!(entity = scope.entity, error = chain(error), "loaded record not filled in");
}

#[cfg(feature = "redis")]
pub(crate) fn connection_lost(error: &redis::RedisError) {
    tracing::warn!(error = chain(error), "connection to the buffer given up, connecting anew");
}

#[cfg(feature = "redis")]
pub(crate) fn connection_back(away: Duration) {
    tracing::info!(away_ms = away.as_millis(), "connection to the buffer replaced");
}

#[cfg(feature = "redis")]
pub(crate) fn signals_lost(error: &BufferError) {
    tracing::warn!(error = chain(error), "signals of other processes not heard, trying again");
}

#[cfg(feature = "redis")]
pub(crate) fn signals_heard() {
    tracing::debug!("signals of other processes heard");
}

pub(crate) fn buffer_restarted(scope: &Scope, since_ms: Option<u64>, dropped: u64) {
    scope.tell(|| Event::BufferRestarted { entity: scope.entity, since_ms });
    match since_ms {
        None => tracing::info!(entity = scope.entity, "buffer restarted, nothing is missing"),
        Some(since_ms) => tracing::warn!(
            entity = scope.entity,
            since_ms,
            dropped,
            "buffer restarted, writes acknowledged since its last beat may be missing"
        ),
    }
}

pub(crate) fn buffer_lost_data(scope: &Scope, since_ms: Option<u64>, dropped: u64) {
    scope.tell(|| Event::BufferLostData { entity: scope.entity, since_ms });
    tracing::error!(
        entity = scope.entity,
        since_ms,
        dropped,
        "buffer lost data, writes acknowledged since then and not flushed are gone"
    );
}
