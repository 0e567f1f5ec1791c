//! What waits in the partitions that this process holds, as it was last seen; for stats and metrics.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

use crate::buffer::Pending;
use crate::entity::Entity;
use crate::events;
use crate::lane::{Lane, Phase, stopped};

/// Time between two looks. Flush cycles look too; this is for when one of them takes long.
const LOOK_EVERY: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub(crate) struct Backlog(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    /// What held partitions had to flush, and when that was looked up.
    pending: BTreeMap<u16, (Pending, Instant)>,
    /// When each held partition was last seen without anything to flush.
    empty: BTreeMap<u16, Instant>,
}

impl Backlog {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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

impl<E: Entity> Lane<E> {
    /// Looks at what waits.
    pub(crate) async fn look(&self) {
        let held = self.leases.owned();
        match self.space.pending(&held).await {
            Ok(pending) => self.backlog.saw(&held, &pending),
            // Whatever else needs the buffer reports it as what it is.
            Err(error) => events::backlog_unknown(&self.scope, &error),
        }
    }
}

/// Looks at what waits and publishes the figures, until the phase ends.
pub(crate) async fn watch<E: Entity>(lane: &Lane<E>, mut phase: watch::Receiver<Phase>) {
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stopped(&mut phase) => break,
        }
        lane.look().await;
        lane.publish();
    }
    lane.publish();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(partition: u16, age: Option<u64>) -> Pending {
        Pending { partition, open: 2, flushing: 1, age: age.map(Duration::from_secs) }
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
