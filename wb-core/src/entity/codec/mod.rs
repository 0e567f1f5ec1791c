//! Payload formats.

mod fields;
mod unknown_fields;
#[doc(hidden)]
pub mod walk;

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub(crate) use self::fields::any_field;
pub use self::fields::fields;
pub use self::unknown_fields::merge_unknown;
pub(crate) use self::unknown_fields::with_nulls;

/// How a record's payload is written in the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// JSON, as `serde_json` writes it. Readable with `redis-cli`, writable from any language.
    Json,
    /// MessagePack with named fields: smaller, and old payloads still decode when fields are added.
    MessagePack,
}

impl Format {
    /// The word for this format in `#[wb(format = "...")]` and in the topology record.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::MessagePack => "msgpack",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A value that does not fit its format, or a payload that is not a value of the struct.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// The value cannot be written in the format.
    #[error("value cannot be encoded as {format}")]
    Encode {
        /// The format asked for.
        format: Format,
        /// What the serializer said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A number of the value is none (NaN) or infinite. JSON has no such numbers: serde writes them as null, and an `Option` would read
    /// back as `None`.
    #[error("{field} is not a finite number, which {format} does not have; use `#[wb(format = \"msgpack\")]`", field = named(*.field))]
    NotFinite {
        /// The format asked for.
        format: Format,
        /// The field of the struct, where it has a name.
        field: Option<&'static str>,
    },
    /// The payload is not a value of the struct.
    #[error("payload does not decode as {format}")]
    Decode {
        /// The format asked for.
        format: Format,
        /// What the deserializer said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

fn named(field: Option<&str>) -> String {
    field.map_or_else(|| "a value".to_owned(), |field| format!("field `{field}`"))
}

/// Encodes a value as a payload.
///
/// # Errors
/// [`CodecError::Encode`] with the serializer's error as source; [`CodecError::NotFinite`] of a number that JSON does not have.
pub fn encode<T: Serialize>(format: Format, value: &T) -> Result<Vec<u8>, CodecError> {
    match format {
        Format::Json => {
            let json = serde_json::to_vec(value).map_err(|e| CodecError::Encode { format, source: Box::new(e) })?;
            // Looked at only where there may be one.
            if holds_null(&json) {
                let seen = walk::walk(value, true);
                if seen.not_finite {
                    return Err(CodecError::NotFinite { format, field: seen.not_finite_in });
                }
            }
            Ok(json)
        }
        Format::MessagePack => {
            rmp_serde::to_vec_named(value).map_err(|e| CodecError::Encode { format, source: Box::new(e) })
        }
    }
}

/// Whether a null may stand in this JSON.
pub(crate) fn holds_null(json: &[u8]) -> bool {
    memchr::memmem::find(json, b"null").is_some()
}

/// Levels of arrays and objects that the JSON decoder follows.
const LEVELS: usize = 127;

/// Whether this JSON may be nested deeper than its decoder follows.
pub(crate) fn is_deep(json: &[u8]) -> bool {
    memchr::memchr2_iter(b'[', b'{', json).nth(LEVELS).is_some()
}

/// Decodes a payload.
///
/// # Errors
/// [`CodecError::Decode`] with the deserializer's error as source.
pub fn decode<T: DeserializeOwned>(format: Format, payload: &[u8]) -> Result<T, CodecError> {
    match format {
        Format::Json => serde_json::from_slice(payload).map_err(|e| CodecError::Decode { format, source: Box::new(e) }),
        Format::MessagePack => {
            rmp_serde::from_slice(payload).map_err(|e| CodecError::Decode { format, source: Box::new(e) })
        }
    }
}

/// A value that serde can write as a payload and read back: every type that derives both of its traits.
///
/// Implemented for all of them; the derive asks for it, so that one message says what is missing.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be written to the buffer and read back",
    label = "serde's `Serialize` and `Deserialize` are missing",
    note = "put `#[derive(serde::Serialize, serde::Deserialize)]` on `{Self}`"
)]
pub trait Payload: Sized {
    /// The payload of this value; see [`encode`].
    ///
    /// # Errors
    /// [`CodecError::Encode`] with the serializer's error as source.
    fn to_payload(&self, format: Format) -> Result<Vec<u8>, CodecError>;

    /// The value of a payload; see [`decode`].
    ///
    /// # Errors
    /// [`CodecError::Decode`] with the deserializer's error as source.
    fn from_payload(format: Format, payload: &[u8]) -> Result<Self, CodecError>;

    /// The names of the fields; see [`fields`].
    #[must_use]
    fn payload_fields() -> Option<&'static [&'static str]>;
}

#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned> Payload for T {
    fn to_payload(&self, format: Format) -> Result<Vec<u8>, CodecError> {
        encode(format, self)
    }

    fn from_payload(format: Format, payload: &[u8]) -> Result<Self, CodecError> {
        decode(format, payload)
    }

    fn payload_fields() -> Option<&'static [&'static str]> {
        fields::<T>()
    }
}
