//! The sink: a row, the newest generation, and transactions that nobody waits for any more.

use crate::buffer::Record;

/// A write of a worker, as it goes over the wire: the state, and the generation that it carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Batch {
    /// The fence; 0 for none.
    pub generation: u8,
    /// The state.
    pub record: Record,
}

/// What the database holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sink {
    /// The row.
    pub row: Record,
    /// The newest generation.
    pub generation: u8,
    /// A transaction that was checked, and whose worker is gone or has not heard of its end: it may still commit or be
    /// rolled back.
    pub orphan: Option<Batch>,
    /// A batch that has not reached the sink yet and that its worker has turned its back on
    /// (without [`Mechanism::Settle`](crate::Mechanism)).
    pub late: Option<Batch>,
}
