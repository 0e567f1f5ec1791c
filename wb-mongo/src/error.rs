//! Codes, labels and driver errors → what the flusher does. Pure; message texts decide nothing.

use mongodb::error::{
    Error, ErrorKind as DriverErrorKind, TRANSIENT_TRANSACTION_ERROR, UNKNOWN_TRANSACTION_COMMIT_RESULT, WriteFailure,
};
use wb_core::{ErrorKind, SinkError};

/// What the server's code of a failed command means. `None`: this code is not known here.
pub(crate) const fn of_code(code: i32) -> Option<ErrorKind> {
    Some(match code {
        // HostUnreachable, HostNotFound, WriteConcernFailed, NetworkTimeout, ShutdownInProgress,
        // FailedToSatisfyReadPreference, ReadConcernMajorityNotAvailableYet, PrimarySteppedDown,
        // NetworkInterfaceExceededTimeLimit, ElectionInProgress, ExceededTimeLimit, TooManyFilesOpen,
        // TransactionCoordinatorSteppingDown, InterruptedDueToStorageChange, UserWritesBlocked, ConnectionError,
        // ResourceExhausted, PooledConnectionAcquisitionExceededTimeLimit, AdmissionQueueOverflow, RateLimitExceeded,
        // SocketException, NotPrimary (three kinds of it), InterruptedAtShutdown, InterruptedDueToReplStateChange,
        // OutOfDiskSpace
        6 | 7 | 64 | 89 | 91 | 133 | 134 | 189 | 202 | 216 | 262 | 264 | 281 | 355 | 371 | 384 | 402 | 407 | 433
        | 449 | 9001 | 10058 | 10107 | 13435 | 13436 | 11600 | 11602 | 14031 => ErrorKind::Unavailable,
        // LockTimeout, CursorNotFound, LockBusy, MaxTimeMSExpired (a lock, or a command too large for its time), StaleShardVersion, WriteConflict, ConflictingOperationInProgress,
        // StaleEpoch, QueryPlanKilled, DatabaseDropPending, TransactionTooOld, CursorKilled, SnapshotTooOld,
        // SnapshotUnavailable, StaleDbVersion, StaleChunkHistory, NoSuchTransaction, PreparedTransactionInProgress,
        // MigrationConflict, TransactionCoordinatorReachedAbortDecision, TransactionExceededLifetimeLimitSeconds,
        // TxnRetryCounterTooOld, TemporarilyUnavailable, Interrupted, StaleConfig
        24 | 43 | 46 | 50 | 63 | 112 | 117 | 150 | 175 | 215 | 225 | 237 | 239 | 246 | 249 | 250 | 251 | 267 | 272
        | 282 | 290 | 356 | 365 | 11601 | 13388 => ErrorKind::Transient,
        // BadValue, FailedToParse, TypeMismatch, Overflow (nested too deep), InvalidBSON, DollarPrefixedFieldName,
        // InvalidIdField, NotSingleValueField, EmptyFieldName, DottedFieldName, ImmutableField,
        // DocumentValidationFailure, CannotGrowDocumentInCappedNamespace, BSONObjectTooLarge, DuplicateKey (three
        // kinds of it), CannotExtractGeoKeys, KeyTooLong, document larger than the maximum (update, upsert),
        // InvalidBSONType, NonConformantBSON; and TransactionTooLarge, TransactionTooLargeForCache: a smaller batch of
        // the same records passes
        2 | 9 | 14 | 15 | 22 | 52 | 53 | 54 | 56 | 57 | 66 | 121 | 257 | 357 | 378 | 388 | 10003 | 10334 | 11000
        | 11001 | 12582 | 16755 | 17280 | 17419 | 17420 => ErrorKind::Rejected,
        // UserNotFound, Unauthorized, AuthenticationFailed, IllegalOperation, NamespaceNotFound, CommandNotFound,
        // ShardKeyNotFound, InvalidOptions, InvalidNamespace, UnknownReplWriteConcern, UnsatisfiableWriteConcern,
        // CommandNotSupported, CommandNotSupportedOnView, OperationNotSupportedInTransaction, APIVersionError,
        // APIStrictError, APIDeprecationError, MechanismUnavailable, ReauthenticationRequired, the hosted service's own
        // refusal
        11 | 13 | 18 | 20 | 26 | 59 | 61 | 72 | 73 | 79 | 100 | 115 | 166 | 263 | 322 | 323 | 324 | 334 | 391
        | 8000 => ErrorKind::Misconfigured,
        _ => return None,
    })
}

/// Whether a code does not tell if it is a document's fault or the configuration's: IllegalOperation, ShardKeyNotFound,
/// InvalidOptions, DocumentValidationFailure, and what is not known here.
const fn is_ambiguous(code: i32) -> bool {
    matches!(code, 20 | 61 | 72 | 121) || of_code(code).is_none()
}

