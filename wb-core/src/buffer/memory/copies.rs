//! Clean copies, and the tokens of loads.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::partition::{Copy, Partition, end};
use crate::buffer::{Lookup, Origin, Stored, Token};
use crate::entity::key::Id;

impl Partition {
    pub(super) fn copy(&self, id: &Id, now: Instant) -> Option<&Bytes> {
        self.copies.get(id).filter(|copy| copy.expires.is_none_or(|at| at > now)).map(|copy| &copy.bytes)
    }

    /// A copy that has an end, unless it is the mark of a load.
    pub(super) fn clean_copy(&self, id: &Id, now: Instant) -> Option<Stored> {
        let copy = self.copies.get(id).filter(|copy| copy.expires.is_some_and(|at| at > now))?;
        match Lookup::of_copy(copy.bytes.clone()) {
            Lookup::Clean(stored) => Some(stored),
            _ => None,
        }
    }

    pub(super) fn set_copy(&mut self, id: Id, bytes: Bytes, now: Instant, ttl: Option<Duration>) {
        let expires = ttl.and_then(|ttl| end(now, ttl));
        self.copies.insert(id, Copy { bytes, expires });
        // Expired copies are swept when their number has doubled: amortized O(1).
        if self.copies.len() > 2 * self.swept.max(64) {
            self.copies.retain(|_, copy| copy.expires.is_none_or(|at| at > now));
            self.swept = self.copies.len();
        }
    }

    pub(super) fn token(&mut self, id: &Id, token: &Token, over: Option<&Stored>, ttl: Duration, now: Instant) -> bool {
        let free = self
            .copy(id, now)
            .is_none_or(|bytes| over.is_some_and(|over| over.origin != Origin::Written && over.bytes() == bytes));
        if free {
            self.set_copy(id.clone(), Bytes::copy_from_slice(token.as_bytes()), now, Some(ttl));
        }
        free
    }

    pub(super) fn fill(&mut self, id: &Id, token: &Token, loaded: &Stored, ttl: Duration, now: Instant) -> bool {
        let stands = self.copy(id, now).is_some_and(|bytes| bytes == token.as_bytes());
        if stands {
            if ttl.is_zero() {
                self.copies.remove(id);
            } else {
                self.set_copy(id.clone(), loaded.bytes(), now, Some(ttl));
            }
        }
        stands
    }

    /// Whether there was a copy, or the mark of a load, that has an end.
    pub(super) fn invalidate(&mut self, id: &Id, now: Instant) -> bool {
        let ends = self.copies.get(id).is_some_and(|copy| copy.expires.is_some());
        let stood = ends && self.copy(id, now).is_some();
        if ends {
            self.copies.remove(id);
        }
        stood
    }
}
