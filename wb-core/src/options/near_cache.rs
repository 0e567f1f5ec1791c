//! How much is kept, and for how long.

use std::time::Duration;

/// A near cache of one entity: values that this process keeps, decoded, beside the buffer. Reads of them cost no round trip.
///
/// A read never sees a state older than an acknowledged write of the same process. What other processes write through this
/// library takes kept values away within a network's delay: every process that writes the entity must have it switched
/// on, too, because only then it tells which ids it writes. Whatever is not told (another program's `HSET`, a process
/// without it) is seen after [`max_age`](Self::max_age). While the connection that carries these signals is down,
/// nothing is kept and reads go to the buffer.
///
/// ```
/// use std::time::Duration;
/// use wb_core::{EntityOptions, NearCache};
///
/// let options = EntityOptions::new().near_cache(NearCache::new(10_000).max_age(Duration::from_secs(5)));
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct NearCache {
    pub(crate) entries: u64,
    pub(crate) max_age: Duration,
}

impl NearCache {
    /// Keeps so many values at most, 1 or more: the most used ones. Each takes the memory of its payload and of the value. "No
    /// such row" is kept, too.
    pub const fn new(entries: u64) -> Self {
        Self { entries, max_age: Duration::from_secs(1) }
    }

    /// No value is served that was read from the buffer longer ago than this; above zero, at most one day. Default: 1 s.
    pub const fn max_age(mut self, age: Duration) -> Self {
        self.max_age = age;
        self
    }

    /// What is wrong with it.
    pub(crate) fn mistake(&self) -> Option<&'static str> {
        let day = Duration::from_secs(24 * 3_600);
        if self.entries == 0 {
            return Some("a near cache must have room for one entry at least");
        }
        (self.max_age.is_zero() || self.max_age > day)
            .then_some("max_age of a near cache must be above zero and at most one day")
    }
}