/// The error of one document that was not written.
///
/// A duplicate key on `_id` is two upserts that raced: the second finds the document when it is tried again. A code
/// that is not known here belongs to this document, if others land.
pub(crate) fn write_error(code: i32, on_id: bool, context: String) -> SinkError {
    match code {
        11000 | 11001 | 12582 if on_id => SinkError::new(ErrorKind::Transient, context),
        _ if is_ambiguous(code) => SinkError::new(ErrorKind::Rejected, context).ambiguous(),
        _ => SinkError::new(of_code(code).unwrap_or(ErrorKind::Rejected), context),
    }
}

/// The error of a command that writes documents: what may be one's fault is refused, so that it is looked for.
pub(crate) fn of_documents(error: SinkError) -> SinkError {
    let code = std::error::Error::source(&error).and_then(|source| source.downcast_ref::<DriverErrorKind>()).and_then(
        |kind| match kind {
            DriverErrorKind::Command(command) => Some(command.code),
            _ => None,
        },
    );
    match (error.kind(), code) {
        (ErrorKind::Misconfigured | ErrorKind::Rejected, Some(code)) if is_ambiguous(code) => {
            error.with_kind(ErrorKind::Rejected).ambiguous()
        }
        _ => error,
    }
}

/// What the code of a write concern error means: the writes were made, but it is not known that they will stay.
pub(crate) fn of_write_concern_error(code: i32) -> ErrorKind {
    match of_code(code) {
        Some(kind @ (ErrorKind::Misconfigured | ErrorKind::Transient)) => kind,
        _ => ErrorKind::Unavailable,
    }
}

/// What a failed command means. A code that is not known here is reported as a misconfiguration: nothing is set
/// aside, and a person is told.
fn of_command(code: i32, transient: bool) -> ErrorKind {
    match of_code(code) {
        // A primary that steps down labels its error transient too, but wants to be waited for.
        Some(ErrorKind::Unavailable) => ErrorKind::Unavailable,
        _ if transient => ErrorKind::Transient,
        Some(kind) => kind,
        None => ErrorKind::Misconfigured,
    }
}

/// What a driver's error means.
pub(crate) fn of_driver(error: &Error) -> ErrorKind {
    let unknown = error.contains_label(UNKNOWN_TRANSACTION_COMMIT_RESULT);
    of_labelled(&error.kind, unknown, error.contains_label(TRANSIENT_TRANSACTION_ERROR))
}

/// What a kind of the driver's errors means, beside the labels that the error has.
fn of_labelled(kind: &DriverErrorKind, unknown_commit: bool, transient: bool) -> ErrorKind {
    // Nobody knows whether the transaction was committed, and asking again did not tell.
    if unknown_commit {
        return ErrorKind::Unavailable;
    }
    match kind {
        DriverErrorKind::Command(command) => of_command(command.code, transient),
        DriverErrorKind::Write(WriteFailure::WriteConcernError(concern)) => of_write_concern_error(concern.code),
        DriverErrorKind::Write(WriteFailure::WriteError(write)) => of_code(write.code).unwrap_or(ErrorKind::Rejected),
        DriverErrorKind::Bson(_) => ErrorKind::Rejected,
        DriverErrorKind::Authentication { .. }
        | DriverErrorKind::IncompatibleServer { .. }
        | DriverErrorKind::InvalidArgument { .. }
        | DriverErrorKind::InvalidTlsConfig { .. }
        | DriverErrorKind::SessionsNotSupported
        | DriverErrorKind::Transaction { .. } => ErrorKind::Misconfigured,
        // Network, server selection, name resolution, cleared pools, malformed replies; a network error within a
        // transaction is labelled transient, but wants to be waited for.
        _ => ErrorKind::Unavailable,
    }
}

