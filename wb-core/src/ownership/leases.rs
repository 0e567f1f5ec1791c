//! What this worker holds, and what may be done with it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::buffer::Holder;
use crate::ownership::shares::Held;
use crate::sink::batch::Fence;

/// What this worker holds.
#[derive(Debug)]
pub(crate) struct Leases {
    owner: String,
    ttl: Duration,
    taken: Mutex<Taken>,
    standing: watch::Sender<Standing>,
    /// Why everything is to be given up for now; 0: it is not.
    suspended: AtomicU8,
    /// Whether it is, and this worker is off the list.
    resting: AtomicBool,
    /// Whether the share is to be taken before the next tick.
    due: AtomicBool,
    /// There is something for the keeper to do before its next tick.
    wake: Notify,
}

/// Why a worker gives everything up for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Suspension {
    /// The entity is laid out anew.
    Topology = 1,
    /// The sink was not there since the start, and nothing could be flushed: others may be able to.
    Sink = 2,
}

/// What a worker wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Its share.
    Serving,
    /// To flush what it holds, and no more: the engine is about to end.
    Closing,
    /// To give everything up.
    Leaving,
    /// Nothing any more; it is off the list of workers.
    Retired,
}

#[derive(Debug, Default)]
struct Taken {
    partitions: BTreeMap<u16, Lease>,
    terms: u64,
    /// Cycles that began, and cycles that ended; they do not overlap.
    begun: u64,
    ended: u64,
}

#[derive(Clone, Copy, Debug)]
struct Lease {
    /// Tells this term of the lease from earlier ones of the same partition.
    term: u64,
    /// Measured from before the request left, so that it ends here before it ends in the buffer.
    until: Instant,
    /// None until the sink has fenced the partition for this term.
    right: Option<Right>,
    leaving: Option<Leaving>,
}

/// A partition that is to be given up.
#[derive(Clone, Copy, Debug)]
struct Leaving {
    since: Instant,
    /// The last cycle that may work on it.
    cycle: u64,
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

/// What a round of renewing found.
#[derive(Debug, Default)]
pub(crate) struct Renewed {
    pub(crate) held: Held,
    pub(crate) lost: Vec<u16>,
}

/// A cycle at work; while it lives, no partition that it may work on is given up.
#[derive(Debug)]
pub(crate) struct AtWork<'a>(&'a Leases);

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        let mut taken = self.0.taken();
        taken.ended = taken.begun;
        if taken.partitions.values().any(|lease| lease.leaving.is_some()) {
            self.0.wake.notify_one();
        }
    }
}

impl Leases {
    pub(crate) fn new(owner: String, ttl: Duration) -> Self {
        let standing = watch::channel(Standing::Serving).0;
        let (suspended, resting, due) = Default::default();
        Self { owner, ttl, taken: Mutex::default(), standing, suspended, resting, due, wake: Notify::new() }
    }

    pub(crate) fn owner(&self) -> &str {
        &self.owner
    }

    pub(crate) fn ttl(&self) -> Duration {
        self.ttl
    }

    pub(crate) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// No code that can panic runs under the lock, so a poisoned one is whole.
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

    /// Partitions that may be given up at once, also when a cycle was `cut` off: a fence keeps out what it may have left
    /// under way in the sink.
    pub(crate) fn harmless(&self, cut: bool) -> Vec<u16> {
        let fenced = |lease: &Lease| lease.right.is_none_or(|right| right.fence.is_some());
        self.taken().partitions.iter().filter(|(_, lease)| !cut || fenced(lease)).map(|(&p, _)| p).collect()
    }

    /// Whether a cycle is at work.
    pub(crate) fn is_at_work(&self) -> bool {
        let taken = self.taken();
        taken.ended < taken.begun
    }

