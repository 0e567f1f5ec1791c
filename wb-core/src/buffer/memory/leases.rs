//! Who works on a partition.

use std::time::Duration;

use tokio::time::Instant;

use super::partition::{Partition, end};
use crate::buffer::Holder;

impl Partition {
    pub(super) fn take(&mut self, owner: &str, ttl: Duration, now: Instant) -> bool {
        let mine = self
            .lease
            .as_ref()
            .is_none_or(|(holder, until)| holder == owner || until.is_some_and(|until| until <= now));
        if mine {
            self.lease = Some((owner.to_owned(), end(now, ttl)));
        }
        mine
    }

    pub(super) fn renew(&mut self, worker: &str, ttl: Duration, now: Instant) -> Holder {
        match &mut self.lease {
            Some((_, until)) if until.is_some_and(|until| until <= now) => Holder::Nobody,
            Some((holder, until)) if holder == worker => {
                *until = end(now, ttl);
                Holder::Caller
            }
            Some(_) => Holder::Other,
            None => Holder::Nobody,
        }
    }

    pub(super) fn release(&mut self, owner: &str) {
        if self.lease.as_ref().is_some_and(|(holder, _)| holder == owner) {
            self.lease = None;
        }
    }

    pub(super) fn owned_by(&self, owner: &str, now: Instant) -> bool {
        self.lease.as_ref().is_some_and(|(holder, until)| holder == owner && until.is_none_or(|until| until > now))
    }
}
