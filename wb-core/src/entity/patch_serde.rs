//! What the derive's patches are made of: a document becomes a patch. Not for use.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, Visitor};

#[doc(hidden)]
pub use serde;

/// What became of a name in a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Its field is set.
    Set,
    /// Its field was set before.
    Twice,
    /// No field has it.
    Unknown,
}

/// A patch that can be read from a document: fields that it does not name are left alone.
pub trait PatchFields<'de>: Default {
    /// Name of the type.
    const NAME: &'static str;
    /// Names of the fields in a document.
    const FIELDS: &'static [&'static str];

    /// Reads the value of the field `name` from the map, if there is one.
    ///
    /// # Errors
    /// When the value does not fit the field.
    fn set<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<Found, A::Error>;
}

/// A field that is read by a function of the user's (serde's `with`).
pub trait ReadField<'de, const FIELD: usize> {
    /// Type of the field.
    type Value;

    /// Reads it.
    ///
    /// # Errors
    /// When the value does not fit the field.
    fn read<D: Deserializer<'de>>(from: D) -> Result<Self::Value, D::Error>;
}

/// Sets a field that serde reads: `null` is `Some(None)` in a field that is an `Option`.
///
/// # Errors
/// When the value does not fit the field.
pub fn set<'de, T: serde::Deserialize<'de>, A: MapAccess<'de>>(
    field: &mut Option<T>,
    map: &mut A,
) -> Result<Found, A::Error> {
    if field.is_some() {
        return Ok(Found::Twice);
    }
    *field = Some(map.next_value()?);
    Ok(Found::Set)
}

/// Sets a field that is read by a function of the user's.
///
/// # Errors
/// When the value does not fit the field.
pub fn set_with<'de, P: ReadField<'de, FIELD>, const FIELD: usize, A: MapAccess<'de>>(
    field: &mut Option<P::Value>,
    map: &mut A,
) -> Result<Found, A::Error> {
    struct With<P, const FIELD: usize>(PhantomData<fn() -> P>);

    impl<'de, P: ReadField<'de, FIELD>, const FIELD: usize> DeserializeSeed<'de> for With<P, FIELD> {
        type Value = P::Value;

        fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<P::Value, D::Error> {
            P::read(from)
        }
    }

    if field.is_some() {
        return Ok(Found::Twice);
    }
    *field = Some(map.next_value_seed(With::<P, FIELD>(PhantomData))?);
    Ok(Found::Set)
}

/// Reads a patch. What no field has the name of is an error, and so is a name that comes twice.
///
/// # Errors
/// When the document is no such patch.
pub fn read<'de, P: PatchFields<'de>, D: Deserializer<'de>>(from: D) -> Result<P, D::Error> {
    struct Fields<P>(PhantomData<fn() -> P>);

    impl<'de, P: PatchFields<'de>> Visitor<'de> for Fields<P> {
        type Value = P;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a map of fields of {}", P::NAME)
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<P, A::Error> {
            let mut patch = P::default();
            while let Some(name) = map.next_key::<String>()? {
                match patch.set(&name, &mut map)? {
                    Found::Set => {}
                    Found::Twice => return Err(A::Error::custom(format_args!("duplicate field `{name}`"))),
                    Found::Unknown => return Err(A::Error::unknown_field(&name, P::FIELDS)),
                }
            }
            Ok(patch)
        }
    }

    from.deserialize_map(Fields(PhantomData))
}