/// A driver's error as the port's. Its kind is kept as source, not the error itself, whose text repeats the server's
/// whole reply as a dump of bytes.
pub(crate) fn sink_error(error: Error, context: impl Into<String>) -> SinkError {
    SinkError::new(of_driver(&error), context).with_source(*error.kind)
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn command(code: i32) -> DriverErrorKind {
        let reply = bson::doc! { "code": code, "codeName": "Name", "errmsg": "the text says nothing" };
        DriverErrorKind::Command(bson::deserialize_from_document(reply).unwrap())
    }

    #[test]
    fn codes_of_the_server() {
        let table: [(ErrorKind, &[i32]); 4] = [
            (
                ErrorKind::Unavailable,
                &[
                    6, 7, 64, 89, 91, 133, 134, 189, 202, 216, 262, 264, 281, 355, 371, 384, 402, 407, 433, 449, 9001,
                    10058, 10107, 11600, 11602, 13435, 13436, 14031,
                ],
            ),
            (
                ErrorKind::Transient,
                &[
                    24, 43, 46, 50, 63, 112, 117, 150, 175, 215, 225, 237, 239, 246, 249, 250, 251, 267, 272, 282, 290,
                    356, 365, 11601, 13388,
                ],
            ),
            (
                ErrorKind::Rejected,
                &[
                    2, 9, 14, 15, 22, 52, 53, 54, 56, 57, 66, 121, 257, 357, 378, 388, 10003, 10334, 16755, 17280,
                    17419, 17420,
                ],
            ),
            (
                ErrorKind::Misconfigured,
                &[11, 13, 18, 20, 26, 59, 61, 72, 73, 79, 100, 115, 166, 263, 322, 323, 324, 334, 391, 8000],
            ),
        ];
        for (kind, codes) in table {
            for code in codes {
                assert_eq!(of_code(*code), Some(kind), "code {code}");
                let error = write_error(*code, false, String::new());
                let expected = if is_ambiguous(*code) { ErrorKind::Rejected } else { kind };
                assert_eq!(error.kind(), expected, "write error {code}");
                assert_eq!(error.is_ambiguous(), is_ambiguous(*code), "write error {code}");
                assert_eq!(of_command(*code, false), kind, "command {code}");
                assert_eq!(of_labelled(&command(*code), false, false), kind, "driver's error {code}");
            }
        }
    }

    #[test]
    fn labels_come_before_codes() {
        let table = [
            // A conflict, a transaction that is gone, and whatever else the server says may be run again.
            (112, false, true, ErrorKind::Transient),
            (251, false, true, ErrorKind::Transient),
            (999_999, false, true, ErrorKind::Transient),
            // An outage is waited for, whatever its label.
            (189, false, true, ErrorKind::Unavailable),
            (91, false, true, ErrorKind::Unavailable),
            // Whether it was committed is not known.
            (50, true, false, ErrorKind::Unavailable),
            (64, true, false, ErrorKind::Unavailable),
            (13, true, false, ErrorKind::Unavailable),
            (13, false, false, ErrorKind::Misconfigured),
        ];
        for (code, unknown, transient, kind) in table {
            assert_eq!(of_labelled(&command(code), unknown, transient), kind, "code {code}");
        }
        let lost = DriverErrorKind::Io(std::sync::Arc::new(io::Error::from(io::ErrorKind::ConnectionReset)));
        assert_eq!(of_labelled(&lost, false, true), ErrorKind::Unavailable);
    }

    #[test]
    fn a_duplicate_of_the_id_is_a_race_and_of_another_index_a_refusal() {
        for code in [11000, 11001, 12582] {
            assert_eq!(write_error(code, true, String::new()).kind(), ErrorKind::Transient);
            let refused = write_error(code, false, String::new());
            assert_eq!((refused.kind(), refused.is_ambiguous()), (ErrorKind::Rejected, false));
        }
    }

    #[test]
    fn an_unknown_code_is_a_documents_fault_or_the_configurations() {
        for code in [999_999, 121, 20, 61, 72] {
            let error = write_error(code, false, String::new());
            assert_eq!((error.kind(), error.is_ambiguous()), (ErrorKind::Rejected, true), "{code}");
            let failed = SinkError::new(of_labelled(&command(code), false, false), "write").with_source(command(code));
            let error = of_documents(failed);
            assert_eq!((error.kind(), error.is_ambiguous()), (ErrorKind::Rejected, true), "{code}");
        }
        for code in [13, 189, 112] {
            let kind = of_labelled(&command(code), false, false);
            let error = of_documents(SinkError::new(kind, "write").with_source(command(code)));
            assert_eq!((error.kind(), error.is_ambiguous()), (kind, false), "{code}");
        }
        assert_eq!(of_command(999_999, false), ErrorKind::Misconfigured);
        assert_eq!(of_command(999_999, true), ErrorKind::Transient);
        assert_eq!(of_write_concern_error(999_999), ErrorKind::Unavailable);
    }

    #[test]
    fn a_label_makes_transient_but_not_of_an_outage() {
        assert_eq!(of_command(112, true), ErrorKind::Transient);
        assert_eq!(of_command(121, true), ErrorKind::Transient);
        assert_eq!(of_command(189, true), ErrorKind::Unavailable);
    }

    #[test]
    fn write_concern_errors_wait_or_call_a_person() {
        for (code, kind) in [
            (64, ErrorKind::Unavailable),
            (91, ErrorKind::Unavailable),
            (79, ErrorKind::Misconfigured),
            (100, ErrorKind::Misconfigured),
        ] {
            assert_eq!(of_write_concern_error(code), kind, "code {code}");
        }
    }

    #[test]
    fn driver_errors() {
        let io = Error::from(io::Error::from(io::ErrorKind::ConnectionReset));
        assert_eq!(of_driver(&io), ErrorKind::Unavailable);
        assert_eq!(of_driver(&Error::from(DriverErrorKind::SessionsNotSupported)), ErrorKind::Misconfigured);
        assert_eq!(of_driver(&Error::from(DriverErrorKind::Shutdown)), ErrorKind::Unavailable);
        let error = sink_error(io, "write to `posts`");
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.chain().starts_with("sink unavailable: write to `posts`: I/O error"), "{}", error.chain());
    }
}
