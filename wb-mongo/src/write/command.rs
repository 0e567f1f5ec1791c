//! Documents → `update` and `delete` commands within the server's limits.
//!
//! Raw commands, not `Client::bulk_write`: that one exists from server 8.0 on only, and these are as fast and work on
//! every version.

use bson::raw::{BindRawBsonRef, RawArrayBuf, RawBson, RawDocument, RawDocumentBuf, cstr};
use bson::rawdoc;
use wb_core::Id;

/// Bytes of statements in one command. The server takes 16 MiB and a little; the rest is for what the driver adds.
const MAX_BYTES: usize = 12 * 1024 * 1024;

/// What one element of an array adds beside its document: type, index as text, zero.
const ELEMENT_BYTES: usize = 10;

/// One upsert: whose it is, and its element of `updates`.
#[derive(Clone, Debug)]
pub(crate) struct Statement<'a> {
    pub(crate) id: &'a Id,
    pub(crate) raw: RawDocumentBuf,
    /// Its key and version, where the document may stay as it is for being newer.
    pub(crate) guarded: Option<(RawBson, i64)>,
}

/// A version that must not go down.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Guard<'g> {
    /// Name of the field in the document.
    pub(crate) field: &'g str,
    /// The version that is written.
    pub(crate) version: i64,
}

impl<'a> Statement<'a> {
    /// Replaces the document of this key, or inserts it; or the same of an update with operators. One of another spelling is not
    /// replaced by a document, which has the key.
    pub(crate) fn upsert(id: &'a Id, key: &RawBson, document: &RawDocument) -> Self {
        Self::new(id, key, document)
    }

    /// The same, but a stored document stays whose version is higher; the same version is replaced, because a batch may
    /// be written again.
    ///
    /// `new` is an expression of the new document. A pipeline, because with the version in the query a document that stays would look absent, and be inserted.
    /// `loose`: the document that is met may be of another spelling of the key; then the server refuses.
    pub(crate) fn guarded(id: &'a Id, key: &RawBson, new: RawDocumentBuf, guard: Guard<'_>, loose: bool) -> Self {
        let stored = format!("${}", guard.field);
        // BSON orders numbers before texts: what is no number is no version, and does not stay.
        let stays = rawdoc! { "$and": [{ "$gt": [&*stored, guard.version] }, { "$lt": [&*stored, ""] }] };
        let choice = rawdoc! { "$replaceWith": { "$cond": [stays, unchanged(key, loose), new] } };
        let guarded = Some((key.clone(), guard.version));
        Self { guarded, ..Self::new(id, key, RawArrayBuf::from_iter([choice])) }
    }

    /// Inserts the document of this key, or leaves what is there as it is; `loose` as for [`guarded`](Self::guarded).
    pub(crate) fn append(
        id: &'a Id,
        key: &RawBson,
        document: &RawDocument,
        loose: bool,
    ) -> Result<Self, bson::error::Error> {
        let (mut fields, mut plain) = (RawDocumentBuf::new(), true);
        for element in document {
            let (name, field) = element?;
            if name.as_str() != "_id" {
                plain &= !name.as_str().starts_with('$') && !name.as_str().contains('.');
                fields.append(name, field);
            }
        }
        if plain && !fields.is_empty() {
            let mut update = rawdoc! { "$setOnInsert": fields };
            if loose {
                update.append(cstr!("$set"), rawdoc! { "_id": key.clone() });
            }
            return Ok(Self::new(id, key, update));
        }
        // `$setOnInsert` takes such names for paths, and is not empty. A document that is being inserted has only its
        // `_id` yet.
        let fresh = rawdoc! { "$eq": ["$$ROOT", { "_id": { "$literal": key.clone() } }] };
        let choice = rawdoc! { "$cond": [fresh, { "$literal": document.to_owned() }, unchanged(key, loose)] };
        Ok(Self::new(id, key, RawArrayBuf::from_iter([rawdoc! { "$replaceWith": choice }])))
    }

    fn new(id: &'a Id, key: &RawBson, update: impl BindRawBsonRef) -> Self {
        let mut query = RawDocumentBuf::new();
        query.append(cstr!("_id"), key);
        let mut raw = RawDocumentBuf::new();
        raw.append(cstr!("q"), query);
        raw.append(cstr!("u"), update);
        raw.append(cstr!("upsert"), true);
        Self { id, raw, guarded: None }
    }
}

/// The expression of the stored document as it is. With its `_id` set to the key, where that may be another one's: the server
/// takes it for a change of the `_id`, and refuses it.
fn unchanged(key: &RawBson, loose: bool) -> RawBson {
    if loose {
        rawdoc! { "$mergeObjects": ["$$ROOT", { "_id": { "$literal": key.clone() } }] }.into()
    } else {
        RawBson::String("$$ROOT".to_owned())
    }
}

