//! The near cache: decoded values that a process keeps beside the buffer, so that a hot key costs no round trip.
//!
//! What is kept is never older than an acknowledged write of this process, and never served beyond its age; other
//! processes' writes take it away by the ids that they tell. A fill races with writes, so each id has a stripe with a count:
//! a reader notes it before it looks into the buffer, and keeps what it found only if it is still the same; a write raises
//! it before it is sent and again when it is acknowledged (or given up).
//!
//! While the signals of other processes cannot be heard nothing is served.

#[cfg(not(feature = "near-cache"))]
pub(crate) mod disabled;
#[cfg(feature = "near-cache")]
pub(crate) mod enabled;
#[cfg(feature = "near-cache")]
pub(crate) mod stripes;

use std::sync::{Arc, OnceLock};

#[cfg(not(feature = "near-cache"))]
pub(crate) use self::disabled::Near;
#[cfg(feature = "near-cache")]
pub(crate) use self::enabled::Near;

use crate::buffer::record::Record;
use crate::entity::Entity;
use crate::entity::codec::CodecError;

/// A state that is kept: as its record, and decoded once somebody has asked for that.
pub(crate) struct Value<E> {
    pub(crate) record: Record,
    decoded: OnceLock<Option<Arc<E>>>,
}

impl<E: Entity> Value<E> {
    #[cfg(feature = "near-cache")]
    fn new(record: Record, decoded: Option<Option<Arc<E>>>) -> Self {
        Self { record, decoded: decoded.map_or_else(OnceLock::new, OnceLock::from) }
    }

    /// The value; `None`: there is no such row. `decode` is asked the first time.
    pub(crate) fn shared(
        &self,
        decode: impl FnOnce(&Record) -> Result<Option<E>, CodecError>,
    ) -> Result<Option<Arc<E>>, CodecError> {
        if let Some(decoded) = self.decoded.get() {
            return Ok(decoded.clone());
        }
        let decoded = decode(&self.record)?.map(Arc::new);
        Ok(self.decoded.get_or_init(|| decoded).clone())
    }
}

/// What a reader noted before it looked into the buffer.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(feature = "near-cache"), expect(dead_code, reason = "nothing is kept"))]
pub(crate) struct Ticket {
    generation: u64,
    stamp: u64,
    at: tokio::time::Instant,
}

/// What a near cache has done.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    pub(crate) invalidations: u64,
    pub(crate) drops: u64,
}
