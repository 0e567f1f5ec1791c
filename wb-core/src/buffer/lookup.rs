//! What readers find, and the mark that they leave.

use bytes::Bytes;

use crate::record::Record;

/// Where a lookup found a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// Dirty: in `open` or `flushing`.
    Dirty(Record),
    /// A clean copy.
    Clean(Record),
    /// Somebody is loading it from the sink.
    Loading(Token),
    /// Nowhere in the buffer.
    Absent,
}

/// A mark that somebody is loading a key; a byte that no payload starts with, and a nonce.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Token(Bytes);

impl Token {
    /// `0xC1`: no JSON text starts with it, and MessagePack never uses it.
    pub const MARK: u8 = 0xC1;

    /// A token that was never used before.
    #[must_use]
    pub fn fresh() -> Self {
        let mut bytes = Vec::with_capacity(17);
        bytes.push(Self::MARK);
        bytes.extend_from_slice(uuid::Uuid::new_v4().as_bytes());
        Self(bytes.into())
    }

    /// What stands where the clean copy would be: a token or a record.
    #[must_use]
    pub fn or_record(bytes: Bytes) -> Lookup {
        if bytes.first() == Some(&Self::MARK) {
            Lookup::Loading(Self(bytes))
        } else {
            Lookup::Clean(Record::from_bytes(bytes))
        }
    }

    /// The bytes of the token.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}
