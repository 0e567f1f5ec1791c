//! What the MongoDB sink knows of an entity: its collection, and where its document differs from serde's.

use bson::Bson;
use wb_core::Entity;

/// An entity with a collection; derived where `#[wb(collection = "...")]` is given.
///
/// The document is what `Collection<T>::insert_one(&t)` would have stored, with the key as `_id`; the rules name
/// the fields that differ.
///
/// The stored document is replaced as a whole. With [`MERGE`](Self::MERGE) the entity's fields are set in it one by one, and
/// those that are absent or null in the new document are unset; fields that others keep in the document stay, until the
/// record is deleted.
pub trait MongoEntity: Entity + serde::Serialize + serde::de::DeserializeOwned {
    /// Name of the collection.
    const COLLECTION: &'static str;
    /// Name of the `#[wb(version)]` field in the document, where there is one.
    const VERSION: Option<&'static str> = None;

    /// Whether the stored document keeps the fields that the entity does not have (`#[wb(merge)]`).
    const MERGE: bool = false;
    /// The stored fields, in the order of the struct.
    const FIELDS: &'static [StoredField] = &[];

    /// Whether serde's `flatten` puts fields beside those of the struct, under names that are not known here.
    const FLATTENED: bool = false;

    /// Names of the key's fields in serde's document, in the order of the key's parts. A document that has none of them, because
    /// another program wrote it, is loaded with what its `_id` says.
    const KEYS: &'static [&'static str] = &[];

    /// Fields whose stored form is not serde's.
    fn rules() -> &'static [FieldRule<Self>];

    /// The `_id` of a key: the value itself, or a sub-document of the parts of a composite key.
    ///
    /// # Errors
    /// When a part has no BSON form.
    fn id_of(key: &Self::Key) -> Result<Bson, MappingError>;
}

/// A field of the document.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct StoredField {
    /// Its name in serde's document.
    pub name: &'static str,
    /// `#[wb(insert_only)]`: set when a document is inserted, and left alone when it is updated. Only
    /// [`MERGE`](MongoEntity::MERGE) can do that: a document that is replaced has the field as the record has it.
    pub insert_only: bool,
    /// What serde makes of a document without it.
    pub absent: Absent,
}

/// What serde makes of an absent field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Absent {
    /// The same as of null, or an error.
    Null,
    /// The type's default, which is what null is.
    Default,
    /// A value of the struct's choice, which may be another one than null is.
    Other,
}

impl StoredField {
    /// A field that is none where it is absent.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self { name, insert_only: false, absent: Absent::Null }
    }

    /// The field is set on insert only.
    #[must_use]
    pub const fn insert_only(self) -> Self {
        Self { insert_only: true, ..self }
    }

    /// What serde makes of a document without the field.
    #[must_use]
    pub const fn absent(self, absent: Absent) -> Self {
        Self { absent, ..self }
    }
}

/// A field whose stored form is not serde's.
#[derive(Debug)]
#[non_exhaustive]
pub enum FieldRule<E> {
    /// `#[wb(skip)]`: not stored; on load the default takes its place.
    Skip {
        /// Name of the field in serde's document.
        name: &'static str,
        /// serde's BSON form of the default.
        default: fn() -> Result<Bson, MappingError>,
    },
    /// `#[wb(native_bson)]`: stored in BSON's own type.
    Native {
        /// Name of the field in serde's document.
        name: &'static str,
        /// The native form of the field.
        store: fn(&E) -> Result<Bson, MappingError>,
        /// serde's form of a native value.
        load: fn(Bson) -> Result<Bson, MappingError>,
        /// Digits of a second that the native form keeps, where it is a time.
        digits: Option<u32>,
        /// Whether the native form keeps less of the field.
        cuts: fn(&E) -> bool,
        /// Cuts that off.
        cut: fn(&mut E),
    },
}

/// A value that has no BSON form, or a document that is no value.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MappingError {
    /// Serialization or deserialization failed.
    #[error("value and document do not fit")]
    Bson(#[from] bson::error::Error),
    /// The document's own `_id` is not the key.
    #[error("the document's `_id` is not the entity's key; give the key field `#[serde(rename = \"_id\")]` or none")]
    ForeignId,
    /// A value that BSON's own type does not hold as it is; what is wrong follows the field's name in a sentence.
    #[error("a value that {0}")]
    Unfit(&'static str),
}
