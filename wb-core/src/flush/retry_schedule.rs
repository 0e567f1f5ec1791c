//! Records that were refused or could not be written, and wait for their next try. Only in this process and by its clock, so that no change of a
//! wall clock and no move to another worker can hold a record up: it is tried at once then.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::buffer::Attempts;
use crate::buffer::record::{Record, digest};
use crate::entity::key::Id;

/// Records that are remembered at most, some 4 MiB. Those beyond it are tried at every flush.
const MOST: usize = 1 << 16;

#[derive(Debug, Default)]
pub(crate) struct RetrySchedule(Mutex<Waits>);

#[derive(Debug, Default)]
struct Waits {
    by_payload: HashMap<u64, Wait>,
    swept: Option<Instant>,
}

/// Between two looks for what is due and was never asked for again: a look is O(n).
const SWEEP_EVERY: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug)]
struct Wait {
    since: Instant,
    until: Instant,
    attempts: Attempts,
    /// Times in a row that it failed by itself, for a reason that may pass.
    asides: u32,
    /// Since when it is refused for what may be its own fault or the configuration's.
    doubted: Option<Instant>,
}

/// What is known of a payload that is to be flushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    Nothing,
    /// Its time has not come; what is counted for it.
    Waits(Attempts),
    /// Its time has come, and it failed by itself the last time: others are to be tried without it.
    Suspect,
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

impl RetrySchedule {
    fn waits(&self) -> MutexGuard<'_, Waits> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether one more would be remembered.
    pub(crate) fn has_room(&self) -> bool {
        self.waits().has_room(Instant::now())
    }

    /// This payload is not tried again before `wait` is over.
    pub(crate) fn add(&self, id: &Id, record: &Record, wait: Duration, attempts: Attempts) {
        self.remember(id, record, attempts, |_| (wait, 0));
    }

    /// The same, for a reason that may pass: what was known of it stays.
    pub(crate) fn wait(&self, id: &Id, record: &Record, wait: Duration, attempts: Attempts) {
        self.remember(id, record, attempts, |asides| (wait, asides));
    }

    /// This payload failed by itself for a reason that may pass. `wait` says for how long it is not tried, from how often that
    /// was so before.
    pub(crate) fn set_aside(&self, id: &Id, record: &Record, attempts: Attempts, wait: impl FnOnce(u32) -> Duration) {
        self.remember(id, record, attempts, |asides| (wait(asides), asides.saturating_add(1)));
    }

    /// A write that was begun at `refused` said no to this payload, for what may be its own fault or the configuration's. The
    /// first time counts, until it is settled.
    pub(crate) fn doubt(&self, id: &Id, record: &Record, refused: Instant) {
        let mut waits = self.waits();
        let key = key(id, record);
        if let Some(wait) = waits.by_payload.get_mut(&key) {
            wait.doubted.get_or_insert(refused);
        } else if waits.has_room(refused) {
            let attempts = Attempts { digest: record.digest(), ..Attempts::default() };
            let wait = Wait { since: refused, until: refused, attempts, asides: 0, doubted: Some(refused) };
            waits.by_payload.insert(key, wait);
        }
    }

    /// Since when this payload is refused for what may be its own fault or the configuration's.
    pub(crate) fn doubted(&self, id: &Id, record: &Record) -> Option<Instant> {
        let waits = self.waits();
        if waits.by_payload.is_empty() {
            return None;
        }
        waits.by_payload.get(&key(id, record)).and_then(|wait| wait.doubted)
    }

    fn remember(&self, id: &Id, record: &Record, attempts: Attempts, wait: impl FnOnce(u32) -> (Duration, u32)) {
        let since = Instant::now();
        let mut waits = self.waits();
        let key = key(id, record);
        let before = waits.by_payload.get(&key);
        let doubted = before.and_then(|wait| wait.doubted);
        let (wait, asides) = wait(before.map_or(0, |wait| wait.asides));
        let Some(until) = since.checked_add(wait) else { return };
        if waits.has_room(since) || waits.by_payload.contains_key(&key) {
            waits.by_payload.insert(key, Wait { since, until, attempts, asides, doubted });
        }
    }

    /// What is known of a payload. No wait is longer than `longest` for what was not refused. What was refused is forgotten
    /// when its time has come, unless it is doubted whose fault that is.
    pub(crate) fn known(&self, id: &Id, record: &Record, longest: Option<Duration>) -> Known {
        let mut waits = self.waits();
        if waits.by_payload.is_empty() {
            return Known::Nothing;
        }
        let key = key(id, record);
        let Some(wait) = waits.by_payload.get(&key).copied() else { return Known::Nothing };
        let sooner = longest.filter(|_| wait.attempts.is_held()).and_then(|longest| wait.since.checked_add(longest));
        if sooner.map_or(wait.until, |sooner| sooner.min(wait.until)) > Instant::now() {
            return Known::Waits(wait.attempts);
        }
        if wait.asides > 0 {
            return Known::Suspect;
        }
        if wait.doubted.is_none() {
            waits.by_payload.remove(&key);
        }
        Known::Nothing
    }

