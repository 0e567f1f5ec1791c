//! What every [`Sink`] must do, checked on a real one.
//!
//! Each check uses keys of its own, so that they can run in any order or at the same time on one sink; none of the
//! specimens may be in the database before. [`all`] runs every check but [`refuses`], which needs a bad record.
#![expect(clippy::panic, reason = "a failed check ends the test that runs it")]

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::join_all;

use super::Specimen;
pub use super::guards::{keeps_newer_versions, refuses_whole};
use crate::entity::key::Id;
use crate::error::sink::{ErrorKind, SinkError};
use crate::sink::Sink;
use crate::sink::batch::{Batch, Delete, Report, Upsert};
use crate::telemetry::scope::Scope;

/// Rows of the large batch.
pub const LARGE: u64 = 5_000;

/// The numbers of specimens that one check may use.
const RANGE: u64 = 10_000;

/// Runs every check on an opened or unopened sink, and closes it.
///
/// # Panics
/// When the sink breaks its contract; the message names the check and the step.
pub async fn all<E: Specimen>(sink: &(impl Sink<E> + ?Sized)) {
    opens(sink).await;
    upserts_then_loads(sink).await;
    repeats_harmlessly(sink).await;
    overwrites(sink).await;
    deletes(sink).await;
    mixes_upserts_and_deletes(sink).await;
    takes_an_empty_batch(sink).await;
    takes_a_batch_of_one(sink).await;
    takes_a_large_batch(sink).await;
    leaves_absent_keys_out(sink).await;
    takes_concurrent_batches(sink).await;
    keeps_newer_versions(sink).await;
    sink.close().await;
}

/// `open` succeeds on a database that can be reached.
///
/// # Panics
/// When it does not.
pub async fn opens<E: Specimen>(sink: &(impl Sink<E> + ?Sized)) {
    done::<E, _>("opens", sink.open(&scope::<E>()).await);
    done::<E, _>("prepares", sink.prepare(&scope::<E>()).await);
    done::<E, _>("prepares again", sink.prepare(&scope::<E>()).await);
}

/// What was written is loaded, equal.
///
/// # Panics
/// When it is not.
pub async fn upserts_then_loads<E: Specimen>(sink: &(impl Sink<E> + ?Sized)) {
    let check = "upserts, then loads";
    let rows = specimens::<E>(0, 10);
    write(sink, check, &rows, &[]).await;
    holds(sink, check, &rows).await;
}

/// Writing a batch again changes nothing: its reply may have been lost the first time.
///
/// # Panics
/// When the second write fails or the rows differ.
pub async fn repeats_harmlessly<E: Specimen>(sink: &(impl Sink<E> + ?Sized)) {
    let check = "repeats harmlessly";
    let (rows, gone) = (specimens::<E>(1, 10), specimens::<E>(1, 15));
    let gone = gone.get(10..).unwrap_or_default();
    write(sink, check, gone, &[]).await;
    for _ in 0..2 {
        write(sink, check, &rows, gone).await;
        holds(sink, check, &rows).await;
        lacks(sink, check, gone).await;
    }
}

/// An upsert of a row that is there replaces it.
///
/// # Panics
/// When an older state is loaded.
pub async fn overwrites<E: Specimen>(sink: &(impl Sink<E> + ?Sized)) {
    let check = "overwrites";
    let mut rows = specimens::<E>(2, 10);
    write(sink, check, &rows, &[]).await;
    for round in 1..=3 {
        rows = rows.iter().map(|row| row.revise(round)).collect();
        write(sink, check, &rows, &[]).await;
        holds(sink, check, &rows).await;
    }
}

/// A delete removes its row and no other, and succeeds where there is none.
///
/// # Panics
/// When a row stays, another goes, or the second delete fails.
pub async fn deletes<E: Specimen>(sink: &(impl Sink<E> + ?Sized)) {
    let check = "deletes";
    let rows = specimens::<E>(3, 10);
    let (gone, kept) = rows.split_at(5);
    write(sink, check, &rows, &[]).await;
    for _ in 0..2 {
        write(sink, check, &[], gone).await;
        lacks(sink, check, gone).await;
        holds(sink, check, kept).await;
    }
    write(sink, check, gone, &[]).await;
    holds(sink, check, &rows).await;
}

