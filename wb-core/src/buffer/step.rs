//! What the steps of a flush take and say.

use std::fmt;
use std::time::Duration;

use crate::buffer::record::Record;
use crate::entity::key::Id;
use crate::error::buffer::BufferError;

/// What a partition has to flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pending {
    /// The partition.
    pub partition: u16,
    /// Records in the open epoch.
    pub open: u64,
    /// Records in the epoch that is being flushed.
    pub flushing: u64,
    /// How long the oldest epoch that holds any of them has been taking writes, or took them: none of its records has
    /// been dirty for longer. `None` before the first rotation.
    pub age: Option<Duration>,
}

impl Pending {
    /// Keys that are not in the sink yet (one that is both open and flushing counts twice).
    #[must_use]
    pub const fn dirty(&self) -> u64 {
        self.open + self.flushing
    }
}

/// What partitions have to flush, each by itself: one that cannot be looked at says nothing of the others.
#[derive(Clone, Debug, Default)]
pub struct PendingReport {
    /// Those that have anything.
    pub pending: Vec<Pending>,
    /// Those that cannot be used, and why: what the buffer holds there is not the framework's. Until that is mended nothing of
    /// them can be flushed.
    pub failed: Vec<(u16, BufferError)>,
}

/// What a rotation found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotation {
    /// This epoch is closed now, or was closed before and is not flushed yet.
    Epoch(u64),
    /// The same, and [`marks`](crate::buffer::Epochs::marks) say which of its records were written in transactions.
    Marked(u64),
    /// Nothing is dirty.
    Empty,
    /// The caller does not hold the lease.
    NotOwner,
}

/// A page of a closed epoch.
#[derive(Clone, Debug)]
pub struct Page {
    /// Where to go on; 0 at the end.
    pub cursor: u64,
    /// The records.
    pub records: Vec<(Id, Record)>,
}

/// Who does a step of the flow, and on what.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    /// The partition.
    pub partition: u16,
    /// The worker that holds its lease.
    pub owner: &'a str,
    /// The epoch that is being flushed.
    pub epoch: u64,
    /// What it was marked with when it was rotated.
    pub stamp: Stamp,
}

/// Tells one rotation of an epoch from every other. Numbers alone cannot: a buffer that lost its data counts epochs from
/// anew, and a late step of the old one would be taken for one of the new.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Stamp(uuid::Uuid);

impl Stamp {
    /// A stamp that was never used before.
    #[must_use]
    pub fn fresh() -> Self {
        Self(uuid::Uuid::new_v4())
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.simple().fmt(f)
    }
}

/// Marks of records that were [left out](crate::buffer::Settlement::ack_stale), or [discarded](crate::buffer::DeadLetterStore::discard), that a partition keeps.
/// Beyond so many the older half goes, but none of the last epoch: some 30 bytes a mark, and who waits for a record looks for it
/// within a second of its flush.
pub const STALE_MARKS: usize = 4_000;

/// How clean copies are left.
#[derive(Clone, Copy, Debug)]
pub struct Clean {
    /// TTL of the copy of a row; zero: no copies.
    pub ttl: Duration,
    /// TTL of "no such row" after a delete.
    pub negative_ttl: Duration,
}

impl Clean {
    /// No copies.
    pub const NONE: Self = Self { ttl: Duration::ZERO, negative_ttl: Duration::ZERO };
}

/// What became of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// Done; records of the epoch are left.
    More,
    /// Done; the epoch is flushed.
    Epoch,
    /// Nothing of the epoch is left, but not all of its records have gone through a step: somebody has taken some away.
    /// The epoch does not count as flushed.
    Gone,
    /// Nothing was done: the lease or the epoch is not the caller's any more.
    NotOwner,
}

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// What became of the epoch.
    pub done: Done,
    /// Records that the step took out of the epoch. Fewer than it was to: it was carried out before, or somebody else has
    /// taken them away.
    pub records: u64,
    /// Records of the epoch that somebody else has taken away, and that no step has told of before.
    pub missing: u64,
}

impl Moved {
    /// What a step does for who does not hold the lease, or the epoch.
    pub(crate) const NOT_OWNER: Self = Self { done: Done::NotOwner, records: 0, missing: 0 };
}

impl PartialEq<Done> for Moved {
    fn eq(&self, other: &Done) -> bool {
        self.done == *other
    }
}

/// How often a record was refused. Counts belong to a payload: a newer one starts anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attempts {
    /// Times the sink refused it for its own data.
    pub count: u32,
    /// When it was first refused or deferred, or held, in milliseconds since the Unix epoch; for people. 0 where it is held
    /// for a newer program.
    pub first_ms: u64,
    /// Times the sink deferred it: a foreign key's parent was not there.
    pub deferrals: u32,
    /// [`Record::digest`] of the payload that was refused.
    pub digest: u64,
}

