//! Leases, and the list of the living.

use std::time::Duration;

use futures::future::try_join_all;

use super::keys;
use super::scripts::MAX_LEASES;
use super::space::{RedisSpace, millis};
use crate::buffer::{BufferError, Holder, Roll};

pub(super) async fn take(
    space: &RedisSpace,
    partitions: &[u16],
    owner: &str,
    ttl: Duration,
) -> Result<Vec<bool>, BufferError> {
    try_join_all(partitions.iter().map(|&partition| async move {
        let keys = space.shelf.keys(partition)?;
        let mut call = space.scripts.take.prepare_invoke();
        call.key(&keys.lease).arg(owner).arg(millis(ttl));
        space.run("cannot take a lease", &call).await
    }))
    .await
}

pub(super) async fn heartbeat(space: &RedisSpace, worker: &str, ttl: Duration) -> Result<Roll, BufferError> {
    let mut call = space.scripts.heartbeat.prepare_invoke();
    call.key(keys::workers(&space.scope.namespace)).arg(space.scope.entity).arg(millis(ttl)).arg(worker);
    let mut workers: Vec<String> = space.run("cannot send a heartbeat", &call).await?;
    workers.sort_unstable();
    let alive = &workers;
    let leases = try_join_all(space.shelf.partitions.chunks(MAX_LEASES).map(|partitions| async move {
        let mut call = space.scripts.renew.prepare_invoke();
        call.arg(worker).arg(millis(ttl)).arg(alive);
        for keys in partitions {
            call.key(&keys.lease);
        }
        space.run::<Vec<i64>>("cannot renew leases", &call).await
    }))
    .await?;
    let leases = leases.into_iter().flatten().map(|state| match state {
        1 => Holder::Caller,
        0 => Holder::Nobody,
        _ => Holder::Other,
    });
    Ok(Roll { leases: leases.collect(), workers })
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
        call.key(&keys.lease).arg(owner);
        space.run::<i64>("cannot give a lease up", &call).await
    }))
    .await
    .map(|_| ())
}
