//! Turns claimed records into rows; what has no row is told apart, never dropped.

use std::panic::AssertUnwindSafe;

use crate::codec::CodecError;
use crate::entity::Entity;
use crate::error::chain;
use crate::key::Id;
use crate::partition::partition_of;
use crate::record::Record;
use crate::sink::{Delete, Scope, Upsert};

use super::claim::Claimed;

/// Rows of a batch, and the records that can never be rows.
pub(super) struct Decoded<E: Entity> {
    pub(super) upserts: Vec<Upsert<E>>,
    pub(super) deletes: Vec<Delete<E::Key>>,
    pub(super) unreadable: Vec<Unreadable>,
}

/// A record that no retry can turn into a row.
pub(super) struct Unreadable {
    pub(super) claimed: Claimed,
    pub(super) kind: &'static str,
    pub(super) error: String,
}

/// Payload that is not a value of the struct.
pub(super) const UNDECODABLE: &str = "undecodable";
/// A record under an id or in a partition that is not its own; only a foreign client can write one.
pub(super) const MISPLACED: &str = "misplaced";
/// A record that is not written without the others of its transaction, one of which is no row.
pub(super) const GROUPED: &str = "grouped";

/// A payload on which the struct's own code panics is one that does not decode: it must not stop all others.
pub(super) fn decode_payload<E: Entity>(payload: &[u8]) -> Result<E, CodecError> {
    std::panic::catch_unwind(|| E::decode(payload)).unwrap_or_else(|_| {
        let source = "the payload makes the struct's decoder panic".into();
        Err(CodecError::Decode { format: E::FORMAT, source })
    })
}

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

pub(super) fn decode<'a, E: Entity>(scope: &Scope, claimed: impl Iterator<Item = &'a Claimed>) -> Decoded<E> {
    let mut decoded = Decoded { upserts: Vec::new(), deletes: Vec::new(), unreadable: Vec::new() };
    for claimed @ Claimed { epoch, id, record, .. } in claimed {
        let mut unreadable =
            |kind, error| decoded.unreadable.push(Unreadable { claimed: claimed.clone(), kind, error });
        let misplaced = |place: &Id| {
            let home = partition_of(place, scope.partitions);
            (home != epoch.partition).then(|| format!("the id belongs to partition {home}, not to {}", epoch.partition))
        };
        if let Some(error) = misplaced(id).filter(|_| !E::PLACED && !(E::APPEND && id.is_unreadable())) {
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
