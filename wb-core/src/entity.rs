//! What the framework knows of a domain struct.

use crate::codec::{CodecError, Format};
use crate::key::EntityKey;

/// A struct whose values are written behind: one table or one collection.
///
/// Derived with `#[derive(WriteBehind)]`; written by hand it looks like this:
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use wb_core::{CodecError, Entity, Format, codec};
///
/// #[derive(Clone, Serialize, Deserialize)]
/// struct Player { id: u64, score: i64 }
///
/// impl Entity for Player {
///     type Key = u64;
///     const NAME: &'static str = "player";
///     const FORMAT: Format = Format::Json;
///     fn key(&self) -> u64 { self.id }
///     fn encode(&self) -> Result<Vec<u8>, CodecError> { codec::encode(Self::FORMAT, self) }
///     fn decode(payload: &[u8]) -> Result<Self, CodecError> { codec::decode(Self::FORMAT, payload) }
/// }
/// ```
///
/// # Contract
/// - `NAME` is made of ASCII letters, digits, `_`, `-` and `.`; it is part of every Redis key and never
///   changes while records are buffered.
/// - `decode(encode(v))` equals `v` as far as the sink is concerned, and `encode` never returns an empty
///   payload (the empty payload is the tombstone).
/// - The key never changes over the life of a value; two values with equal keys are two states of one record.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an entity",
    label = "this type does not derive `WriteBehind`",
    note = "put `#[derive(WriteBehind)]` and `#[wb(name = \"...\")]` on the struct and `#[wb(key)]` on its key field"
)]
pub trait Entity: Sized + Send + Sync + 'static {
    /// Type of the key: the key field's type, or a tuple of them in declaration order.
    type Key: EntityKey;
    /// Name of the entity in Redis keys, events and errors.
    const NAME: &'static str;
    /// How payloads are written in the buffer.
    const FORMAT: Format;

    /// The key of this value.
    fn key(&self) -> Self::Key;

    /// The version of this value, where a field is marked with `#[wb(version)]`; `None` where none is. A sink that
    /// cannot fence stale workers off does not let an older version overwrite a newer one.
    fn version(&self) -> Option<i64> {
        None
    }

    /// The payload that is buffered.
    ///
    /// # Errors
    /// When the value cannot be represented in the format.
    fn encode(&self) -> Result<Vec<u8>, CodecError>;

    /// The value of a payload.
    ///
    /// # Errors
    /// When the payload is not a value of this struct, for example because an older version wrote it.
    fn decode(payload: &[u8]) -> Result<Self, CodecError>;
}

/// The type of a `#[wb(version)]` field: an integer, or a newtype of yours that implements this.
///
/// # Contract
/// The version of a record never goes down from one state to the next. Two states may share one; then the one that is
/// written later stands.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a version",
    label = "not an integer",
    note = "a version is `i8` to `i64` or `u8` to `u64`; implement `VersionField` for a newtype of yours"
)]
pub trait VersionField {
    /// The version as a number that sinks compare. Of a `u64`, everything above `i64::MAX` is `i64::MAX`: no database
    /// here orders more.
    fn to_version(&self) -> i64;
}

macro_rules! versions {
    ($($ty:ty),*) => {$(
        impl VersionField for $ty {
            fn to_version(&self) -> i64 {
                i64::from(*self)
            }
        }
    )*};
}

versions!(i8, i16, i32, i64, u8, u16, u32);

impl VersionField for u64 {
    fn to_version(&self) -> i64 {
        i64::try_from(*self).unwrap_or(i64::MAX)
    }
}
