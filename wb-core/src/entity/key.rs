//! Keys of entities and their text in the buffer.
//!
//! A single key is its plain text (`42`, `a0ee…`, any string). The parts of a composite key are joined by
//! `:`; inside a part `:` and `\` are written `\:` and `\\`, so that no text can forge a separator: two
//! different keys never have the same id.

use std::fmt;

use bytes::Bytes;
use uuid::Uuid;

/// The text of a key: the hash field in Redis, never empty.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(Bytes);

impl Id {
    /// The id of a key.
    ///
    /// # Errors
    /// [`KeyError::Empty`] when the key has no text at all.
    pub fn of<K: EntityKey>(key: &K) -> Result<Self, KeyError> {
        let mut text = Vec::with_capacity(40);
        key.write(&mut text);
        Self::from_bytes(Bytes::from(text))
    }

    /// An id as it was found in the buffer.
    ///
    /// # Errors
    /// [`KeyError::Empty`] for the empty id.
    pub fn from_bytes(bytes: impl Into<Bytes>) -> Result<Self, KeyError> {
        let bytes = bytes.into();
        if bytes.is_empty() { Err(KeyError::Empty) } else { Ok(Self(bytes)) }
    }

    /// An id that a buffer holds. A foreign client can write an empty one, which no key has: it parses as no key and
    /// is dead-lettered, where an error here would hold up its whole partition.
    #[cfg_attr(not(feature = "redis"), expect(dead_code, reason = "only a buffer shared with other programs needs it"))]
    pub(crate) fn found(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// An id for an entry of a log whose key cannot be read: no text starts with its first byte. It is made from the payload
    /// (its SHA-1, which a script can make too), so that who appended the entry finds its letter; equal ones are one letter.
    pub(crate) fn unreadable(payload: &[u8]) -> Self {
        let mut bytes = Self::UNREADABLE.to_vec();
        bytes.extend_from_slice(sha1_smol::Sha1::from(payload).digest().to_string().as_bytes());
        Self(Bytes::from(bytes))
    }

    /// Whether it may be one of [`unreadable`](Self::unreadable); a key of bytes may look like one.
    pub(crate) fn is_unreadable(&self) -> bool {
        self.0.starts_with(Self::UNREADABLE)
    }

    const UNREADABLE: &'static [u8] = b"\xffentry:";

    /// The key that this id is the text of.
    ///
    /// # Errors
    /// [`KeyError::Malformed`] when the id is no text of such a key.
    pub fn parse<K: EntityKey>(&self) -> Result<K, KeyError> {
        if self.0.is_empty() { Err(KeyError::Empty) } else { K::read(&self.0) }
    }

    /// The bytes of the id.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for Id {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Id({})", self.0.escape_ascii())
    }
}

/// A key that has no legal text, or a text that is no key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The key has no text: nothing could address the record.
    #[error("the key is empty")]
    Empty,
    /// The text is not a key of the expected type.
    #[error("`{text}` is not a {expected} key")]
    Malformed {
        /// The text, lossily decoded.
        text: String,
        /// What was expected.
        expected: &'static str,
    },
}

impl KeyError {
    /// The error for a text that is not a key of type `expected`.
    #[must_use]
    pub fn malformed(text: &[u8], expected: &'static str) -> Self {
        Self::Malformed { text: String::from_utf8_lossy(text).into_owned(), expected }
    }
}

/// One part of a key: an integer, a `bool`, a `String`, bytes, a [`Uuid`], or a newtype of yours.
///
/// ```
/// use wb_core::{KeyError, KeyPart};
///
/// #[derive(Clone, PartialEq)]
/// struct AccountId(u64);
///
/// impl KeyPart for AccountId {
///     fn write(&self, text: &mut Vec<u8>) { self.0.write(text) }
///     fn read(text: &[u8]) -> Result<Self, KeyError> { u64::read(text).map(AccountId) }
/// }
/// ```
///
/// # Contract
/// `write` appends; two different values append different texts; `read(write(v))` equals `v`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be part of a key",
    label = "not a key type",
    note = "keys are integers, `bool`, `String`, `Vec<u8>`, `Uuid`, or newtypes that implement `KeyPart`"
)]
pub trait KeyPart: Clone + Send + Sync + Sized + 'static {
    /// Appends the text of this part.
    fn write(&self, text: &mut Vec<u8>);

    /// The part of a text.
    ///
    /// # Errors
    /// [`KeyError::Malformed`] when the text is not one that `write` makes.
    fn read(text: &[u8]) -> Result<Self, KeyError>;
}

