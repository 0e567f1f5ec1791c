//! One batch: one transaction, or plain commands on a standalone server.

pub(crate) mod command;
pub(crate) mod merge;
pub(crate) mod moves;
pub(crate) mod reply;
pub(crate) mod stale;
pub(crate) mod transaction;

use std::collections::{HashMap, HashSet};

use bson::raw::{RawBson, RawDocumentBuf};
use bson::rawdoc;
use tokio::time::Instant;
use wb_core::moves::Order;
use wb_core::{Batch, ErrorKind, Id, Report, Scope, SinkError, Upsert};

use crate::connect::Deployment;
use crate::examine::definition;
use crate::mapping::document::{id_of, with_id};
use crate::mapping::entity::{MappingError, MongoEntity};
use crate::read::spelling;
use crate::sink::MongoSink;
use crate::write::command::{Guard, Statement};
use crate::write::merge::Merge;
use crate::write::moves::Known;
use crate::write::reply::{Changes, Reply, taken};

/// How often documents whose unique value another one has are sent again on a standalone server, while some of them land.
const PASSES: usize = 4;

/// Writes a batch: map, write, report.
pub(crate) async fn batch<E: MongoEntity>(sink: &MongoSink, batch: &Batch<E>) -> Result<Report, SinkError> {
    let deployment = sink.deployment().await?;
    let loose = spelling::is_loose(sink, E::COLLECTION).await?;
    let mut work = Work::of(batch, deployment, loose);
    let begun = Instant::now();
    if batch.whole {
        if !deployment.transactions {
            let text =
                format!("{} has no transactions, so no batch is written as a whole; use a replica set", sink.label());
            return Err(SinkError::new(ErrorKind::Misconfigured, text));
        }
        work.check_whole(E::NAME)?;
    }
    let statements = if work.is_empty() {
        0
    } else if deployment.transactions {
        transaction::write(sink, &mut work, batch.whole).await?
    } else {
        plainly(sink, &mut work).await?
    };
    let landed = !work.upserts.is_empty() && (!batch.whole || work.rejected.is_empty());
    let idle = !landed || !definition::is_proof(sink, E::COLLECTION, work.changes, &work.rejected).await;
    if idle {
        definition::judge(sink, E::COLLECTION, &mut work.rejected).await;
    } else {
        sink.definitions().landed(E::COLLECTION, begun);
    }
    work.known.explain(&mut work.rejected);
    if batch.whole {
        work.check_whole(E::NAME)?;
    }
    Ok(Report::written(statements).with_rejected(work.rejected).with_stale(work.stale).with_idle(idle))
}

/// What is left to write of a batch, and what was refused of it.
pub(crate) struct Work<'a> {
    pub(crate) collection: &'static str,
    pub(crate) scope: &'a Scope,
    /// Partitions and generations, each once.
    pub(crate) fences: Vec<(u16, u64)>,
    pub(crate) max_statements: usize,
    /// In the order in which they are written: the first `before` of them before the deletes in `freeing`, the last `late` of
    /// them after all others.
    pub(crate) upserts: Vec<Statement<'a>>,
    pub(crate) before: usize,
    pub(crate) late: usize,
    /// Deletes that free a unique value.
    pub(crate) freeing: Vec<RawBson>,
    pub(crate) deletes: Vec<RawBson>,
    /// Makes the documents of the upserts once more.
    pub(crate) documents: Box<dyn Fn() -> HashMap<&'a Id, RawDocumentBuf> + Send + Sync + 'a>,
    /// Documents are only ever added.
    pub(crate) append: bool,
    pub(crate) known: Known,
    pub(crate) rejected: Vec<(Id, SinkError)>,
    /// Name of the version in the documents.
    pub(crate) version: Option<&'static str>,
    /// The collection may take different texts for equal.
    pub(crate) loose: bool,
    /// What was left out, because the server has newer versions.
    pub(crate) stale: Vec<Id>,
    /// What those that landed did.
    pub(crate) changes: Changes,
}

