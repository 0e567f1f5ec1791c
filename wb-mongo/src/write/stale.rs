//! Which documents of a batch the server has newer versions of.

use std::collections::HashMap;

use bson::raw::{CStr, RawArrayBuf, RawBson, RawDocumentBuf, cstr};
use bson::{Bson, Document, rawdoc};
use wb_core::Id;

use crate::write::Work;
use crate::write::command;
use crate::write::command::Statement;
use crate::write::reply::documents;

/// Keys in one `find`, so that its reply is one batch of documents.
pub(crate) const KEYS: usize = 1_000;

/// Whether documents may have stayed as they were, when so many of these upserts `changed` something. One that was written
/// a second time changes nothing either.
pub(crate) fn suspects(statements: &[Statement<'_>], changed: usize) -> bool {
    changed < statements.len() && statements.iter().any(|statement| statement.guarded.is_some())
}

/// Upserts that may have left a newer document as it is, and the commands that tell.
pub(crate) struct Suspects<'a> {
    written: HashMap<String, (&'a Id, i64)>,
    field: &'static str,
    pub(crate) finds: Vec<RawDocumentBuf>,
}

impl<'a> Suspects<'a> {
    /// The guarded upserts of a batch. Ask in its transaction, if there is one, after they were sent.
    pub(crate) fn of(work: &Work<'a>) -> Self {
        let field = work.version.unwrap_or_default();
        let mut written = HashMap::with_capacity(work.upserts.len());
        let mut keys = Vec::with_capacity(work.upserts.len());
        for statement in &work.upserts {
            if let Some((key, version)) = &statement.guarded
                && let Ok(plain) = Bson::try_from(key.clone())
            {
                written.insert(text(&plain), (statement.id, *version));
                keys.push(key);
            }
        }
        let finds = command::split(&keys, KEYS, |key| command::bytes_of(key));
        let finds = finds.map(|keys| finding(work.collection, field, keys)).collect();
        Self { written, field, finds }
    }

    /// Those of which the server has a newer version, from the reply to one of the commands.
    pub(crate) fn newer(&self, reply: &Document) -> Vec<Id> {
        let Ok(cursor) = reply.get_document("cursor") else { return Vec::new() };
        // A collation finds documents of other records, too.
        let newer = documents(cursor, "firstBatch").filter_map(|document| {
            let (id, version) = self.written.get(&text(document.get("_id")?))?;
            is_above(document.get(self.field)?, *version).then(|| (*id).clone())
        });
        newer.collect()
    }
}

/// The `find` of the versions of these keys, with the whole answer in one reply.
pub(crate) fn finding(collection: &str, field: &str, keys: &[&RawBson]) -> RawDocumentBuf {
    let keys: RawArrayBuf = keys.iter().copied().collect();
    let mut raw = RawDocumentBuf::new();
    raw.append(cstr!("find"), collection);
    raw.append(cstr!("filter"), rawdoc! { "_id": { "$in": keys } });
    // Without this the documents come whole; a name that cannot be said here cannot be a field's either.
    if let Ok(field) = <&CStr>::try_from(field) {
        let mut fields = RawDocumentBuf::new();
        fields.append(field, 1);
        raw.append(cstr!("projection"), fields);
    }
    raw.append(cstr!("batchSize"), i64::try_from(KEYS).unwrap_or(i64::MAX));
    raw.append(cstr!("singleBatch"), true);
    raw
}

/// One text for all forms of a key that are one to the server, which compares numbers by value.
pub(crate) fn text(key: &Bson) -> String {
    match key {
        Bson::Int32(number) => number.to_string(),
        Bson::Int64(number) => number.to_string(),
        // Of a whole one the same text, without a point.
        Bson::Double(number) => number.to_string(),
        Bson::Document(fields) => {
            let fields: Vec<String> = fields.iter().map(|(name, value)| format!("{name:?}:{}", text(value))).collect();
            format!("{{{}}}", fields.join(","))
        }
        other => format!("{other:?}"),
    }
}

/// Whether a stored version is a number above this one. What is no number is no version.
fn is_above(stored: &Bson, version: i64) -> bool {
    #[expect(clippy::cast_precision_loss, reason = "versions that are floats are not exact either")]
    let version_float = version as f64;
    match stored {
        Bson::Int32(stored) => i64::from(*stored) > version,
        Bson::Int64(stored) => *stored > version,
        Bson::Double(stored) => *stored > version_float,
        Bson::Decimal128(stored) => stored.to_string().parse::<f64>().is_ok_and(|stored| stored > version_float),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use bson::doc;

    use super::*;

    #[test]
    fn a_key_has_one_text_whatever_the_width_of_its_numbers() {
        let part = |number: Bson| Bson::Document(doc! { "a": number, "b": "x" });
        assert_eq!(text(&Bson::Int32(7)), text(&Bson::Int64(7)));
        assert_eq!(text(&part(Bson::Int32(7))), text(&part(Bson::Int64(7))));
        assert_eq!(text(&part(Bson::Int32(7))), text(&part(Bson::Double(7.0))));
        assert_ne!(text(&Bson::Int32(7)), text(&Bson::String("7".to_owned())));
        assert_ne!(text(&part(Bson::Int32(7))), text(&part(Bson::Int32(8))));
    }

    #[test]
    fn only_a_higher_number_is_above() {
        for above in [Bson::Int32(6), Bson::Int64(6), Bson::Double(5.5)] {
            assert!(is_above(&above, 5), "{above}");
        }
        for not in
            [Bson::Int32(5), Bson::Double(f64::NAN), Bson::String("9".to_owned()), Bson::Null, Bson::Array(vec![])]
        {
            assert!(!is_above(&not, 5), "{not}");
        }
    }
}
