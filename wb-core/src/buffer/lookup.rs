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

/// Where ids of a partition stand, at one instant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// Number of the epoch that writes go to now.
    pub open_epoch: u64,
    /// Last epoch that is flushed.
    pub flushed_epoch: u64,
    /// Last epoch that is known to have lost records before they were in the sink; 0: none. Later ones may be flushed.
    pub vanished_epoch: u64,
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
