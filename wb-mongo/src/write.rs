//! One batch: one transaction, or plain commands on a standalone server.

use bson::raw::{RawBson, RawDocumentBuf};
use mongodb::ClientSession;
use mongodb::error::UNKNOWN_TRANSACTION_COMMIT_RESULT;
use mongodb::options::{ReadPreference, SelectionCriteria, TransactionOptions};
use wb_core::{Batch, ErrorKind, Fence, Id, Report, SinkError};

use crate::classify::sink_error;
use crate::command::{self, Statement};
use crate::connect::Deployment;
use crate::document::{id_of, with_id};
use crate::entity::{MappingError, MongoEntity};
use crate::sink::MongoSink;

/// How often a commit is sent whose outcome is unknown. The driver sends each of them twice.
const COMMITS: usize = 3;

/// From this many refused documents on, the rest is searched for more of them before the whole is run again.
const SEARCH_FROM: usize = 3;

/// Writes a batch: map, write, report.
pub(crate) async fn batch<E: MongoEntity>(sink: &MongoSink, batch: &Batch<E>) -> Result<Report, SinkError> {
    let deployment = sink.deployment().await?;
    let mut work = Work::of(batch, deployment);
    let statements = if work.is_empty() {
        0
    } else if deployment.transactions {
        in_transaction(sink, &mut work).await?
    } else {
        plainly(sink, &mut work).await?
    };
    Ok(Report::written(statements).with_rejected(work.rejected))
}

/// What is left to write of a batch, and what was refused of it.
struct Work<'a> {
    collection: &'static str,
    fences: &'a [Fence],
    max_statements: usize,
    upserts: Vec<Statement<'a>>,
    deletes: Vec<RawBson>,
    rejected: Vec<(Id, SinkError)>,
}

impl<'a> Work<'a> {
    /// Maps every record; one that has no document is refused here.
    fn of<E: MongoEntity>(batch: &'a Batch<E>, deployment: &Deployment) -> Self {
        let mut rejected = Vec::new();
        let mut refuse = |id: &Id, error| rejected.push((id.clone(), error));
        let mut upserts = Vec::with_capacity(batch.upserts.len());
        for upsert in &batch.upserts {
            match statement(&upsert.id, &upsert.value, deployment.max_document) {
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
        Self {
            collection: E::COLLECTION,
            fences: &batch.fences,
            max_statements: deployment.max_statements,
            upserts,
            deletes,
            rejected,
        }
    }

    fn is_empty(&self) -> bool {
        self.upserts.is_empty() && self.deletes.is_empty()
    }

    /// Takes refused upserts out (in order of their index). Returns where the one behind the last of them is now.
    fn refuse(&mut self, refused: Vec<(usize, SinkError)>) -> usize {
        let behind = refused.last().map_or(0, |(last, _)| (last + 1).saturating_sub(refused.len()));
        for (index, error) in refused.into_iter().rev() {
            let statement = self.upserts.remove(index);
            self.rejected.push((statement.id.clone(), error));
        }
        behind
    }
}

fn statement<'a, E: MongoEntity>(id: &'a Id, value: &E, max_document: usize) -> Result<Statement<'a>, SinkError> {
    let key = id_of::<E>(&value.key()).map_err(unmapped)?;
    let document = with_id(value, &key).map_err(unmapped)?;
    let length = document.as_bytes().len();
    if length > max_document {
        let text = format!("the document has {length} bytes, the server takes {max_document}");
        return Err(SinkError::new(ErrorKind::Rejected, text));
    }
    Ok(Statement::upsert(id, &key, &document))
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
        let mut reply = sink.send(work.collection, command.raw, None).await?;
        sent += 1;
        if let Some(error) = reply.take_common(command.count) {
            return Err(error);
        }
        refused.extend(reply.write_errors.into_iter().map(|(index, error)| (first + index, error)));
        first += command.count;
    }
    for command in command::deletes(work.collection, &work.deletes, Some(&concern)) {
        sent += 1;
        delete(sink, work.collection, command, None).await?;
    }
    work.refuse(refused);
    Ok(sent)
}

