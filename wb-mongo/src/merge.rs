//! `#[wb(merge)]`: the entity's fields are set in the document, what else is in it stays.

use bson::raw::{RawArrayBuf, RawBson, RawBsonRef, RawDocument, RawDocumentBuf, cstr};
use bson::rawdoc;

use crate::entity::{FieldRule, MappingError, MongoEntity};

/// What a document of the entity does to the one that is stored.
pub(crate) struct Merge {
    set: RawDocumentBuf,
    /// Names of fields that are to be gone.
    unset: Vec<&'static str>,
    /// Set when there was no document.
    on_insert: RawDocumentBuf,
}

impl Merge {
    /// The entity's document, field by field: what is null or absent is unset.
    pub(crate) fn of<E: MongoEntity>(document: &RawDocument) -> Result<Self, MappingError> {
        Self::new(document, E::FIELDS, E::INSERT_ONLY)
    }

    fn new(
        document: &RawDocument,
        fields: &'static [&'static str],
        insert_only: &[&str],
    ) -> Result<Self, MappingError> {
        let (mut set, mut on_insert) = (RawDocumentBuf::new(), RawDocumentBuf::new());
        let mut unset: Vec<_> = fields.iter().copied().filter(|name| !insert_only.contains(name)).collect();
        for element in document {
            let (name, value) = element?;
            if name.as_str() == "_id" || value == RawBsonRef::Null {
                continue;
            }
            if insert_only.contains(&name.as_str()) {
                on_insert.append(name, value);
            } else {
                unset.retain(|absent| *absent != name.as_str());
                set.append(name, value);
            }
        }
        unset.retain(|absent| *absent != "_id");
        Ok(Self { set, unset, on_insert })
    }

    /// The update.
    pub(crate) fn update(&self, key: &RawBson) -> Result<RawDocumentBuf, MappingError> {
        let mut update = RawDocumentBuf::new();
        if !self.set.is_empty() {
            update.append(cstr!("$set"), &*self.set);
        }
        if !self.unset.is_empty() {
            let mut gone = RawDocumentBuf::new();
            for name in &self.unset {
                gone.append(<&bson::raw::CStr>::try_from(*name)?, "");
            }
            update.append(cstr!("$unset"), gone);
        }
        if !self.on_insert.is_empty() {
            update.append(cstr!("$setOnInsert"), &*self.on_insert);
        }
        if update.is_empty() {
            // Without any operator it would replace the document.
            let mut id = RawDocumentBuf::new();
            id.append(cstr!("_id"), key);
            update.append(cstr!("$setOnInsert"), id);
        }
        Ok(update)
    }

    /// The document after the merge, as an expression over the one that is stored.
    pub(crate) fn expression(&self, key: &RawBson) -> RawDocumentBuf {
        let gone: RawArrayBuf = self.unset.iter().copied().collect();
        let is_gone = rawdoc! { "$in": ["$$this.k", { "$literal": gone }] };
        let kept = rawdoc! {
            "$arrayToObject": { "$filter": { "input": { "$objectToArray": "$$ROOT" }, "cond": { "$not": [is_gone] } } }
        };
        // What an upsert begins with when there is no document.
        let is_new = rawdoc! { "$eq": ["$$ROOT", { "$literal": { "_id": key.clone() } }] };
        let first = rawdoc! {
            "$cond": [is_new, { "$literal": self.on_insert.clone() }, { "$literal": {} }]
        };
        // As literals: nothing in the document is an expression.
        rawdoc! { "$mergeObjects": [first, kept, { "$literal": self.set.clone() }] }
    }
}

/// The same document as a struct may read it that does not know the fields of others: first without them, then also with
/// null for each field that is absent, because null is stored as absent.
pub(crate) fn own_fields<E: MongoEntity>(stored: &RawDocument) -> Result<[RawDocumentBuf; 2], MappingError> {
    let skipped =
        |name: &str| E::rules().iter().any(|rule| matches!(rule, FieldRule::Skip { name: own, .. } if *own == name));
    let mut own = RawDocumentBuf::new();
    let mut absent = E::FIELDS.to_vec();
    for element in stored {
        let (name, value) = element?;
        if E::FIELDS.contains(&name.as_str()) || skipped(name.as_str()) {
            absent.retain(|field| *field != name.as_str());
            own.append(name, value);
        }
    }
    let mut whole = own.clone();
    for name in absent {
        whole.append(<&bson::raw::CStr>::try_from(name)?, RawBson::Null);
    }
    Ok([own, whole])
}

#[cfg(test)]
mod tests {
    use bson::{doc, rawdoc};

    use super::*;

    #[test]
    fn null_and_absent_are_unset_and_the_rest_is_set() -> Result<(), Box<dyn std::error::Error>> {
        let document = rawdoc! { "_id": 1, "id": 1, "title": "t", "editor": null, "created": 5 };
        let merge = Merge::new(&document, &["id", "title", "editor", "tags", "created", "by"], &["created", "by"])?;
        let update = bson::Document::try_from(merge.update(&RawBson::Int32(1))?)?;
        let expected = doc! {
            "$set": { "id": 1, "title": "t" },
            "$unset": { "editor": "", "tags": "" },
            "$setOnInsert": { "created": 5 },
        };
        assert_eq!(update, expected);
        Ok(())
    }

    #[test]
    fn an_update_of_nothing_replaces_nothing() -> Result<(), Box<dyn std::error::Error>> {
        let merge = Merge::new(&rawdoc! { "_id": "k" }, &["_id"], &[])?;
        let update = bson::Document::try_from(merge.update(&RawBson::String("k".to_owned()))?)?;
        assert_eq!(update, doc! { "$setOnInsert": { "_id": "k" } });
        Ok(())
    }
}
