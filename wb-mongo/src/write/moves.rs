//! Unique values that move between the documents of a batch: the order in which each is free before it is taken, and what is
//! said of a document that cannot have its value.

use std::collections::HashMap;

use bson::raw::{RawArrayBuf, RawBson, RawDocumentBuf, cstr};
use bson::{Bson, Document, rawdoc};
use wb_core::moves::{Member, Moves, Order, Unique, circle_reason, holder_reason};
use wb_core::{ErrorKind, Id, Report, SinkError};

use crate::sink::MongoSink;
use crate::write::Work;
use crate::write::command;
use crate::write::command::Statement;
use crate::write::reply::{documents, taken};
use crate::write::stale::{KEYS, text};

/// Marks what was refused for a unique value, so that it is tried once more after the other batches of the flush.
pub(crate) fn marked(written: Result<Report, SinkError>) -> Result<Report, SinkError> {
    let mark = |error: SinkError| if taken(&error).is_some() { error.taken() } else { error };
    written.map_err(mark).map(|mut report| {
        report.rejected = report.rejected.into_iter().map(|(id, error)| (id, mark(error))).collect();
        report
    })
}

/// What is known of the unique values of a batch.
#[derive(Default)]
pub(crate) struct Known {
    /// The fields of each unique index that has refused a document.
    indexes: Vec<Vec<String>>,
    /// Upserts and deletes as they were counted when it was asked.
    ids: Vec<Id>,
    deletes: Vec<String>,
    moves: Moves,
}

impl Known {
    /// Adds the index that refused a document; whether it was not known.
    pub(crate) fn learn(&mut self, refused: &[(usize, SinkError)]) -> bool {
        let mut new = false;
        for fields in refused.iter().filter_map(|(_, error)| taken(error)) {
            if !self.indexes.iter().any(|known| known == fields) {
                self.indexes.push(fields.to_vec());
                new = true;
            }
        }
        new
    }

    /// Asks which documents have which unique values now, and finds an order in which they are free.
    pub(crate) async fn ask(&mut self, sink: &MongoSink, work: &Work<'_>) -> Result<(Order, u64), SinkError> {
        let written = (work.documents)();
        let mut keys = Vec::with_capacity(work.upserts.len() + work.deletes.len());
        let written: Vec<Option<Document>> = work
            .upserts
            .iter()
            .map(|Statement { id, .. }| Document::try_from(written.get(*id)?.clone()).ok())
            .collect();
        for document in written.iter().flatten() {
            keys.extend(document.get("_id").and_then(|key| RawBson::try_from(key.clone()).ok()));
        }
        let deletes: Vec<RawBson> = work.freeing.iter().chain(&work.deletes).cloned().collect();
        keys.extend(deletes.iter().cloned());
        let (mut now, mut sent) = (HashMap::new(), 0);
        let what = format!("read collection `{}`", work.collection);
        for keys in command::split(&keys, KEYS, command::bytes_of) {
            let find = self.finding(work.collection, keys);
            let reply = sink.bounded(&what, async { sink.database().run_raw_command(find).await }).await?;
            sent += 1;
            if let Ok(cursor) = reply.get_document("cursor") {
                for document in documents(cursor, "firstBatch") {
                    now.extend(document.get("_id").map(|key| (text(key), document.clone())));
                }
            }
        }
        let mut moves = Moves::default();
        for document in &written {
            let document = document.as_ref();
            let before = document.and_then(|document| now.get(&text(document.get("_id")?)));
            let has = before.map(|before| self.values(before)).unwrap_or_default();
            let wants = match (document, before) {
                // What is there stays as it is.
                (_, Some(_)) if work.append => has.clone(),
                (Some(document), _) => self.values(document),
                (None, _) => Vec::new(),
            };
            moves.upsert(has, wants);
        }
        self.deletes =
            deletes.into_iter().map(|key| Bson::try_from(key).map(|key| text(&key)).unwrap_or_default()).collect();
        for key in &self.deletes {
            moves.delete(now.get(key).map(|before| self.values(before)).unwrap_or_default());
        }
        self.ids = work.upserts.iter().map(|statement| statement.id.clone()).collect();
        let order = moves.order();
        self.moves = moves;
        Ok((order, sent))
    }

