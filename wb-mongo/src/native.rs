//! BSON's own types for Rust types that serde writes as texts or bytes.

use std::marker::PhantomData;

use bson::spec::BinarySubtype;
use bson::{Binary, Bson};
use chrono::{DateTime, NaiveDateTime, Utc};
use serde::Serialize;
use serde::de::Error as _;
use uuid::Uuid;

use crate::entity::{FieldRule, MappingError};
use crate::mapping::serde_form;

/// A type that BSON has a type for, other than the one that serde chooses.
///
/// | Rust | serde | native |
/// |---|---|---|
/// | `uuid::Uuid` | Binary, subtype 0 | Binary, subtype 4 (UUID) |
/// | `chrono::DateTime<Utc>` | String | Date |
/// | `chrono::NaiveDateTime`, taken as UTC | String | Date |
/// | `Vec<u8>` | Array of numbers | Binary, subtype 0 |
/// | `Option<T>`, `Vec<T>` of these | Null or `T`, Array | the same, of `T`'s native form |
///
/// A BSON date counts milliseconds: what is finer is cut off when it is stored.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no native BSON form",
    label = "not a UUID, a date, or bytes",
    note = "`#[wb(native_bson)]` is for `Uuid`, `DateTime<Utc>`, `NaiveDateTime`, `Vec<u8>`, and `Option` and `Vec` of them",
    note = "implement `NativeBson` for a newtype of yours, or leave the field in serde's form"
)]
pub trait NativeBson: Sized {
    /// The native form.
    fn to_native(&self) -> Bson;

    /// The value of a native form.
    ///
    /// # Errors
    /// When it is another type's, or out of the Rust type's range.
    fn from_native(native: Bson) -> Result<Self, MappingError>;
}

/// The error for a form that is not `expected`.
fn unexpected(native: &Bson, expected: &str) -> MappingError {
    bson::error::Error::custom(format_args!("expected {expected}, found {:?}", native.element_type())).into()
}

impl NativeBson for Uuid {
    fn to_native(&self) -> Bson {
        bson::Uuid::from(*self).into()
    }

    fn from_native(native: Bson) -> Result<Self, MappingError> {
        match native {
            Bson::Binary(binary) => Ok(binary.to_uuid()?.into()),
            other => Err(unexpected(&other, "a UUID")),
        }
    }
}

impl NativeBson for DateTime<Utc> {
    fn to_native(&self) -> Bson {
        bson::DateTime::from_chrono(*self).into()
    }

    fn from_native(native: Bson) -> Result<Self, MappingError> {
        match native {
            Bson::DateTime(date) => Self::from_timestamp_millis(date.timestamp_millis())
                .ok_or_else(|| unexpected(&native, "a date of chrono's range")),
            other => Err(unexpected(&other, "a date")),
        }
    }
}

impl NativeBson for NaiveDateTime {
    fn to_native(&self) -> Bson {
        self.and_utc().to_native()
    }

    fn from_native(native: Bson) -> Result<Self, MappingError> {
        DateTime::<Utc>::from_native(native).map(|date| date.naive_utc())
    }
}

impl NativeBson for Vec<u8> {
    fn to_native(&self) -> Bson {
        Bson::Binary(Binary { subtype: BinarySubtype::Generic, bytes: self.clone() })
    }

    fn from_native(native: Bson) -> Result<Self, MappingError> {
        match native {
            Bson::Binary(binary) => Ok(binary.bytes),
            other => Err(unexpected(&other, "bytes")),
        }
    }
}

impl<T: NativeBson> NativeBson for Option<T> {
    fn to_native(&self) -> Bson {
        self.as_ref().map_or(Bson::Null, T::to_native)
    }

    fn from_native(native: Bson) -> Result<Self, MappingError> {
        match native {
            Bson::Null => Ok(None),
            other => T::from_native(other).map(Some),
        }
    }
}

impl<T: NativeBson> NativeBson for Vec<T> {
    fn to_native(&self) -> Bson {
        Bson::Array(self.iter().map(T::to_native).collect())
    }

