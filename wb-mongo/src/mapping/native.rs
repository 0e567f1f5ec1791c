//! BSON's own types for Rust types that serde writes as texts or bytes.

use std::marker::PhantomData;

use bson::spec::BinarySubtype;
use bson::{Binary, Bson};
use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};
use serde::Serialize;
use serde::de::Error as _;
use uuid::Uuid;

use crate::mapping::entity::{FieldRule, MappingError};
use crate::mapping::values::serde_form;

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
/// A BSON date counts milliseconds: what is finer is cut off when it is written, in the buffer as in the document. A leap second is
/// refused.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no native BSON form",
    label = "not a UUID, a date, or bytes",
    note = "`#[wb(native_bson)]` is for `Uuid`, `DateTime<Utc>`, `NaiveDateTime`, `Vec<u8>`, and `Option` and `Vec` of them",
    note = "implement `NativeBson` for a newtype of yours, or leave the field in serde's form"
)]
pub trait NativeBson: Sized {
    /// Digits of a second that the native form keeps, where it is a time.
    const DIGITS: Option<u32> = None;

    /// The native form.
    fn to_native(&self) -> Bson;

    /// Whether the native form keeps less of the value, so that [`cut`](Self::cut) would change it.
    fn cuts(&self) -> bool {
        false
    }

    /// Cuts that off.
    fn cut(&mut self) {}

    /// Whether there is a native form of this value at all; what is wrong, as it follows the field's name in a sentence.
    ///
    /// # Errors
    /// When there is none.
    fn fits(&self) -> Result<(), &'static str> {
        Ok(())
    }

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

/// Nanoseconds in a millisecond.
const MILLI: u32 = 1_000_000;

impl NativeBson for DateTime<Utc> {
    const DIGITS: Option<u32> = Some(3);

    fn to_native(&self) -> Bson {
        bson::DateTime::from_chrono(*self).into()
    }

    fn cuts(&self) -> bool {
        !self.timestamp_subsec_nanos().is_multiple_of(MILLI) && self.fits().is_ok()
    }

    fn cut(&mut self) {
        if self.cuts() {
            let rest = TimeDelta::nanoseconds(i64::from(self.timestamp_subsec_nanos() % MILLI));
            *self = self.checked_sub_signed(rest).unwrap_or(*self);
        }
    }

    fn fits(&self) -> Result<(), &'static str> {
        if self.timestamp_subsec_nanos() < 1_000 * MILLI {
            return Ok(());
        }
        Err("is in a leap second, which a BSON date does not have")
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
    const DIGITS: Option<u32> = <DateTime<Utc>>::DIGITS;

    fn to_native(&self) -> Bson {
        self.and_utc().to_native()
    }

    fn cuts(&self) -> bool {
        self.and_utc().cuts()
    }

    fn cut(&mut self) {
        let mut time = self.and_utc();
        time.cut();
        *self = time.naive_utc();
    }

    fn fits(&self) -> Result<(), &'static str> {
        self.and_utc().fits()
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
    const DIGITS: Option<u32> = T::DIGITS;

    fn cuts(&self) -> bool {
        self.as_ref().is_some_and(T::cuts)
    }

    fn cut(&mut self) {
        self.iter_mut().for_each(T::cut);
    }

    fn fits(&self) -> Result<(), &'static str> {
        self.as_ref().map_or(Ok(()), T::fits)
    }

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
    const DIGITS: Option<u32> = T::DIGITS;

    fn cuts(&self) -> bool {
        self.iter().any(T::cuts)
    }

    fn cut(&mut self) {
        self.iter_mut().for_each(T::cut);
    }

    fn fits(&self) -> Result<(), &'static str> {
        self.iter().try_for_each(T::fits)
    }

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
    /// Digits of a second that the native form keeps, where it is a time.
    const FRACTION: Option<u32>;

    /// The native form of the field.
    ///
    /// # Errors
    /// When the value has none.
    fn store(&self) -> Result<Bson, MappingError>;

    /// Whether the native form keeps less of it.
    fn has_rest(&self) -> bool;

    /// Cuts that off.
    fn drop_rest(&mut self);

    /// serde's form of a native form.
    ///
    /// # Errors
    /// When it is another type's.
    fn load(native: Bson) -> Result<Bson, MappingError>;
}

#[diagnostic::do_not_recommend]
impl<T: NativeBson + Serialize> NativeField for T {
    const FRACTION: Option<u32> = <T as NativeBson>::DIGITS;

    fn store(&self) -> Result<Bson, MappingError> {
        self.fits().map_err(MappingError::Unfit)?;
        Ok(self.to_native())
    }

    fn has_rest(&self) -> bool {
        self.cuts()
    }

    fn drop_rest(&mut self) {
        self.cut();
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
    /// Digits of a second that the native form keeps, where it is a time.
    pub const FRACTION: Option<u32> = T::FRACTION;

    /// The native form.
    ///
    /// # Errors
    /// When the value has none.
    pub fn store(field: &T) -> Result<Bson, MappingError> {
        field.store()
    }

    /// Whether the native form keeps less of it.
    pub fn has_rest(field: &T) -> bool {
        field.has_rest()
    }

    /// Cuts that off.
    pub fn drop_rest(field: &mut T) {
        field.drop_rest();
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
    /// serde's form keeps all.
    const FRACTION: Option<u32> = None;

    /// Never.
    fn has_rest(field: &T) -> bool {
        let _ = field;
        false
    }

    /// Nothing.
    fn drop_rest(field: &mut T) {
        let _ = field;
    }

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
                    FieldRule::Native { name, store, load, digits, cuts, cut } => {
                        FieldRule::Native { name, store: *store, load: *load, digits: *digits, cuts: *cuts, cut: *cut }
                    }
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
