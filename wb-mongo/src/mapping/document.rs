//! Value ⇄ document.
//!
//! The serializer is the driver's own (`serialize_to_raw_document_buf`, `deserialize_from_slice`; neither calls itself
//! human readable), so that a document is what `Collection<T>::insert_one` would have stored and `Collection<T>::find`
//! reads.

use bson::raw::{CStr, RawArrayBuf, RawBson, RawBsonRef, RawDocument, RawDocumentBuf, cstr};
use bson::{Bson, Document};

use crate::mapping::entity::{FieldRule, MappingError, MongoEntity};
use crate::write::merge::own_fields;

/// The document of a value: serde's form with the key as `_id`, its field rules applied.
///
/// # Errors
/// [`MappingError::Bson`] when the value has no BSON form (a `u64` above `i64::MAX`, a map whose keys are no text);
/// [`MappingError::ForeignId`] when serde's form has an `_id` that is not the key.
pub fn to_raw<E: MongoEntity>(value: &E) -> Result<RawDocumentBuf, MappingError> {
    let id = id_of::<E>(&value.key())?;
    with_id(value, &id)
}

/// The value of a document, as the sink loads it.
///
/// # Errors
/// [`MappingError::Bson`] when the document is not a value of the entity.
pub fn from_raw<E: MongoEntity>(document: &RawDocument) -> Result<E, MappingError> {
    // The first error is of the document as it is.
    from_stored(document).or_else(|error| match with_key::<E>(document)? {
        Some(whole) => from_stored(&whole).or_else(|_| from_stored(&with_bytes::<E>(&whole)?)).map_err(|_| error),
        None => Err(error),
    })
}

/// The document with the fields of its key, where it lacks them: another program may have said them in the `_id` alone.
fn with_key<E: MongoEntity>(document: &RawDocument) -> Result<Option<RawDocumentBuf>, MappingError> {
    let mut whole = document.to_owned();
    let mut added = false;
    for name in E::KEYS {
        if document.get(name)?.is_some() {
            continue;
        }
        let part = match (document.get("_id")?, E::KEYS) {
            (Some(id), [_]) => Some(id),
            (Some(RawBsonRef::Document(parts)), _) => parts.get(name)?,
            _ => None,
        };
        if let Some(part) = part {
            whole.append(<&CStr>::try_from(*name)?, part);
            added = true;
        }
    }
    Ok(added.then_some(whole))
}

/// The same with bytes of the key as the array of numbers that serde reads.
fn with_bytes<E: MongoEntity>(document: &RawDocument) -> Result<RawDocumentBuf, MappingError> {
    let mut arrays = RawDocumentBuf::new();
    for element in document {
        let (name, field) = element?;
        match field {
            RawBsonRef::Binary(binary) if E::KEYS.contains(&name.as_str()) => {
                arrays.append(name, binary.bytes.iter().map(|byte| i32::from(*byte)).collect::<RawArrayBuf>());
            }
            field => arrays.append(name, field),
        }
    }
    Ok(arrays)
}

/// The value of a document that has all that serde reads.
fn from_stored<E: MongoEntity>(document: &RawDocument) -> Result<E, MappingError> {
    let rules = E::rules();
    if rules.is_empty() {
        return from_fields(document);
    }
    from_fields(&unruled(document, rules)?)
}

/// A merged document may have the fields of others, and lacks what is null.
fn from_fields<E: MongoEntity>(document: &RawDocument) -> Result<E, MappingError> {
    match from_serde_form(document) {
        // The first error is of the document as it is.
        Err(error) if E::MERGE => from_serde_form(&own_fields::<E>(document)?).map_err(|_| error),
        outcome => outcome,
    }
}

/// The `_id` of a key, ready for a command.
pub(crate) fn id_of<E: MongoEntity>(key: &E::Key) -> Result<RawBson, MappingError> {
    Ok(RawBson::try_from(E::id_of(key)?)?)
}

/// The document of a value whose `_id` is known.
pub(crate) fn with_id<E: MongoEntity>(value: &E, id: &RawBson) -> Result<RawDocumentBuf, MappingError> {
    let plain = bson::serialize_to_raw_document_buf(value)?;
    let rules = E::rules();
    let document = if rules.is_empty() { plain } else { ruled(&plain, value, rules)? };
    match document.get("_id")? {
        None => prepend_id(&document, id),
        Some(own) if same(&Bson::try_from(own)?, &Bson::try_from(id.clone())?) => Ok(document),
        Some(_) => Err(MappingError::ForeignId),
    }
}

/// `{_id: id, ...document}`, with the fields copied as one run of bytes.
fn prepend_id(document: &RawDocument, id: &RawBson) -> Result<RawDocumentBuf, MappingError> {
    // A document is its length in four bytes, the elements, and a final zero.
    let mut head = RawDocumentBuf::new();
    head.append(cstr!("_id"), id);
    let mut bytes = head.into_bytes();
    bytes.pop();
    bytes.extend_from_slice(document.as_bytes().get(4..).unwrap_or_default());
    let length = i32::try_from(bytes.len()).map_err(|_| too_long(bytes.len()))?;
    if let Some(prefix) = bytes.get_mut(..4) {
        prefix.copy_from_slice(&length.to_le_bytes());
    }
    Ok(RawDocumentBuf::from_bytes(bytes)?)
}