/// A command of upserts.
#[derive(Debug)]
pub(crate) struct Updates {
    pub(crate) raw: RawDocumentBuf,
    /// How many statements it has; `writeErrors` name them by index.
    pub(crate) count: usize,
}

/// The `update` commands of these statements, in order; at most `max_count` statements each.
///
/// `ordered: false`: outside a transaction the server goes on after a refused document.
pub(crate) fn updates(
    collection: &str,
    statements: &[Statement<'_>],
    max_count: usize,
    write_concern: Option<&RawDocument>,
) -> Vec<Updates> {
    split(statements, max_count, |statement| statement.raw.as_bytes().len())
        .map(|chunk| {
            let list: RawArrayBuf = chunk.iter().map(|statement| &*statement.raw).collect();
            let mut raw = RawDocumentBuf::new();
            raw.append(cstr!("update"), collection);
            raw.append(cstr!("ordered"), false);
            raw.append(cstr!("updates"), list);
            append_write_concern(&mut raw, write_concern);
            Updates { raw, count: chunk.len() }
        })
        .collect()
}

/// The `delete` commands of these keys: one statement each, `{_id: {$in: [...]}}`.
pub(crate) fn deletes(collection: &str, keys: &[RawBson], write_concern: Option<&RawDocument>) -> Vec<RawDocumentBuf> {
    split(keys, usize::MAX, bytes_of)
        .map(|chunk| {
            let keys: RawArrayBuf = chunk.iter().collect();
            let mut any = RawDocumentBuf::new();
            any.append(cstr!("$in"), keys);
            let mut query = RawDocumentBuf::new();
            query.append(cstr!("_id"), any);
            let mut statement = RawDocumentBuf::new();
            statement.append(cstr!("q"), query);
            statement.append(cstr!("limit"), 0);
            let mut raw = RawDocumentBuf::new();
            raw.append(cstr!("delete"), collection);
            raw.append(cstr!("deletes"), RawArrayBuf::from_iter([statement]));
            append_write_concern(&mut raw, write_concern);
            raw
        })
        .collect()
}

/// `run_command` ignores the client's write concern, so it stands in the command; in a transaction it must not.
fn append_write_concern(raw: &mut RawDocumentBuf, write_concern: Option<&RawDocument>) {
    if let Some(write_concern) = write_concern {
        raw.append(cstr!("writeConcern"), write_concern);
    }
}

/// Bytes of a value in a command, for the kinds that a key can have.
pub(crate) fn bytes_of(value: &RawBson) -> usize {
    match value {
        RawBson::String(text) => text.len() + 5,
        RawBson::Document(document) => document.as_bytes().len(),
        RawBson::Binary(binary) => binary.bytes.len() + 5,
        _ => 16,
    }
}

/// Cuts a list into runs of at most `max_count` elements and [`MAX_BYTES`]; an element longer than that is a run of
/// its own, and it is the server that judges it.
pub(crate) fn split<T>(list: &[T], max_count: usize, bytes: impl Fn(&T) -> usize) -> impl Iterator<Item = &[T]> {
    let mut rest = list;
    std::iter::from_fn(move || {
        let mut sum = 0;
        let fits = rest
            .iter()
            .take(max_count)
            .take_while(|element| {
                sum += bytes(element) + ELEMENT_BYTES;
                sum <= MAX_BYTES
            })
            .count();
        let (chunk, behind) = rest.split_at_checked(fits.max(1))?;
        rest = behind;
        Some(chunk)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths(sizes: &[usize], max_count: usize) -> Vec<usize> {
        split(sizes, max_count, |size| *size).map(<[usize]>::len).collect()
    }

    #[test]
    fn lists_are_cut_by_count_and_by_bytes() {
        assert_eq!(lengths(&[], 10), [0; 0]);
        assert_eq!(lengths(&[100; 25], 10), [10, 10, 5]);
        assert_eq!(lengths(&[5 << 20; 5], 10), [2, 2, 1]);
        assert_eq!(lengths(&[1, 13 << 20, 1], 10), [1, 1, 1]);
        assert_eq!(lengths(&[100; 3], 0), [1, 1, 1]);
    }

    #[test]
    fn a_write_concern_stands_in_the_command_when_there_is_one() {
        let concern = bson::rawdoc! { "w": "majority" };
        let keys = [RawBson::Int32(1)];
        let with = deletes("c", &keys, Some(&concern));
        let without = deletes("c", &keys, None);
        assert_eq!(with.len(), 1);
        assert!(with.iter().all(|raw| matches!(raw.get("writeConcern"), Ok(Some(_)))));
        assert!(without.iter().all(|raw| matches!(raw.get("writeConcern"), Ok(None))));
    }
}
