//! put at the limit: where an entity has a `max_dirty`, its writes go out as script calls that look and write in one
//! step, so that no number of processes together passes it.
//!
//! One call looks at all partitions of the entity, which one server allows. A cluster does not: there, each partition
//! would get its share of the limit and a call of its own. This file and `limit.lua` are all that would change.

use std::collections::HashMap;
use std::sync::Arc;

use redis::{Cmd, RedisResult, Value};

use crate::buffer::record::{Record, Write};
use crate::buffer::redis::classify::{classify, refused};
use crate::buffer::redis::scripts::MAX_RECORDS;
use crate::buffer::redis::write::append;
use crate::buffer::redis::write::group::Way;
use crate::buffer::redis::write::group_commit::{Shelf, Verb};
use crate::error::buffer::{BufferError, BufferErrorKind};

/// The script.
pub(in crate::buffer::redis) const TEXT: &str = include_str!("../lua/limit.lua");

/// Writes of callers that go out as one script call. A caller is never split, so that it gets in whole or not at all.
pub(in crate::buffer::redis) struct Call {
    shelf: Arc<Shelf>,
    verb: Verb,
    limit: u64,
    callers: Vec<Vec<Write>>,
    records: usize,
}

impl Call {
    pub(in crate::buffer::redis) fn new(shelf: Arc<Shelf>, verb: Verb, limit: u64) -> Self {
        Self { shelf, verb, limit, callers: Vec::new(), records: 0 }
    }

    pub(in crate::buffer::redis) fn is_of(&self, shelf: &Shelf, verb: Verb) -> bool {
        self.shelf.number == shelf.number && self.verb == verb
    }

    pub(in crate::buffer::redis) fn shelf(&self) -> &Shelf {
        &self.shelf
    }

    /// Of what it writes.
    pub(in crate::buffer::redis) fn ids(&self) -> impl Iterator<Item = &crate::entity::key::Id> {
        self.callers.iter().flatten().map(|write| &write.id)
    }

    /// Whether so many more writes have room in it.
    pub(in crate::buffer::redis) fn takes(&self, writes: usize) -> bool {
        self.records + writes <= MAX_RECORDS
    }

    /// Adds the writes of a caller; returns its place.
    pub(in crate::buffer::redis) fn add(&mut self, writes: Vec<Write>) -> usize {
        self.records += writes.len();
        self.callers.push(writes);
        self.callers.len() - 1
    }

    pub(in crate::buffer::redis) fn command(&self, way: &Way) -> Cmd {
        let partitions = &self.shelf.partitions;
        if self.verb == Verb::Append {
            return append::call(way.append.get_hash(), partitions, self.limit, &self.callers);
        }
        let mut command = redis::cmd("EVALSHA");
        command.arg(way.limit.get_hash()).arg(2 * partitions.len());
        for keys in partitions {
            command.arg(&keys.open);
        }
        for keys in partitions {
            command.arg(&keys.flushing);
        }
        let mut records: Vec<(usize, &Write)> = Vec::with_capacity(self.records);
        for (caller, writes) in (1..).zip(&self.callers) {
            records.extend(writes.iter().map(|write| (caller, write)));
        }
        // Stable: writes of one id stay in the order in which they came.
        records.sort_by_key(|(_, write)| write.partition);
        let runs = || records.chunk_by(|(_, one), (_, other)| one.partition == other.partition);
        command.arg(self.limit).arg(self.callers.len()).arg(records.len()).arg(runs().count());
        for run in runs() {
            command.arg(run.first().map_or(0, |(_, write)| write.partition + 1)).arg(run.len());
        }
        for (_, write) in &records {
            command.arg(write.id.as_bytes()).arg(write.record.as_bytes());
        }
        for (caller, _) in &records {
            command.arg(caller);
        }
        command
    }

    /// The same failure for each caller.
    pub(in crate::buffer::redis) fn failed(&self, error: &BufferError) -> Vec<Result<(), BufferError>> {
        vec![Err(error.clone()); self.callers.len()]
    }

    /// What became of each caller.
    pub(in crate::buffer::redis) fn results(&self, reply: RedisResult<Value>) -> Vec<Result<(), BufferError>> {
        let replies = match reply {
            Ok(Value::Array(replies)) => replies,
            Ok(_) => return self.failed(&unreadable()),
            Err(error) => {
                return self.failed(&classify("cannot put records within the limit", error));
            }
        };
        let mut replies = replies.into_iter();
        if let Some(Value::Int(fresh)) = replies.next() {
            self.shelf.pressure.add(u64::try_from(fresh).unwrap_or(0));
        }
        let mut results: Vec<_> = replies.map(|reply| self.result(&reply)).collect();
        results.resize(self.callers.len(), Err(unreadable()));
        results
    }

    fn result(&self, reply: &Value) -> Result<(), BufferError> {
        match reply {
            Value::Int(0) => Ok(()),
            Value::Int(-1) => Err(full(self.limit)),
            Value::BulkString(code) => Err(refused("cannot put a record", &String::from_utf8_lossy(code))),
            _ => Err(unreadable()),
        }
    }
}

pub(in crate::buffer::redis) fn unreadable() -> BufferError {
    BufferError::new(BufferErrorKind::Unknown, "cannot read what Redis says about a write")
}

pub(in crate::buffer::redis) fn full(limit: u64) -> BufferError {
    BufferError::new(BufferErrorKind::Full, format!("{limit} keys are dirty, as many as `max_dirty` allows"))
}

/// The writes of one caller, of each id only the last where it is a state; an error when they can never get in, or
/// nowhere.
pub(in crate::buffer::redis) fn allowed(
    shelf: &Shelf,
    verb: Verb,
    limit: u64,
    writes: Vec<Write>,
) -> Result<Vec<Write>, BufferError> {
    for write in &writes {
        shelf.keys(write.partition)?;
    }
    if verb == Verb::Append {
        return if writes.len() as u64 > limit { Err(full(limit)) } else { Ok(writes) };
    }
    if writes.len() == 1 {
        return Ok(writes);
    }
    let mut last: HashMap<(u16, crate::entity::key::Id), Record> = HashMap::with_capacity(writes.len());
    for Write { partition, id, record } in writes {
        last.insert((partition, id), record);
    }
    if last.len() as u64 > limit {
        return Err(full(limit));
    }
    Ok(last.into_iter().map(|((partition, id), record)| Write { partition, id, record }).collect())
}
