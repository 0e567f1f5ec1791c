//! What every [`Sink`] that issues fences must do, checked on a real one.
//!
//! The suite wants two values over the same database, as two workers have them. It uses specimens of its own, so that
//! it can run beside [`sink::all`](super::sink::all).
#![expect(clippy::panic, reason = "a failed check ends the test that runs it")]

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::future::join_all;

use super::Specimen;
use crate::entity::key::Id;
use crate::error::sink::{ErrorKind, SinkError};
use crate::sink::Sink;
use crate::sink::batch::{Batch, Delete, Fence, Report, Upsert};
use crate::telemetry::scope::Scope;

/// The first number of the specimens of each check.
const FIRST: u64 = 300_000;
const RANGE: u64 = 100;

/// Runs every check on two sinks that share one database. Opens both.
///
/// # Panics
/// When a sink breaks the contract; the message names the check.
pub async fn run_fence_suite<E: Specimen>(sink: &(impl Sink<E> + ?Sized), other: &(impl Sink<E> + ?Sized)) {
    for result in [sink.open(&scope::<E>()).await, other.open(&scope::<E>()).await] {
        done::<E, _>("opens", result);
    }
    done::<E, _>("prepares", sink.prepare(&scope::<E>()).await);
    generations_grow(sink, other).await;
    a_stale_batch_writes_nothing(sink, other).await;
    one_stale_partition_is_enough(sink, other).await;
    an_invented_generation_writes_nothing(sink).await;
    partitions_and_scopes_do_not_touch(sink, other).await;
    concurrent_owners_get_different_generations(sink, other).await;
    batches_of_one_owner_run_side_by_side(sink).await;
    an_empty_batch_passes(sink, other).await;
}

/// Each generation of a partition is higher than all before, whoever asks.
///
/// # Panics
/// When one is not.
pub async fn generations_grow<E: Specimen>(sink: &(impl Sink<E> + ?Sized), other: &(impl Sink<E> + ?Sized)) {
    let mut last = 0;
    for round in 0..6 {
        let fence =
            if round % 2 == 0 { taken(sink, &scope::<E>(), 0).await } else { taken(other, &scope::<E>(), 0).await };
        assert_eq!(fence.partition, 0, "{}: a fence of another partition", E::NAME);
        assert!(fence.generation > last, "{}: generation {} after {last}", E::NAME, fence.generation);
        last = fence.generation;
    }
}

/// What an earlier owner still has under way neither writes nor deletes.
///
/// # Panics
/// When it does, or fails by another kind than [`ErrorKind::Fenced`].
pub async fn a_stale_batch_writes_nothing<E: Specimen>(
    sink: &(impl Sink<E> + ?Sized),
    other: &(impl Sink<E> + ?Sized),
) {
    let check = "a stale batch writes nothing";
    let rows = specimens::<E>(1, 4);
    let [kept, deleted, fresh, late] = rows.as_slice() else { return };
    let old = taken(sink, &scope::<E>(), 1).await;
    written::<E>(check, sink.write(&batch(&[old], &[kept.clone(), deleted.clone()], &[])).await);
    let new = taken(other, &scope::<E>(), 1).await;
    written::<E>(check, other.write(&batch(&[new], &[kept.revise(2)], &[])).await);
    let stale = batch(&[old], &[kept.revise(1), fresh.clone()], std::slice::from_ref(deleted));
    for _ in 0..2 {
        fenced::<E>(check, sink.write(&stale).await);
    }
    holds(sink, check, &[kept.revise(2), deleted.clone()], std::slice::from_ref(fresh)).await;
    written::<E>(check, other.write(&batch(&[new], std::slice::from_ref(late), &[])).await);
}

