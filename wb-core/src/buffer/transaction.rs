//! What the verbs of transactions take and say.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::lookup::Stored;
use crate::buffer::record::Write;
use crate::entity::key::Id;

/// Marks the records of one transaction, so that they reach the sink together. It waits beside the records and is closed
/// with them; a record that several transactions have written in one epoch ties all of them together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Mark(uuid::Uuid);

impl Mark {
    /// A mark that was never used before.
    #[must_use]
    pub fn fresh() -> Self {
        Self(uuid::Uuid::new_v4())
    }

    /// Reads what [`Display`](fmt::Display) writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        uuid::Uuid::try_parse(text).ok().map(Self)
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.simple().fmt(f)
    }
}

impl From<Mark> for String {
    fn from(mark: Mark) -> Self {
        mark.to_string()
    }
}

impl TryFrom<String> for Mark {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or("not a mark")
    }
}

/// A write, and the state that it may replace.
#[derive(Clone, Debug)]
pub struct Guarded {
    /// The write.
    pub write: Write,
    /// What must be there: in `open`, else in `flushing`, else as the clean copy. `None`: whatever is there.
    pub expected: Option<Stored>,
}

/// What became of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transacted {
    /// All of it is stored.
    Stored,
    /// Nothing is stored: the write at this place met another state than it expects.
    Changed(usize),
}

/// A page of the marks of a closed epoch.
#[derive(Clone, Debug)]
pub struct Marks {
    /// Where to go on; 0 at the end.
    pub cursor: u64,
    /// Ids that were written in transactions, and the marks of these. Some of the records may be gone already.
    pub marks: Vec<(Id, Vec<Mark>)>,
}
