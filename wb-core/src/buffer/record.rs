//! Records: what waits in a buffer.

use bytes::Bytes;

use crate::entity::key::Id;

/// The state of one key as the buffer holds it: a payload, or the tombstone of a delete (the empty string).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record(Bytes);

impl Record {
    /// [`digest`](Self::digest) of the tombstone.
    pub(crate) const TOMBSTONE_DIGEST: u64 = 0xcbf2_9ce4_8422_2325;

    /// The tombstone: the row is to be deleted.
    #[must_use]
    pub const fn tombstone() -> Self {
        Self(Bytes::new())
    }

    /// A record of these bytes; empty bytes are the tombstone.
    #[must_use]
    pub fn from_bytes(bytes: impl Into<Bytes>) -> Self {
        Self(bytes.into())
    }

    /// Whether this is a delete.
    #[must_use]
    pub const fn is_tombstone(&self) -> bool {
        self.0.is_empty()
    }

    /// The payload; `None` for a tombstone.
    #[must_use]
    pub const fn payload(&self) -> Option<&Bytes> {
        if self.is_tombstone() { None } else { Some(&self.0) }
    }

    /// The bytes, shared.
    pub(crate) const fn bytes(&self) -> &Bytes {
        &self.0
    }

    /// The bytes as they are stored.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// A sum of the stored bytes (FNV-1a, 64 bits) that is the same in every process: tells two states of a key apart.
    #[must_use]
    pub fn digest(&self) -> u64 {
        digest(&[&self.0])
    }

    /// Size of the stored bytes.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing is stored, which is what a tombstone looks like.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// FNV-1a over several parts, with a byte between them that no text holds.
pub(crate) fn digest(parts: &[&[u8]]) -> u64 {
    let step = |sum: u64, byte: &u8| (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    parts.iter().enumerate().fold(0xcbf2_9ce4_8422_2325, |sum, (index, part)| {
        let sum = if index > 0 { step(sum, &0xff) } else { sum };
        part.iter().fold(sum, step)
    })
}

/// A write on its way into the buffer.
#[derive(Clone, Debug)]
pub struct Write {
    /// Partition of the id.
    pub partition: u16,
    /// The id.
    pub id: Id,
    /// Its new state.
    pub record: Record,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_the_published_ones() {
        assert_eq!(Record::tombstone().digest(), Record::TOMBSTONE_DIGEST);
        assert_eq!(Record::from_bytes("foobar").digest(), 0x8594_4171_f739_67e8);
        assert_ne!(digest(&[b"a", b"bc"]), digest(&[b"ab", b"c"]));
    }
}
