//! serde's BSON forms of single values; what the derive's output calls.

use bson::Bson;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::mapping::entity::MappingError;

/// serde's BSON form of a value, as it stands in the document that `Collection::insert_one` stores.
///
/// The driver writes documents with BSON's raw serializer, which is not human readable, so a `Uuid` for example
/// is 16 bytes; `bson::serialize_to_bson` says that it is, and would make a text of it. Only whole documents can
/// be written raw, hence the wrapping.
///
/// # Errors
/// When the value has no BSON form, for example a `u64` above `i64::MAX`.
pub fn serde_form<T: Serialize + ?Sized>(value: &T) -> Result<Bson, MappingError> {
    #[derive(Serialize)]
    struct Alone<'a, T: ?Sized> {
        value: &'a T,
    }

    let raw = bson::serialize_to_raw_document_buf(&Alone { value })?;
    let mut document = bson::Document::try_from(raw)?;
    Ok(document.remove("value").unwrap_or(Bson::Null))
}

/// A part of the key: every type that serde can write.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be part of a document's `_id`",
    label = "serde's `Serialize` is missing",
    note = "put `#[derive(serde::Serialize)]` on `{Self}`"
)]
pub trait IdPart {
    /// serde's form of the part.
    ///
    /// # Errors
    /// When the part has no BSON form.
    fn part(&self) -> Result<Bson, MappingError>;
}

#[diagnostic::do_not_recommend]
impl<T: Serialize> IdPart for T {
    fn part(&self) -> Result<Bson, MappingError> {
        serde_form(self).map(|form| bytes(&form).unwrap_or(form))
    }
}

/// serde writes a `Vec<u8>` as an array of numbers, which MongoDB refuses in an `_id`; its bytes are legal there.
fn bytes(form: &Bson) -> Option<Bson> {
    let numbers = form.as_array()?;
    let byte = |number: &Bson| u8::try_from(number.as_i64().or_else(|| number.as_i32().map(i64::from))?).ok();
    let bytes = numbers.iter().map(byte).collect::<Option<Vec<u8>>>()?;
    Some(Bson::Binary(bson::Binary { subtype: bson::spec::BinarySubtype::Generic, bytes }))
}

/// The `_id` of a composite key.
#[must_use]
pub fn id_document<const PARTS: usize>(parts: [(&'static str, Bson); PARTS]) -> Bson {
    Bson::Document(parts.into_iter().map(|(name, part)| (name.to_owned(), part)).collect())
}

/// A `#[wb(skip)]` field: its default takes its place on load.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be left out of a document",
    label = "`Default` or serde's `Serialize` is missing",
    note = "the default takes the place of a skipped field on load; put `#[derive(Default)]` on `{Self}`"
)]
pub trait SkippedField {
    /// serde's form of the default.
    ///
    /// # Errors
    /// When the default has no BSON form.
    fn default_form() -> Result<Bson, MappingError>;
}

#[diagnostic::do_not_recommend]
impl<T: Default + Serialize> SkippedField for T {
    fn default_form() -> Result<Bson, MappingError> {
        serde_form(&T::default())
    }
}

/// A struct that is a document: what a generic entity must be with its type arguments.
pub trait Document: Serialize + DeserializeOwned {}

impl<T: Serialize + DeserializeOwned> Document for T {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_a_legal_id() -> Result<(), MappingError> {
        let id = IdPart::part(&vec![0_u8, 1, 255])?;
        assert_eq!(
            id,
            Bson::Binary(bson::Binary { subtype: bson::spec::BinarySubtype::Generic, bytes: vec![0, 1, 255] })
        );
        assert_eq!(IdPart::part(&7_i64)?, Bson::Int64(7));
        Ok(())
    }
}