/// A whole key: one [`KeyPart`], or a tuple of two to six of them.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a key",
    label = "not a key type",
    note = "keys are integers, `bool`, `String`, `Vec<u8>`, `Uuid`, newtypes that implement `KeyPart`, or up to six of them"
)]
pub trait EntityKey: Clone + Send + Sync + Sized + 'static {
    /// Appends the text of the key.
    fn write(&self, text: &mut Vec<u8>);

    /// The key of a text.
    ///
    /// # Errors
    /// [`KeyError::Malformed`] when the text is not one that `write` makes.
    fn read(text: &[u8]) -> Result<Self, KeyError>;
}

impl<K: KeyPart> EntityKey for K {
    fn write(&self, text: &mut Vec<u8>) {
        KeyPart::write(self, text);
    }

    fn read(text: &[u8]) -> Result<Self, KeyError> {
        <K as KeyPart>::read(text)
    }
}

macro_rules! display_parts {
    ($($ty:ty => $expected:literal),* $(,)?) => {$(
        impl KeyPart for $ty {
            fn write(&self, text: &mut Vec<u8>) {
                text.extend_from_slice(self.to_string().as_bytes());
            }

            fn read(text: &[u8]) -> Result<Self, KeyError> {
                let malformed = || KeyError::malformed(text, $expected);
                let value: $ty = std::str::from_utf8(text)
                    .ok()
                    .and_then(|t| t.parse().ok())
                    .ok_or_else(malformed)?;
                // `+7`, `007` or an upper-case UUID parse too, but would be a second id of the same key.
                let mut canonical = Vec::with_capacity(text.len());
                KeyPart::write(&value, &mut canonical);
                if canonical == text { Ok(value) } else { Err(malformed()) }
            }
        }
    )*};
}

display_parts! {
    i8 => "i8", i16 => "i16", i32 => "i32", i64 => "i64", i128 => "i128", isize => "isize",
    u8 => "u8", u16 => "u16", u32 => "u32", u64 => "u64", u128 => "u128", usize => "usize",
    bool => "bool", Uuid => "UUID",
}

impl KeyPart for String {
    fn write(&self, text: &mut Vec<u8>) {
        text.extend_from_slice(self.as_bytes());
    }

    fn read(text: &[u8]) -> Result<Self, KeyError> {
        std::str::from_utf8(text).map(str::to_owned).map_err(|_| KeyError::malformed(text, "text"))
    }
}

impl KeyPart for Vec<u8> {
    fn write(&self, text: &mut Vec<u8>) {
        text.extend_from_slice(self);
    }

    fn read(text: &[u8]) -> Result<Self, KeyError> {
        Ok(text.to_vec())
    }
}

const SEPARATOR: u8 = b':';
const ESCAPE: u8 = b'\\';

fn write_escaped<P: KeyPart>(part: &P, text: &mut Vec<u8>) {
    let mut plain = Vec::new();
    part.write(&mut plain);
    for byte in plain {
        if byte == SEPARATOR || byte == ESCAPE {
            text.push(ESCAPE);
        }
        text.push(byte);
    }
}

/// Splits a composite id at its unescaped separators; `None` when an escape is not one that is written.
fn split_escaped(text: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut parts = Vec::new();
    let mut part = Vec::new();
    let mut bytes = text.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            SEPARATOR => parts.push(std::mem::take(&mut part)),
            ESCAPE => match bytes.next() {
                Some(escaped @ (SEPARATOR | ESCAPE)) => part.push(escaped),
                _ => return None,
            },
            plain => part.push(plain),
        }
    }
    parts.push(part);
    Some(parts)
}

macro_rules! composite_keys {
    ($(($($part:ident $index:tt),+) $count:literal $expected:literal;)*) => {$(
        impl<$($part: KeyPart),+> EntityKey for ($($part,)+) {
            fn write(&self, text: &mut Vec<u8>) {
                $(
                    if $index > 0 {
                        text.push(SEPARATOR);
                    }
                    write_escaped(&self.$index, text);
                )+
            }

            fn read(text: &[u8]) -> Result<Self, KeyError> {
                let malformed = || KeyError::malformed(text, $expected);
                let parts = split_escaped(text).ok_or_else(malformed)?;
                if parts.len() != $count {
                    return Err(malformed());
                }
                Ok(($($part::read(parts.get($index).ok_or_else(malformed)?)?,)+))
            }
        }
    )*};
}

composite_keys! {
    (A 0, B 1) 2 "two-part";
    (A 0, B 1, C 2) 3 "three-part";
    (A 0, B 1, C 2, D 3) 4 "four-part";
    (A 0, B 1, C 2, D 3, E 4) 5 "five-part";
    (A 0, B 1, C 2, D 3, E 4, F 5) 6 "six-part";
}
