//! One batch: one transaction, or plain commands on a standalone server.

use bson::raw::{RawBson, RawDocumentBuf};
use wb_core::{Batch, ErrorKind, Id, Report, Scope, SinkError};

use crate::command::{self, Guard, Statement};
use crate::connect::Deployment;
use crate::document::{id_of, with_id};
use crate::entity::{MappingError, MongoEntity};
use crate::reply::Reply;
use crate::sink::MongoSink;
use crate::transaction;

/// Writes a batch: map, write, report.
pub(crate) async fn batch<E: MongoEntity>(sink: &MongoSink, batch: &Batch<E>) -> Result<Report, SinkError> {
    let deployment = sink.deployment().await?;
    let mut work = Work::of(batch, deployment);
    let statements = if work.is_empty() {
        0
    } else if deployment.transactions {
        transaction::write(sink, &mut work).await?
    } else {
        plainly(sink, &mut work).await?
    };
    Ok(Report::written(statements).with_rejected(work.rejected))
}

/// What is left to write of a batch, and what was refused of it.
pub(crate) struct Work<'a> {
    pub(crate) collection: &'static str,
    pub(crate) scope: &'a Scope,
    /// Partitions and generations, each once.
    pub(crate) fences: Vec<(u16, u64)>,
    pub(crate) max_statements: usize,
    pub(crate) upserts: Vec<Statement<'a>>,
    pub(crate) deletes: Vec<RawBson>,
    pub(crate) rejected: Vec<(Id, SinkError)>,
}

impl<'a> Work<'a> {
    /// Maps every record; one that has no document is refused here.
    fn of<E: MongoEntity>(batch: &'a Batch<E>, deployment: &Deployment) -> Self {
        let mut rejected = Vec::new();
        let mut refuse = |id: &Id, error| rejected.push((id.clone(), error));
        let mut upserts = Vec::with_capacity(batch.upserts.len());
        for upsert in &batch.upserts {
            match statement(&upsert.id, &upsert.value, deployment) {
                Ok(statement) => upserts.push(statement),
                Err(error) => refuse(&upsert.id, error),
            }
        }
        let mut deletes = Vec::with_capacity(batch.deletes.len());
        for delete in &batch.deletes {
            match id_of::<E>(&delete.key) {
                Ok(key) => deletes.push(key),
                Err(error) => refuse(&delete.id, unmapped(error)),
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
            upserts,
            deletes,
            rejected,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.upserts.is_empty() && self.deletes.is_empty()
    }

    /// Takes refused upserts out (in order of their index). Returns where the one behind the last of them is now.
    pub(crate) fn refuse(&mut self, refused: Vec<(usize, SinkError)>) -> usize {
        let behind = refused.last().map_or(0, |(last, _)| (last + 1).saturating_sub(refused.len()));
        for (index, error) in refused.into_iter().rev() {
            let statement = self.upserts.remove(index);
            self.rejected.push((statement.id.clone(), error));
        }
        behind
    }
}

fn statement<'a, E: MongoEntity>(id: &'a Id, value: &E, deployment: &Deployment) -> Result<Statement<'a>, SinkError> {
    let key = id_of::<E>(&value.key()).map_err(unmapped)?;
    let document = with_id(value, &key).map_err(unmapped)?;
    let length = document.as_bytes().len();
    if length > deployment.max_document {
        let text = format!("the document has {length} bytes, the server takes {}", deployment.max_document);
        return Err(SinkError::new(ErrorKind::Rejected, text));
    }
    if E::APPEND {
        return Statement::append(id, &key, &document).map_err(|error| unmapped(error.into()));
    }
    Ok(match guard(value, deployment) {
        Some(guard) => Statement::guarded(id, &key, &document, guard),
        None => Statement::upsert(id, &key, &document),
    })
}

/// The version that guards a document where no fence does.
fn guard<E: MongoEntity>(value: &E, deployment: &Deployment) -> Option<Guard<'static>> {
    if deployment.transactions {
        return None;
    }
    Some(Guard { field: E::VERSION?, version: value.version()? })
}

fn unmapped(error: MappingError) -> SinkError {
    SinkError::new(ErrorKind::Rejected, "the record has no document").with_source(error)
}

/// Unordered commands: every good document lands, every refused one is named.
async fn plainly(sink: &MongoSink, work: &mut Work<'_>) -> Result<u64, SinkError> {
    let concern = raw_write_concern(sink)?;
    let mut sent = 0;
    let mut refused = Vec::new();
    let mut first = 0;
    for command in command::updates(work.collection, &work.upserts, work.max_statements, Some(&concern)) {
        let mut reply = sink.send(work.collection, command.raw).await?;
        sent += 1;
        if let Some(error) = reply.take_common(command.count) {
            return Err(error);
        }
        refused.extend(reply.write_errors.into_iter().map(|(index, error)| (first + index, error)));
        first += command.count;
    }
    for command in command::deletes(work.collection, &work.deletes, Some(&concern)) {
        sent += 1;
        delete_failure(sink.send(work.collection, command).await?)?;
    }
    work.refuse(refused);
    Ok(sent)
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