impl<'a> Work<'a> {
    /// Maps every record; one that has no document is refused here.
    fn of<E: MongoEntity>(batch: &'a Batch<E>, deployment: &Deployment, loose: bool) -> Self {
        let mut rejected = Vec::new();
        let mut refuse = |id: &Id, error| rejected.push((id.clone(), error));
        let mut upserts = Vec::with_capacity(batch.upserts.len());
        for upsert in &batch.upserts {
            match statement(&upsert.id, &upsert.value, deployment.max_document, loose) {
                Ok(statement) => upserts.push(statement),
                Err(error) => refuse(&upsert.id, error),
            }
        }
        let mut deletes = Vec::with_capacity(batch.deletes.len());
        for delete in &batch.deletes {
            match id_of::<E>(&delete.key) {
                Ok(key) => deletes.push(key),
                // A key that has no `_id` is not there.
                Err(error) => tracing::debug!(id = %delete.id, %error, "nothing to delete"),
            }
        }
        let mut fences: Vec<_> = batch.fences.iter().map(|fence| (fence.partition, fence.generation)).collect();
        fences.sort_unstable();
        fences.dedup();
        Self {
            collection: E::COLLECTION,
            scope: &batch.scope,
            fences,
            max_statements: deployment.max_statements,
            before: upserts.len(),
            upserts,
            late: 0,
            freeing: Vec::new(),
            deletes,
            documents: Box::new(|| {
                let document = |upsert: &'a Upsert<E>| {
                    let key = id_of::<E>(&upsert.value.key()).ok()?;
                    Some((&upsert.id, with_id(&upsert.value, &key).ok()?))
                };
                batch.upserts.iter().filter_map(document).collect()
            }),
            append: E::APPEND,
            known: Known::default(),
            rejected,
            version: E::VERSION,
            loose,
            stale: Vec::new(),
            changes: Changes::default(),
        }
    }

    /// What was refused first, as the error of a batch that is all or nothing.
    fn check_whole(&mut self, entity: &str) -> Result<(), SinkError> {
        if self.rejected.is_empty() {
            return Ok(());
        }
        let (id, error) = self.rejected.swap_remove(0);
        let text = format!("record `{id}` of entity `{entity}` is refused, and its batch with it");
        Err(error.within(text))
    }

    /// Takes the documents that the server has newer versions of for refused, as the first of them ends a batch that is all or
    /// nothing. Whether there are any.
    pub(crate) fn refuse_stale(&mut self) -> bool {
        let newer =
            |id: Id| (id, SinkError::new(ErrorKind::Rejected, "the document has a newer version in the database"));
        self.rejected.extend(self.stale.drain(..).map(newer));
        !self.rejected.is_empty()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn len(&self) -> usize {
        self.upserts.len() + self.deletes.len() + self.freeing.len()
    }

    /// Where the upserts begin that are written after all others.
    pub(crate) fn last(&self) -> usize {
        self.upserts.len().saturating_sub(self.late)
    }

    /// Takes refused upserts out (in order of their index); those whose unique value another document has are written after all
    /// others instead, once. Returns where the one behind the last of them is now.
    pub(crate) fn refuse(&mut self, refused: Vec<(usize, SinkError)>) -> usize {
        let behind = refused.last().map_or(0, |(last, _)| (last + 1).saturating_sub(refused.len()));
        let (last, alone) = (self.last(), self.len() == 1);
        let mut postponed = Vec::new();
        for (index, error) in refused.into_iter().rev() {
            let statement = self.upserts.remove(index);
            if index < self.before {
                self.before -= 1;
            }
            if index >= last {
                self.late -= 1;
            }
            if index < last && !alone && taken(&error).is_some() {
                postponed.push(statement);
            } else {
                self.rejected.push((statement.id.clone(), error));
            }
        }
        self.late += postponed.len();
        self.upserts.extend(postponed.into_iter().rev());
        behind
    }

    /// Puts everything that is left into this order. Whether it is another one.
    pub(crate) fn arrange(&mut self, order: Order) -> bool {
        let Order { before, freeing, after, circles, deletes } = order;
        let first = before.len();
        let upserts: Vec<usize> = before.into_iter().chain(after).chain(circles.into_iter().flatten()).collect();
        let differs = !freeing.is_empty() || !upserts.iter().copied().eq(0..self.upserts.len());
        let mut left: Vec<Option<Statement<'a>>> = self.upserts.drain(..).map(Some).collect();
        self.upserts = upserts.into_iter().filter_map(|index| left.get_mut(index)?.take()).collect();
        (self.before, self.late) = (first, 0);
        let all: Vec<RawBson> = self.freeing.drain(..).chain(self.deletes.drain(..)).collect();
        let pick = |places: Vec<usize>| places.into_iter().filter_map(|place| all.get(place).cloned()).collect();
        (self.freeing, self.deletes) = (pick(freeing), pick(deletes));
        differs
    }
}

fn statement<'a, E: MongoEntity>(
    id: &'a Id,
    value: &E,
    max_document: usize,
    loose: bool,
) -> Result<Statement<'a>, SinkError> {
    let key = id_of::<E>(&value.key()).map_err(unmapped)?;
    let loose = loose && spelling::is_text(&key);
    let document = with_id(value, &key).map_err(unmapped)?;
    let length = document.as_bytes().len();
    if length > max_document {
        let text = format!("the document has {length} bytes, the server takes {max_document}");
        return Err(SinkError::new(ErrorKind::Rejected, text));
    }
    if E::APPEND {
        return Statement::append(id, &key, &document, loose).map_err(|error| unmapped(error.into()));
    }
    let merge = if E::MERGE { Some(Merge::of::<E>(&document).map_err(unmapped)?) } else { None };
    Ok(match (guard(value), merge) {
        (None, None) => Statement::upsert(id, &key, &document),
        (None, Some(merge)) => Statement::upsert(id, &key, &merge.update(&key, loose).map_err(unmapped)?),
        // As a literal: nothing in the document is an expression.
        (Some(guard), None) => Statement::guarded(id, &key, rawdoc! { "$literal": document }, guard, loose),
        (Some(guard), Some(merge)) => Statement::guarded(id, &key, merge.expression(&key, loose), guard, loose),
    })
}

