//! fence: generations in `wb_fence`, so that a worker that lost a partition cannot write it any more.
//!
//! A partition has one document that issues generations, and [`SLOTS`] documents that hold the newest one:
//!
//! ```text
//! { _id: { namespace, entity, partition }, generation }
//! { _id: { namespace, entity, partition, slot }, generation, session, seq }
//! ```
//!
//! A batch increments `seq` in one slot of each of its partitions, as the first thing in its transaction and only where
//! the generation is its own. A new owner gets a generation and writes it into every slot. The server lets no two
//! writers of one document pass each other: either the new owner waits for the transaction that holds a slot, or the
//! transaction finds the slot changed and ends. When every slot is written, nothing of an older generation can commit.
//!
//! One document for a partition would do for that, but then two batches of one worker that share a partition would
//! shut out each other too. A slot is one batch's alone, so they run side by side.
//!
//! A worker that is killed in mid-transaction leaves it open, and the server takes a minute to notice. So a slot names
//! the session in which the owner of its generation runs its batches, and a new owner that waited in vain ends it
//! ([`crate::fence::abandoned`]). Whatever it hits, nothing is lost: of an earlier owner's transactions, those that hold this
//! partition must not commit any more, and the others are run again by their worker.

pub(crate) mod abandoned;
pub(crate) mod slots;

use std::time::Duration;

use bson::raw::{RawArrayBuf, RawDocumentBuf};
use bson::{Document, rawdoc};
use wb_core::{ErrorKind, Fence, Scope, SinkError};

use crate::connect::is_command;
use crate::sink::MongoSink;
use crate::write::reply::{Reply, integer};

/// Where generations are kept.
pub(crate) const COLLECTION: &str = "wb_fence";

/// Batches of one worker that may be in flight for an entity at the same time; more of them wait.
///
/// All workers write all slots, or a stale one could use a slot that a new one does not know. So this grows in two
/// releases: in the first, workers write more slots; in the second, they use them.
pub(crate) const SLOTS: u8 = 8;

/// How long a new owner waits for the transactions of earlier owners before it ends them: a batch that is alive and
/// well ends in that time.
const GRACE: Duration = Duration::from_secs(2);

/// How long one command waits for the transactions of earlier owners after that. It is asked again later; a transaction
/// whose session is not known here is ended by the server.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often a race with another upsert is run again at once.
const RACES: usize = 5;

/// `upsert` of a document that somebody else inserted in between.
const DUPLICATE_KEY: i32 = 11000;
/// `maxTimeMS` is over.
const MAX_TIME_EXPIRED: i32 = 50;

/// Issues a generation that is higher than any before, and shuts all earlier owners out. `None` where there are no
/// transactions that could check it.
pub(crate) async fn issue(sink: &MongoSink, scope: &Scope, partition: u16) -> Result<Option<Fence>, SinkError> {
    if !sink.deployment().await?.transactions {
        return Ok(None);
    }
    let mut races = 0;
    loop {
        let issued = async {
            let generation = advance(sink, scope, partition).await?;
            shut(sink, scope, partition, generation).await?;
            Ok(generation)
        };
        match issued.await {
            Ok(generation) => return Ok(Some(Fence::new(partition, generation.cast_unsigned()))),
            Err(Refused::Race(_)) if races < RACES => races += 1,
            Err(Refused::Race(error) | Refused::Held(error) | Refused::Other(error)) => return Err(error),
        }
    }
}

/// The check of a batch: one statement for each fence. It matched as many documents as there are fences, or the batch
/// is a stale owner's.
///
/// An increment, because an update that changes nothing does not keep others from writing.
pub(crate) fn check(scope: &Scope, fences: &[(u16, u64)], slot: u8) -> RawDocumentBuf {
    let statements: RawArrayBuf = fences
        .iter()
        .map(|&(partition, generation)| {
            let id = slot_id(scope, partition, slot);
            rawdoc! {
                "q": { "_id": id, "generation": generation.cast_signed() },
                "u": { "$inc": { "seq": 1_i64 } },
            }
        })
        .collect();
    rawdoc! { "update": COLLECTION, "updates": statements }
}

/// Why a step was not done.
enum Refused {
    /// Somebody else was faster; the same may succeed at once.
    Race(SinkError),
    /// An open transaction holds the document.
    Held(SinkError),
    Other(SinkError),
}

/// Issues the next generation: the server's clock in milliseconds, or one more than the last. With the clock, a
/// collection that was dropped or restored from a backup does not issue a generation again.
async fn advance(sink: &MongoSink, scope: &Scope, partition: u16) -> Result<i64, Refused> {
    let id = rawdoc! { "namespace": &*scope.namespace, "entity": scope.entity, "partition": i32::from(partition) };
    let next = rawdoc! { "$add": [{ "$ifNull": ["$generation", 0_i64] }, 1_i64] };
    let reply = send(
        PATIENCE,
        sink,
        scope,
        partition,
        rawdoc! {
            "findAndModify": COLLECTION,
            "query": { "_id": id },
            "update": [{ "$set": { "generation": { "$max": [next, { "$toLong": "$$NOW" }] } } }],
            "upsert": true,
            "new": true,
        },
    );
    let reply = reply.await?;
    reply.get_document("value").ok().and_then(|issued| integer(issued, "generation")).ok_or_else(|| {
        let text = format!("{} issued no generation for partition {partition}", sink.fences());
        Refused::Other(SinkError::new(ErrorKind::Misconfigured, text))
    })
}