/// One batch inserts, overwrites and deletes.
///
/// # Panics
/// When any of them is not done.
pub async fn mixes_upserts_and_deletes<E: Specimen>(sink: &(impl Sink<E> + ?Sized)) {
    let check = "mixes upserts and deletes";
    let rows = specimens::<E>(4, 30);
    let (new, old) = rows.split_at(10);
    let (changed, gone) = old.split_at(10);
    write(sink, check, old, &[]).await;
    let upserts: Vec<E> = new.iter().cloned().chain(changed.iter().map(|row| row.revise(1))).collect();
    write(sink, check, &upserts, gone).await;
    holds(sink, check, &upserts).await;
    lacks(sink, check, gone).await;
}

/// A batch of nothing succeeds.
///
/// # Panics
/// When it fails or reports refused records.
pub async fn takes_an_empty_batch<E: Specimen>(sink: &(impl Sink<E> + ?Sized)) {
    write(sink, "takes an empty batch", &[], &[]).await;
}

/// A batch of one upsert, then one of one delete.
///
/// # Panics
/// When the row is not there, or not gone.
pub async fn takes_a_batch_of_one<E: Specimen>(sink: &(impl Sink<E> + ?Sized)) {
    let check = "takes a batch of one";
    let rows = specimens::<E>(5, 1);
    write(sink, check, &rows, &[]).await;
    holds(sink, check, &rows).await;
    write(sink, check, &[], &rows).await;
    lacks(sink, check, &rows).await;
}

/// A batch of [`LARGE`] rows, loaded and deleted again, whatever the database allows in one statement.
///
/// # Panics
/// When rows are missing or left over.
pub async fn takes_a_large_batch<E: Specimen>(sink: &(impl Sink<E> + ?Sized)) {
    let check = "takes a large batch";
    let rows = specimens::<E>(6, LARGE);
    write(sink, check, &rows, &[]).await;
    holds(sink, check, &rows).await;
    write(sink, check, &[], &rows).await;
    lacks(sink, check, &rows).await;
}

/// Loading returns the rows that are there and says nothing of the others; no keys, no rows.
///
/// # Panics
/// When rows are missing, invented or repeated.
pub async fn leaves_absent_keys_out<E: Specimen>(sink: &(impl Sink<E> + ?Sized)) {
    let check = "leaves absent keys out";
    let rows = specimens::<E>(7, 20);
    let (there, absent) = rows.split_at(10);
    lacks(sink, check, &rows).await;
    write(sink, check, there, &[]).await;
    let loaded = load(sink, check, &rows).await;
    assert_eq!(loaded.len(), there.len(), "{}: {check}: {} keys are absent", E::NAME, absent.len());
    holds(sink, check, there).await;
    let none = load::<E>(sink, check, &[]).await;
    assert!(none.is_empty(), "{}: {check}: rows were loaded for no keys", E::NAME);
}

/// Batches with disjoint keys run at the same time.
///
/// # Panics
/// When one of them fails or its rows are missing.
pub async fn takes_concurrent_batches<E: Specimen>(sink: &(impl Sink<E> + ?Sized)) {
    let check = "takes concurrent batches";
    let rows = specimens::<E>(8, 800);
    // Interleaved keys: neighbours in an index belong to different batches.
    let batches: Vec<Vec<E>> =
        (0..8).map(|lane| rows.iter().skip(lane).step_by(8).map(|row| row.revise(1)).collect()).collect();
    for _ in 0..2 {
        join_all(batches.iter().map(|batch| write_patiently(sink, check, batch))).await;
    }
    for batch in &batches {
        holds(sink, check, batch).await;
    }
}

/// A record that the sink must refuse is named, and its neighbours land; a sink that cannot name records refuses the
/// whole batch. `refused` must have a key of its own, outside the specimens. For sinks whose schema can refuse
/// anything; not part of [`all`]. Then the same with batches that are all or nothing ([`refuses_whole`]).
///
/// # Panics
/// When the record is accepted, another one is named, or a neighbour is missing.
pub async fn refuses<E: Specimen>(sink: &(impl Sink<E> + ?Sized), refused: E) {
    let check = "refuses";
    let good = specimens::<E>(9, 20);
    let bad = id(&refused);
    let mut rows = good.clone();
    rows.push(refused.clone());
    match sink.write(&batch(&rows, &[])).await {
        Ok(report) => {
            let named: Vec<&Id> = report.rejected.iter().map(|(id, _)| id).collect();
            assert_eq!(named, [&bad], "{}: {check}: the refused record is not the one named", E::NAME);
            for (_, error) in &report.rejected {
                assert_eq!(error.kind(), ErrorKind::Rejected, "{}: {check}: {}", E::NAME, error.chain());
            }
            holds(sink, check, &good).await;
        }
        Err(error) => assert_eq!(error.kind(), ErrorKind::Rejected, "{}: {check}: {}", E::NAME, error.chain()),
    }
    lacks(sink, check, rows.get(good.len()..).unwrap_or_default()).await;
    refuses_whole(sink, refused).await;
}

