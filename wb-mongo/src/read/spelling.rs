//! Keys that a collection takes for equal although they differ: its collation holds for `_id` too, so `bob` finds the document of
//! `Bob`. The server lets no update change an `_id`, and compares it by its bytes then; so an upsert sets it, and fails with
//! another key's document. Deletes look first.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use bson::raw::{RawBson, RawBsonRef, RawDocument, RawDocumentBuf};
use bson::{Bson, Document, doc};
use wb_core::SinkError;

use crate::examine::{Answer, command as ask, first_batch};
use crate::sink::MongoSink;
use crate::write::command;
use crate::write::reply::documents;
use crate::write::stale::{KEYS, finding, text};

/// The collections of which it is known that they compare texts by their bytes. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Exact(Arc<Mutex<HashSet<&'static str>>>);

impl Exact {
    fn knows(&self, collection: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(collection)
    }

    fn learn(&self, collection: &'static str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(collection);
    }
}

/// Whether a collection may take different texts for equal; so too where this user may not know. Asked until it does not.
pub(crate) async fn is_loose(sink: &MongoSink, collection: &'static str) -> Result<bool, SinkError> {
    if sink.exact().knows(collection) {
        return Ok(false);
    }
    let list = doc! { "listCollections": 1, "filter": { "name": collection } };
    let Answer::Reply(reply) = ask(sink, "list collections", list).await? else { return Ok(true) };
    let Some(found) = first_batch(&reply).next() else { return Ok(false) };
    let loose = found.get_document("options").is_ok_and(|options| options.contains_key("collation"));
    if !loose {
        sink.exact().learn(collection);
    }
    Ok(loose)
}

/// Whether a key is, or has, a text.
pub(crate) fn is_text(key: &RawBson) -> bool {
    match key {
        RawBson::String(_) => true,
        RawBson::Document(fields) => has_text(fields),
        _ => false,
    }
}

fn has_text(fields: &RawDocument) -> bool {
    fields.into_iter().flatten().any(|(_, field)| match field {
        RawBsonRef::String(_) => true,
        RawBsonRef::Document(fields) => has_text(fields),
        _ => false,
    })
}

/// The commands that tell which of these keys have documents.
pub(crate) fn finds(collection: &str, keys: &[RawBson]) -> Vec<RawDocumentBuf> {
    let keys: Vec<&RawBson> = keys.iter().filter(|key| is_text(key)).collect();
    command::split(&keys, KEYS, |key| command::bytes_of(key)).map(|keys| finding(collection, "_id", keys)).collect()
}

/// The keys that have documents of their own, from the replies to [`finds`]; those without texts are left as they are.
pub(crate) fn own(keys: &[RawBson], replies: &[Document]) -> Vec<RawBson> {
    let cursors = replies.iter().filter_map(|reply| reply.get_document("cursor").ok());
    let found: HashSet<String> = cursors
        .flat_map(|cursor| documents(cursor, "firstBatch"))
        .filter_map(|document| document.get("_id").map(text))
        .collect();
    let is_own =
        |key: &RawBson| !is_text(key) || Bson::try_from(key.clone()).is_ok_and(|key| found.contains(&text(&key)));
    keys.iter().filter(|key| is_own(key)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;

    use super::*;

    #[test]
    fn keys_with_texts() {
        assert!(is_text(&RawBson::String("a".to_owned())));
        assert!(is_text(&RawBson::Document(rawdoc! { "a": 1, "b": { "c": "x" } })));
        assert!(!is_text(&RawBson::Int64(1)) && !is_text(&RawBson::Document(rawdoc! { "a": 1 })));
    }

    #[test]
    fn a_document_of_another_spelling_is_not_the_keys_own() {
        let keys = [RawBson::String("bob".to_owned()), RawBson::String("ann".to_owned()), RawBson::Int64(1)];
        let reply = doc! { "cursor": { "firstBatch": [{ "_id": "Bob" }, { "_id": "ann" }] } };
        assert_eq!(own(&keys, &[reply]), keys[1..]);
    }
}
