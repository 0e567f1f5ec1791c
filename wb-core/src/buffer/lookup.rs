//! What readers find, and the mark that they leave.

use bytes::Bytes;

use crate::buffer::record::Record;

/// Where a lookup found a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// Dirty: in `open` or `flushing`.
    Dirty(Record),
    /// A clean copy. Whose struct does not know all that its loader's struct knows, or more, must look at its
    /// [`origin`](Stored::origin).
    Clean(Stored),
    /// Somebody is loading it from the sink.
    Loading(Token),
    /// Nowhere in the buffer.
    Absent,
}

impl Lookup {
    /// What stands where the clean copy would be: a record, with or without a mark of who loaded it, or a load token.
    #[must_use]
    pub fn of_copy(bytes: Bytes) -> Self {
        match bytes.split_first_chunk::<{ 2 + DIGEST }>() {
            Some((&[MARK, LOADED, ref digest @ ..], payload)) => {
                let payload = bytes.slice_ref(payload);
                Self::Clean(Stored::loaded(Record::from_bytes(payload), u64::from_be_bytes(*digest)))
            }
            // What is marked in another way may be a token of another version; it ends by itself.
            _ if bytes.first() == Some(&MARK) => Self::Loading(Token(bytes)),
            _ => Self::Clean(Stored::written(Record::from_bytes(bytes))),
        }
    }
}

/// Starts what is no payload: no JSON text begins with it, and MessagePack never uses it.
const MARK: u8 = 0xC1;
/// Stands after [`MARK`] in a load token; a nonce follows.
const TOKEN: u8 = b't';
/// Stands after [`MARK`] in a state that was loaded; the digest of the loader's shape follows, then the payload.
const LOADED: u8 = b'l';
/// Bytes of the digest of a shape.
const DIGEST: usize = 8;

/// How a state came to be in the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// A program wrote it: it is all that this program knew. Or there is no such row.
    Written,
    /// A program loaded it from the sink: it lacks the columns that this program's struct does not know.
    Loaded {
        /// Sum of the shape of its struct: [`SeenShape::digest`](super::SeenShape::digest).
        shape: u64,
    },
}

/// A state as it stands in the buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The state.
    pub record: Record,
    /// How it came there. Only clean copies were ever loaded.
    pub origin: Origin,
}

impl Stored {
    /// A state that a program wrote, or "no such row".
    #[must_use]
    pub const fn written(record: Record) -> Self {
        Self { record, origin: Origin::Written }
    }

    /// A state that a program with this shape loaded. "No such row" lacks nothing, whoever looked.
    #[must_use]
    pub const fn loaded(record: Record, shape: u64) -> Self {
        let origin = if record.is_tombstone() { Origin::Written } else { Origin::Loaded { shape } };
        Self { record, origin }
    }

    /// As it is stored, to the byte.
    #[must_use]
    pub fn bytes(&self) -> Bytes {
        match self.origin {
            Origin::Written => self.record.bytes().clone(),
            Origin::Loaded { shape } => {
                let mut bytes = Vec::with_capacity(2 + DIGEST + self.record.len());
                bytes.extend_from_slice(&[MARK, LOADED]);
                bytes.extend_from_slice(&shape.to_be_bytes());
                bytes.extend_from_slice(self.record.as_bytes());
                bytes.into()
            }
        }
    }
}

/// A mark that somebody is loading a key; two bytes that no payload starts with, and a nonce.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Token(Bytes);

impl Token {
    /// A token that was never used before.
    #[must_use]
    pub fn fresh() -> Self {
        let mut bytes = Vec::with_capacity(18);
        bytes.extend_from_slice(&[MARK, TOKEN]);
        bytes.extend_from_slice(uuid::Uuid::new_v4().as_bytes());
        Self(bytes.into())
    }