/// The scope of all checks.
fn scope<E: Specimen>() -> Scope {
    Scope::new("conformance", E::NAME, 16)
}

/// The first `count` specimens of a check's own range.
pub(super) fn specimens<E: Specimen>(check: u64, count: u64) -> Vec<E> {
    (0..count).map(|n| E::specimen(check * RANGE + n)).collect()
}

pub(super) fn id<E: Specimen>(row: &E) -> Id {
    Id::of(&row.key()).unwrap_or_else(|error| panic!("{}: a specimen has no key: {error}", E::NAME))
}

/// A batch that sets the states of `upserts` and deletes the keys of `deletes`.
pub(super) fn batch<E: Specimen>(upserts: &[E], deletes: &[E]) -> Batch<E> {
    Batch::new(
        Arc::new(scope::<E>()),
        Vec::new(),
        upserts.iter().map(|row| Upsert::new(id(row), row.clone())).collect(),
        deletes.iter().map(|row| Delete::new(id(row), row.key())).collect(),
    )
}

pub(super) fn done<E: Specimen, T>(check: &str, result: Result<T, SinkError>) -> T {
    result.unwrap_or_else(|error| panic!("{}: {check}: {}", E::NAME, error.chain()))
}

fn accepted<E: Specimen>(check: &str, batch: &Batch<E>, report: &Report) {
    if let Some((id, error)) = report.rejected.first() {
        panic!("{}: {check}: good record {id} was refused: {}", E::NAME, error.chain());
    }
    assert!(
        batch.is_empty() || report.statements > 0,
        "{}: {check}: {} records were written with no statement counted",
        E::NAME,
        batch.len()
    );
}

pub(super) async fn write<E: Specimen>(sink: &(impl Sink<E> + ?Sized), check: &str, upserts: &[E], deletes: &[E]) {
    let batch = batch(upserts, deletes);
    let report = done::<E, _>(check, sink.write(&batch).await);
    accepted(check, &batch, &report);
}

/// Writes as the flusher does when batches meet: a transient failure is tried again.
async fn write_patiently<E: Specimen>(sink: &(impl Sink<E> + ?Sized), check: &str, upserts: &[E]) {
    let batch = batch(upserts, &[]);
    let mut tries = 0;
    let report = loop {
        tries += 1;
        match sink.write(&batch).await {
            Err(error) if error.kind() == ErrorKind::Transient && tries < 20 => {}
            result => break done::<E, _>(check, result),
        }
    };
    accepted(check, &batch, &report);
}

pub(super) async fn load<E: Specimen>(sink: &(impl Sink<E> + ?Sized), check: &str, rows: &[E]) -> BTreeMap<Id, E> {
    let keys: Vec<E::Key> = rows.iter().map(crate::entity::Entity::key).collect();
    let loaded = done::<E, _>(check, sink.load(&keys).await);
    let count = loaded.len();
    let by_id: BTreeMap<Id, E> = loaded.into_iter().map(|row| (id(&row), row)).collect();
    assert_eq!(by_id.len(), count, "{}: {check}: a row was loaded twice", E::NAME);
    by_id
}

pub(super) async fn holds<E: Specimen>(sink: &(impl Sink<E> + ?Sized), check: &str, rows: &[E]) {
    let loaded = load(sink, check, rows).await;
    for row in rows {
        let id = id(row);
        let Some(found) = loaded.get(&id) else { panic!("{}: {check}: row {id} is missing", E::NAME) };
        assert_eq!(found, row, "{}: {check}: row {id} is loaded with another value", E::NAME);
    }
    assert_eq!(loaded.len(), rows.len(), "{}: {check}: rows were loaded that nobody asked for", E::NAME);
}

pub(super) async fn lacks<E: Specimen>(sink: &(impl Sink<E> + ?Sized), check: &str, rows: &[E]) {
    let loaded = load(sink, check, rows).await;
    if let Some(id) = loaded.keys().next() {
        panic!("{}: {check}: row {id} should not be there", E::NAME);
    }
}
