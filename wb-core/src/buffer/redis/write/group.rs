//! A group of writes: what leaves in one pipeline, and what became of each caller in it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use redis::{Cmd, Pipeline, RedisError, RedisResult, Script, Value};

use crate::buffer::record::{Record, Write};
use crate::buffer::redis::classify::classify;
use crate::buffer::redis::connection::{Connection, Pinned};
use crate::buffer::redis::signals;
use crate::buffer::redis::write::append;
use crate::buffer::redis::write::append::Logs;
use crate::buffer::redis::write::durability::Wait;
use crate::buffer::redis::write::group_commit::{Shelf, Verb};
use crate::buffer::redis::write::limit;
use crate::buffer::redis::write::limit::Call;
use crate::entity::key::Id;
use crate::error::buffer::BufferError;

/// Which hash: entity and partition.
type Hash = (u32, u16);

/// Writes that leave together: by hash, of one id only the last; where an entity has a limit, as script calls.
#[derive(Default)]
pub(in crate::buffer::redis) struct Group {
    hashes: BTreeMap<Hash, (Arc<Shelf>, HashMap<Id, Record>)>,
    logs: Logs,
    calls: Vec<Call>,
}

/// Where the writes of a caller are.
pub(in crate::buffer::redis) enum Caller {
    Hashes {
        first: Option<Hash>,
        // Empty for a single write: no allocation on the common path.
        others: Vec<Hash>,
    },
    Call {
        call: usize,
        place: usize,
    },
    Refused(BufferError),
}

/// How groups go out.
pub(in crate::buffer::redis) struct Way {
    pub(in crate::buffer::redis) connection: Connection,
    pub(in crate::buffer::redis) limit: Script,
    pub(in crate::buffer::redis) append: Script,
    pub(in crate::buffer::redis) wait: Option<Wait>,
}

impl Group {
    pub(in crate::buffer::redis) fn add(&mut self, shelf: &Arc<Shelf>, verb: Verb, writes: Vec<Write>) -> Caller {
        match shelf.limit {
            Some(limit) => self.add_limited(shelf, verb, limit, writes),
            None => self.add_free(shelf, verb, writes),
        }
    }

    fn add_free(&mut self, shelf: &Arc<Shelf>, verb: Verb, writes: Vec<Write>) -> Caller {
        let (mut first, mut others) = (None, Vec::new());
        for Write { partition, id, record } in writes {
            let hash = (shelf.number, partition);
            match verb {
                Verb::Put => {
                    self.hashes.entry(hash).or_insert_with(|| (shelf.clone(), HashMap::new())).1.insert(id, record);
                }
                Verb::Append => self.logs.entry(hash).or_insert_with(|| (shelf.clone(), Vec::new())).1.push(record),
            }
            if first.is_none() {
                first = Some(hash);
            } else if first != Some(hash) && others.last() != Some(&hash) {
                others.push(hash);
            }
        }
        Caller::Hashes { first, others }
    }

    fn add_limited(&mut self, shelf: &Arc<Shelf>, verb: Verb, limit: u64, writes: Vec<Write>) -> Caller {
        let writes = match limit::allowed(shelf, verb, limit, writes) {
            Ok(writes) => writes,
            Err(error) => return Caller::Refused(error),
        };
        // Only the last call of the entity: an earlier one would let these writes overtake those after it.
        let last = self
            .calls
            .iter()
            .rposition(|call| call.is_of(shelf, verb))
            .filter(|&call| self.calls.get(call).is_some_and(|call| call.takes(writes.len())));
        let call = last.unwrap_or_else(|| {
            self.calls.push(Call::new(shelf.clone(), verb, limit));
            self.calls.len() - 1
        });
        let place = self.calls.get_mut(call).map_or(0, |call| call.add(writes));
        Caller::Call { call, place }
    }

    /// Says which ids these writes are of, one command an entity, where somebody keeps values of them.
    fn told(&self) -> Vec<Cmd> {
        let mut ids: BTreeMap<&str, Vec<&Id>> = BTreeMap::new();
        for (shelf, fields) in self.hashes.values() {
            if let Some(channel) = &shelf.written {
                ids.entry(channel).or_default().extend(fields.keys());
            }
        }
        for call in &self.calls {
            if let Some(channel) = &call.shelf().written {
                ids.entry(channel).or_default().extend(call.ids());
            }
        }
        ids.into_iter().map(|(channel, ids)| signals::tell(channel, ids.into_iter())).collect()
    }