    /// A cycle begins; before it asks for its rights.
    pub(crate) fn at_work(&self) -> AtWork<'_> {
        self.taken().begun += 1;
        AtWork(self)
    }

    /// Partitions that may be flushed now, and by which right.
    pub(crate) fn rights(&self) -> BTreeMap<u16, Right> {
        let now = Instant::now();
        let taken = self.taken();
        let current = taken.partitions.iter().filter(|(_, lease)| lease.until > now && lease.leaving.is_none());
        current.filter_map(|(&partition, lease)| Some((partition, lease.right?))).collect()
    }

    /// Whether the right is still good, for what has perhaps a try under way in the sink (`doubtful`), or surely none.
    pub(crate) fn holds(&self, partition: u16, right: Right, doubtful: bool) -> bool {
        let now = Instant::now();
        self.taken().partitions.get(&partition).is_some_and(|lease| {
            lease.until > now && lease.right == Some(right) && !self.is_recalled(lease, doubtful, now)
        })
    }

    /// Whether a batch is not to be tried again, because the partition has been waiting to leave for long: its cycle may
    /// go on for as long as the sink is away, and another worker may reach it, or as a rate limit makes it. A try that
    /// failed may still be under way, and only a sink that fences stops it from landing after a newer state.
    fn is_recalled(&self, lease: &Lease, doubtful: bool, now: Instant) -> bool {
        let fenced = lease.right.is_some_and(|right| right.fence.is_some());
        (fenced || !doubtful) && lease.leaving.is_some_and(|leaving| now.duration_since(leaving.since) >= self.ttl)
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

    /// The partition is fenced for this term of its lease; `false` when that is over already.
    pub(crate) fn gain(&self, partition: u16, term: u64, fence: Option<Fence>) -> bool {
        let mut taken = self.taken();
        taken.terms += 1;
        let right = Right { term: taken.terms, fence };
        // Lost again while the sink fenced it: the fence shuts nobody out for long, and is not used.
        match taken.partitions.get_mut(&partition) {
            Some(lease) if lease.term == term => {
                lease.right = Some(right);
                true
            }
            _ => false,
        }
    }

    /// What the buffer said to a heartbeat that left at `sent`.
    pub(crate) fn renewed(&self, sent: Instant, holders: &[Holder]) -> Renewed {
        let now = Instant::now();
        let mut taken = self.taken();
        let mut renewed = Renewed::default();
        for (partition, holder) in (0_u16..).zip(holders) {
            match holder {
                Holder::Caller => {
                    // Unbroken only if the old lease had not ended when the new one was there: else somebody else may
                    // have had the partition in between, whatever a buffer says that may have lost its memory.
                    let before = taken.partitions.get(&partition).copied();
                    let (term, right) = match before.filter(|lease| lease.until > now) {
                        Some(lease) => (lease.term, lease.right),
                        None => (taken.next_term(), None),
                    };
                    let leaving = before.and_then(|lease| lease.leaving);
                    taken.partitions.insert(partition, Lease { term, until: sent + self.ttl, right, leaving });
                    match leaving {
                        None => renewed.held.staying.push(partition),
                        Some(_) => renewed.held.leaving.push(partition),
                    }
                }
                Holder::Nobody => renewed.held.free.push(partition),
                Holder::Other | Holder::Unknown => {}
            }
            if *holder != Holder::Caller && taken.partitions.remove(&partition).is_some() {
                renewed.lost.push(partition);
            }
        }
        renewed
    }

    /// These were free, and are this worker's since a request that left at `sent`.
    pub(crate) fn took(&self, sent: Instant, partitions: impl Iterator<Item = u16>) {
        let mut taken = self.taken();
        for partition in partitions {
            let lease = Lease { term: taken.next_term(), until: sent + self.ttl, right: None, leaving: None };
            taken.partitions.insert(partition, lease);
        }
    }

    /// These are to be given up, and those not after all. No new cycle works on what is to be given up.
    pub(crate) fn mark(&self, give: &[u16], keep: &[u16]) {
        let mut taken = self.taken();
        let leaving = Leaving { since: Instant::now(), cycle: taken.begun };
        for (partitions, leaving) in [(give, Some(leaving)), (keep, None)] {
            for partition in partitions {
                if let Some(lease) = taken.partitions.get_mut(partition) {
                    lease.leaving = leaving;
                }
            }
        }
    }

    /// Partitions that are not to be given up yet.
    pub(crate) fn staying(&self) -> Vec<u16> {
        let taken = self.taken();
        taken.partitions.iter().filter(|(_, lease)| lease.leaving.is_none()).map(|(&p, _)| p).collect()
    }

    /// Partitions that are to be given up and that no cycle works on any more.
    pub(crate) fn ready_to_leave(&self) -> Vec<u16> {
        let taken = self.taken();
        let over = |leaving: Leaving| taken.ended >= leaving.cycle;
        taken.partitions.iter().filter(|(_, lease)| lease.leaving.is_some_and(over)).map(|(&p, _)| p).collect()
    }

    /// These are given up.
    pub(crate) fn gave(&self, partitions: &[u16]) {
        let mut taken = self.taken();
        for partition in partitions {
            taken.partitions.remove(partition);
        }
    }

    /// Whether the partition is still to be fenced for this term. A fence for a lease that is lost would only shut out its
    /// owner.
    pub(crate) fn is_unfenced(&self, partition: u16, term: u64) -> bool {
        let taken = self.taken();
        taken.partitions.get(&partition).is_some_and(|lease| lease.term == term && lease.right.is_none())
    }

    /// Partitions that are to be fenced, with the terms of their leases.
    pub(crate) fn unfenced(&self) -> Vec<(u16, u64)> {
        let taken = self.taken();
        let unfenced = taken.partitions.iter().filter(|(_, lease)| lease.right.is_none() && lease.leaving.is_none());
        unfenced.map(|(&partition, lease)| (partition, lease.term)).collect()
    }

    pub(crate) fn standing(&self) -> Standing {
        *self.standing.borrow()
    }

    /// Whether this worker may be on the list of workers.
    pub(crate) fn is_listed(&self) -> bool {
        self.standing() != Standing::Retired
    }

    /// Moves on, never back: an engine that gives everything up does not begin again.
    fn stand(&self, next: Standing) {
        self.standing.send_if_modified(|standing| {
            let moves = (*standing as u8) < next as u8;
            if moves {
                *standing = next;
            }
            moves
        });
        self.wake.notify_one();
    }

    /// This engine flushes nothing.
    pub(crate) fn never(&self) {
        self.stand(Standing::Retired);
    }

    /// The engine is about to end: nothing more is taken.
    pub(crate) fn close(&self) {
        self.stand(Standing::Closing);
    }

    /// Everything is to be given up.
    pub(crate) fn leave(&self) {
        self.stand(Standing::Leaving);
    }

    /// Everything is given up.
    pub(crate) fn retired(&self) {
        self.stand(Standing::Retired);
    }

    /// Everything is to be given up until [`resume`](Self::resume).
    pub(crate) fn suspend(&self, reason: Suspension) {
        self.suspended.fetch_or(reason as u8, Ordering::AcqRel);
        self.wake.notify_one();
    }

    /// This reason is gone. Without another one the share is to be taken again, at once, by a worker that serves.
    pub(crate) fn resume(&self, reason: Suspension) {
        let bit = reason as u8;
        if self.suspended.fetch_and(!bit, Ordering::AcqRel) & !bit == 0 {
            self.resting.store(false, Ordering::Release);
            self.due.store(true, Ordering::Release);
        }
        self.wake.notify_one();
    }

    pub(crate) fn is_suspended(&self) -> bool {
        self.suspended.load(Ordering::Acquire) != 0
    }

    /// Whether the share is to be taken now; asked once.
    pub(crate) fn take_due(&self) -> bool {
        self.due.swap(false, Ordering::AcqRel)
    }

    /// Everything is given up for now.
    pub(crate) fn rests(&self) {
        self.resting.store(true, Ordering::Release);
    }

    pub(crate) fn is_resting(&self) -> bool {
        self.resting.load(Ordering::Acquire)
    }

    /// Waits until everything is given up.
    pub(crate) async fn left(&self) {
        // The sender lives as long as `self`.
        let _ = self.standing.subscribe().wait_for(|standing| *standing == Standing::Retired).await.is_ok();
    }
}

impl Taken {
    fn next_term(&mut self) -> u64 {
        self.terms += 1;
        self.terms
    }
}
