//! Keys → values.

use std::collections::HashSet;
use std::time::Duration;

use bson::raw::RawDocument;
use bson::{Bson, doc};
use mongodb::Collection;
use mongodb::options::{ReadPreference, SelectionCriteria};
use wb_core::{ErrorKind, SinkError};

use crate::mapping::document::{display_id, from_raw};
use crate::mapping::entity::MongoEntity;
use crate::sink::MongoSink;
use crate::write::reply::integer;

/// Keys in one `find`.
const KEYS: usize = 1_000;

/// Loads the values of these keys from the primary; absent ones are left out.
pub(crate) async fn values<E: MongoEntity>(sink: &MongoSink, keys: &[E::Key]) -> Result<Vec<E>, SinkError> {
    let mut values = Vec::with_capacity(keys.len());
    let what = format!("read collection `{}`", E::COLLECTION);
    for chunk in keys.chunks(KEYS) {
        // A key that has no `_id` is not there.
        let ids: Vec<Bson> = chunk.iter().filter_map(|key| E::id_of(key).ok()).collect();
        let texts = ids.iter().filter_map(|id| id.as_str().map(str::to_owned)).collect();
        if ids.is_empty() {
            continue;
        }
        let collection = sink.database().collection(E::COLLECTION);
        let found = sink.load_within(&what, |left| find(collection, ids, texts, left)).await?;
        for value in found {
            values.push(value?);
        }
    }
    Ok(values)
}

/// One `find`. Documents are decoded where they arrived, without a copy.
async fn find<E: MongoEntity>(
    collection: Collection<bson::Document>,
    ids: Vec<Bson>,
    texts: HashSet<String>,
    limit: Duration,
) -> mongodb::error::Result<Vec<Result<E, SinkError>>> {
    let mut found = Vec::with_capacity(ids.len());
    let mut cursor = collection
        .find(doc! { "_id": { "$in": ids } })
        .max_time(limit)
        .selection_criteria(SelectionCriteria::ReadPreference(ReadPreference::Primary))
        .await?;
    while cursor.advance().await? {
        let document = cursor.current();
        // A collation finds documents of other records, too.
        if document.get_str("_id").map_or(true, |id| texts.contains(id)) {
            found.push(decode(document));
        }
    }
    Ok(found)
}

fn decode<E: MongoEntity>(document: &RawDocument) -> Result<E, SinkError> {
    from_raw(document).map_err(|error| {
        let text = format!("document {} of collection `{}` is no `{}`", display_id(document), E::COLLECTION, E::NAME);
        SinkError::new(ErrorKind::Rejected, text).with_source(error)
    })
}

/// The highest `_id` that is an integer.
pub(crate) async fn highest_key<E: MongoEntity>(sink: &MongoSink) -> Result<Option<i64>, SinkError> {
    let what = format!("look for the highest `_id` of collection `{}`", E::COLLECTION);
    let find = async {
        let collection = sink.database().collection::<bson::Document>(E::COLLECTION);
        let found = collection
            // Only within one kind of type the order is that of the numbers.
            .find_one(doc! { "_id": { "$type": ["int", "long"] } })
            .sort(doc! { "_id": -1 })
            .projection(doc! { "_id": 1 })
            .selection_criteria(SelectionCriteria::ReadPreference(ReadPreference::Primary));
        found.await
    };
    let found = sink.bounded(&what, find).await?;
    Ok(found.and_then(|document| integer(&document, "_id")))
}
