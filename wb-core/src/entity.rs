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
