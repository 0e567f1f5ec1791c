//! Who works on a partition now. A lease is only liveness; safety is the epoch check of the buffer and the sink's fence.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

use crate::entity::Entity;
use crate::events;
use crate::lane::{Lane, Phase, stopped};
use crate::sink::Fence;

/// What this worker holds.
#[derive(Debug)]
pub(crate) struct Leases {
    owner: String,
    ttl: Duration,
    held: Mutex<BTreeMap<u16, Held>>,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    /// Measured from before the request left, so that it ends here before it ends in the buffer.
    until: Instant,
    fence: Option<Fence>,
}

impl Leases {
    pub(crate) fn new(owner: String, ttl: Duration) -> Self {
        Self { owner, ttl, held: Mutex::default() }
    }

    pub(crate) fn owner(&self) -> &str {
        &self.owner
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<u16, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Partitions held now.
    pub(crate) fn partitions(&self) -> Vec<u16> {
        let now = Instant::now();
        self.held().iter().filter(|(_, held)| held.until > now).map(|(&partition, _)| partition).collect()
    }

    /// The fences of these partitions.
    pub(crate) fn fences(&self, partitions: impl Iterator<Item = u16>) -> Vec<Fence> {
        let held = self.held();
        partitions.filter_map(|partition| held.get(&partition)?.fence).collect()
    }

    /// Forgets partitions that turned out to be another worker's.
    pub(crate) fn forget(&self, partitions: impl Iterator<Item = u16>) {
        let mut held = self.held();
        for partition in partitions {
            held.remove(&partition);
        }
    }
}

/// Renews what is held and takes what is free, three times in a lease's life.
pub(crate) async fn keep<E: Entity>(lane: &Lane<E>, mut phase: watch::Receiver<Phase>) {
    let mut ticks = tokio::time::interval(lane.leases.ttl / 3);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => renew(lane).await,
            () = stopped(&mut phase) => return,
        }
    }
}

/// One round of taking and renewing.
pub(crate) async fn renew<E: Entity>(lane: &Lane<E>) {
    let leases = &lane.leases;
    let all: Vec<u16> = (0..lane.scope.partitions).collect();
    let until = Instant::now() + leases.ttl;
    let taken = match lane.space.take(&all, &leases.owner, leases.ttl).await {
        Ok(taken) => taken,
        Err(error) => return events::lease_failed(&lane.scope, &error),
    };
    for (partition, mine) in all.into_iter().zip(taken) {
        let before = leases.held().get(&partition).copied();
        match (mine, before) {
            (true, Some(held)) => {
                leases.held().insert(partition, Held { until, ..held });
            }
            // Fenced before anything is claimed: from here on, nothing an earlier owner still does can land.
            (true, None) => match lane.sink.fence(&lane.scope, partition).await {
                Ok(fence) => {
                    leases.held().insert(partition, Held { until, fence });
                    events::lease_gained(&lane.scope, partition);
                }
                Err(error) => events::fence_failed(&lane.scope, partition, &error),
            },
            (false, Some(_)) => {
                leases.held().remove(&partition);
                events::lease_lost(&lane.scope, partition);
            }
            (false, None) => {}
        }
    }
}
