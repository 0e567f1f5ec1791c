//! append: entries leave with the groups of writes, one `RPUSH` a partition; where there is a limit, as script calls.

use std::collections::BTreeMap;
use std::sync::Arc;

use redis::Cmd;

use crate::buffer::record::{Record, Write};
use crate::buffer::redis::keys::PartitionKeys;
use crate::buffer::redis::write::group_commit::Shelf;

/// The script that looks at the limit.
pub(in crate::buffer::redis) const TEXT: &str = include_str!("../lua/append.lua");

/// Entries of a group by entity and partition, in the order in which their callers came.
pub(in crate::buffer::redis) type Logs = BTreeMap<(u32, u16), (Arc<Shelf>, Vec<Record>)>;

/// Adds these entries to the log.
pub(in crate::buffer::redis) fn command(keys: &PartitionKeys, records: &[Record]) -> Cmd {
    let mut command = redis::cmd("RPUSH");
    command.arg(&keys.log);
    for record in records {
        command.arg(record.as_bytes());
    }
    command
}

/// Adds the entries of callers, as far as the limit lets them in.
pub(in crate::buffer::redis) fn call(
    script: &str,
    partitions: &[PartitionKeys],
    limit: u64,
    callers: &[Vec<Write>],
) -> Cmd {
    let mut command = redis::cmd("EVALSHA");
    command.arg(script).arg(4 * partitions.len());
    let all: [fn(&PartitionKeys) -> &String; 4] =
        [|keys| &keys.open, |keys| &keys.flushing, |keys| &keys.log, |keys| &keys.closed_log];
    for of in all {
        for keys in partitions {
            command.arg(of(keys));
        }
    }
    command.arg(limit).arg(callers.len());
    for writes in callers {
        command.arg(writes.len());
    }
    for write in callers.iter().flatten() {
        command.arg(write.partition + 1).arg(write.record.as_bytes());
    }
    command
}
