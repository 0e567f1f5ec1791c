//! What waits in partitions, each looked at by itself.

use std::time::Duration;

use super::classify::broken_key;
use super::scripts::MAX_RECORDS;
use super::space::RedisSpace;
use crate::buffer::{BufferError, BufferErrorKind, Pending, PendingReport, Space, Status};

/// Position from 0, records open and being flushed, milliseconds since the epochs of each were opened.
type Found = (u16, u64, u64, i64, i64);

/// Position from 0, which of its keys, and the code of the error.
type Broken = (u16, usize, String);

pub(super) async fn pending(space: &RedisSpace, partitions: &[u16]) -> Result<PendingReport, BufferError> {
    let mut report = PendingReport::default();
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
        call.arg(stride.max(1));
        let (found, broken): (Vec<Found>, Vec<Broken>) = space.run("cannot look for what is dirty", &call).await?;
        let at = |position: u16| partitions.get(usize::from(position)).copied();
        for (position, open, flushing, open_ms, flushing_ms) in found {
            let Some(partition) = at(position) else { continue };
            let age_ms = if flushing > 0 { flushing_ms } else { open_ms };
            let age = u64::try_from(age_ms).ok().map(Duration::from_millis);
            report.pending.push(Pending { partition, open, flushing, age });
        }
        for (position, key, code) in broken {
            let Some(partition) = at(position) else { continue };
            let keys = space.shelf.keys(partition)?.of_records(space.shelf.append);
            let key = keys.get(key).map_or("?", |key| key.as_str());
            report.failed.push((partition, broken_key(partition, key, &code)));
        }
    }
    // A sealed layout looks like one of keys of a wrong type: then it is the topology that is wrong.
    if !report.failed.is_empty()
        && let Err(changed) = space.confirm().await
        && changed.kind() == BufferErrorKind::Topology
    {
        return Err(changed);
    }
    Ok(report)
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
