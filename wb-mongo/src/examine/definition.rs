//! What a collection asks of its documents: tells whether the validator's refusal can be the collection's fault. It is the document's
//! when others have landed since the validator was first seen as it is now.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use bson::{Document, doc};
use tokio::time::Instant;
use wb_core::{ErrorKind, Id, SinkError};

use crate::sink::MongoSink;
use crate::write::reply;
use crate::write::reply::{Changes, documents};

/// `DocumentValidationFailure`.
const REFUSED_BY_VALIDATOR: i32 = 121;

/// Of each collection what was seen last.
#[derive(Debug, Default)]
pub(crate) struct Definitions(Mutex<HashMap<&'static str, Definition>>);

#[derive(Debug)]
struct Definition {
    validation: Document,
    /// When it was first seen like this.
    seen: Instant,
    /// Documents of a write have landed that was begun after that.
    landed: bool,
}

impl Definitions {
    /// Documents of a write landed that was begun then.
    pub(crate) fn landed(&self, collection: &'static str, begun: Instant) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(definition) = known.get_mut(collection).filter(|known| !known.landed && begun >= known.seen) {
            definition.landed = true;
        }
    }

    /// Whether a collection was last seen to leave alone what does not pass its validator and did not before.
    fn is_moderate(&self, collection: &'static str) -> bool {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let level = known.get(collection).and_then(|known| known.validation.get_str("validationLevel").ok());
        level == Some("moderate")
    }

    /// A collection validates like this now. Whether documents have landed since it was first seen to.
    fn seen(&self, collection: &'static str, validation: Document, now: Instant) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match known.get(collection) {
            Some(known) if known.validation == validation => known.landed,
            _ => {
                known.insert(collection, Definition { validation, seen: now, landed: false });
                false
            }
        }
    }
}

/// Looks at how a collection validates. Whether documents have landed since it was first seen to; not known where this user may not
/// look.
pub(crate) async fn look(sink: &MongoSink, collection: &'static str) -> bool {
    let list = doc! { "listCollections": 1, "filter": { "name": collection } };
    let looked = sink.bounded("look at the validator", async { sink.database().run_command(list).await }).await;
    let Ok(reply) = looked else { return false };
    let validation = reply
        .get_document("cursor")
        .ok()
        .and_then(|cursor| documents(cursor, "firstBatch").next())
        .and_then(|found| found.get_document("options").ok())
        .map(validation)
        .unwrap_or_default();
    sink.definitions().seen(collection, validation, Instant::now())
}

fn validation(options: &Document) -> Document {
    let fields = options.iter().filter(|(name, _)| name.starts_with("validat"));
    fields.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Whether upserts that landed show that documents can pass the validator. What changes nothing is not looked at; nor is, by a validator
/// that is `moderate`, a change of a document that did not pass it before.
pub(crate) async fn is_proof(
    sink: &MongoSink,
    collection: &'static str,
    changes: Changes,
    rejected: &[(Id, SinkError)],
) -> bool {
    if changes.inserted > 0 || changes.all == 0 {
        return changes.all > 0;
    }
    if !rejected.iter().any(|(_, error)| is_validators(error)) {
        // Where it is moderate nothing is learned of it for a later refusal.
        return !sink.definitions().is_moderate(collection);
    }
    look(sink, collection).await;
    !sink.definitions().is_moderate(collection)
}

fn is_validators(error: &SinkError) -> bool {
    reply::code(error) == Some(REFUSED_BY_VALIDATOR)
}

/// Takes what the validator refuses for the documents' own fault, where it is known to be.
pub(crate) async fn judge(sink: &MongoSink, collection: &'static str, rejected: &mut Vec<(Id, SinkError)>) {
    if !rejected.iter().any(|(_, error)| is_validators(error)) || !look(sink, collection).await {
        return;
    }
    let judged = std::mem::take(rejected).into_iter().map(|(id, error)| {
        let error = if is_validators(&error) { error.with_kind(ErrorKind::Rejected) } else { error };
        (id, error)
    });
    *rejected = judged.collect();
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn only_what_landed_since_a_validator_was_seen_says_that_it_can_be_met() {
        let definitions = Definitions::default();
        let (old, new) = (doc! {}, doc! { "validator": { "a": 1 } });
        let first = Instant::now();
        let later = first + Duration::from_secs(1);
        definitions.landed("c", first);
        assert!(!definitions.seen("c", old.clone(), first), "nothing was known of it");
        definitions.landed("c", first);
        assert!(definitions.seen("c", old.clone(), later));
        assert!(!definitions.seen("c", new.clone(), later), "it has changed");
        definitions.landed("c", first);
        assert!(!definitions.seen("c", new.clone(), later), "begun before it was seen");
        definitions.landed("c", later);
        assert!(definitions.seen("c", new, later));
        assert!(!definitions.seen("other", old, later));
    }

    #[test]
    fn only_what_concerns_validation_counts() {
        let options = doc! { "validator": { "a": 1 }, "validationLevel": "strict", "capped": false, "size": 7 };
        assert_eq!(validation(&options), doc! { "validator": { "a": 1 }, "validationLevel": "strict" });
    }
}