    pub(in crate::buffer::redis) async fn send(self, way: &Way, connection: &Pinned) -> Results {
        let mut results = Results { failed: HashMap::new(), calls: Vec::with_capacity(self.calls.len()), weak: None };
        let mut sent = Vec::with_capacity(self.hashes.len());
        let mut pipeline = Pipeline::with_capacity(self.hashes.len() + self.logs.len() + self.calls.len() + 1);
        for (hash, (shelf, fields)) in &self.hashes {
            match shelf.keys(hash.1) {
                Ok(keys) => {
                    pipeline.cmd("HSET").arg(&keys.open);
                    for (id, record) in fields {
                        pipeline.arg(id.as_bytes()).arg(record.as_bytes());
                    }
                    sent.push((*hash, shelf));
                }
                Err(error) => {
                    results.failed.insert(*hash, error);
                }
            }
        }
        let hashes = sent.len();
        let mut appended = Vec::with_capacity(self.logs.len());
        for (hash, (shelf, records)) in &self.logs {
            match shelf.keys(hash.1) {
                Ok(keys) => {
                    pipeline.add_command(append::command(keys, records));
                    appended.push((*hash, shelf, records.len()));
                }
                Err(error) => {
                    results.failed.insert(*hash, error);
                }
            }
        }
        for call in &self.calls {
            pipeline.add_command(call.command(way));
        }
        // After the writes: who hears of them finds them.
        let told = self.told();
        for command in &told {
            pipeline.add_command(command.clone());
        }
        match way.send(connection, pipeline, hashes + appended.len() + self.calls.len() + told.len()).await {
            Ok((replies, weak)) => {
                results.weak = weak;
                let mut replies = replies.into_iter();
                for ((hash, shelf), reply) in sent.into_iter().zip(&mut replies) {
                    match reply {
                        Ok(Value::Int(fresh)) => shelf.pressure.add(u64::try_from(fresh).unwrap_or(0)),
                        Ok(_) => {
                            results.failed.insert(hash, limit::unreadable());
                        }
                        Err(error) => {
                            results.failed.insert(hash, classify("cannot put a record", error));
                        }
                    }
                }
                for ((hash, shelf, records), reply) in appended.into_iter().zip(&mut replies) {
                    match reply {
                        Ok(_) => shelf.pressure.add(records as u64),
                        Err(error) => {
                            results.failed.insert(hash, classify("cannot append records", error));
                        }
                    }
                }
                let replies = replies.take(self.calls.len()).collect();
                results.settle(&self.calls, replies, &told, way, connection).await;
            }
            Err(error) => {
                let error = classify("cannot put a group of records", error);
                results.failed.extend(sent.into_iter().map(|(hash, _)| (hash, error.clone())));
                results.failed.extend(appended.into_iter().map(|(hash, ..)| (hash, error.clone())));
                results.calls.extend(self.calls.iter().map(|call| call.failed(&error)));
            }
        }
        results
    }
}

pub(in crate::buffer::redis) type Replies = Vec<RedisResult<Value>>;

impl Way {
    /// Sends a pipeline of so many commands, and the wait for what they have written.
    pub(in crate::buffer::redis) async fn send(
        &self,
        connection: &Pinned,
        mut pipeline: Pipeline,
        commands: usize,
    ) -> RedisResult<(Replies, Option<BufferError>)> {
        pipeline.ignore_errors();
        if let Some(wait) = &self.wait {
            wait.add_to(&mut pipeline);
        }
        let mut replies: Replies = pipeline.query_async(&mut connection.clone()).await?;
        let waited = replies.split_off(commands.min(replies.len()));
        let weak = self.wait.as_ref().and_then(|wait| wait.result(waited.into_iter().next()?).err());
        Ok((replies, weak))
    }
}

/// Whether the server does not know the script: it was restarted since, and nothing was done.
pub(in crate::buffer::redis) fn unknown_script(reply: &RedisResult<Value>) -> bool {
    reply.as_ref().is_err_and(|error: &RedisError| error.code() == Some("NOSCRIPT"))
}

pub(in crate::buffer::redis) struct Results {
    failed: HashMap<Hash, BufferError>,
    calls: Vec<Vec<Result<(), BufferError>>>,
    /// What is stored is not as durable as it was asked to be.
    weak: Option<BufferError>,
}

impl Results {
    /// Reads what the calls say; those that met a server without the script go out once more, with it.
    async fn settle(&mut self, calls: &[Call], mut replies: Replies, told: &[Cmd], way: &Way, connection: &Pinned) {
        let again: Vec<usize> = (0..replies.len()).filter(|&n| replies.get(n).is_some_and(unknown_script)).collect();
        if !again.is_empty() {
            let texts = [limit::TEXT, append::TEXT];
            let mut pipeline = Pipeline::with_capacity(again.len() + texts.len() + 1);
            for text in texts {
                let mut load = Cmd::new();
                load.arg("SCRIPT").arg("LOAD").arg(text);
                pipeline.add_command(load);
            }
            for call in again.iter().filter_map(|&n| calls.get(n)) {
                pipeline.add_command(call.command(way));
            }
            for command in told {
                pipeline.add_command(command.clone());
            }
            match way.send(connection, pipeline, again.len() + texts.len() + told.len()).await {
                Ok((second, weak)) => {
                    self.weak = self.weak.take().or(weak);
                    for (n, reply) in again.into_iter().zip(second.into_iter().skip(texts.len())) {
                        if let Some(place) = replies.get_mut(n) {
                            *place = reply;
                        }
                    }
                }
                Err(error) => {
                    let error = classify("cannot put a group of records", error);
                    self.calls = calls.iter().map(|call| call.failed(&error)).collect();
                    return;
                }
            }
        }
        self.calls = calls.iter().zip(replies).map(|(call, reply)| call.results(reply)).collect();
    }

    pub(in crate::buffer::redis) fn of(&self, caller: &Caller) -> Result<(), BufferError> {
        match caller {
            Caller::Refused(error) => Err(error.clone()),
            Caller::Call { call, place } => {
                let result = self.calls.get(*call).and_then(|results| results.get(*place));
                result.cloned().unwrap_or_else(|| Err(limit::unreadable()))?;
                self.weak.clone().map_or(Ok(()), Err)
            }
            Caller::Hashes { first, others } => {
                if self.failed.is_empty() && self.weak.is_none() {
                    return Ok(());
                }
                let failure = first.iter().chain(others).find_map(|hash| self.failed.get(hash));
                failure.or(self.weak.as_ref()).cloned().map_or(Ok(()), Err)
            }
        }
    }
}
