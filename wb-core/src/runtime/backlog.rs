//! What waits in the partitions that this process holds, as it was last seen; for stats and metrics.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::buffer::Pending;
use crate::entity::Entity;
use crate::error::buffer::BufferError;
use crate::runtime::context::EntityContext;
use crate::telemetry::log;

#[derive(Debug, Default)]
pub(crate) struct Backlog {
    seen: Mutex<Seen>,
    broken: Mutex<Broken>,
}

/// Who found that a partition cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// The heartbeat: nobody can hold its lease.
    ByLease,
    /// The look at what waits: its records cannot be flushed.
    ByRecords,
}

/// Partitions that cannot be used, by who found it.
#[derive(Debug, Default)]
struct Broken {
    by_lease: BTreeSet<u16>,
    by_records: BTreeSet<u16>,
}

/// What is new about partitions that cannot be used.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct News {
    pub(crate) broken: Vec<u16>,
    pub(crate) mended: Vec<u16>,
}

impl Broken {
    fn has(&self, partition: u16) -> bool {
        self.by_lease.contains(&partition) || self.by_records.contains(&partition)
    }

    /// Of those that were `looked` at, these failed.
    fn saw(&mut self, found: Found, looked: &[u16], failed: BTreeSet<u16>) -> News {
        let broken = failed.iter().copied().filter(|&partition| !self.has(partition)).collect();
        let set = match found {
            Found::ByLease => &mut self.by_lease,
            Found::ByRecords => &mut self.by_records,
        };
        // One that was not looked at is another worker's by now.
        let before = std::mem::replace(set, failed);
        let well = before.into_iter().filter(|partition| looked.contains(partition) && !self.has(*partition));
        News { broken, mended: well.collect() }
    }
}

#[derive(Debug, Default)]
struct Seen {
    /// What held partitions had to flush, and when that was looked up.
    pending: BTreeMap<u16, (Pending, Instant)>,
    /// When each held partition was last seen without anything to flush.
    empty: BTreeMap<u16, Instant>,
}

impl Backlog {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn broken(&self) -> MutexGuard<'_, Broken> {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many partitions cannot be used, of those that this process looks at.
    pub(crate) fn broken_partitions(&self) -> u32 {
        let broken = self.broken();
        u32::try_from(broken.by_lease.union(&broken.by_records).count()).unwrap_or(u32::MAX)
    }

    /// This is what the partitions held have to flush now.
    pub(crate) fn saw(&self, held: &[u16], pending: &[Pending]) {
        let now = Instant::now();
        let mut seen = self.seen();
        let Seen { pending: before, empty } = &mut *seen;
        before.clear();
        empty.retain(|partition, _| held.contains(partition));
        empty.extend(
            held.iter()
                .map(|&partition| (partition, now))
                .filter(|(partition, _)| !pending.iter().any(|found| found.partition == *partition)),
        );
        before.extend(pending.iter().map(|&found| (found.partition, (found, now))));
    }

    /// Dirty keys, and a bound of the oldest one's age.
    pub(crate) fn now(&self) -> (u64, Option<Duration>) {
        let now = Instant::now();
        let seen = self.seen();
        let dirty = seen.pending.values().map(|(found, _)| found.dirty()).sum();
        let ages = seen.pending.iter().map(|(partition, (found, at))| {
            // The epoch may have been opened long before its first record came.
            let by_epoch = found.age.map(|age| age + now.saturating_duration_since(*at));
            let by_sight = seen.empty.get(partition).map(|&empty| now.saturating_duration_since(empty));
            match (by_epoch, by_sight) {
                (Some(a), Some(b)) => a.min(b),
                (a, b) => a.or(b).unwrap_or_else(|| now.saturating_duration_since(*at)),
            }
        });
        (dirty, ages.max())
    }
}

impl<E: Entity> EntityContext<E> {
    /// Tells which partitions cannot be used: once, and again when they can.
    pub(crate) fn saw_broken(&self, found: Found, looked: &[u16], failed: &[(u16, BufferError)]) {
        let news = self.backlog.broken().saw(found, looked, failed.iter().map(|(partition, _)| *partition).collect());
        for (partition, error) in failed.iter().filter(|(partition, _)| news.broken.contains(partition)) {
            log::partition_broken(&self.scope, *partition, self.options.transactions, error);
        }
        for partition in news.mended {
            log::partition_mended(&self.scope, partition);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(partition: u16, age: Option<u64>) -> Pending {
        Pending { partition, open: 2, flushing: 1, age: age.map(Duration::from_secs) }
    }

    #[test]
    fn a_partition_that_breaks_is_told_once_and_again_when_it_is_mended() {
        let mut broken = Broken::default();
        let news = |broken: &[u16], mended: &[u16]| News { broken: broken.to_vec(), mended: mended.to_vec() };
        let set = |partitions: &[u16]| partitions.iter().copied().collect::<BTreeSet<u16>>();
        assert_eq!(broken.saw(Found::ByRecords, &[0, 1, 2], set(&[1])), news(&[1], &[]));
        assert_eq!(broken.saw(Found::ByRecords, &[0, 1, 2], set(&[1, 2])), news(&[2], &[]));
        assert_eq!(broken.saw(Found::ByLease, &[0, 1, 2], set(&[1])), news(&[], &[]), "told already");
        assert_eq!(broken.saw(Found::ByRecords, &[0, 1, 2], set(&[])), news(&[], &[2]), "the lease is broken still");
        assert_eq!(broken.saw(Found::ByLease, &[0, 1, 2], set(&[])), news(&[], &[1]));
        assert_eq!(broken.saw(Found::ByRecords, &[0, 1], set(&[0])), news(&[0], &[]));
        assert_eq!(broken.saw(Found::ByRecords, &[1], set(&[])), news(&[], &[]), "another worker's by now");
    }

    #[tokio::test(start_paused = true)]
    async fn age_is_bounded_by_the_epoch_and_by_what_was_seen() {
        let backlog = Backlog::default();
        assert_eq!(backlog.now(), (0, None));
        backlog.saw(&[0, 1], &[found(0, Some(3_600))]);
        // Nobody has seen it empty: the epoch's age it is.
        assert_eq!(backlog.now(), (3, Some(Duration::from_secs(3_600))));
        tokio::time::advance(Duration::from_secs(10)).await;
        // Partition 1 was empty ten seconds ago, whatever the age of its epoch.
        backlog.saw(&[0, 1], &[found(1, Some(3_600))]);
        assert_eq!(backlog.now(), (3, Some(Duration::from_secs(10))));
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(backlog.now(), (3, Some(Duration::from_secs(15))));
        // A partition that was given up does not count, and is unknown when it comes back.
        backlog.saw(&[0], &[]);
        assert_eq!(backlog.now(), (0, None));
        backlog.saw(&[1], &[found(1, Some(60))]);
        assert_eq!(backlog.now(), (3, Some(Duration::from_secs(60))));
    }
}
