//! Transactions that nobody will end: their worker was killed, or cannot reach the server.
//!
//! They are ended by `killSessions`. A user may do that to sessions of its own without a privilege, and to no others:
//! workers that log in as different users cannot do it to each other. Where it is not allowed at all (the smallest
//! hosted clusters), or the session is not known, the server's own limit remains.

use bson::raw::{RawArrayBuf, RawDocumentBuf};
use bson::{Bson, Document, doc, rawdoc};
use wb_core::{Scope, SinkError};

use crate::fence::{COLLECTION, SLOTS, slot_id};
use crate::sink::MongoSink;

/// Ends the sessions that may hold slots of this partition for a generation older than this one.
///
/// The server rolls their transactions back, unless they were committed. A session can be used again: a worker that is
/// alive runs its batch once more, and finds that it has another owner.
pub(crate) async fn end(sink: &MongoSink, scope: &Scope, partition: u16, generation: i64) {
    let entity = scope.entity;
    match try_end(sink, scope, partition, generation).await {
        Ok(sessions) => {
            tracing::info!(
                entity,
                partition,
                sessions,
                "sessions of earlier owners ended, their transactions were open"
            );
        }
        Err(error) => {
            let error = error.chain();
            tracing::warn!(
                entity,
                partition,
                error,
                "cannot end the sessions of earlier owners, waiting for the server"
            );
        }
    }
}

async fn try_end(sink: &MongoSink, scope: &Scope, partition: u16, generation: i64) -> Result<usize, SinkError> {
    let sessions = older(sink, scope, partition, generation).await?;
    if sessions.is_empty() {
        return Ok(0);
    }
    let count = sessions.len();
    let kill = async { sink.database().run_command(doc! { "killSessions": sessions }).await };
    sink.bounded("end the sessions of earlier owners", kill).await?;
    Ok(count)
}

/// The sessions named in slots that are not shut yet. Of a transaction that holds a slot nothing is seen here.
async fn older(sink: &MongoSink, scope: &Scope, partition: u16, generation: i64) -> Result<Vec<Document>, SinkError> {
    let ids: RawArrayBuf = (0..SLOTS).map(|slot| slot_id(scope, partition, slot)).collect();
    let find: RawDocumentBuf = rawdoc! {
        "find": COLLECTION,
        "filter": { "_id": { "$in": ids }, "generation": { "$lt": generation } },
        "projection": { "session": 1 },
        "limit": i32::from(SLOTS),
        "singleBatch": true,
    };
    let reply = async { sink.database().run_raw_command(find).await };
    let reply = sink.bounded("read the sessions of earlier owners", reply).await?;
    let found = reply.get_document("cursor").and_then(|cursor| cursor.get_array("firstBatch"));
    let named = found.into_iter().flatten().filter_map(Bson::as_document);
    // Without a session: of a release that named none.
    Ok(named.filter_map(|slot| slot.get_document("session").ok()).cloned().collect())
}
