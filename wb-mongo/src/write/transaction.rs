//! One batch as one transaction.

use std::ops::Range;
use std::time::Duration;

use bson::Document;
use bson::raw::{RawBson, RawDocumentBuf};
use futures::FutureExt;
use futures::future::BoxFuture;
use mongodb::error::{Error, UNKNOWN_TRANSACTION_COMMIT_RESULT};
use mongodb::options::{ReadPreference, SelectionCriteria, TransactionOptions};
use wb_core::{ErrorKind, Scope, SinkError};

use crate::fence::slots::Slot;
use crate::read::spelling;
use crate::sink::MongoSink;
use crate::write::reply::{Changes, Reply, integer};
use crate::write::{Work, delete_failure};
use crate::write::{command, stale};
use crate::{error, fence};

/// How often a commit is sent whose outcome is unknown. The driver sends each of them twice.
const COMMITS: usize = 3;

/// How long a command that nobody waits for may still take: the server's own limit for a transaction.
const LIFETIME: Duration = Duration::from_secs(60);

/// From this many refused documents on, the rest is searched for more of them before the whole is run again.
const SEARCH_FROM: usize = 3;

/// Documents in a command of such a search: each refused one ends it, and what was sent behind that one is sent again.
const SEARCHED: usize = 32;

/// Writes everything that the server does not refuse in one transaction. Returns how many commands were sent.
///
/// The first refused document ends the server's transaction, so it is taken out and the whole is run again. After
/// some of them the rest is first searched for more, in transactions that are always rolled back: a batch of many bad
/// records then costs about two batches, not one for each of them. A batch that is all or nothing ends with the first
/// refused document, which is named in the work, and nothing is written.
///
/// A document whose unique value another one has may only come too early. When a unique index first refuses one, it is asked
/// which documents have which of its values, and the whole is run again in an order in which they are free. One that is refused all
/// the same is written after all others, deletes too, and refused when that does not help.
pub(crate) async fn write(sink: &MongoSink, work: &mut Work<'_>, whole: bool) -> Result<u64, SinkError> {
    let mut transaction = Transaction::new(sink, work.scope).await?;
    let mut sent = 0;
    let mut from = 0;
    while !work.is_empty() {
        transaction.start().await?;
        let Attempt { refused, changes } = transaction.attempt(work, from, &mut sent).await?;
        if refused.is_empty() && from == 0 {
            if stale::suspects(&work.upserts, changes.all) {
                let mut suspects = stale::Suspects::of(work);
                for find in std::mem::take(&mut suspects.finds) {
                    let reply = transaction.command("look for newer versions", find).await?;
                    work.stale.extend(suspects.newer(&reply));
                    sent += 1;
                }
            }
            if whole && work.refuse_stale() {
                transaction.roll_back().await?;
                break;
            }
            transaction.commit().await?;
            work.changes = changes;
            break;
        }
        transaction.roll_back().await?;
        if work.len() > 1 && work.known.learn(&refused) {
            let mut known = std::mem::take(&mut work.known);
            let (order, asked) = known.ask(sink, work).await?;
            (work.known, sent) = (known, sent + asked);
            if work.arrange(order) {
                from = 0;
                continue;
            }
        }
        let is_late = refused.last().is_some_and(|(index, _)| *index >= work.last());
        let behind = work.refuse(refused);
        if whole && !work.rejected.is_empty() {
            break;
        }
        // What is late may wait for what comes first: it is tried after that, not searched.
        let end = if is_late { work.upserts.len() } else { work.last() };
        from = if work.rejected.len() + work.late >= SEARCH_FROM && behind < end { behind } else { 0 };
    }
    Ok(sent)
}

/// What became of the upserts of one try.
struct Attempt {
    /// What the server refused, by index.
    refused: Vec<(usize, SinkError)>,
    changes: Changes,
}

/// A slot and the transaction that may be open in its session. Dropped while one is open, it is rolled back.
///
/// Every command runs in a task of its own, which takes the slot along and gives it back: a caller that gives up in
/// the middle of one leaves the task to wait for the answer and to drop the slot after it. A command that was merely
/// dropped would reach the server all the same, and its rows would stay locked until [`LIFETIME`] is over. Nothing is
/// committed for a caller that is gone, unless the commit was on its way already.
pub(crate) struct Transaction<'a> {
    sink: &'a MongoSink,
    /// Absent while a command runs, and after one that nobody waited for.
    slot: Option<Slot>,
}

