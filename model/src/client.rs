//! Those who use the cache: a reader and an updater.

use crate::buffer::Record;

/// A place where a lookup looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// `open`
    Open,
    /// `flushing`
    Flushing,
    /// `r:<id>`
    Copy,
}

/// A read of the key. Its three looks are one pipeline, but not one step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reader {
    /// Between reads.
    #[default]
    Idle,
    /// It looks into the place of this number next.
    Looking {
        /// How many places were empty.
        looked: u8,
        /// The last write that was acknowledged when the read began: it must not see anything older.
        since: Record,
    },
    /// It found nothing.
    Missed {
        /// As above.
        since: Record,
    },
    /// It asks the sink.
    Loading {
        /// As above.
        since: Record,
        /// Whether it will fill in what it finds.
        fill: bool,
    },
    /// It has an answer, and fills it in.
    Filling {
        /// The answer.
        loaded: Record,
    },
}

/// An update by compare-and-set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Updater {
    /// Between updates.
    #[default]
    Idle,
    /// It asks the sink for a state to compare with.
    Loading,
    /// It fills that state in.
    Filling {
        /// The state.
        loaded: Record,
    },
    /// It has computed a new state from this one.
    Computed {
        /// The state it was computed from.
        from: Record,
        /// Whether the state was nowhere in the buffer (without [`Mechanism::Anchor`](crate::Mechanism)).
        absent: bool,
    },
}