fn too_long(length: usize) -> MappingError {
    MappingError::Bson(serde::ser::Error::custom(format_args!("a document of {length} bytes is too long for BSON")))
}

/// Applies the rules on the way to the database.
fn ruled<E>(plain: &RawDocument, value: &E, rules: &[FieldRule<E>]) -> Result<RawDocumentBuf, MappingError> {
    let mut document = RawDocumentBuf::new();
    for element in plain {
        let (name, field) = element?;
        match rule(rules, name) {
            None => document.append(name, field),
            Some(FieldRule::Skip { .. }) => {}
            Some(FieldRule::Native { store, .. }) => document.append(name, RawBson::try_from(store(value)?)?),
        }
    }
    Ok(document)
}

/// Takes the rules back on the way from the database.
fn unruled<E>(stored: &RawDocument, rules: &[FieldRule<E>]) -> Result<RawDocumentBuf, MappingError> {
    let mut document = RawDocumentBuf::new();
    for element in stored {
        let (name, field) = element?;
        match rule(rules, name) {
            None => document.append(name, field),
            // Another program may have stored it; the default takes its place below.
            Some(FieldRule::Skip { .. }) => {}
            Some(FieldRule::Native { load, .. }) => {
                document.append(name, RawBson::try_from(load(Bson::try_from(field)?)?)?);
            }
        }
    }
    for rule in rules {
        if let FieldRule::Skip { name, default } = rule {
            document.append(<&CStr>::try_from(*name)?, RawBson::try_from(default()?)?);
        }
    }
    Ok(document)
}

fn rule<'r, E>(rules: &'r [FieldRule<E>], field: &CStr) -> Option<&'r FieldRule<E>> {
    rules.iter().find(|rule| match rule {
        FieldRule::Skip { name, .. } | FieldRule::Native { name, .. } => *name == field.as_str(),
    })
}

fn from_serde_form<E: MongoEntity>(document: &RawDocument) -> Result<E, MappingError> {
    // A map that is flattened takes every name, that of the `_id` that was added, too.
    if E::FLATTENED
        && !E::FIELDS.iter().any(|field| field.name == "_id")
        && let Ok(value) = bson::deserialize_from_slice(bare(document)?.as_bytes())
    {
        return Ok(value);
    }
    let error = match bson::deserialize_from_slice(document.as_bytes()) {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    // A struct that denies unknown fields does not know the `_id` that was added.
    bson::deserialize_from_slice(bare(document)?.as_bytes()).map_err(|_| MappingError::Bson(error))
}

/// The document without its `_id`.
fn bare(document: &RawDocument) -> Result<RawDocumentBuf, MappingError> {
    let mut bare = RawDocumentBuf::new();
    for element in document {
        let (name, field) = element?;
        if name.as_str() != "_id" {
            bare.append(name, field);
        }
    }
    Ok(bare)
}

/// Whether two `_id`s are one to the server, which compares numbers by value.
fn same(a: &Bson, b: &Bson) -> bool {
    match (a, b) {
        (Bson::Int32(a), Bson::Int64(b)) | (Bson::Int64(b), Bson::Int32(a)) => i64::from(*a) == *b,
        (Bson::Document(a), Bson::Document(b)) => same_fields(a, b),
        _ => a == b,
    }
}

fn same_fields(a: &Document, b: &Document) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|((a_name, a), (b_name, b))| a_name == b_name && same(a, b))
}

/// An `_id` as people read it in an error.
pub(crate) fn display_id(document: &RawDocument) -> String {
    match document.get("_id") {
        Ok(Some(id)) => display(id),
        _ => "(none)".to_owned(),
    }
}

fn display(id: RawBsonRef<'_>) -> String {
    Bson::try_from(id).map_or_else(|_| "(malformed)".to_owned(), |id| id.to_string())
}

#[cfg(test)]
mod tests {
    use bson::{doc, rawdoc};

    use super::*;

    #[test]
    fn the_id_comes_first_and_the_fields_follow_unchanged() {
        let fields = rawdoc! { "name": "ann", "score": 7_i64, "tags": ["a"] };
        let whole = prepend_id(&fields, &RawBson::Int64(3));
        let expected = rawdoc! { "_id": 3_i64, "name": "ann", "score": 7_i64, "tags": ["a"] };
        assert_eq!(whole.map(RawDocumentBuf::into_bytes).ok(), Some(expected.into_bytes()));
        let alone = prepend_id(&rawdoc! {}, &RawBson::String("k".to_owned()));
        assert_eq!(alone.map(RawDocumentBuf::into_bytes).ok(), Some(rawdoc! { "_id": "k" }.into_bytes()));
    }

    #[test]
    fn ids_are_compared_as_the_server_does() {
        let composite = |a: Bson, b: Bson| Bson::Document(doc! { "a": a, "b": b });
        assert!(same(&Bson::Int32(1), &Bson::Int64(1)));
        assert!(!same(&Bson::Int32(1), &Bson::Int64(2)));
        assert!(!same(&Bson::Int32(1), &Bson::String("1".to_owned())));
        assert!(same(&composite(Bson::Int32(1), Bson::Boolean(true)), &composite(Bson::Int64(1), Bson::Boolean(true))));
        assert!(!same(&Bson::Document(doc! { "a": 1, "b": 2 }), &Bson::Document(doc! { "b": 2, "a": 1 })));
    }
}
