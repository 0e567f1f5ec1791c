//! What a sink can say when a write fails.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;

/// What kind of failure it is; decides what the flusher does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The database does not answer (refused, timeout, pool exhausted, not primary): everything is kept, tried again
    /// with backoff for ever, and no attempt is counted.
    Unavailable,
    /// The same batch may succeed at once (deadlock, serialization failure, lock timeout).
    Transient,
    /// The data is refused (constraint, type, length, validator): the record is found, the others go on. Where it may be the
    /// configuration as well, the error says so: see [`SinkError::ambiguous`].
    Rejected,
    /// A foreign key's parent is not there yet: the record goes back and is tried again later.
    Deferred,
    /// A table, column or permission is missing: the entity pauses until it is there.
    Misconfigured,
    /// Another owner has the partition.
    Fenced,
}

impl ErrorKind {
    /// The word for this kind in events and dead letters.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::Transient => "transient",
            Self::Rejected => "rejected",
            Self::Deferred => "deferred",
            Self::Misconfigured => "misconfigured",
            Self::Fenced => "fenced",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a sink can never hold a row, whenever it is tried: which field, and what is wrong with its value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("field `{field}` {reason}")]
#[non_exhaustive]
pub struct Unstorable {
    /// Field, column or part of the record.
    pub field: Cow<'static, str>,
    /// What is wrong with it, as it follows the field's name in a sentence: "is larger than …".
    pub reason: Cow<'static, str>,
}

impl Unstorable {
    /// What is wrong with a field.
    pub fn new(field: impl Into<Cow<'static, str>>, reason: impl Into<Cow<'static, str>>) -> Self {
        Self { field: field.into(), reason: reason.into() }
    }
}

/// A failure of a sink: a kind for the program, a context for the human, and the driver's error as source.
#[derive(Debug)]
pub struct SinkError {
    kind: ErrorKind,
    ambiguous: bool,
    context: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
    taken: bool,
}

impl SinkError {
    /// An error without a source.
    pub fn new(kind: ErrorKind, context: impl Into<String>) -> Self {
        Self { kind, ambiguous: false, context: context.into(), source: None, taken: false }
    }

    /// The same error, of which the database's code does not tell whether it is the record's fault or the configuration's: a
    /// right that is missing for a row or for the table, a validator, a code that nobody knows. Its [`kind`](Self::kind) is what
    /// it means if it is the record's.
    ///
    /// Such a refusal counts against the record only when other records of the entity land while this one does not. Until then
    /// nothing is counted, so that nothing becomes a dead letter while somebody can still put the configuration right: the
    /// record goes back, and the entity pauses, with one batch at a time that tries.
    ///
    /// ```
    /// use wb_core::{ErrorKind, SinkError};
    ///
    /// let error = SinkError::new(ErrorKind::Rejected, "permission denied for table posts").ambiguous();
    /// assert!(error.is_ambiguous());
    /// ```
    #[must_use]
    pub const fn ambiguous(mut self) -> Self {
        self.ambiguous = true;
        self
    }

    /// The same error as another kind, for who knows more than the code tells. It is not ambiguous any more.
    #[must_use]
    pub const fn with_kind(mut self, kind: ErrorKind) -> Self {
        self.kind = kind;
        self.ambiguous = false;
        self
    }

    /// The same error with the driver's error as source.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The same error, of a record whose unique value another record has: it may be free once that one is written. The
    /// flusher tries such a record once more when all others of the flush are settled, before it counts as refused.
    #[must_use]
    pub fn taken(self) -> Self {
        Self { taken: true, ..self }
    }

    /// Whether another record has a unique value of this one.
    #[must_use]
    pub const fn is_taken(&self) -> bool {
        self.taken
    }

    /// The same error seen from further away: of the same kind, as ambiguous, as taken, with this one as its source.
    #[must_use]
    pub fn within(self, context: impl Into<String>) -> Self {
        let Self { kind, ambiguous, taken, .. } = self;
        Self { kind, ambiguous, context: context.into(), source: Some(self.into()), taken }
    }

    /// What kind of failure it is.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Whether it may be the configuration's fault and not the record's; see [`ambiguous`](Self::ambiguous).
    #[must_use]
    pub const fn is_ambiguous(&self) -> bool {
        self.ambiguous
    }

    /// This error and its sources in one line, as dead letters keep it.
    #[must_use]
    pub fn chain(&self) -> String {
        crate::error::chain(self)
    }
}

impl fmt::Display for SinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sink {}: {}", self.kind, self.context)
    }
}

impl StdError for SinkError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|e| e as &(dyn StdError + 'static))
    }
}