impl<'a> Transaction<'a> {
    /// Waits for a slot, when all of this entity are in use.
    pub(crate) async fn new(sink: &'a MongoSink, scope: &Scope) -> Result<Self, SinkError> {
        let slot = sink.slots().take(sink.database().client(), scope).await;
        Ok(Self { sink, slot: Some(slot.map_err(|error| sink.failed("start a session", error))?) })
    }

    pub(crate) async fn start(&mut self) -> Result<(), SinkError> {
        let options = TransactionOptions::builder()
            .write_concern(self.sink.write_concern())
            // A client that prefers secondaries would be told that transactions run on the primary.
            .selection_criteria(SelectionCriteria::ReadPreference(ReadPreference::Primary))
            .build();
        let started = self.run("start a transaction", |slot| {
            async move {
                slot.begin().await;
                slot.session()?.start_transaction().with_options(options).await
            }
            .boxed()
        });
        started.await
    }

    /// Runs the upserts from this one on, and the deletes if they are all; of others, those only that upserts wait for. Returns
    /// what the server refused, by index.
    async fn attempt(&mut self, work: &Work<'_>, from: usize, sent: &mut u64) -> Result<Attempt, SinkError> {
        self.check_fences(work, sent).await?;
        let mut attempt = Attempt { refused: Vec::new(), changes: Changes::default() };
        let (before, last, end) = (work.before, work.last(), work.upserts.len());
        let search = from > 0;
        // What is late is searched by itself.
        let end = if from > 0 && from < last { last } else { end };
        self.upserts(work, search, from..before, &mut attempt, sent).await?;
        if from <= before {
            self.deletes(work, &work.freeing, &attempt, sent).await?;
        }
        self.upserts(work, search, from.max(before)..last, &mut attempt, sent).await?;
        if from == 0 || from >= last {
            self.deletes(work, &work.deletes, &attempt, sent).await?;
        }
        self.upserts(work, search, from.max(last)..end, &mut attempt, sent).await?;
        Ok(attempt)
    }

    /// Runs upserts, unless one was refused before.
    async fn upserts(
        &mut self,
        work: &Work<'_>,
        search: bool,
        places: Range<usize>,
        attempt: &mut Attempt,
        sent: &mut u64,
    ) -> Result<(), SinkError> {
        let mut first = places.start;
        let upserts = work.upserts.get(places).filter(|_| attempt.refused.is_empty()).unwrap_or_default();
        let most = if search { work.max_statements.min(SEARCHED) } else { work.max_statements };
        for command in command::updates(work.collection, upserts, most, None) {
            let mut reply = self.send(work.collection, command.raw).await?;
            *sent += 1;
            if let Some(error) = reply.take_common(command.count) {
                return Err(error);
            }
            // Before the commit, which would only say that the transaction is gone, and for ever.
            if !reply.write_errors.is_empty() {
                attempt.refused = reply.write_errors.into_iter().map(|(index, error)| (first + index, error)).collect();
                return Ok(());
            }
            attempt.changes.add(reply.changes);
            first += command.count;
        }
        Ok(())
    }

    /// Runs deletes, unless an upsert was refused before.
    async fn deletes(
        &mut self,
        work: &Work<'_>,
        deletes: &[RawBson],
        attempt: &Attempt,
        sent: &mut u64,
    ) -> Result<(), SinkError> {
        let deletes = if attempt.refused.is_empty() { deletes } else { &[] };
        let own = self.own(work, deletes, sent).await?;
        for command in command::deletes(work.collection, own.as_deref().unwrap_or(deletes), None) {
            *sent += 1;
            delete_failure(self.send(work.collection, command).await?)?;
        }
        Ok(())
    }

