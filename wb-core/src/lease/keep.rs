//! The keeper of an entity's leases: renews, takes, gives up, fences.

use std::collections::{BTreeSet, VecDeque};
use std::panic::AssertUnwindSafe;

use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

use super::hold::Standing;
use super::{newest, share};
use crate::backlog::Found;
use crate::entity::Entity;
use crate::events;
use crate::failpoint;
use crate::lane::{Lane, Phase, stopped};

/// Fences that are asked of the sink at the same time: a worker that takes many partitions must not use up the pool.
const FENCING: usize = 8;

/// Takes this worker's share and fences it, before the engine runs.
pub(crate) async fn begin<E: Entity>(lane: &Lane<E>) {
    tend(lane).await;
    let unfenced = lane.leases.unfenced();
    futures::stream::iter(unfenced)
        .for_each_concurrent(FENCING, async |(partition, term)| _ = fence(lane, partition, term).await)
        .await;
}

/// Keeps this worker's share, three times in a lease's life. Fencing goes on beside it, so that a slow sink costs no
/// lease.
pub(crate) async fn keep<E: Entity>(lane: &Lane<E>, mut phase: watch::Receiver<Phase>) {
    let mut ticks = tokio::time::interval(lane.leases.ttl() / 3);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut fencing, mut busy, mut queue) = (FuturesUnordered::new(), BTreeSet::new(), VecDeque::new());
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                tend(lane).await;
                queue.extend(lane.leases.unfenced().into_iter().filter(|&(partition, _)| busy.insert(partition)));
            }
            Some(partition) = fencing.next(), if !fencing.is_empty() => {
                busy.remove(&partition);
                // What an earlier owner left behind has waited long enough.
                lane.pressure.nudge();
            }
            // A cycle is over, or everything is to be given up.
            () = lane.leases.woken() => {
                if lane.leases.take_due() {
                    ticks.reset_immediately();
                }
            }
            () = stopped(&mut phase) => return,
        }
        shed(lane).await;
        while fencing.len() < FENCING
            && let Some((partition, term)) = queue.pop_front()
        {
            if lane.leases.is_unfenced(partition, term) {
                fencing.push(fence(lane, partition, term));
            } else {
                busy.remove(&partition);
            }
        }
    }
}

/// One round: says that this worker is alive, renews what it holds, and moves towards its share.
async fn tend<E: Entity>(lane: &Lane<E>) {
    let leases = &lane.leases;
    let standing = leases.standing();
    if standing == Standing::Retired || leases.is_suspended() {
        return;
    }
    let sent = Instant::now();
    let roll = match lane.space.heartbeat(leases.owner(), leases.ttl()).await {
        Ok(roll) => roll,
        Err(error) => return events::lease_failed(&lane.scope, &error),
    };
    failpoint::pass("after_renew");
    lane.saw_broken(Found::ByLease, &lane.all_partitions(), &roll.failed);
    let renewed = leases.renewed(sent, &roll.leases);
    for partition in renewed.lost {
        events::lease_lost(&lane.scope, partition);
    }
    if standing != Standing::Serving {
        return;
    }
    let workers = &newest::only(roll.workers);
    let (entity, me) = (lane.scope.entity, leases.owner());
    let quota = share::quota(entity, workers, me, lane.scope.partitions);
    let rank = share::rank(entity, workers, me).unwrap_or(0);
    let moves = if lane.options.transactions {
        share::moves_of_all(&renewed.held, share::quota(entity, workers, me, 1) == 1)
    } else {
        share::moves(&renewed.held, quota, rank, workers.len())
    };
    leases.mark(&moves.give, &moves.keep);
    match moves.take.as_slice() {
        [] => {}
        // With the first one all are taken, and without it none.
        [0, others @ ..] if lane.options.transactions => {
            if take(lane, &[0]).await && !others.is_empty() {
                take(lane, others).await;
            }
        }
        partitions => _ = take(lane, partitions).await,
    }
}

/// Asks for free partitions; whether all of them are this worker's now.
async fn take<E: Entity>(lane: &Lane<E>, partitions: &[u16]) -> bool {
    let leases = &lane.leases;
    let sent = Instant::now();
    match lane.space.take(partitions, leases.owner(), leases.ttl()).await {
        Ok(answers) => {
            let mine: Vec<u16> =
                partitions.iter().zip(answers).filter(|(_, mine)| *mine).map(|(&partition, _)| partition).collect();
            leases.took(sent, mine.iter().copied());
            mine.len() == partitions.len()
        }
        Err(error) => {
            events::lease_failed(&lane.scope, &error);
            false
        }
    }
}

/// Gives up what is to be given up and rests. What cannot be given up now is tried again at the next tick.
async fn shed<E: Entity>(lane: &Lane<E>) {
    let leases = &lane.leases;
    let standing = leases.standing();
    let leaving = standing == Standing::Leaving || (leases.is_suspended() && standing != Standing::Retired);
    if leaving {
        leases.mark(&leases.staying(), &[]);
    }
    let ready = leases.ready_to_leave();
    if !ready.is_empty() {
        match lane.space.release(&ready, leases.owner()).await {
            Ok(()) => {
                leases.gave(&ready);
                events::leases_given_up(&lane.scope, &ready);
            }
            Err(error) => return events::lease_failed(&lane.scope, &error),
        }
    }
    if leaving && leases.known().is_empty() && !(leases.is_resting() && standing != Standing::Leaving) {
        match lane.space.retire(leases.owner()).await {
            Ok(()) if standing == Standing::Leaving => leases.retired(),
            Ok(()) => leases.rests(),
            Err(error) => events::lease_failed(&lane.scope, &error),
        }
    }
}

/// Fenced before anything is claimed: from here on, nothing an earlier owner still does can land. A failure is tried
/// again at the next tick.
async fn fence<E: Entity>(lane: &Lane<E>, partition: u16, term: u64) -> u16 {
    let begun = Instant::now();
    match AssertUnwindSafe(lane.sink.fence(&lane.scope, partition)).catch_unwind().await {
        Ok(Ok(fence)) => {
            if lane.leases.gain(partition, term, fence) {
                events::lease_gained(&lane.scope, partition);
            }
        }
        Ok(Err(error)) => {
            events::fence_failed(&lane.scope, partition, &error);
            lane.loading.write_failed(begun, &error);
        }
        Err(_) => events::fence_panicked(&lane.scope, partition),
    }
    partition
}
