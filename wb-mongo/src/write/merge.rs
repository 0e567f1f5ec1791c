//! `#[wb(merge)]`: the entity's fields are set in the document, what else is in it stays.

use bson::raw::{CStr, RawArrayBuf, RawBson, RawBsonRef, RawDocument, RawDocumentBuf, cstr};
use bson::rawdoc;

use crate::mapping::entity::{Absent, FieldRule, MappingError, MongoEntity, StoredField};

/// What a document of the entity does to the one that is stored.
pub(crate) struct Merge {
    set: RawDocumentBuf,
    /// Names of fields that are to be gone.
    unset: Vec<&'static str>,
    /// Set when there was no document.
    on_insert: RawDocumentBuf,
}

impl Merge {
    /// The entity's document, field by field: what is null or absent is unset, unless serde tells the two apart.
    pub(crate) fn of<E: MongoEntity>(document: &RawDocument) -> Result<Self, MappingError> {
        Self::new(document, E::FIELDS)
    }

    fn new(document: &RawDocument, fields: &'static [StoredField]) -> Result<Self, MappingError> {
        let (mut set, mut on_insert) = (RawDocumentBuf::new(), RawDocumentBuf::new());
        let updated = fields.iter().filter(|field| !field.insert_only && field.name != "_id");
        let mut unset: Vec<_> = updated.map(|field| field.name).collect();
        for element in document {
            let (name, value) = element?;
            let field = fields.iter().find(|field| field.name == name.as_str());
            let keeps_null = field.is_some_and(|field| field.absent == Absent::Other);
            if name.as_str() == "_id" || (value == RawBsonRef::Null && !keeps_null) {
                continue;
            }
            if field.is_some_and(|field| field.insert_only) {
                on_insert.append(name, value);
            } else {
                unset.retain(|absent| *absent != name.as_str());
                set.append(name, value);
            }
        }
        Ok(Self { set, unset, on_insert })
    }

    /// The update. `loose`: the document that it meets may be of another spelling of the key; then the server refuses to set
    /// its `_id`.
    pub(crate) fn update(&self, key: &RawBson, loose: bool) -> Result<RawDocumentBuf, MappingError> {
        let mut update = RawDocumentBuf::new();
        if loose {
            let mut set = self.set.clone();
            set.append(cstr!("_id"), key);
            update.append(cstr!("$set"), set);
        } else if !self.set.is_empty() {
            update.append(cstr!("$set"), &*self.set);
        }
        if !self.unset.is_empty() {
            let mut gone = RawDocumentBuf::new();
            for name in &self.unset {
                gone.append(<&CStr>::try_from(*name)?, "");
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

    /// The document after the merge, as an expression over the one that is stored; `loose` as for an update.
    pub(crate) fn expression(&self, key: &RawBson, loose: bool) -> RawDocumentBuf {
        let mut set = self.set.clone();
        if loose {
            set.append(cstr!("_id"), key);
        }
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
        rawdoc! { "$mergeObjects": [first, kept, { "$literal": set }] }
    }
}

/// The document without the fields of others, which a strict struct does not read, and with null where a field is absent
/// that was stored so.
pub(crate) fn own_fields<E: MongoEntity>(stored: &RawDocument) -> Result<RawDocumentBuf, MappingError> {
    let mut absent: Vec<_> = E::FIELDS.iter().filter(|field| field.absent == Absent::Null).collect();
    let mut own = RawDocumentBuf::new();
    for element in stored {
        let (name, value) = element?;
        if is_own::<E>(name.as_str()) {
            absent.retain(|field| field.name != name.as_str());
            own.append(name, value);
        }
    }
    for field in absent {
        own.append(<&CStr>::try_from(field.name)?, RawBson::Null);
    }
    Ok(own)
}

fn is_own<E: MongoEntity>(name: &str) -> bool {
    let skipped = |rule: &FieldRule<E>| matches!(rule, FieldRule::Skip { name: own, .. } if *own == name);
    E::FIELDS.iter().any(|field| field.name == name) || E::rules().iter().any(skipped)
}

#[cfg(test)]
mod tests {
    use bson::{doc, rawdoc};

    use super::*;

    #[test]
    fn null_and_absent_are_unset_and_the_rest_is_set() -> Result<(), Box<dyn std::error::Error>> {
        const FIELDS: &[StoredField] = &[
            StoredField::new("id"),
            StoredField::new("title"),
            StoredField::new("editor"),
            StoredField::new("tags").absent(Absent::Default),
            StoredField::new("stars").absent(Absent::Other),
            StoredField::new("created").insert_only(),
            StoredField::new("by").insert_only(),
        ];
        let document = rawdoc! { "_id": 1, "id": 1, "title": "t", "editor": null, "stars": null, "created": 5 };
        let merge = Merge::new(&document, FIELDS)?;
        let update = bson::Document::try_from(merge.update(&RawBson::Int32(1), false)?)?;
        let expected = doc! {
            "$set": { "id": 1, "title": "t", "stars": null },
            "$unset": { "editor": "", "tags": "" },
            "$setOnInsert": { "created": 5 },
        };
        assert_eq!(update, expected);
        Ok(())
    }

    #[test]
    fn an_update_of_nothing_replaces_nothing() -> Result<(), Box<dyn std::error::Error>> {
        let merge = Merge::new(&rawdoc! { "_id": "k" }, const { &[StoredField::new("_id")] })?;
        let update = bson::Document::try_from(merge.update(&RawBson::String("k".to_owned()), false)?)?;
        assert_eq!(update, doc! { "$setOnInsert": { "_id": "k" } });
        // Where the document that is met may be another one's.
        let update = bson::Document::try_from(merge.update(&RawBson::String("k".to_owned()), true)?)?;
        assert_eq!(update, doc! { "$set": { "_id": "k" } });
        Ok(())
    }
}