/// One transaction for everything that the server does not refuse.
///
/// The first refused document ends the server's transaction, so it is taken out and the whole is run again. After
/// some of them the rest is first searched for more, in transactions that are always rolled back: a batch of many bad
/// records then costs about two batches, not one for each of them.
async fn in_transaction(sink: &MongoSink, work: &mut Work<'_>) -> Result<u64, SinkError> {
    let mut session = sink.bounded("start a session", async { sink.database().client().start_session().await }).await?;
    let mut sent = 0;
    let mut from = 0;
    while !work.is_empty() {
        start(sink, &mut session).await?;
        // On an error the session is dropped, which rolls back what is open.
        let refused = attempt(sink, &mut session, work, from, &mut sent).await?;
        if refused.is_empty() && from == 0 {
            commit(sink, &mut session).await?;
            break;
        }
        // The server ended the transaction already, or will when its time is up; an error here changes nothing.
        let _ = sink.bounded("roll back", async { session.abort_transaction().await }).await;
        let behind = work.refuse(refused);
        from = if work.rejected.len() >= SEARCH_FROM && behind < work.upserts.len() { behind } else { 0 };
    }
    Ok(sent)
}

/// Runs the upserts from this one on in an open transaction, and the deletes if they are all. Returns what the server
/// refused, by index.
async fn attempt(
    sink: &MongoSink,
    session: &mut ClientSession,
    work: &Work<'_>,
    from: usize,
    sent: &mut u64,
) -> Result<Vec<(usize, SinkError)>, SinkError> {
    check_fences(sink, session, work.fences).await?;
    let upserts = work.upserts.get(from..).unwrap_or_default();
    let mut first = from;
    for command in command::updates(work.collection, upserts, work.max_statements, None) {
        let mut reply = sink.send(work.collection, command.raw, Some(session)).await?;
        *sent += 1;
        if let Some(error) = reply.take_common(command.count) {
            return Err(error);
        }
        // Before the commit, which would only say that the transaction is gone, and for ever.
        if !reply.write_errors.is_empty() {
            return Ok(reply.write_errors.into_iter().map(|(index, error)| (first + index, error)).collect());
        }
        first += command.count;
    }
    if from == 0 {
        for command in command::deletes(work.collection, &work.deletes, None) {
            *sent += 1;
            delete(sink, work.collection, command, Some(session)).await?;
        }
    }
    Ok(Vec::new())
}

/// The first thing in every transaction: checks and locks the generations of the batch's partitions, so that a worker
/// that lost one of them cannot write. This sink issues no fences yet, so a batch has none.
#[expect(clippy::unused_async, reason = "the check is a command in the transaction")]
async fn check_fences(_sink: &MongoSink, _session: &mut ClientSession, _fences: &[Fence]) -> Result<(), SinkError> {
    Ok(())
}

/// A delete refuses no single key: whatever fails is the whole command's failure.
async fn delete(
    sink: &MongoSink,
    collection: &str,
    command: RawDocumentBuf,
    session: Option<&mut ClientSession>,
) -> Result<(), SinkError> {
    let mut reply = sink.send(collection, command, session).await?;
    reply.take_common(0).map_or(Ok(()), Err)
}

async fn start(sink: &MongoSink, session: &mut ClientSession) -> Result<(), SinkError> {
    let options = TransactionOptions::builder()
        .write_concern(sink.write_concern())
        // A client that prefers secondaries would be told that transactions run on the primary.
        .selection_criteria(SelectionCriteria::ReadPreference(ReadPreference::Primary))
        .build();
    sink.bounded("start a transaction", async { session.start_transaction().with_options(options).await }).await
}

/// Commits; again when nobody knows whether it was done, which is harmless.
async fn commit(sink: &MongoSink, session: &mut ClientSession) -> Result<(), SinkError> {
    let mut commits = 0;
    let committed = sink.bounded("commit", async {
        loop {
            commits += 1;
            match session.commit_transaction().await {
                Err(error) if error.contains_label(UNKNOWN_TRANSACTION_COMMIT_RESULT) && commits < COMMITS => {}
                outcome => break Ok(outcome),
            }
        }
    });
    committed.await?.map_err(|error| {
        if error.contains_label(UNKNOWN_TRANSACTION_COMMIT_RESULT) {
            let text = "it is not known whether the transaction was committed";
            return SinkError::new(ErrorKind::Unavailable, text).with_source(*error.kind);
        }
        sink_error(error, "cannot commit")
    })
}

/// The write concern as commands outside transactions carry it.
fn raw_write_concern(sink: &MongoSink) -> Result<RawDocumentBuf, SinkError> {
    bson::serialize_to_raw_document_buf(&sink.write_concern()).map_err(|error| {
        SinkError::new(ErrorKind::Misconfigured, "the write concern has no BSON form").with_source(error)
    })
}