    /// The `find` of these documents, with the fields of the indexes.
    fn finding(&self, collection: &str, keys: &[RawBson]) -> RawDocumentBuf {
        let keys: RawArrayBuf = keys.iter().collect();
        let mut raw = RawDocumentBuf::new();
        raw.append(cstr!("find"), collection);
        raw.append(cstr!("filter"), rawdoc! { "_id": { "$in": keys } });
        let mut names: Vec<&str> = self.indexes.iter().flatten().filter_map(|path| path.split('.').next()).collect();
        names.sort_unstable();
        names.dedup();
        let mut fields = RawDocumentBuf::new();
        for name in names {
            if let Ok(name) = <&bson::raw::CStr>::try_from(name) {
                fields.append(name, 1);
            }
        }
        raw.append(cstr!("projection"), fields);
        raw.append(cstr!("batchSize"), i64::try_from(KEYS).unwrap_or(i64::MAX));
        raw.append(cstr!("singleBatch"), true);
        raw
    }

    fn values(&self, document: &Document) -> Vec<Unique> {
        let indexes = self.indexes.iter().enumerate();
        indexes.filter_map(|(number, fields)| Some((number, value(document, fields)?))).collect()
    }

    /// Says of the documents whose unique value another one has which that is, where it is one of the batch.
    pub(crate) fn explain(&self, rejected: &mut [(Id, SinkError)]) {
        let places: HashMap<&Id, usize> = self.ids.iter().enumerate().map(|(place, id)| (id, place)).collect();
        let refused: Vec<Option<usize>> = rejected.iter().map(|(id, _)| places.get(id).copied()).collect();
        let (slots, upserts): (Vec<usize>, Vec<usize>) = refused
            .iter()
            .zip(rejected.iter())
            .enumerate()
            .filter_map(|(slot, (place, (_, error)))| taken(error).and((*place).map(|place| (slot, place))))
            .unzip();
        for (slot, blocked) in slots.into_iter().zip(self.moves.blocked(&upserts)) {
            let (Some(blocked), Some((_, error))) = (blocked, rejected.get_mut(slot)) else { continue };
            let fields = self.indexes.get(blocked.constraint).map(Vec::as_slice).unwrap_or_default();
            let fields = fields.iter().map(|field| format!("`{field}`")).collect::<Vec<_>>().join(", ");
            let name = |upsert: usize| self.ids.get(upsert).map_or_else(String::new, |id| format!("`{id}`"));
            let reason = match blocked.holder {
                _ if !blocked.circle.is_empty() => {
                    circle_reason(&fields, blocked.circle.iter().map(|&upsert| name(upsert)), false)
                }
                Member::Upsert(holder) => holder_reason(&fields, &name(holder), refused.contains(&Some(holder))),
                // Deletes are not refused.
                Member::Delete(_) => continue,
            };
            let source = std::mem::replace(error, SinkError::new(ErrorKind::Rejected, String::new()));
            *error = source.within(reason);
        }
    }
}

/// The values of an index as one text; `None` where a list makes several of them. Collations differ: what differs by its case alone
/// is taken for equal.
fn value(document: &Document, fields: &[String]) -> Option<String> {
    let mut texts = String::new();
    for path in fields {
        let mut at = Some(document);
        let mut found = &Bson::Null;
        for name in path.split('.') {
            found = at.and_then(|document| document.get(name)).unwrap_or(&Bson::Null);
            at = found.as_document();
        }
        if matches!(found, Bson::Array(_)) {
            return None;
        }
        texts.push_str(&text(found).to_lowercase());
        texts.push('\n');
    }
    Some(texts)
}

#[cfg(test)]
mod tests {
    use bson::doc;

    use super::*;

    #[test]
    fn a_value_is_found_by_its_path_and_an_absent_one_is_null() {
        let fields = ["a.b".to_owned(), "c".to_owned()];
        let same = value(&doc! { "a": { "b": "X" }, "c": 1_i64 }, &fields);
        assert!(same.is_some());
        assert_eq!(same, value(&doc! { "a": { "b": "x", "z": 0 }, "c": 1_i32 }, &fields));
        assert_ne!(same, value(&doc! { "a": { "b": "y" }, "c": 1 }, &fields));
        assert_eq!(value(&doc! { "a": 1 }, &fields), value(&doc! { "c": null }, &fields));
        assert_eq!(value(&doc! { "c": [1, 2] }, &fields), None);
    }
}