/// A batch of many partitions is refused as a whole when one of them is lost.
///
/// # Panics
/// When any of it lands.
pub async fn one_stale_partition_is_enough<E: Specimen>(
    sink: &(impl Sink<E> + ?Sized),
    other: &(impl Sink<E> + ?Sized),
) {
    let check = "one stale partition is enough";
    let mut fences = Vec::new();
    for partition in [5, 2, 4, 3] {
        fences.push(taken(sink, &scope::<E>(), partition).await);
    }
    let rows = specimens::<E>(2, 2);
    written::<E>(check, sink.write(&batch(&fences, rows.get(..1).unwrap_or_default(), &[])).await);
    taken(other, &scope::<E>(), 3).await;
    fenced::<E>(check, sink.write(&batch(&fences, rows.get(1..).unwrap_or_default(), &[])).await);
    holds(sink, check, rows.get(..1).unwrap_or_default(), rows.get(1..).unwrap_or_default()).await;
}

/// A generation that was never issued, of a partition that nobody ever took, or higher than the newest.
///
/// # Panics
/// When it passes.
pub async fn an_invented_generation_writes_nothing<E: Specimen>(sink: &(impl Sink<E> + ?Sized)) {
    let check = "an invented generation writes nothing";
    let rows = specimens::<E>(3, 1);
    let newest = taken(sink, &scope::<E>(), 6).await;
    for invented in [Fence::new(60_000, 1), Fence::new(6, newest.generation + 1), Fence::new(6, 0)] {
        fenced::<E>(check, sink.write(&batch(&[invented], &rows, &[])).await);
    }
    holds(sink, check, &[], &rows).await;
}

/// Taking a partition voids no other one, and none of the same number elsewhere.
///
/// # Panics
/// When it does.
pub async fn partitions_and_scopes_do_not_touch<E: Specimen>(
    sink: &(impl Sink<E> + ?Sized),
    other: &(impl Sink<E> + ?Sized),
) {
    let check = "partitions and scopes do not touch";
    let fence = taken(sink, &scope::<E>(), 7).await;
    taken(other, &scope::<E>(), 8).await;
    taken(other, &Scope::new("fences_too", E::NAME, 16), 7).await;
    taken(other, &Scope::new("fences", "another_entity", 16), 7).await;
    written::<E>(check, sink.write(&batch(&[fence], &specimens::<E>(4, 1), &[])).await);
}

/// Workers that take a partition at the same moment get different generations, and only the highest one writes.
///
/// # Panics
/// When two are equal, or a lower one passes.
pub async fn concurrent_owners_get_different_generations<E: Specimen>(
    sink: &(impl Sink<E> + ?Sized),
    other: &(impl Sink<E> + ?Sized),
) {
    let check = "concurrent owners get different generations";
    let scope = scope::<E>();
    let mine = join_all((0..4).map(|_| taken(sink, &scope, 9)));
    let theirs = join_all((0..4).map(|_| taken(other, &scope, 9)));
    let (mine, theirs) = futures::future::join(mine, theirs).await;
    let generations: BTreeSet<u64> = mine.iter().chain(&theirs).map(|fence| fence.generation).collect();
    assert_eq!(generations.len(), 8, "{}: {check}: {generations:?}", E::NAME);
    let rows = specimens::<E>(5, 1);
    let highest = generations.last().copied().unwrap_or_default();
    for generation in generations {
        let result = sink.write(&batch(&[Fence::new(9, generation)], &rows, &[])).await;
        if generation == highest { written::<E>(check, result) } else { fenced::<E>(check, result) }
    }
}

/// The batches of one owner do not hold each other up for ever, and need no order.
///
/// # Panics
/// When one of them fails but for a deadlock.
pub async fn batches_of_one_owner_run_side_by_side<E: Specimen>(sink: &(impl Sink<E> + ?Sized)) {
    let check = "batches of one owner run side by side";
    let fences = [taken(sink, &scope::<E>(), 10).await, taken(sink, &scope::<E>(), 11).await];
    let rows = specimens::<E>(6, 40);
    let batches: Vec<Batch<E>> = rows
        .chunks(10)
        .enumerate()
        .map(|(n, rows)| {
            let [first, second] = fences;
            batch(&if n % 2 == 0 { [first, second] } else { [second, first] }, rows, &[])
        })
        .collect();
    join_all(batches.iter().map(async |batch| {
        for _ in 0..20 {
            match sink.write(batch).await {
                Err(error) if error.kind() == ErrorKind::Transient => {}
                result => return written::<E>(check, result),
            }
        }
        panic!("{}: {check}: only deadlocks", E::NAME);
    }))
    .await;
    holds(sink, check, &rows, &[]).await;
}