    /// How often in a row a payload failed by itself for a reason that may pass.
    pub(crate) fn asides(&self, id: &Id, record: &Record) -> u32 {
        let waits = self.waits();
        if waits.by_payload.is_empty() {
            return 0;
        }
        waits.by_payload.get(&key(id, record)).map_or(0, |wait| wait.asides)
    }

    /// This payload was settled.
    pub(crate) fn forget(&self, id: &Id, record: &Record) {
        let mut waits = self.waits();
        if !waits.by_payload.is_empty() {
            waits.by_payload.remove(&key(id, record));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_payload_waits_and_a_newer_one_does_not() {
        let postponed = RetrySchedule::default();
        let (id, other) = (Id::of(&1_u64).expect("a key"), Id::of(&2_u64).expect("a key"));
        let (bad, newer) = (Record::from_bytes("bad"), Record::from_bytes("newer"));
        let attempts = Attempts { count: 2, digest: bad.digest(), ..Attempts::default() };
        postponed.add(&id, &bad, Duration::from_secs(3), attempts);
        assert_eq!(postponed.known(&id, &bad, None), Known::Waits(attempts));
        assert_eq!(postponed.known(&id, &bad, Some(Duration::ZERO)), Known::Waits(attempts), "it was refused");
        assert_eq!(postponed.known(&id, &newer, None), Known::Nothing);
        assert_eq!(postponed.known(&other, &bad, None), Known::Nothing);
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(postponed.known(&id, &bad, None), Known::Nothing);
        assert!(postponed.waits().by_payload.is_empty(), "its time has come");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_doubted_is_known_since_the_first_time_until_it_is_settled() {
        let postponed = RetrySchedule::default();
        let (id, record) = (Id::of(&1_u64).expect("a key"), Record::from_bytes("refused"));
        assert_eq!(postponed.doubted(&id, &record), None);
        let first = Instant::now();
        postponed.doubt(&id, &record, first);
        assert_eq!(postponed.known(&id, &record, None), Known::Nothing, "it waits for nothing");
        tokio::time::advance(Duration::from_secs(1)).await;
        postponed.doubt(&id, &record, Instant::now());
        let attempts = Attempts { count: 1, digest: record.digest(), ..Attempts::default() };
        postponed.add(&id, &record, Duration::from_secs(1), attempts);
        assert_eq!(postponed.known(&id, &record, None), Known::Waits(attempts));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(postponed.known(&id, &record, None), Known::Nothing);
        assert_eq!(postponed.doubted(&id, &record), Some(first), "whatever came in between");
        assert_eq!(postponed.doubted(&id, &Record::from_bytes("newer")), None);
        postponed.forget(&id, &record);
        assert_eq!(postponed.doubted(&id, &record), None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_failed_by_itself_is_known_until_it_is_settled() {
        let postponed = RetrySchedule::default();
        let (id, record) = (Id::of(&1_u64).expect("a key"), Record::from_bytes("locked"));
        let attempts = Attempts { digest: record.digest(), ..Attempts::default() };
        let second = Duration::from_secs(1);
        for asides in 0..3 {
            postponed.set_aside(&id, &record, attempts, |before| {
                assert_eq!(before, asides);
                5 * second
            });
            assert_eq!(postponed.known(&id, &record, Some(2 * second)), Known::Waits(attempts));
            tokio::time::advance(2 * second).await;
            assert_eq!(postponed.known(&id, &record, None), Known::Waits(attempts));
            assert_eq!(postponed.known(&id, &record, Some(2 * second)), Known::Suspect, "in a hurry");
            tokio::time::advance(3 * second).await;
            assert_eq!(postponed.known(&id, &record, None), Known::Suspect);
        }
        postponed.forget(&id, &record);
        assert_eq!(postponed.known(&id, &record, None), Known::Nothing);
        postponed.set_aside(&id, &record, attempts, |before| {
            assert_eq!(before, 0);
            second
        });
        // Refused since: that is another story.
        postponed.add(&id, &record, second, Attempts { count: 1, ..attempts });
        tokio::time::advance(second).await;
        assert_eq!(postponed.known(&id, &record, None), Known::Nothing);
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded() {
        let postponed = RetrySchedule::default();
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
        assert_ne!(postponed.known(&first, &record, None), Known::Nothing, "the newer ones are remembered");
    }
}
