//! Leases, and the list of the living.

use std::time::Duration;

use futures::future::try_join_all;

use super::classify::{broken_key, is_wrong_type};
use super::keys;
use super::scripts::MAX_LEASES;
use super::space::{RedisSpace, millis};
use crate::buffer::{Holder, Roll};
use crate::error::buffer::BufferError;

pub(super) async fn take(
    space: &RedisSpace,
    partitions: &[u16],
    owner: &str,
    ttl: Duration,
) -> Result<Vec<bool>, BufferError> {
    try_join_all(partitions.iter().map(|&partition| async move {
        let keys = space.shelf.keys(partition)?;
        let mut call = space.scripts.take.prepare_invoke();
        call.key(&keys.meta).arg(owner).arg(millis(ttl));
        match space.run("cannot take a lease", &call).await {
            // A key of a wrong type costs its own partition, and no other; the heartbeat tells of it.
            Err(error) if is_wrong_type(&error) => Ok(false),
            taken => taken,
        }
    }))
    .await
}

pub(super) async fn heartbeat(space: &RedisSpace, worker: &str, ttl: Duration) -> Result<Roll, BufferError> {
    let mut call = space.scripts.heartbeat.prepare_invoke();
    call.key(keys::workers(&space.scope.namespace)).arg(space.scope.entity).arg(millis(ttl)).arg(worker);
    let mut workers: Vec<String> = space.run("cannot send a heartbeat", &call).await?;
    workers.sort_unstable();
    let alive = &workers;
    let renewed = try_join_all(space.shelf.partitions.chunks(MAX_LEASES).map(|partitions| async move {
        let mut call = space.scripts.renew.prepare_invoke();
        call.arg(worker).arg(millis(ttl)).arg(alive);
        for keys in partitions {
            call.key(&keys.meta);
        }
        space.run::<(Vec<i64>, Vec<(u16, String, String)>)>("cannot renew leases", &call).await
    }))
    .await?;
    let (mut leases, mut failed) = (Vec::with_capacity(space.shelf.partitions.len()), Vec::new());
    for ((states, broken), first) in renewed.into_iter().zip((0_u16..).step_by(MAX_LEASES)) {
        leases.extend(states.into_iter().map(|state| match state {
            1 => Holder::Caller,
            0 => Holder::Nobody,
            -2 => Holder::Unknown,
            _ => Holder::Other,
        }));
        for (position, code, holds) in broken {
            let partition = first + position;
            failed.push((partition, broken_key(partition, &space.shelf.keys(partition)?.meta, &code, &holds)));
        }
    }
    Ok(Roll { leases, workers, failed })
}

pub(super) async fn retire(space: &RedisSpace, worker: &str) -> Result<(), BufferError> {
    let mut call = space.scripts.retire.prepare_invoke();
    call.key(keys::workers(&space.scope.namespace)).arg(space.scope.entity).arg(worker);
    space.run("cannot take a worker off the list", &call).await
}

pub(super) async fn release(space: &RedisSpace, partitions: &[u16], owner: &str) -> Result<(), BufferError> {
    try_join_all(partitions.iter().map(|&partition| async move {
        let keys = space.shelf.keys(partition)?;
        let mut call = space.scripts.release.prepare_invoke();
        call.key(&keys.meta).arg(owner);
        match space.run::<i64>("cannot give a lease up", &call).await {
            // Nobody's any more.
            Err(error) if is_wrong_type(&error) => Ok(()),
            released => released.map(drop),
        }
    }))
    .await
    .map(|_| ())
}
