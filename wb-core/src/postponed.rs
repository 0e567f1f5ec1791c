//! Records that were refused and wait for their next try. Only in this process and by its clock, so that no change of a
//! wall clock and no move to another worker can hold a record up: it is tried at once then.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::buffer::Attempts;
use crate::key::Id;
use crate::record::{Record, digest};

/// Records that are remembered at most, some 4 MiB. Those beyond it are tried at every flush.
const MOST: usize = 1 << 16;

#[derive(Debug, Default)]
pub(crate) struct Postponed(Mutex<Waits>);

#[derive(Debug, Default)]
struct Waits {
    by_payload: HashMap<u64, Wait>,
    swept: Option<Instant>,
}

/// Between two looks for what is due and was never asked for again: a look is O(n).
const SWEEP_EVERY: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug)]
struct Wait {
    until: Instant,
    attempts: Attempts,
}

/// One payload of one id: a newer payload does not wait.
fn key(id: &Id, record: &Record) -> u64 {
    digest(&[id.as_bytes(), record.as_bytes()])
}

impl Waits {
    fn has_room(&mut self, now: Instant) -> bool {
        if self.by_payload.len() >= MOST && self.swept.is_none_or(|swept| now >= swept + SWEEP_EVERY) {
            // Flushed by somebody else, or superseded.
            self.by_payload.retain(|_, wait| wait.until > now);
            self.swept = Some(now);
        }
        self.by_payload.len() < MOST
    }
}

impl Postponed {
    fn waits(&self) -> MutexGuard<'_, Waits> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether one more would be remembered.
    pub(crate) fn has_room(&self) -> bool {
        self.waits().has_room(Instant::now())
    }

    /// This payload is not tried again before `wait` is over.
    pub(crate) fn add(&self, id: &Id, record: &Record, wait: Duration, attempts: Attempts) {
        let now = Instant::now();
        let Some(until) = now.checked_add(wait) else { return };
        let mut waits = self.waits();
        if waits.has_room(now) {
            waits.by_payload.insert(key(id, record), Wait { until, attempts });
        }
    }

    /// The attempts of a payload that is still to wait; forgets it when its time has come.
    pub(crate) fn waits_with(&self, id: &Id, record: &Record) -> Option<Attempts> {
        let mut waits = self.waits();
        if waits.by_payload.is_empty() {
            return None;
        }
        let key = key(id, record);
        let wait = waits.by_payload.get(&key).copied()?;
        if wait.until > Instant::now() {
            return Some(wait.attempts);
        }
        waits.by_payload.remove(&key);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_payload_waits_and_a_newer_one_does_not() {
        let postponed = Postponed::default();
        let (id, other) = (Id::of(&1_u64).expect("a key"), Id::of(&2_u64).expect("a key"));
        let (bad, newer) = (Record::from_bytes("bad"), Record::from_bytes("newer"));
        let attempts = Attempts { count: 2, digest: bad.digest(), ..Attempts::default() };
        postponed.add(&id, &bad, Duration::from_secs(3), attempts);
        assert_eq!(postponed.waits_with(&id, &bad), Some(attempts));
        assert_eq!(postponed.waits_with(&id, &newer), None);
        assert_eq!(postponed.waits_with(&other, &bad), None);
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(postponed.waits_with(&id, &bad), None);
        assert!(postponed.waits().by_payload.is_empty(), "its time has come");
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded() {
        let postponed = Postponed::default();
        let record = Record::from_bytes("bad");
        let fill = |from: usize| {
            for n in from..from + MOST + 10 {
                let id = Id::of(&(n as u64)).expect("a key");
                postponed.add(&id, &record, Duration::from_secs(1), Attempts::default());
            }
        };
        fill(0);
        assert_eq!(postponed.waits().by_payload.len(), MOST);
        assert!(!postponed.has_room());
        tokio::time::advance(Duration::from_secs(2)).await;
        fill(MOST * 2);
        assert_eq!(postponed.waits().by_payload.len(), MOST, "what is due makes room");
        let first = Id::of(&((MOST * 2) as u64)).expect("a key");
        assert!(postponed.waits_with(&first, &record).is_some(), "the newer ones are remembered");
    }
}