    /// Those of these keys that have documents of their own, where others may be found by them: asked right before they are
    /// deleted.
    async fn own(
        &mut self,
        work: &Work<'_>,
        deletes: &[RawBson],
        sent: &mut u64,
    ) -> Result<Option<Vec<RawBson>>, SinkError> {
        if !work.loose || deletes.is_empty() {
            return Ok(None);
        }
        let mut replies = Vec::new();
        for find in spelling::finds(work.collection, deletes) {
            replies.push(self.command("look for documents to delete", find).await?);
            *sent += 1;
        }
        Ok(Some(spelling::own(deletes, &replies)))
    }

    /// The first thing in every transaction: checks and locks the generations of the batch's partitions, so that a
    /// worker that lost one of them cannot write, and a new owner waits for this batch.
    async fn check_fences(&mut self, work: &Work<'_>, sent: &mut u64) -> Result<(), SinkError> {
        if work.fences.is_empty() {
            return Ok(());
        }
        let slot = self.slot.as_ref().and_then(Slot::number).unwrap_or_default();
        let reply = self.command("check the fences", fence::check(work.scope, &work.fences, slot)).await?;
        *sent += 1;
        if let Some(error) = Reply::read(&reply, fence::COLLECTION).take_common(0) {
            return Err(error);
        }
        let count = work.fences.len();
        if integer(&reply, "n").and_then(|matched| usize::try_from(matched).ok()) == Some(count) {
            return Ok(());
        }
        let entity = work.scope.entity;
        let text = format!("a partition of this batch of entity `{entity}` has another owner (one of {count})");
        Err(SinkError::new(ErrorKind::Fenced, text))
    }

    pub(crate) async fn roll_back(&mut self) -> Result<(), SinkError> {
        let rolled_back = self.run("roll back", |slot| {
            async move {
                slot.end().await;
                Ok(())
            }
            .boxed()
        });
        rolled_back.await
    }

    /// Commits; again when nobody knows whether it was done, which is harmless.
    async fn commit(&mut self) -> Result<(), SinkError> {
        self.run("commit", |slot| {
            async move {
                let mut commits = 0;
                loop {
                    commits += 1;
                    match slot.session()?.commit_transaction().await {
                        Err(error) if is_unknown(&error) && commits < COMMITS => {}
                        outcome => break outcome?,
                    }
                }
                slot.committed();
                Ok(())
            }
            .boxed()
        })
        .await
    }

    async fn send(&mut self, collection: &str, command: RawDocumentBuf) -> Result<Reply, SinkError> {
        let reply = self.command(&format!("write to collection `{collection}`"), command).await;
        let reply = reply.map_err(error::of_documents)?;
        Ok(Reply::read(&reply, collection))
    }

    /// Sends a command in the transaction. Its reply may hold failures.
    pub(crate) async fn command(&mut self, what: &str, command: RawDocumentBuf) -> Result<Document, SinkError> {
        let database = self.sink.database().clone();
        let done = self.run(what, move |slot| {
            async move { database.run_raw_command(command).session(slot.session()?).await }.boxed()
        });
        done.await
    }

    /// Runs one command to its end, whether or not somebody still waits for it.
    async fn run<T: Send + 'static>(
        &mut self,
        what: &str,
        work: impl for<'s> FnOnce(&'s mut Slot) -> BoxFuture<'s, mongodb::error::Result<T>> + Send + 'static,
    ) -> Result<T, SinkError> {
        let gone = || Error::from(std::io::Error::other("the task of this command is gone"));
        let Some(mut slot) = self.slot.take() else { return Err(self.sink.failed(what, gone())) };
        let task = tokio::spawn(async move {
            let outcome = tokio::time::timeout(LIFETIME, work(&mut slot)).await;
            (slot, outcome)
        });
        let done = self.sink.bounded(what, async {
            // The task fails when the runtime shuts down.
            let (slot, outcome) = task.await.map_err(|_| gone())?;
            Ok((slot, outcome.unwrap_or_else(|_| Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()))))
        });
        let (slot, outcome) = done.await?;
        self.slot = Some(slot);
        outcome.map_err(|error| self.sink.failed(what, error))
    }
}

/// Whether nobody knows if the transaction was committed.
fn is_unknown(error: &Error) -> bool {
    error.contains_label(UNKNOWN_TRANSACTION_COMMIT_RESULT)
}
