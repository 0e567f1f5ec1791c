//! What a buffer says about workers, and about itself.

use crate::error::buffer::BufferError;

/// Whether a buffer still has the data that it had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lineage {
    /// It cannot lose any but with the process; not to be asked again.
    Unwatched,
    /// It has.
    Unbroken,
    /// It was restarted or replaced, and has everything that is known to have been there.
    Restarted {
        /// What was acknowledged after this time (in milliseconds since the Unix epoch) may be missing; `None`: nothing is.
        since_ms: Option<u64>,
        /// Clean copies that were dropped, because the sink may be newer.
        dropped: u64,
    },
    /// It lost data that was there.
    Broken {
        /// What was acknowledged after this time (in milliseconds since the Unix epoch) and not flushed may be missing;
        /// `None`: anything that was dirty may be.
        since_ms: Option<u64>,
        /// Clean copies that were dropped, because the sink may be newer.
        dropped: u64,
    },
}

/// What a worker hears when it says that it is alive.
#[derive(Clone, Debug, Default)]
pub struct Roll {
    /// The workers of the entity that are alive, the caller included, sorted.
    pub workers: Vec<String>,
    /// Who holds the lease of each partition, by number.
    pub leases: Vec<Holder>,
    /// Partitions whose lease cannot be read, and why.
    pub failed: Vec<(u16, BufferError)>,
}

/// Who holds a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// Nobody.
    Nobody,
    /// The caller, who has just renewed it.
    Caller,
    /// Another worker.
    Other,
    /// Not known: what the buffer holds there cannot be read. Nobody can take it, or renew it.
    Unknown,
}