impl Attempts {
    /// What stands for a delete that waits for other entities: it was not refused, so nothing is counted.
    #[must_use]
    pub const fn held(first_ms: u64) -> Self {
        Self { count: 0, first_ms, deferrals: 0, digest: Record::TOMBSTONE_DIGEST }
    }

    /// Whether this stands for a record that was not refused: a delete that waits for other entities, what only a newer
    /// program can flush, what is locked in the sink, what belongs together with a record that waits.
    #[must_use]
    pub const fn is_held(&self) -> bool {
        self.count == 0 && self.deferrals == 0
    }

    /// Whether this stands for a record that only a newer program can flush, or that belongs together with one.
    #[must_use]
    pub const fn waits_for_newer(&self) -> bool {
        self.is_held() && self.first_ms == 0
    }

    /// What is counted for a payload from here on: what was counted for it before, else nothing yet. One that takes the place
    /// of a record that is held is held since then, so that who waits for that record does not take it for settled. At
    /// `first_ms` 0 it waits for a newer program, whatever was before.
    pub(crate) fn carried(before: Option<Self>, digest: u64, first_ms: u64) -> Self {
        match before {
            Some(before) if before.digest == digest => before,
            Some(before) if before.is_held() && before.first_ms > 0 && first_ms > 0 => {
                Self { digest, first_ms: before.first_ms, ..Self::default() }
            }
            _ => Self { digest, first_ms, ..Self::default() },
        }
    }

    /// Whether a record that was held as this says is held still, or what took its place: nothing of its key was settled since.
    pub(crate) fn holds_on(&self, found: &Self) -> bool {
        let since = [self.first_ms, found.first_ms];
        found.is_held() && (self.first_ms == found.first_ms || since.contains(&0))
    }

    /// Reads what [`Display`](fmt::Display) writes: `count first_ms deferrals digest`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let (count, first_ms) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let deferrals = words.next()?.parse().ok()?;
        let digest = u64::from_str_radix(words.next()?, 16).ok()?;
        Some(Self { count, first_ms, deferrals, digest })
    }
}

impl fmt::Display for Attempts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} {:016x}", self.count, self.first_ms, self.deferrals, self.digest)
    }
}

/// A record that went back to `open` without having been refused: it waits for other records, or for another program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Its partition.
    pub partition: u16,
    /// Its id.
    pub id: Id,
    /// What stands for it among the attempts; goes when it, or a newer state, is in the sink.
    pub attempts: Attempts,
}

/// Where a partition stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Number of the epoch that writes go to now; the first is 1.
    pub open_epoch: u64,
    /// Last epoch that is flushed; 0 before the first.
    pub flushed_epoch: u64,
    /// Last epoch that is known to have lost records before they were in the sink; 0: none. Later ones may be flushed.
    pub vanished_epoch: u64,
    /// Records in the open epoch.
    pub open: u64,
    /// Records in the epoch that is being flushed.
    pub flushing: u64,
    /// Dead letters.
    pub dead: u64,
    /// Records of the epoch that was closed last that are gone, and that no step has told of yet.
    pub missing: u64,
}

impl Status {
    /// Keys that are not in the sink yet (one that is both open and flushing counts twice).
    #[must_use]
    pub const fn dirty(&self) -> u64 {
        self.open + self.flushing
    }
}

#[cfg(test)]
mod tests {
    use super::Attempts;

    #[test]
    fn what_takes_the_place_of_a_held_record_is_held_since_then() {
        let held = |first_ms, digest| Attempts { first_ms, digest, ..Attempts::default() };
        let refused = Attempts { count: 2, ..held(5, 1) };
        for (before, first_ms, expected) in [
            (None, 9, held(9, 1)),
            (Some(held(5, 1)), 9, held(5, 1)),
            (Some(held(5, 2)), 9, held(5, 1)),
            (Some(refused), 9, refused),
            (Some(Attempts { digest: 2, ..refused }), 9, held(9, 1)),
            // A newer program is waited for, or was.
            (Some(held(5, 2)), 0, held(0, 1)),
            (Some(held(0, 2)), 9, held(9, 1)),
        ] {
            assert_eq!(Attempts::carried(before, 1, first_ms), expected, "{before:?} at {first_ms}");
        }
        for (found, expected) in
            [(held(5, 2), true), (held(0, 2), true), (held(6, 1), false), (Attempts { count: 1, ..held(5, 1) }, false)]
        {
            assert_eq!(held(5, 1).holds_on(&found), expected, "{found:?}");
        }
    }
}