/// The version that guards a document: from stale workers where no fence does, and from what is newer than the buffer's
/// data everywhere.
fn guard<E: MongoEntity>(value: &E) -> Option<Guard<'static>> {
    Some(Guard { field: E::VERSION?, version: value.version()? })
}

fn unmapped(error: MappingError) -> SinkError {
    SinkError::new(ErrorKind::Rejected, "the record has no document").with_source(error)
}

/// Unordered commands: every good document lands, every refused one is named. Those whose unique value another document has are
/// sent again after all others, in an order in which it is free, while some of them land.
async fn plainly(sink: &MongoSink, work: &mut Work<'_>) -> Result<u64, SinkError> {
    let concern = raw_write_concern(sink)?;
    let (mut sent, mut changes) = (0, Changes::default());
    let all: Vec<usize> = (0..work.upserts.len()).collect();
    let (mut waiting, mut refused) = (Vec::new(), Vec::new());
    let mut failed = send_plainly(sink, work, &all, &concern, (&mut sent, &mut changes)).await?;
    if work.loose && !work.deletes.is_empty() {
        let mut replies = Vec::new();
        for find in spelling::finds(work.collection, &work.deletes) {
            let what = format!("read collection `{}`", work.collection);
            replies.push(sink.bounded(&what, async { sink.database().run_raw_command(find).await }).await?);
            sent += 1;
        }
        work.deletes = spelling::own(&work.deletes, &replies);
    }
    for command in command::deletes(work.collection, &work.deletes, Some(&concern)) {
        sent += 1;
        delete_failure(sink.send(work.collection, command).await?)?;
    }
    for pass in 0..=PASSES {
        let before = waiting.len();
        waiting.clear();
        let learned = work.known.learn(&failed);
        for (index, error) in failed {
            if taken(&error).is_some() { &mut waiting } else { &mut refused }.push((index, error));
        }
        let stuck = pass > 0 && waiting.len() >= before && !learned;
        if waiting.is_empty() || stuck || pass == PASSES || work.len() == 1 {
            break;
        }
        let mut known = std::mem::take(&mut work.known);
        let (mut order, asked) = known.ask(sink, work).await?;
        (work.known, sent) = (known, sent + asked);
        let left: HashSet<usize> = waiting.iter().map(|(index, _)| *index).collect();
        order.keep(|index| left.contains(&index), |_| false);
        let Order { before, after, circles, .. } = order;
        let again: Vec<usize> = before.into_iter().chain(after).chain(circles.into_iter().flatten()).collect();
        failed = send_plainly(sink, work, &again, &concern, (&mut sent, &mut changes)).await?;
    }
    refused.extend(waiting);
    refused.sort_unstable_by_key(|(index, _)| *index);
    for (index, error) in refused.into_iter().rev() {
        let statement = work.upserts.remove(index);
        work.rejected.push((statement.id.clone(), error));
    }
    work.changes = changes;
    if stale::suspects(&work.upserts, changes.all) {
        let mut suspects = stale::Suspects::of(work);
        for find in std::mem::take(&mut suspects.finds) {
            let what = format!("read collection `{}`", work.collection);
            let reply = sink.bounded(&what, async { sink.database().run_raw_command(find).await }).await?;
            work.stale.extend(suspects.newer(&reply));
            sent += 1;
        }
    }
    Ok(sent)
}

/// Sends these upserts, in this order; returns what the server refused.
async fn send_plainly(
    sink: &MongoSink,
    work: &Work<'_>,
    places: &[usize],
    concern: &RawDocumentBuf,
    (sent, changes): (&mut u64, &mut Changes),
) -> Result<Vec<(usize, SinkError)>, SinkError> {
    let some: Vec<Statement<'_>>;
    let statements = if places.iter().copied().eq(0..work.upserts.len()) {
        &work.upserts
    } else {
        some = places.iter().filter_map(|&place| work.upserts.get(place).cloned()).collect();
        &some
    };
    let (mut refused, mut first) = (Vec::new(), 0);
    for command in command::updates(work.collection, statements, work.max_statements, Some(concern)) {
        let mut reply = sink.send(work.collection, command.raw).await?;
        *sent += 1;
        if let Some(error) = reply.take_common(command.count) {
            return Err(error);
        }
        changes.add(reply.changes);
        let errors = reply.write_errors.into_iter();
        refused.extend(errors.filter_map(|(index, error)| Some((*places.get(first + index)?, error))));
        first += command.count;
    }
    Ok(refused)
}

/// What failed of a delete, which refuses no single key: the whole command.
pub(crate) fn delete_failure(mut reply: Reply) -> Result<(), SinkError> {
    reply.take_common(0).map_or(Ok(()), Err)
}

/// The write concern as commands outside transactions carry it.
fn raw_write_concern(sink: &MongoSink) -> Result<RawDocumentBuf, SinkError> {
    bson::serialize_to_raw_document_buf(&sink.write_concern()).map_err(|error| {
        SinkError::new(ErrorKind::Misconfigured, "the write concern has no BSON form").with_source(error)
    })
}