    /// The bytes of the token.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Where ids of a partition stand, at one instant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// Number of the epoch that writes go to now.
    pub open_epoch: u64,
    /// Last epoch that is flushed.
    pub flushed_epoch: u64,
    /// Last epoch that is known to have lost records before they were in the sink; 0: none. Later ones may be flushed.
    pub vanished_epoch: u64,
    /// Last epoch of which marks are gone that say which records were left out or discarded: of a record of it, or of an
    /// earlier one, nobody can say any more; 0: none.
    pub unmarked_epoch: u64,
    /// Entries of the open log.
    pub entries: u64,
    /// Entries of the log that is being flushed.
    pub closed_entries: u64,
    /// One for each id.
    pub sights: Vec<Sight>,
}

/// Where one id stands; in several places, or in none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sight {
    /// In the open epoch.
    pub open: bool,
    /// In the epoch that is being flushed.
    pub flushing: bool,
    /// What was settled of it last was refused, and is to be tried again unless it is superseded.
    pub refused: bool,
    /// There is a dead letter.
    pub dead: bool,
    /// What was settled of it last was left out: the sink had a newer version.
    pub stale: bool,
    /// What was known of it last was a dead letter, which was discarded.
    pub discarded: bool,
}

impl Sight {
    #[cfg_attr(not(feature = "redis"), expect(dead_code, reason = "only a buffer with scripts needs it"))]
    pub(crate) const fn from_bits(bits: u64) -> Self {
        Self {
            open: bits & 1 > 0,
            flushing: bits & 2 > 0,
            refused: bits & 4 > 0,
            dead: bits & 8 > 0,
            stale: bits & 16 > 0,
            discarded: bits & 32 > 0,
        }
    }

    /// What is known of two ids that may both be of one record.
    pub(crate) const fn or(self, other: Self) -> Self {
        Self {
            open: self.open || other.open,
            flushing: self.flushing || other.flushing,
            refused: self.refused || other.refused,
            dead: self.dead || other.dead,
            stale: self.stale || other.stale,
            discarded: self.discarded || other.discarded,
        }
    }

    /// Whether it is not in the sink yet.
    #[must_use]
    pub const fn is_dirty(&self) -> bool {
        self.open || self.flushing
    }
}

/// What became of a compare-and-set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swap {
    /// The new state stands.
    Stored,
    /// Another state stood, or none that is known; nothing was stored.
    Changed,
}

/// From where ids are counted on where the counter is not to be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdFloor {
    /// No id is this one or below it; below zero is zero.
    pub above: i64,
    /// Whether blocks may have been given out that nobody knows of any more: so many are left out.
    pub leap: bool,
}

impl IdFloor {
    /// Blocks that are left out after the buffer has lost its counter, or part of its data: other processes may still hold
    /// ids of blocks that nobody remembers, and use them.
    pub const LEAP: i64 = 1_000;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_read_as_they_are_written() {
        let record = || Record::from_bytes("{\"id\":1}");
        let (written, loaded) = (Stored::written(record()), Stored::loaded(record(), 0x0102_0304_0506_0708));
        assert_eq!(written.bytes(), "{\"id\":1}");
        assert_eq!(&loaded.bytes()[..], b"\xc1l\x01\x02\x03\x04\x05\x06\x07\x08{\"id\":1}");
        let none = Stored::loaded(Record::tombstone(), 7);
        assert_eq!((none.origin, none.bytes().len()), (Origin::Written, 0), "no such row lacks nothing");
        for stored in [written, loaded, none] {
            assert_eq!(Lookup::of_copy(stored.bytes()), Lookup::Clean(stored));
        }
        let token = Token::fresh();
        assert_eq!(token.as_bytes().len(), 18);
        assert_eq!(Lookup::of_copy(Bytes::copy_from_slice(token.as_bytes())), Lookup::Loading(token));
        for strange in [&b"\xc1"[..], b"\xc1l\x01", b"\xc1x and more than ten bytes"] {
            assert!(matches!(Lookup::of_copy(Bytes::copy_from_slice(strange)), Lookup::Loading(_)), "{strange:?}");
        }
    }
}