/// An empty batch passes with any fence: there is nothing to protect.
///
/// # Panics
/// When it fails.
pub async fn an_empty_batch_passes<E: Specimen>(sink: &(impl Sink<E> + ?Sized), other: &(impl Sink<E> + ?Sized)) {
    let check = "an empty batch passes";
    let old = taken(sink, &scope::<E>(), 12).await;
    taken(other, &scope::<E>(), 12).await;
    written::<E>(check, sink.write(&batch(&[old], &[], &[])).await);
}

fn scope<E: Specimen>() -> Scope {
    Scope::new("fences", E::NAME, 16)
}

fn specimens<E: Specimen>(check: u64, count: u64) -> Vec<E> {
    (0..count).map(|n| E::specimen(FIRST + check * RANGE + n)).collect()
}

fn id<E: Specimen>(row: &E) -> Id {
    Id::of(&row.key()).unwrap_or_else(|error| panic!("{}: a specimen has no key: {error}", E::NAME))
}

fn batch<E: Specimen>(fences: &[Fence], upserts: &[E], deletes: &[E]) -> Batch<E> {
    Batch::new(
        Arc::new(scope::<E>()),
        fences.to_vec(),
        upserts.iter().map(|row| Upsert::new(id(row), row.clone())).collect(),
        deletes.iter().map(|row| Delete::new(id(row), row.key())).collect(),
    )
}

fn done<E: Specimen, T>(check: &str, result: Result<T, SinkError>) -> T {
    result.unwrap_or_else(|error| panic!("{}: {check}: {}", E::NAME, error.chain()))
}

/// Takes a partition as a worker does: what is transient is tried again.
async fn taken<E: Specimen>(sink: &(impl Sink<E> + ?Sized), scope: &Scope, partition: u16) -> Fence {
    for _ in 0..50 {
        match sink.fence(scope, partition).await {
            Err(error) if error.kind() == ErrorKind::Transient => {}
            result => {
                let fence = done::<E, _>("fences", result);
                return fence.unwrap_or_else(|| panic!("{}: this sink issues no fences", E::NAME));
            }
        }
    }
    panic!("{}: fencing partition {partition} is never more than transient", E::NAME)
}

fn written<E: Specimen>(check: &str, result: Result<Report, SinkError>) {
    let report = done::<E, _>(check, result);
    if let Some((id, error)) = report.rejected.first() {
        panic!("{}: {check}: record {id} was refused: {}", E::NAME, error.chain());
    }
}

fn fenced<E: Specimen>(check: &str, result: Result<Report, SinkError>) {
    match result {
        Ok(_) => panic!("{}: {check}: a stale batch was written", E::NAME),
        Err(error) => assert_eq!(error.kind(), ErrorKind::Fenced, "{}: {check}: {}", E::NAME, error.chain()),
    }
}

async fn holds<E: Specimen>(sink: &(impl Sink<E> + ?Sized), check: &str, there: &[E], absent: &[E]) {
    let keys: Vec<E::Key> = there.iter().chain(absent).map(crate::entity::Entity::key).collect();
    let loaded = done::<E, _>(check, sink.load(&keys).await);
    for row in there {
        assert!(loaded.contains(row), "{}: {check}: row {} has another state", E::NAME, id(row));
    }
    assert_eq!(loaded.len(), there.len(), "{}: {check}: rows that should not be there", E::NAME);
}
