//! What every sink must do for versions, and for batches that are all or nothing; part of the suite in [`sink`](super::sink).
#![expect(clippy::panic, reason = "a failed check ends the test that runs it")]

use super::Specimen;
use super::sink::{batch, done, holds, id, lacks, load, specimens, write};
use crate::entity::key::Id;
use crate::error::sink::ErrorKind;
use crate::sink::Sink;

/// An upsert never replaces a row of a higher version; such records are named as stale, others are not, and the rest of the
/// batch lands. Nothing is checked of entities without a version.
///
/// # Panics
/// When a newer row is lost, an equal or higher version is not written, or a record is named that is not stale.
pub async fn keeps_newer_versions<E: Specimen>(sink: &(impl Sink<E> + ?Sized)) {
    let check = "keeps newer versions";
    let at = |rows: &[E], round: u64, version: i64| -> Vec<E> {
        let set = |row: &E| {
            let mut row = row.revise(round);
            row.set_version(version).then_some(row)
        };
        rows.iter().filter_map(set).collect()
    };
    let rows = specimens::<E>(20, 10);
    if rows.iter().any(|row| row.version().is_none()) || at(&rows, 1, 50).len() < rows.len() {
        return;
    }
    let fifth = at(&rows, 1, 50);
    stale(sink, check, &fifth, &[]).await;
    stale(sink, check, &fifth, &[]).await;
    holds(sink, check, &fifth).await;
    stale(sink, check, &at(&rows, 2, 49), &fifth).await;
    holds(sink, check, &fifth).await;
    let again = at(&rows, 3, 50);
    stale(sink, check, &again, &[]).await;
    holds(sink, check, &again).await;

    // Old, new, equal and absent rows in one batch.
    let mut mixed = again.clone();
    let (old, rest) = mixed.split_at_mut(3);
    old.clone_from_slice(&at(old, 4, 1));
    let (new, _) = rest.split_at_mut(3);
    new.clone_from_slice(&at(new, 4, 51));
    let absent = at(&specimens::<E>(20, 12), 4, 1).split_off(10);
    let old = mixed.get(..3).unwrap_or_default().to_vec();
    mixed.extend(absent);
    stale(sink, check, &mixed, &old).await;
    let mut expected = mixed;
    expected.splice(..3, again.into_iter().take(3));
    holds(sink, check, &expected).await;

    // Of a batch that is all or nothing, an old row ends all.
    if done::<E, _>(check, sink.writes_whole().await) {
        let before = expected.clone();
        let mut torn = at(&before, 6, 60);
        torn.iter_mut().zip(at(&before, 6, 1)).skip(7).take(1).for_each(|(row, old)| *row = old);
        match sink.write(&batch(&torn, &[]).whole()).await {
            Ok(report) => panic!("{}: {check}: a stale record did not end its batch: {report:?}", E::NAME),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Rejected, "{}: {check}: {}", E::NAME, error.chain()),
        }
        holds(sink, check, &before).await;
    }

    // A delete has no version, and after it everything is new.
    write(sink, check, &[], &expected).await;
    lacks(sink, check, &expected).await;
    let first = at(&rows, 5, 1);
    stale(sink, check, &first, &[]).await;
    holds(sink, check, &first).await;
}

/// Of a batch that is all or nothing, nothing is written when a record is refused, and everything when none is. Called by
/// [`refuses`](super::sink::refuses); nothing is checked of sinks that cannot do it.
///
/// # Panics
/// When the batch is taken, the error is of another kind, or a record of it was written.
pub async fn refuses_whole<E: Specimen>(sink: &(impl Sink<E> + ?Sized), refused: E) {
    let check = "refuses whole";
    if !done::<E, _>(check, sink.writes_whole().await) {
        return;
    }
    let good = specimens::<E>(21, 20);
    let (kept, absent) = good.split_at(5);
    write(sink, check, kept, absent).await;
    let changed: Vec<E> = good.iter().map(|row| row.revise(1)).collect();
    let (gone, changed) = changed.split_at(2);
    let mut rows = changed.to_vec();
    rows.push(refused);
    match sink.write(&batch(&rows, gone).whole()).await {
        Ok(report) => panic!("{}: {check}: a refused record did not end its batch: {report:?}", E::NAME),
        Err(error) => assert_eq!(error.kind(), ErrorKind::Rejected, "{}: {check}: {}", E::NAME, error.chain()),
    }
    holds(sink, check, kept).await;
    lacks(sink, check, rows.get(3..).unwrap_or_default()).await;
    let report = done::<E, _>(check, sink.write(&batch(changed, gone).whole()).await);
    assert!(report.rejected.is_empty(), "{}: {check}: {:?}", E::NAME, report.rejected);
    holds(sink, check, changed).await;
    lacks(sink, check, gone).await;
}

/// Writes rows of which exactly these are stale.
async fn stale<E: Specimen>(sink: &(impl Sink<E> + ?Sized), check: &str, rows: &[E], expected: &[E]) {
    let before = load(sink, check, expected).await;
    let report = done::<E, _>(check, sink.write(&batch(rows, &[])).await);
    if let Some((id, error)) = report.rejected.first() {
        panic!("{}: {check}: good record {id} was refused: {}", E::NAME, error.chain());
    }
    let mut named = report.stale;
    named.sort_unstable();
    let mut expected: Vec<Id> = expected.iter().map(id).collect();
    expected.sort_unstable();
    assert_eq!(named, expected, "{}: {check}: other records are stale than those named; before: {before:?}", E::NAME);
}
