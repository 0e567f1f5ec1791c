//! Turns claimed records into rows; what has no row is told apart, never dropped.

use crate::entity::Entity;
use crate::error::chain;
use crate::key::Id;
use crate::partition::partition_of;
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
    pub(super) id: Id,
    pub(super) kind: &'static str,
    pub(super) error: String,
}

/// Payload that is not a value of the struct.
pub(super) const UNDECODABLE: &str = "undecodable";
/// A record under an id or in a partition that is not its own; only a foreign client can write one.
pub(super) const MISPLACED: &str = "misplaced";

/// A payload on which the struct's own code panics is one that does not decode: it must not stop all others.
fn read<E: Entity>(payload: &[u8]) -> Result<E, String> {
    match std::panic::catch_unwind(|| E::decode(payload)) {
        Ok(decoded) => decoded.map_err(|error| chain(&error)),
        Err(_) => Err("the payload makes the struct's decoder panic".to_owned()),
    }
}

pub(super) fn decode<E: Entity>(scope: &Scope, claimed: &[Claimed]) -> Decoded<E> {
    let mut decoded = Decoded { upserts: Vec::new(), deletes: Vec::new(), unreadable: Vec::new() };
    for Claimed { epoch, id, record } in claimed {
        let mut unreadable = |kind, error| decoded.unreadable.push(Unreadable { id: id.clone(), kind, error });
        let home = partition_of(id, scope.partitions);
        if home != epoch.partition {
            unreadable(MISPLACED, format!("the id belongs to partition {home}, not to {}", epoch.partition));
            continue;
        }
        match record.payload() {
            None => match id.parse() {
                Ok(key) => decoded.deletes.push(Delete::new(id.clone(), key)),
                Err(error) => unreadable(MISPLACED, chain(&error)),
            },
            Some(payload) => match read::<E>(payload) {
                Err(error) => unreadable(UNDECODABLE, error),
                // The row would be another one than readers, deletes and later writes of this id mean.
                Ok(value) if Id::of(&value.key()).ok().as_ref() != Some(id) => {
                    unreadable(MISPLACED, "the payload's key is not the id that it is stored under".to_owned());
                }
                Ok(value) => decoded.upserts.push(Upsert::new(id.clone(), value)),
            },
        }
    }
    decoded
}
