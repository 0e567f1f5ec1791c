//! What a write command answered. `run_command` returns `Ok` with errors inside.

use std::error::Error;

use bson::{Bson, Document};
use wb_core::{ErrorKind, SinkError};

use crate::error;

/// How much of a validator's explanation goes into an error text, in characters.
const MAX_DETAILS: usize = 400;

/// The failures in a reply to `update` or `delete`.
#[derive(Debug, Default)]
pub(crate) struct Reply {
    /// Statements that failed: index and error, in order of the index.
    pub(crate) write_errors: Vec<(usize, SinkError)>,
    pub(crate) changes: Changes,
    /// The writes were made, but it is not known that they will stay.
    pub(crate) write_concern_error: Option<SinkError>,
}

/// What upserts did to documents. One that leaves its document as it is does nothing, and no validator looks at it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// Documents that were inserted, or are other ones than before.
    pub(crate) all: usize,
    /// Documents that were inserted.
    pub(crate) inserted: usize,
}

impl Changes {
    pub(crate) const fn add(&mut self, more: Self) {
        self.all += more.all;
        self.inserted += more.inserted;
    }
}

/// One statement's failure, as the server tells it.
#[derive(Debug, thiserror::Error)]
#[error("{message} (code {code})")]
struct ServerError {
    code: i32,
    message: String,
    /// The fields of the unique index that another document has the values of; empty for other failures.
    taken: Vec<String>,
}

/// The fields of the unique index whose values another document has: they may be free once that one is written or deleted.
pub(crate) fn taken(error: &SinkError) -> Option<&[String]> {
    let mut source = error.source();
    while let Some(error) = source
        && !error.is::<ServerError>()
    {
        source = error.source();
    }
    let error = source?.downcast_ref::<ServerError>()?;
    (!error.taken.is_empty()).then_some(&error.taken)
}

impl Reply {
    /// Reads a reply to a command on this collection.
    pub(crate) fn read(reply: &Document, collection: &str) -> Self {
        let mut write_errors: Vec<_> = documents(reply, "writeErrors")
            .map(|error| {
                // An error that names no statement stands for all of them.
                let index = integer(error, "index").and_then(|index| usize::try_from(index).ok());
                (index.unwrap_or(usize::MAX), write_error(error, collection))
            })
            .collect();
        write_errors.sort_by_key(|(index, _)| *index);
        let write_concern_error = reply.get_document("writeConcernError").ok().map(|error| {
            let source = server_error(error);
            SinkError::new(
                error::of_write_concern_error(source.code),
                format!("write concern of collection `{collection}` not reached"),
            )
            .with_source(source)
        });
        let modified = integer(reply, "nModified").and_then(|count| usize::try_from(count).ok()).unwrap_or(0);
        let inserted = documents(reply, "upserted").count();
        Self { write_errors, changes: Changes { all: modified + inserted, inserted }, write_concern_error }
    }

    /// The failure that stands for the whole command of `count` upserts: any that is not the fault of one of them.
    pub(crate) fn take_common(&mut self, count: usize) -> Option<SinkError> {
        let common = self
            .write_errors
            .iter()
            .position(|(index, error)| error.kind() != ErrorKind::Rejected || *index >= count)
            .map(|at| self.write_errors.swap_remove(at).1);
        common.or_else(|| self.write_concern_error.take())
    }
}

fn write_error(error: &Document, collection: &str) -> SinkError {
    let mut source = server_error(error);
    let index = error.get_document("keyPattern").ok();
    let on_id = index.is_some_and(|index| index.keys().eq(["_id"]));
    if let Some(index) = index.filter(|_| !on_id) {
        source.taken = index.keys().cloned().collect();
    }
    error::write_error(source.code, on_id, format!("write to collection `{collection}`")).with_source(source)
}

/// The server's code of one document's failure.
pub(crate) fn code(error: &SinkError) -> Option<i32> {
    std::error::Error::source(error).and_then(|source| source.downcast_ref::<ServerError>()).map(|error| error.code)
}

