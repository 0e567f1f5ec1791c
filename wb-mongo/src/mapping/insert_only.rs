//! Fields that are set in a new document only.

use bson::raw::{RawBsonRef, RawDocument};
use wb_core::SameInserted;

use crate::mapping::document::to_raw;
use crate::mapping::entity::MongoEntity;

/// How to tell whether two states have the same values in such fields; `None`: there are none, or documents are replaced.
pub(crate) fn fields<E: MongoEntity>() -> Option<SameInserted<E>> {
    (E::MERGE && E::FIELDS.iter().any(|field| field.insert_only)).then_some(same::<E>)
}

fn same<E: MongoEntity>(one: &E, other: &E) -> bool {
    let (Ok(one), Ok(other)) = (to_raw(one), to_raw(other)) else { return false };
    E::FIELDS.iter().filter(|field| field.insert_only).all(|field| value(&one, field.name) == value(&other, field.name))
}

/// A null is not set in a new document either.
fn value<'a>(document: &'a RawDocument, name: &str) -> Option<RawBsonRef<'a>> {
    document.get(name).ok().flatten().filter(|value| *value != RawBsonRef::Null)
}
