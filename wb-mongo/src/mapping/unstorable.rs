//! Whether MongoDB can hold a record, looked at before each write: nothing is serialized unless something is odd about it.

use bson::Bson;
use wb_core::Unstorable;
use wb_core::codec::walk::walk;

use crate::mapping::document::{id_of, with_id};
use crate::mapping::entity::{FieldRule, MappingError, MongoEntity};

/// Bytes of the longest document, where the server was not asked yet.
pub(crate) const MAX_DOCUMENT: usize = 16 * 1024 * 1024;

/// A document has so many times the bytes that are seen of it, at most: types, names of elements, lengths.
const OVERHEAD: usize = 32;

/// Whether a server whose longest document has `max_document` bytes can hold the document of a value.
pub(crate) fn check<E: MongoEntity>(value: &E, max_document: usize) -> Result<(), Unstorable> {
    let failed = |field: &'static str, error: MappingError| Unstorable::new(field, reason(&error));
    let id = E::id_of(&value.key()).map_err(|error| failed("_id", error))?;
    if let Some(kind) = no_id(&id) {
        return Err(Unstorable::new("_id", format!("is {kind}, which MongoDB does not take as a key")));
    }
    for rule in E::rules() {
        if let FieldRule::Native { name, store, .. } = rule {
            store(value).map_err(|error| failed(name, error))?;
        }
    }
    // As the driver's serializer, which does not call itself human readable.
    let seen = walk(value, false);
    let small = seen.bytes < max_document / OVERHEAD;
    // One that another field than the key says, or an entry of a flattened map.
    let foreign_id = seen.has_id && (E::FLATTENED || !E::KEYS.contains(&"_id"));
    if small && !seen.above_i64 && !seen.nul_in_key && !seen.odd && !foreign_id {
        return Ok(());
    }
    // The serializer itself has the last word.
    let field = seen.field.unwrap_or("(document)");
    let document = id_of::<E>(&value.key()).and_then(|id| with_id(value, &id)).map_err(|error| failed(field, error))?;
    let length = document.as_bytes().len();
    if length > max_document {
        let reason = format!("has {length} bytes, the server takes {max_document}");
        return Err(Unstorable::new("(document)", reason));
    }
    Ok(())
}

/// Whether a date has a finer fraction of a second than the document keeps.
pub(crate) fn cuts<E: MongoEntity>(value: &E) -> bool {
    E::rules().iter().any(|rule| matches!(rule, FieldRule::Native { cuts, .. } if cuts(value)))
}

/// Cuts that off.
pub(crate) fn cut<E: MongoEntity>(value: &mut E) {
    for rule in E::rules() {
        if let FieldRule::Native { cut, .. } = rule {
            cut(value);
        }
    }
}

/// What cannot be a document's `_id`.
const fn no_id(id: &Bson) -> Option<&'static str> {
    match id {
        Bson::Array(_) => Some("an array"),
        Bson::RegularExpression(_) => Some("a regular expression"),
        Bson::Undefined => Some("undefined"),
        _ => None,
    }
}

fn reason(error: &MappingError) -> String {
    if let MappingError::Unfit(reason) = error {
        return (*reason).to_owned();
    }
    let source = std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
    format!("has no BSON form: {source}")
}