fn server_error(error: &Document) -> ServerError {
    let mut message = error.get_str("errmsg").unwrap_or("no message").to_owned();
    if let Ok(details) = error.get_document("errInfo") {
        let details = details.get("details").map_or_else(|| details.to_string(), Bson::to_string);
        message.push_str(": ");
        message.extend(details.chars().take(MAX_DETAILS));
    }
    let code = integer(error, "code").and_then(|code| i32::try_from(code).ok()).unwrap_or(0);
    ServerError { code, message, taken: Vec::new() }
}

/// The documents in an array.
pub(crate) fn documents<'d>(reply: &'d Document, field: &str) -> impl Iterator<Item = &'d Document> {
    let list = reply.get_array(field).map(Vec::as_slice).unwrap_or_default();
    list.iter().filter_map(Bson::as_document)
}

/// An integer of any width.
pub(crate) fn integer(document: &Document, field: &str) -> Option<i64> {
    match document.get(field)? {
        Bson::Int32(value) => Some(i64::from(*value)),
        Bson::Int64(value) => Some(*value),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use bson::doc;

    use super::*;

    #[test]
    fn a_good_reply_has_no_failures() {
        let upserted = [doc! { "index": 0, "_id": 1 }];
        let mut reply = Reply::read(&doc! { "n": 3, "nModified": 1, "upserted": upserted, "ok": 1.0 }, "c");
        assert_eq!(reply.changes, Changes { all: 2, inserted: 1 });
        assert!(reply.write_errors.is_empty());
        assert!(reply.take_common(3).is_none());
    }

    #[test]
    fn write_errors_are_named_by_index_with_the_validators_reason() {
        let mut reply = Reply::read(
            &doc! { "ok": 1.0, "writeErrors": [
                { "index": 4, "code": 11000, "errmsg": "E11000", "keyPattern": { "email": 1 } },
                { "index": 1, "code": 121, "errmsg": "Document failed validation",
                  "errInfo": { "failingDocumentId": 2, "details": { "operatorName": "$lt" } } },
            ] },
            "c",
        );
        assert!(reply.take_common(5).is_none());
        let named: Vec<_> = reply.write_errors.iter().map(|(index, error)| (*index, error.chain())).collect();
        assert_eq!(
            named,
            [
                (
                    1,
                    "sink rejected: write to collection `c`: Document failed validation: { \"operatorName\": \"$lt\" } \
                     (code 121)"
                        .to_owned()
                ),
                (4, "sink rejected: write to collection `c`: E11000 (code 11000)".to_owned()),
            ]
        );
    }

    #[test]
    fn a_race_on_the_id_stands_for_the_whole_command() {
        let mut reply = Reply::read(
            &doc! { "ok": 1.0, "writeErrors": [
                { "index": 0, "code": 121, "errmsg": "refused" },
                { "index": 1, "code": 11000, "errmsg": "E11000", "keyPattern": { "_id": 1 } },
            ] },
            "c",
        );
        assert_eq!(reply.take_common(2).map(|error| error.kind()), Some(ErrorKind::Transient));
    }

    #[test]
    fn an_error_that_names_no_statement_stands_for_the_whole_command() {
        for error in [doc! { "index": 3, "code": 121 }, doc! { "code": 121 }, doc! { "index": -1, "code": 121 }] {
            let mut reply = Reply::read(&doc! { "ok": 1.0, "writeErrors": [error] }, "c");
            assert_eq!(reply.take_common(3).map(|error| error.kind()), Some(ErrorKind::Rejected));
        }
    }

    #[test]
    fn a_write_concern_error_is_a_failure() {
        let mut reply =
            Reply::read(&doc! { "ok": 1.0, "writeConcernError": { "code": 64, "errmsg": "waiting timed out" } }, "c");
        assert_eq!(reply.take_common(1).map(|error| error.kind()), Some(ErrorKind::Unavailable));
    }
}
