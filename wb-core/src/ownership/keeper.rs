//! The keeper of an entity's leases: renews, takes, gives up, fences.

use std::collections::{BTreeSet, VecDeque};
use std::panic::AssertUnwindSafe;

use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

use crate::entity::Entity;
use crate::fault::failpoint;
use crate::ownership::leases::Standing;
use crate::ownership::{Ownership, shares, worker_name};
use crate::runtime::backlog::Found;
use crate::runtime::lifecycle::{Phase, stopped};
use crate::telemetry::log;

/// Fences that are asked of the sink at the same time: a worker that takes many partitions must not use up the pool.
const FENCING: usize = 8;

/// Takes this worker's share and fences it, before the engine runs.
pub(crate) async fn begin<E: Entity>(ownership: &Ownership<E>) {
    tend(ownership).await;
    let unfenced = ownership.leases.unfenced();
    futures::stream::iter(unfenced)
        .for_each_concurrent(FENCING, async |(partition, term)| _ = fence(ownership, partition, term).await)
        .await;
}

/// Keeps this worker's share, three times in a lease's life. Fencing goes on beside it, so that a slow sink costs no
/// lease.
pub(crate) async fn keep<E: Entity>(ownership: &Ownership<E>, mut phase: watch::Receiver<Phase>) {
    let mut ticks = tokio::time::interval(ownership.leases.ttl() / 3);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut fencing, mut busy, mut queue) = (FuturesUnordered::new(), BTreeSet::new(), VecDeque::new());
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                tend(ownership).await;
                queue.extend(ownership.leases.unfenced().into_iter().filter(|&(partition, _)| busy.insert(partition)));
            }
            Some(partition) = fencing.next(), if !fencing.is_empty() => {
                busy.remove(&partition);
                // What an earlier owner left behind has waited long enough.
                ownership.ctx.trigger.nudge();
            }
            // A cycle is over, or everything is to be given up.
            () = ownership.leases.woken() => {
                if ownership.leases.take_due() {
                    ticks.reset_immediately();
                }
            }
            () = stopped(&mut phase) => return,
        }
        shed(ownership).await;
        while fencing.len() < FENCING
            && let Some((partition, term)) = queue.pop_front()
        {
            if ownership.leases.is_unfenced(partition, term) {
                fencing.push(fence(ownership, partition, term));
            } else {
                busy.remove(&partition);
            }
        }
    }
}

/// One round: says that this worker is alive, renews what it holds, and moves towards its share.
async fn tend<E: Entity>(ownership: &Ownership<E>) {
    let leases = &ownership.leases;
    let standing = leases.standing();
    if standing == Standing::Retired || leases.is_suspended() {
        return;
    }
    let sent = Instant::now();
    let roll = match ownership.ctx.space.heartbeat(leases.owner(), leases.ttl()).await {
        Ok(roll) => roll,
        Err(error) => return log::lease_failed(&ownership.ctx.scope, &error),
    };
    failpoint::pass("after_renew");
    ownership.ctx.saw_broken(Found::ByLease, &ownership.ctx.all_partitions(), &roll.failed);
    let renewed = leases.renewed(sent, &roll.leases);
    for partition in renewed.lost {
        log::lease_lost(&ownership.ctx.scope, partition);
    }
    if standing != Standing::Serving {
        return;
    }
    let workers = &worker_name::only(roll.workers);
    let (entity, me) = (ownership.ctx.scope.entity, leases.owner());
    let quota = shares::quota(entity, workers, me, ownership.ctx.scope.partitions);
    let rank = shares::rank(entity, workers, me).unwrap_or(0);
    let moves = if ownership.ctx.options.transactions {
        shares::moves_of_all(&renewed.held, shares::quota(entity, workers, me, 1) == 1)
    } else {
        shares::moves(&renewed.held, quota, rank, workers.len())
    };
    leases.mark(&moves.give, &moves.keep);
    match moves.take.as_slice() {
        [] => {}
        // With the first one all are taken, and without it none.
        [0, others @ ..] if ownership.ctx.options.transactions => {
            if take(ownership, &[0]).await && !others.is_empty() {
                take(ownership, others).await;
            }
        }
        partitions => _ = take(ownership, partitions).await,
    }
}

/// Asks for free partitions; whether all of them are this worker's now.
async fn take<E: Entity>(ownership: &Ownership<E>, partitions: &[u16]) -> bool {
    let leases = &ownership.leases;
    let sent = Instant::now();
    match ownership.ctx.space.take(partitions, leases.owner(), leases.ttl()).await {
        Ok(answers) => {
            let mine: Vec<u16> =
                partitions.iter().zip(answers).filter(|(_, mine)| *mine).map(|(&partition, _)| partition).collect();
            leases.took(sent, mine.iter().copied());
            mine.len() == partitions.len()
        }
        Err(error) => {
            log::lease_failed(&ownership.ctx.scope, &error);
            false
        }
    }
}

/// Gives up what is to be given up and rests. What cannot be given up now is tried again at the next tick.
async fn shed<E: Entity>(ownership: &Ownership<E>) {
    let leases = &ownership.leases;
    let standing = leases.standing();
    let leaving = standing == Standing::Leaving || (leases.is_suspended() && standing != Standing::Retired);
    if leaving {
        leases.mark(&leases.staying(), &[]);
    }
    let ready = leases.ready_to_leave();
    if !ready.is_empty() {
        match ownership.ctx.space.release(&ready, leases.owner()).await {
            Ok(()) => {
                leases.gave(&ready);
                log::leases_given_up(&ownership.ctx.scope, &ready);
            }
            Err(error) => return log::lease_failed(&ownership.ctx.scope, &error),
        }
    }
    if leaving && leases.known().is_empty() && !(leases.is_resting() && standing != Standing::Leaving) {
        match ownership.ctx.space.retire(leases.owner()).await {
            Ok(()) if standing == Standing::Leaving => leases.retired(),
            Ok(()) => leases.rests(),
            Err(error) => log::lease_failed(&ownership.ctx.scope, &error),
        }
    }
}

/// Fenced before anything is claimed: from here on, nothing an earlier owner still does can land. A failure is tried
/// again at the next tick.
async fn fence<E: Entity>(ownership: &Ownership<E>, partition: u16, term: u64) -> u16 {
    let begun = Instant::now();
    match AssertUnwindSafe(ownership.ctx.sink.fence(&ownership.ctx.scope, partition)).catch_unwind().await {
        Ok(Ok(fence)) => {
            if ownership.leases.gain(partition, term, fence) {
                log::lease_gained(&ownership.ctx.scope, partition);
            }
        }
        Ok(Err(error)) => {
            log::fence_failed(&ownership.ctx.scope, partition, &error);
            ownership.load_gate.write_failed(begun, &error);
        }
        Err(_) => log::fence_panicked(&ownership.ctx.scope, partition),
    }
    partition
}