    fn from_native(native: Bson) -> Result<Self, MappingError> {
        match native {
            Bson::Array(items) => items.into_iter().map(T::from_native).collect(),
            other => Err(unexpected(&other, "an array")),
        }
    }
}

/// A `#[wb(native_bson)]` field, between its native form and serde's.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no native BSON form",
    label = "not a UUID, a date, or bytes",
    note = "`#[wb(native_bson)]` is for `Uuid`, `DateTime<Utc>`, `NaiveDateTime`, `Vec<u8>`, and `Option` and `Vec` of them",
    note = "implement `NativeBson` for a newtype of yours, or leave the field in serde's form"
)]
pub trait NativeField {
    /// The native form of the field.
    ///
    /// # Errors
    /// Never; the signature is the rule's.
    fn store(&self) -> Result<Bson, MappingError>;

    /// serde's form of a native form.
    ///
    /// # Errors
    /// When it is another type's.
    fn load(native: Bson) -> Result<Bson, MappingError>;
}

#[diagnostic::do_not_recommend]
impl<T: NativeBson + Serialize> NativeField for T {
    fn store(&self) -> Result<Bson, MappingError> {
        Ok(self.to_native())
    }

    fn load(native: Bson) -> Result<Bson, MappingError> {
        serde_form(&T::from_native(native)?)
    }
}

/// Asks at compile time whether a type has a native form: `Detect::<T>::IS_NATIVE` finds the item below where
/// there is one, and [`NoNativeForm`]'s otherwise.
#[doc(hidden)]
pub struct Detect<T>(PhantomData<T>);

impl<T: NativeField> Detect<T> {
    /// It has.
    pub const IS_NATIVE: bool = true;

    /// The native form.
    ///
    /// # Errors
    /// Never; the signature is the rule's.
    pub fn store(field: &T) -> Result<Bson, MappingError> {
        field.store()
    }

    /// serde's form of a native form.
    ///
    /// # Errors
    /// When it is another type's.
    pub fn load(native: Bson) -> Result<Bson, MappingError> {
        T::load(native)
    }
}

/// What [`Detect`] finds for other types: serde's form in both directions.
#[doc(hidden)]
pub trait NoNativeForm<T> {
    /// It has none.
    const IS_NATIVE: bool = false;

    /// serde's form.
    ///
    /// # Errors
    /// When the field has no BSON form.
    fn store(field: &T) -> Result<Bson, MappingError>
    where
        T: Serialize,
    {
        serde_form(field)
    }

    /// serde's form already.
    ///
    /// # Errors
    /// Never; the signature is the rule's.
    fn load(stored: Bson) -> Result<Bson, MappingError> {
        Ok(stored)
    }
}

impl<T> NoNativeForm<T> for Detect<T> {}

/// The rules that apply, sifted when the program is compiled.
#[doc(hidden)]
#[derive(Debug)]
pub struct Sifted<E, const FIELDS: usize> {
    /// Those that apply come first.
    rules: [FieldRule<E>; FIELDS],
    count: usize,
}

impl<E, const FIELDS: usize> Sifted<E, FIELDS> {
    /// Keeps what applies.
    #[must_use]
    #[expect(
        clippy::indexing_slicing,
        reason = "constants have no iterators, and an index out of range fails the build"
    )]
    pub const fn new(found: [Option<FieldRule<E>>; FIELDS]) -> Self {
        let mut rules = [const { FieldRule::Skip { name: "", default: || Ok(Bson::Null) } }; FIELDS];
        let mut count = 0;
        let mut field = 0;
        while field < FIELDS {
            if let Some(rule) = &found[field] {
                rules[count] = match rule {
                    FieldRule::Skip { name, default } => FieldRule::Skip { name, default: *default },
                    FieldRule::Native { name, store, load } => FieldRule::Native { name, store: *store, load: *load },
                };
                count += 1;
            }
            field += 1;
        }
        Self { rules, count }
    }

    /// The rules that apply.
    #[must_use]
    pub fn rules(&self) -> &[FieldRule<E>] {
        self.rules.get(..self.count).unwrap_or_default()
    }
}
