//! swap: compare-and-set. It leaves like a write, one by one: by the writes' connection, and as durable as they are.

use redis::{Cmd, Pipeline, RedisResult, Script, Value};

use crate::buffer::record::Write;
use crate::buffer::redis::classify::classify;
use crate::buffer::redis::signals;
use crate::buffer::redis::space::RedisSpace;
use crate::buffer::redis::write::group::unknown_script;
use crate::buffer::redis::write::group_commit::Shelf;
use crate::buffer::redis::write::limit;
use crate::buffer::{Stored, Swap};
use crate::error::buffer::{BufferError, BufferErrorKind};

/// The script.
pub(in crate::buffer::redis) const TEXT: &str =
    concat!(include_str!("../lua/copy.lua"), include_str!("../lua/swap.lua"));

pub(in crate::buffer::redis) async fn swap(
    space: &RedisSpace,
    expected: &Stored,
    write: &Write,
) -> Result<Swap, BufferError> {
    let RedisSpace { committer, shelf, .. } = space;
    if committer.is_closed() {
        return Err(BufferError::new(BufferErrorKind::Closed, "the buffer was closed"));
    }
    let call = command(&space.scripts.swap, shelf, expected, write)?;
    // After the change, and where nothing was changed for nothing.
    let told = shelf.written.as_ref().map(|channel| signals::tell(channel, std::iter::once(&write.id)));
    let mut pipeline = Pipeline::with_capacity(3);
    pipeline.add_command(call.clone());
    // What it compares with may be a copy.
    let updater = space.updater().await?;
    let (mut reply, mut weak) = committer.send_alone(&updater, pipeline, told.as_ref(), 1).await?;
    if unknown_script(&reply) {
        let mut load = Cmd::new();
        load.arg("SCRIPT").arg("LOAD").arg(TEXT);
        let mut pipeline = Pipeline::with_capacity(4);
        pipeline.add_command(load).add_command(call);
        (reply, weak) = committer.send_alone(&updater, pipeline, told.as_ref(), 2).await?;
    }
    let swap = match reply.map_err(|error| classify("cannot change a record", error))? {
        Value::Int(0) => return Ok(Swap::Changed),
        Value::Int(-1) => return Err(limit::full(shelf.limit.unwrap_or_default())),
        Value::Int(code) => {
            shelf.pressure.add(u64::from(code == 1));
            Swap::Stored
        }
        _ => return Err(limit::unreadable()),
    };
    weak.map_or(Ok(swap), Err)
}

fn command(script: &Script, shelf: &Shelf, expected: &Stored, write: &Write) -> Result<Cmd, BufferError> {
    let keys = shelf.keys(write.partition)?;
    let mut command = redis::cmd("EVALSHA");
    let others = if shelf.limit.is_some() { 2 * shelf.partitions.len() } else { 0 };
    command.arg(script.get_hash()).arg(3 + others);
    command.arg(&keys.open).arg(&keys.flushing).arg(keys.copy(&write.id));
    if others > 0 {
        for keys in &shelf.partitions {
            command.arg(&keys.open).arg(&keys.flushing);
        }
    }
    command.arg(write.id.as_bytes()).arg(&expected.bytes()[..]).arg(write.record.as_bytes());
    match shelf.limit {
        Some(limit) => command.arg(limit),
        None => command.arg(""),
    };
    Ok(command)
}

/// The reply of the last command of a pipeline.
pub(in crate::buffer::redis) fn last(replies: Vec<RedisResult<Value>>) -> RedisResult<Value> {
    replies.into_iter().next_back().unwrap_or(Ok(Value::Nil))
}
