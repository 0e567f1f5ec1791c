//! What waits in partitions, each looked at by itself.

use std::time::Duration;

use bytes::Bytes;
use redis::RedisResult;

use super::classify::{broken_key, classify};
use super::scripts::MAX_RECORDS;
use super::space::RedisSpace;
use crate::buffer::{Coordination, Pending, PendingReport, Status};
use crate::error::buffer::{BufferError, BufferErrorKind};

/// What `open` (and `log`) of a sealed layout holds.
const SEAL: &str = "sealed";

/// Position from 0, records open and being flushed, milliseconds since the epochs of each were opened.
type Found = (u16, u64, u64, i64, i64);

/// Position from 0, which of its keys, the code of the error, and the type of the value there.
type Broken = (u16, usize, String, String);

/// A key of a partition that is of a wrong type, or may not be used.
struct BrokenKey<'a> {
    partition: u16,
    key: &'a str,
    code: String,
    holds: String,
}

impl BrokenKey<'_> {
    fn error(&self) -> (u16, BufferError) {
        (self.partition, broken_key(self.partition, self.key, &self.code, &self.holds))
    }
}

pub(super) async fn pending(space: &RedisSpace, partitions: &[u16]) -> Result<PendingReport, BufferError> {
    let (pending, broken) = look(space, partitions, false).await?;
    // A layout that was left looks like one of keys of a wrong type: then it is the topology that is wrong.
    if !broken.is_empty()
        && let Err(changed) = space.confirm().await
        && changed.kind() == BufferErrorKind::Topology
    {
        return Err(changed);
    }
    Ok(PendingReport { pending, failed: broken.iter().map(BrokenKey::error).collect() })
}

/// Partitions that cannot be used, of a layout that may not be agreed on yet: what is sealed is not broken.
pub(super) async fn broken(space: &RedisSpace) -> Result<Vec<(u16, BufferError)>, BufferError> {
    let all: Vec<u16> = (0..space.scope.partitions).collect();
    let (_, broken) = look(space, &all, true).await?;
    let mut errors = Vec::new();
    for key in broken {
        if key.holds != "string" || !is_sealed(space, key.key).await? {
            errors.push(key.error());
        }
    }
    Ok(errors)
}

async fn is_sealed(space: &RedisSpace, key: &str) -> Result<bool, BufferError> {
    let mut command = redis::cmd("GETRANGE");
    command.arg(key).arg(0).arg(SEAL.len());
    let found: RedisResult<Bytes> = command.query_async(&mut space.connection.clone()).await;
    Ok(found.map_err(|error| classify("cannot read a key of a wrong type", error))? == SEAL)
}

async fn look<'a>(
    space: &'a RedisSpace,
    partitions: &[u16],
    idle_too: bool,
) -> Result<(Vec<Pending>, Vec<BrokenKey<'a>>), BufferError> {
    let (mut pending, mut failed) = (Vec::new(), Vec::new());
    for partitions in partitions.chunks(MAX_RECORDS) {
        let mut call = space.scripts.pending.prepare_invoke();
        let mut stride = 0;
        for &partition in partitions {
            let all = space.shelf.keys(partition)?.of_records(space.shelf.append);
            stride = all.len();
            for key in all {
                call.key(key);
            }
        }
        call.arg(stride.max(1)).arg(u8::from(idle_too));
        // Not as other requests: who only looks must not fix a topology.
        let answer = call.invoke_async(&mut space.connection.clone()).await;
        let (found, broken): (Vec<Found>, Vec<Broken>) =
            answer.map_err(|error| classify("cannot look for what is dirty", error))?;
        let at = |position: u16| partitions.get(usize::from(position)).copied();
        for (position, open, flushing, open_ms, flushing_ms) in found {
            let Some(partition) = at(position) else { continue };
            let age_ms = if flushing > 0 { flushing_ms } else { open_ms };
            let age = u64::try_from(age_ms).ok().map(Duration::from_millis);
            pending.push(Pending { partition, open, flushing, age });
        }
        for (position, key, code, holds) in broken {
            let Some(partition) = at(position) else { continue };
            let keys = space.shelf.keys(partition)?.of_records(space.shelf.append);
            let key = keys.get(key).map_or("?", |key| key.as_str());
            failed.push(BrokenKey { partition, key, code, holds });
        }
    }
    Ok((pending, failed))
}

pub(super) async fn status(space: &RedisSpace, partition: u16) -> Result<Status, BufferError> {
    let mut call = space.scripts.status.prepare_invoke();
    for key in space.shelf.keys(partition)?.of_records(space.shelf.append) {
        call.key(key);
    }
    let doing = format!("cannot read where partition {partition} stands");
    let (open, flushing, dead, open_epoch, flushed_epoch, vanished_epoch, missing) = space.run(&doing, &call).await?;
    Ok(Status { open_epoch, flushed_epoch, vanished_epoch, open, flushing, dead, missing })
}
