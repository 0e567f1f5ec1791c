//! What the framework knows of a domain struct.

pub mod codec;
pub(crate) mod decode;
pub(crate) mod key;
pub(crate) mod partition;
pub(crate) mod patch;
pub mod patch_serde;

use crate::entity::codec::{CodecError, Format};
use crate::entity::key::{EntityKey, Id, KeyError};

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
    /// Whether records are only ever added (`#[wb(append)]`): they wait in a list, in order, and nothing is read back.
    const APPEND: bool = false;
    /// Whether a part of the record decides its partition instead of the whole key (`#[wb(partition_by)]`).
    const PLACED: bool = false;
    /// Whether a field is marked with `#[wb(version)]`, so that [`version`](Self::version) says something.
    const VERSIONED: bool = false;
    /// Top-level fields that [`encode`](Self::encode) may leave out, as serde's `skip_serializing_if` does; the derive finds them.
    /// Where an absent field and a null are the same to [`decode`](Self::decode), the buffer gets the null: an older program has to
    /// see that a newer one has cleared the field, which a record without it does not show.
    const OMITS: &'static [&'static str] = &[];
    /// [`NAME`](Self::NAME)s of the entities that rows of this one refer to by foreign keys (`#[wb(belongs_to = "...")]`):
    /// they are written before it, and deleted after it.
    ///
    /// - A row is written after everything that its parents had waiting when its epoch was closed, whoever flushes it. A
    ///   parent that was put before its child is in the sink before it.
    /// - A row is deleted after everything that its children had waiting when the delete was first seen by a flush. Until
    ///   then it is read as deleted, and counts as dirty.
    /// - A child that is put before its parent, or a parent that is deleted before its children, is
    ///   [`Deferred`](crate::ErrorKind::Deferred) by a sink with foreign keys and tried again; see
    ///   [`RetryPolicy::deferrals`](crate::RetryPolicy::deferrals).
    ///
    /// This holds for parents in the same engine. Entities that belong to each other in a circle are refused; an entity may
    /// belong to itself, and then nothing waits: the rows are tried again until their parents are there.
    const PARENTS: &'static [&'static str] = &[];

    /// The key of this value.
    fn key(&self) -> Self::Key;

    /// The text whose sum is the partition of `key`; the id itself, unless the entity is [`PLACED`](Self::PLACED).
    ///
    /// # Errors
    /// [`KeyError::Empty`] when there is no text.
    fn place_of(key: &Self::Key) -> Result<Id, KeyError> {
        Id::of(key)
    }

    /// [`place_of`](Self::place_of) this value. Only an [`APPEND`](Self::APPEND) entity may be placed by what is no part
    /// of its key, because nobody looks for its records.
    ///
    /// # Errors
    /// [`KeyError::Empty`] when there is no text.
    fn place(&self) -> Result<Id, KeyError> {
        Self::place_of(&self.key())
    }

    /// The version of this value, where a field is marked with `#[wb(version)]`; `None` where none is. A write of a version
    /// that is not above that of the state it replaces is a conflict, and no sink lets an older version overwrite a newer
    /// one.
    fn version(&self) -> Option<i64> {
        None
    }

    /// Sets the version of this value; `false` where no field is marked, or the field's type has no such number.
    fn set_version(&mut self, version: i64) -> bool {
        let _ = version;
        false
    }

    /// The names of the fields that this struct finds in a payload, aliases included (see [`codec::fields`](crate::entity::codec::fields)),
    /// so that a program of an older struct can leave records with newer fields alone. `None`, the default: that cannot be
    /// told. Then this struct is taken to know any field.
    #[must_use]
    fn fields() -> Option<&'static [&'static str]> {
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

/// An entity whose records are only ever added (`#[wb(append)]`): comments, events, lines of an audit. Derived; by hand,
/// implement it where [`Entity::APPEND`] is `true`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not append-only",
    label = "values of this type are not appended",
    note = "put `#[wb(append)]` on the struct, or write it with `engine.cache::<{Self}>()`"
)]
pub trait AppendOnly: Entity {}

/// The type of a `#[wb(version)]` field: an integer, or a newtype of yours that implements this.
///
/// # Contract
/// Every state of a record has a higher version than the one before it, also than one that was deleted in between: a delete
/// and the write after it may reach the sink as one. `from_version(to_version(v))` equals `v`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a version",
    label = "not an integer",
    note = "a version is `i8` to `i64` or `u8` to `u64`; implement `VersionField` for a newtype of yours"
)]
pub trait VersionField {
    /// The version as a number that sinks compare. Of a `u64`, everything above `i64::MAX` is `i64::MAX`: no database
    /// here orders more.
    fn to_version(&self) -> i64;

    /// The version of a number; `None` when the type has no such number.
    fn from_version(version: i64) -> Option<Self>
    where
        Self: Sized;
}

macro_rules! versions {
    ($($ty:ty),*) => {$(
        impl VersionField for $ty {
            fn to_version(&self) -> i64 {
                i64::from(*self)
            }

            fn from_version(version: i64) -> Option<Self> {
                Self::try_from(version).ok()
            }
        }
    )*};
}

versions!(i8, i16, i32, i64, u8, u16, u32);

impl VersionField for u64 {
    fn to_version(&self) -> i64 {
        i64::try_from(*self).unwrap_or(i64::MAX)
    }

    fn from_version(version: i64) -> Option<Self> {
        Self::try_from(version).ok()
    }
}
