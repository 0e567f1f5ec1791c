//! What the verbs of append-only entities take and say: entries wait in a log, which is closed and flushed with the epoch.

use crate::buffer::DeadLetter;
use crate::buffer::record::Record;
use crate::buffer::step::Attempts;
use crate::entity::key::Id;

/// Some entries of the log that is being flushed.
#[derive(Clone, Debug)]
pub struct LogPage {
    /// Number of the first of them: how many entries were ever taken off the partition's logs before it.
    pub number: u64,
    /// The entries, in the order in which they were added.
    pub entries: Vec<Record>,
    /// Entries in the whole log.
    pub left: u64,
}

/// What became of an entry.
#[derive(Clone, Debug)]
pub enum Settled {
    /// It is in the sink; attempts and a dead letter of this id are settled too.
    Written(Id),
    /// It must be tried again, under this id.
    Again(Id, Attempts),
    /// It is a dead letter, under this id.
    Dead(Id, DeadLetter),
}

impl Settled {
    /// The id of the entry.
    #[must_use]
    pub const fn id(&self) -> &Id {
        match self {
            Self::Written(id) | Self::Again(id, _) | Self::Dead(id, _) => id,
        }
    }
}
