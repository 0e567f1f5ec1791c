//! Turns claimed records into rows; what has no row is told apart, never dropped.

use std::panic::AssertUnwindSafe;

use crate::buffer::record::Record;
use crate::entity::Entity;
use crate::entity::decode::decode_payload;
use crate::entity::key::Id;
use crate::entity::partition::partition_of;
use crate::error::chain;
use crate::flush::claim::Claimed;
use crate::sink::batch::{Delete, Upsert};
use crate::telemetry::scope::Scope;

/// Rows of a batch, and the records that can never be rows.
pub(crate) struct Decoded<E: Entity> {
    pub(crate) upserts: Vec<Upsert<E>>,
    pub(crate) deletes: Vec<Delete<E::Key>>,
    pub(crate) unreadable: Vec<Unreadable>,
}

/// A record that no retry can turn into a row.
pub(crate) struct Unreadable {
    pub(crate) claimed: Claimed,
    pub(crate) kind: &'static str,
    pub(crate) error: String,
}

/// Payload that is not a value of the struct.
pub(crate) const UNDECODABLE: &str = "undecodable";
/// A record under an id or in a partition that is not its own; only a foreign client can write one.
pub(crate) const MISPLACED: &str = "misplaced";
/// A record that is not written without the others of its transaction, one of which is no row.
pub(crate) const GROUPED: &str = "grouped";

/// The row of a record, or why it has none.
enum Row<E: Entity> {
    Upsert(Upsert<E>),
    Delete(Delete<E::Key>),
    None(&'static str, String),
}

/// Runs the struct's own code: what panics there is told apart like what does not decode.
fn row<E: Entity>(id: &Id, record: &Record) -> Row<E> {
    let row = || match record.payload() {
        None => match id.parse() {
            Ok(key) => Row::Delete(Delete::new(id.clone(), key)),
            Err(error) => Row::None(MISPLACED, chain(&error)),
        },
        Some(payload) => match decode_payload::<E>(payload) {
            Err(error) => Row::None(UNDECODABLE, chain(&error)),
            // The row would be another one than readers, deletes and later writes of this id mean.
            // An entry of a log that could not be read when it came has an id of its own.
            Ok(value) if Id::of(&value.key()).ok().as_ref() != Some(id) && !(E::APPEND && id.is_unreadable()) => {
                Row::None(MISPLACED, "the payload's key is not the id that it is stored under".to_owned())
            }
            Ok(value) => Row::Upsert(Upsert::new(id.clone(), value)),
        },
    };
    std::panic::catch_unwind(AssertUnwindSafe(row))
        .unwrap_or_else(|_| Row::None(UNDECODABLE, "the record makes the struct's own code panic".to_owned()))
}

/// What decides the partition of a row, where that is not its id. The struct's own code: what panics there, or has no
/// text, is taken for the id, and stays where it is.
fn place<E: Entity>(row: &Row<E>) -> Option<Id> {
    let unreadable = |upsert: &Upsert<E>| E::APPEND && upsert.id.is_unreadable();
    let place = || match row {
        Row::Upsert(upsert) if E::PLACED || unreadable(upsert) => upsert.value.place().ok(),
        Row::Delete(delete) if E::PLACED => E::place_of(&delete.key).ok(),
        _ => None,
    };
    std::panic::catch_unwind(AssertUnwindSafe(place)).unwrap_or_default()
}

pub(crate) fn decode<'a, E: Entity>(scope: &Scope, claimed: impl Iterator<Item = &'a Claimed>) -> Decoded<E> {
    let mut decoded = Decoded { upserts: Vec::new(), deletes: Vec::new(), unreadable: Vec::new() };
    for claimed @ Claimed { epoch, id, record, .. } in claimed {
        let mut unreadable =
            |kind, error| decoded.unreadable.push(Unreadable { claimed: claimed.clone(), kind, error });
        let misplaced = |place: &Id| {
            let home = partition_of(place, scope.partitions);
            (home != epoch.partition).then(|| format!("the id belongs to partition {home}, not to {}", epoch.partition))
        };
        if let Some(error) = misplaced(id).filter(|_| !(E::PLACED || E::APPEND && id.is_unreadable())) {
            unreadable(MISPLACED, error);
            continue;
        }
        let row = row(id, record);
        if let Some(error) = place(&row).as_ref().and_then(misplaced) {
            unreadable(MISPLACED, error);
            continue;
        }
        match row {
            Row::Upsert(upsert) => decoded.upserts.push(upsert),
            Row::Delete(delete) => decoded.deletes.push(delete),
            Row::None(kind, error) => unreadable(kind, error),
        }
    }
    decoded
}