/// Writes the generation into every slot. Each of them is waited for while a transaction holds it; the transactions of
/// earlier owners that hold them for too long are ended.
async fn shut(sink: &MongoSink, scope: &Scope, partition: u16, generation: i64) -> Result<(), Refused> {
    match shut_within(GRACE, sink, scope, partition, generation).await {
        Err(Refused::Held(_)) => {
            // The generation is issued: what it ends cannot come back.
            abandoned::end(sink, scope, partition, generation).await;
            shut_within(PATIENCE, sink, scope, partition, generation).await
        }
        outcome => outcome,
    }
}

async fn shut_within(
    patience: Duration,
    sink: &MongoSink,
    scope: &Scope,
    partition: u16,
    generation: i64,
) -> Result<(), Refused> {
    let sessions = sink.slots().sessions(sink.database().client(), scope).await;
    let sessions = sessions.map_err(|error| Refused::Other(sink.failed("start a session", error)))?;
    let mut statements = RawArrayBuf::new();
    for (slot, session) in (0..SLOTS).zip(&sessions) {
        let session = RawDocumentBuf::try_from(session)
            .map_err(|error| Refused::Other(sink.failed("name a session", error.into())))?;
        // Never back: a newer owner may have been here in between. The session is that of the generation's owner.
        let newer = rawdoc! { "$gt": [generation, { "$ifNull": ["$generation", 0_i64] }] };
        let update = rawdoc! { "$set": {
            "generation": { "$max": ["$generation", generation] },
            "session": { "$cond": [newer, { "$literal": session }, "$session"] },
        } };
        statements.push(rawdoc! { "q": { "_id": slot_id(scope, partition, slot) }, "u": [update], "upsert": true });
    }
    let command = rawdoc! { "update": COLLECTION, "ordered": false, "updates": statements };
    let reply = send(patience, sink, scope, partition, command).await?;
    match Reply::read(&reply, COLLECTION).take_common(0) {
        None => Ok(()),
        Some(error) if error.kind() == ErrorKind::Transient => Err(Refused::Race(error)),
        Some(error) => Err(Refused::Other(error)),
    }
}

pub(crate) fn slot_id(scope: &Scope, partition: u16, slot: u8) -> RawDocumentBuf {
    rawdoc! {
        "namespace": &*scope.namespace,
        "entity": scope.entity,
        "partition": i32::from(partition),
        "slot": i32::from(slot),
    }
}

/// Sends a command outside of any transaction: such a write waits for the transaction that holds its document.
///
/// A majority acknowledges it, whatever the write concern of the batches: a generation must survive a failover.
async fn send(
    patience: Duration,
    sink: &MongoSink,
    scope: &Scope,
    partition: u16,
    mut command: RawDocumentBuf,
) -> Result<Document, Refused> {
    // The server gives up before this side does.
    let patience = patience.min(sink.timeout() / 2);
    let millis = i64::try_from(patience.as_millis()).unwrap_or(i64::MAX).max(1);
    command.append(bson::raw::cstr!("maxTimeMS"), millis);
    command.append(bson::raw::cstr!("writeConcern"), rawdoc! { "w": "majority" });
    let what = || format!("fence partition {partition} of entity `{}`", scope.entity);
    // Mapped inside, while the code is at hand.
    let sent = async {
        match sink.database().run_raw_command(command).await {
            Err(error) if is_command(&error, MAX_TIME_EXPIRED) => {
                let text = format!(
                    "cannot {} in {} within {patience:?}; a transaction of an earlier owner may be open that could \
                     not be ended: the server does so after `transactionLifetimeLimitSeconds`",
                    what(),
                    sink.fences()
                );
                let error = SinkError::new(ErrorKind::Transient, text).with_source(*error.kind);
                Ok(Err(Refused::Held(error)))
            }
            Err(error) if is_command(&error, DUPLICATE_KEY) => {
                let text = format!("cannot {} in {}", what(), sink.fences());
                Ok(Err(Refused::Race(SinkError::new(ErrorKind::Transient, text).with_source(*error.kind))))
            }
            Err(error) => Err(error),
            Ok(reply) => Ok(Ok(reply)),
        }
    };
    match sink.bounded(&what(), sent).await {
        Ok(answer) => answer,
        Err(error) if error.kind() == ErrorKind::Transient => Err(Refused::Race(error)),
        Err(error) => Err(Refused::Other(error)),
    }
}
