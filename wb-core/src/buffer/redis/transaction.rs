//! The verbs of transactions: several partitions in one step, which one server allows. On a cluster only partitions of one
//! slot could be written together; this file and its scripts are all that would change.

use std::collections::HashMap;

use bytes::Bytes;
use redis::{Cmd, Pipeline, Script};

use super::classify::classify;
use super::keys::PartitionKeys;
use super::scripts::TRANSACT;
use super::signals;
use super::space::{RedisSpace, outcome};
use crate::buffer::record::Record;
use crate::buffer::redis::write::group::unknown_script;
use crate::buffer::redis::write::limit::{full, unreadable};
use crate::buffer::{
    Attempts, DeadLetter, Guarded, Lookup, Mark, Marks, Moved, Rotation, Stamp, Step, Stored, Transacted,
};
use crate::entity::key::Id;
use crate::error::buffer::{BufferError, BufferErrorKind};

/// What a step on records that belong together does with each of them, as the scripts take it.
type Part<'a, T> = (Step<'a>, Vec<(Id, T)>);

impl RedisSpace {
    pub(super) async fn transact_writes(&self, mark: Mark, writes: &[Guarded]) -> Result<Transacted, BufferError> {
        if self.committer.is_closed() {
            return Err(BufferError::new(BufferErrorKind::Closed, "the buffer was closed"));
        }
        let command = self.transaction(&self.scripts.transact, mark, writes)?;
        let ids = writes.iter().map(|guarded| &guarded.write.id);
        let told = self.shelf.written.as_ref().map(|channel| signals::tell(channel, ids));
        let mut pipeline = Pipeline::with_capacity(3);
        pipeline.add_command(command.clone());
        let updater = self.updater().await?;
        let (mut reply, mut weak) = self.committer.send_alone(&updater, pipeline, told.as_ref(), 1).await?;
        if unknown_script(&reply) {
            let mut pipeline = Pipeline::with_capacity(4);
            pipeline.cmd("SCRIPT").arg("LOAD").arg(TRANSACT).add_command(command);
            (reply, weak) = self.committer.send_alone(&updater, pipeline, told.as_ref(), 2).await?;
        }
        let reply = reply.map_err(|error| classify("cannot put the records of a transaction", error))?;
        let (code, number): (i64, u64) = redis::from_redis_value(reply).map_err(|_| unreadable())?;
        match (code, self.shelf.limit) {
            (0, _) => {
                self.shelf.pressure.add(number);
                weak.map_or(Ok(Transacted::Stored), Err)
            }
            (1, _) => Ok(Transacted::Changed(usize::try_from(number).map_err(|_| unreadable())?)),
            (2, Some(limit)) => Err(full(limit)),
            _ => Err(unreadable()),
        }
    }

    fn transaction(&self, script: &Script, mark: Mark, writes: &[Guarded]) -> Result<Cmd, BufferError> {
        // Positions of the partitions that are written to, from 1.
        let (mut positions, mut involved) = (HashMap::new(), Vec::new());
        for Guarded { write, .. } in writes {
            let keys = self.shelf.keys(write.partition)?;
            positions.entry(write.partition).or_insert_with(|| {
                involved.push(keys);
                involved.len()
            });
        }
        let others: Vec<&PartitionKeys> = match self.shelf.limit {
            Some(_) => {
                let all = (0_u16..).zip(&self.shelf.partitions);
                all.filter(|(partition, _)| !positions.contains_key(partition)).map(|(_, keys)| keys).collect()
            }
            None => Vec::new(),
        };
        let mut command = redis::cmd("EVALSHA");
        command.arg(script.get_hash()).arg(3 * involved.len() + writes.len() + 2 * others.len());
        for keys in &involved {
            command.arg(&keys.open).arg(&keys.flushing).arg(&keys.groups);
        }
        for Guarded { write, .. } in writes {
            command.arg(self.shelf.keys(write.partition)?.copy(&write.id));
        }
        for keys in &others {
            command.arg(&keys.open).arg(&keys.flushing);
        }
        command.arg(self.shelf.limit.unwrap_or(0)).arg(involved.len()).arg(writes.len()).arg(mark.to_string());
        for Guarded { write, expected } in writes {
            command.arg(positions.get(&write.partition)).arg(write.id.as_bytes()).arg(write.record.as_bytes());
            command
                .arg(u8::from(expected.is_some()))
                .arg(&expected.as_ref().map(Stored::bytes).unwrap_or_default()[..]);
        }
        Ok(command)
    }

