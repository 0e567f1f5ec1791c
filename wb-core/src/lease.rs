//! Who works on a partition now. A lease is only liveness; safety is the epoch check of the buffer and the sink's fence.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

use crate::entity::Entity;
use crate::events;
use crate::failpoint;
use crate::lane::{Lane, Phase, stopped};
use crate::sink::Fence;

/// Fences that are asked of the sink at the same time: a worker that takes many partitions must not use up the pool.
const FENCING: usize = 8;

/// What this worker holds.
#[derive(Debug)]
pub(crate) struct Leases {
    owner: String,
    ttl: Duration,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    partitions: BTreeMap<u16, Lease>,
    terms: u64,
}

#[derive(Clone, Copy, Debug)]
struct Lease {
    /// Measured from before the request left, so that it ends here before it ends in the buffer.
    until: Instant,
    /// None until the sink has fenced the partition for this term.
    right: Option<Right>,
}

/// The right to flush a partition for one unbroken term of its lease. What was claimed under one right is never
/// flushed under another: in between, somebody else may have flushed newer states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Right {
    term: u64,
    pub(crate) fence: Option<Fence>,
}

#[cfg(test)]
impl Right {
    /// A right without a fence; for tests of what carries it.
    pub(crate) const fn unfenced() -> Self {
        Self { term: 1, fence: None }
    }
}

impl Leases {
    pub(crate) fn new(owner: String, ttl: Duration) -> Self {
        Self { owner, ttl, taken: Mutex::default() }
    }

    pub(crate) fn owner(&self) -> &str {
        &self.owner
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Partitions whose lease is this worker's now, whether it may flush them yet or not.
    pub(crate) fn owned(&self) -> Vec<u16> {
        let now = Instant::now();
        self.taken().partitions.iter().filter(|(_, lease)| lease.until > now).map(|(&partition, _)| partition).collect()
    }

    /// Partitions whose lease was this worker's when it last looked.
    pub(crate) fn known(&self) -> Vec<u16> {
        self.taken().partitions.keys().copied().collect()
    }

    /// Partitions that may be flushed now, and by which right.
    pub(crate) fn rights(&self) -> BTreeMap<u16, Right> {
        let now = Instant::now();
        let taken = self.taken();
        let current = taken.partitions.iter().filter(|(_, lease)| lease.until > now);
        current.filter_map(|(&partition, lease)| Some((partition, lease.right?))).collect()
    }

    /// Whether the right is still good.
    pub(crate) fn holds(&self, partition: u16, right: Right) -> bool {
        let now = Instant::now();
        self.taken().partitions.get(&partition).is_some_and(|lease| lease.until > now && lease.right == Some(right))
    }

    /// Gives rights up that turned out to be void; the partitions are fenced anew before anything more is done.
    pub(crate) fn forget(&self, rights: impl Iterator<Item = (u16, Right)>) {
        let mut taken = self.taken();
        for (partition, right) in rights {
            if let Some(lease) = taken.partitions.get_mut(&partition)
                && lease.right == Some(right)
            {
                lease.right = None;
            }
        }
    }

    fn gain(&self, partition: u16, fence: Option<Fence>) {
        let mut taken = self.taken();
        taken.terms += 1;
        let right = Right { term: taken.terms, fence };
        // Lost again while the sink fenced it: the fence shuts nobody out for long, and is not used.
        if let Some(lease) = taken.partitions.get_mut(&partition) {
            lease.right = Some(right);
        }
    }
}

/// Takes what is free and fences it, before the engine runs.
pub(crate) async fn begin<E: Entity>(lane: &Lane<E>) {
    let free = renew(lane).await;
    futures::stream::iter(free).for_each_concurrent(FENCING, async |partition| _ = fence(lane, partition).await).await;
}

/// Renews what is held and takes what is free, three times in a lease's life. Fencing goes on beside it, so that a
/// slow sink costs no lease.
pub(crate) async fn keep<E: Entity>(lane: &Lane<E>, mut phase: watch::Receiver<Phase>) {
    let mut ticks = tokio::time::interval(lane.leases.ttl / 3);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut fencing, mut busy, mut queue) = (FuturesUnordered::new(), BTreeSet::new(), VecDeque::new());
    loop {
        tokio::select! {
            _ = ticks.tick() => queue.extend(renew(lane).await.into_iter().filter(|&partition| busy.insert(partition))),
            Some(partition) = fencing.next(), if !fencing.is_empty() => {
                busy.remove(&partition);
                // What an earlier owner left behind has waited long enough.
                lane.pressure.nudge();
            }
            () = stopped(&mut phase) => return,
        }
        while fencing.len() < FENCING
            && let Some(partition) = queue.pop_front()
        {
            fencing.push(fence(lane, partition));
        }
    }
}

/// One round of taking and renewing; returns the partitions that are to be fenced.
async fn renew<E: Entity>(lane: &Lane<E>) -> Vec<u16> {
    let leases = &lane.leases;
    let all: Vec<u16> = lane.all_partitions();
    let until = Instant::now() + leases.ttl;
    let answers = match lane.space.take(&all, &leases.owner, leases.ttl).await {
        Ok(answers) => answers,
        Err(error) => {
            events::lease_failed(&lane.scope, &error);
            return Vec::new();
        }
    };
    failpoint::pass("after_renew");
    let now = Instant::now();
    let mut taken = leases.taken();
    let mut unfenced = Vec::new();
    for (partition, mine) in all.into_iter().zip(answers) {
        let before = taken.partitions.get(&partition).copied();
        if mine {
            // Unbroken only if the old lease had not ended when the new one was there: else somebody else may have had
            // the partition in between.
            let right = before.filter(|lease| lease.until > now).and_then(|lease| lease.right);
            taken.partitions.insert(partition, Lease { until, right });
            if right.is_none() {
                unfenced.push(partition);
            }
        } else if before.is_some() {
            taken.partitions.remove(&partition);
            events::lease_lost(&lane.scope, partition);
        }
    }
    unfenced
}

/// Fenced before anything is claimed: from here on, nothing an earlier owner still does can land. A failure is tried
/// again at the next renewal.
async fn fence<E: Entity>(lane: &Lane<E>, partition: u16) -> u16 {
    match AssertUnwindSafe(lane.sink.fence(&lane.scope, partition)).catch_unwind().await {
        Ok(Ok(fence)) => {
            lane.leases.gain(partition, fence);
            events::lease_gained(&lane.scope, partition);
        }
        Ok(Err(error)) => events::fence_failed(&lane.scope, partition, &error),
        Err(_) => events::fence_panicked(&lane.scope, partition),
    }
    partition
}