    pub(super) async fn get_places(&self, places: &[(u16, Vec<Id>)]) -> Result<Vec<Vec<Lookup>>, BufferError> {
        let mut call = self.scripts.get_together.prepare_invoke();
        for (partition, ids) in places {
            let keys = self.shelf.keys(*partition)?;
            for id in ids {
                call.key(&keys.open).key(&keys.flushing).key(keys.copy(id)).arg(id.as_bytes());
            }
        }
        if places.iter().all(|(_, ids)| ids.is_empty()) {
            return Ok(vec![Vec::new(); places.len()]);
        }
        let found = call.invoke_async(&mut self.reader().await?).await;
        let found: Vec<(i64, Option<Bytes>)> = self.judged("cannot get records together", found).await?;
        let mut found = found.into_iter().map(|(dirty, bytes)| match (dirty, bytes) {
            (_, None) => Lookup::Absent,
            (1, Some(bytes)) => Lookup::Dirty(Record::from_bytes(bytes)),
            (_, Some(bytes)) => Lookup::of_copy(bytes),
        });
        Ok(places.iter().map(|(_, ids)| found.by_ref().take(ids.len()).collect()).collect())
    }

    pub(super) async fn rotate_partitions(&self, owner: &str, stamp: Stamp) -> Result<Vec<Rotation>, BufferError> {
        let mut call = self.scripts.rotate_all.prepare_invoke();
        for keys in &self.shelf.partitions {
            call.key(&keys.open).key(&keys.flushing).key(&keys.meta);
            call.key(&keys.groups).key(&keys.groups_flushing);
        }
        call.arg(owner).arg(stamp.to_string());
        let replies: Vec<i64> = self.run("cannot rotate all partitions", &call).await?;
        let rotation = |reply: &[i64]| match reply {
            [number, marked] => rotation(*number, *marked),
            _ => Rotation::Empty,
        };
        Ok(replies.chunks_exact(2).map(rotation).collect())
    }

    pub(super) async fn page_of_marks(&self, partition: u16, cursor: u64, limit: usize) -> Result<Marks, BufferError> {
        let keys = self.shelf.keys(partition)?;
        let mut command = redis::cmd("HSCAN");
        command.arg(&keys.groups_flushing).arg(cursor).arg("COUNT").arg(limit.max(1));
        let doing = "cannot read the marks of transactions";
        let found = command.query_async(&mut self.bulk(doing).await?).await;
        let (cursor, fields): (u64, Vec<(Bytes, Bytes)>) = self.judged(doing, found).await?;
        // What is no mark was written by another program, and ties nothing.
        let marks = |text: Bytes| {
            std::str::from_utf8(&text)
                .map_or_else(|_| Vec::new(), |text| text.split(' ').filter_map(Mark::parse).collect())
        };
        Ok(Marks { cursor, marks: fields.into_iter().map(|(id, text)| (Id::found(id), marks(text))).collect() })
    }

    pub(super) async fn back_together(
        &self,
        mark: Mark,
        parts: &[Part<'_, Attempts>],
    ) -> Result<Vec<Moved>, BufferError> {
        let what = |attempts: &Attempts| Ok(attempts.to_string());
        self.unit("cannot put records back together", &self.scripts.back_unit, &mark.to_string(), parts, what).await
    }

    pub(super) async fn bury_together(&self, parts: &[Part<'_, DeadLetter>]) -> Result<Vec<Moved>, BufferError> {
        let what = |letter: &DeadLetter| {
            serde_json::to_string(letter).map_err(|source| {
                BufferError::new(BufferErrorKind::Misconfigured, "cannot write a dead letter").with_source(source)
            })
        };
        self.unit("cannot keep dead letters together", &self.scripts.bury_unit, "", parts, what).await
    }

    async fn unit<T>(
        &self,
        doing: &str,
        script: &Script,
        mark: &str,
        parts: &[Part<'_, T>],
        what: impl Fn(&T) -> Result<String, BufferError>,
    ) -> Result<Vec<Moved>, BufferError> {
        let mut call = script.prepare_invoke();
        call.arg(parts.len()).arg(mark);
        for (step, records) in parts {
            let keys = self.shelf.keys(step.partition)?;
            call.key(&keys.flushing).key(&keys.meta).key(&keys.attempts);
            call.key(&keys.open).key(&keys.dead).key(&keys.groups);
            call.arg(step.owner).arg(step.epoch).arg(step.stamp.to_string()).arg(records.len());
        }
        for (step, records) in parts {
            let keys = self.shelf.keys(step.partition)?;
            for (id, wanted) in records {
                call.key(keys.copy(id)).arg(id.as_bytes()).arg(what(wanted)?);
            }
        }
        let replies: Vec<(i64, u64, u64)> = self.run(doing, &call).await?;
        let moved = |(reply, records, missing)| Moved { done: outcome(reply), records, missing };
        let mut moved: Vec<Moved> = replies.into_iter().map(moved).collect();
        // Nothing was done: some lease or epoch is not the caller's any more.
        moved.resize(parts.len(), Moved::NOT_OWNER);
        Ok(moved)
    }
}

/// What a script says of a rotation: the number of the epoch, and whether transactions have written in it.
pub(super) fn rotation(number: i64, marked: i64) -> Rotation {
    match (u64::try_from(number), marked) {
        (Ok(0), _) => Rotation::Empty,
        (Ok(epoch), 0) => Rotation::Epoch(epoch),
        (Ok(epoch), _) => Rotation::Marked(epoch),
        (Err(_), _) => Rotation::NotOwner,
    }
}
