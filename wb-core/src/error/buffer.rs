//! What a buffer can say when it fails.

use std::error::Error as StdError;
use std::fmt;

/// What kind of failure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BufferErrorKind {
    /// The buffer cannot be reached; nothing was done.
    Unavailable,
    /// The connection broke or timed out under way: the request may have been carried out. Repeating it is safe.
    Unknown,
    /// The buffer has no room: the entity's `max_dirty` is reached, or the memory of Redis. Nothing was stored.
    Full,
    /// The write is stored, but not as durably as was asked; a replica is away, or a disk slow. Repeating it is safe.
    NotDurable,
    /// The buffer lost data: what was waited for is gone, and nobody has seen it reach the sink.
    Lost,
    /// The buffer holds dirty records of another topology.
    Topology,
    /// The buffer refuses the request as such: wrong type under a key, no permission, bad settings; at connect and at start also a
    /// login that is refused, which in an engine that runs is [`Unavailable`](Self::Unavailable).
    Misconfigured,
    /// The engine or the buffer was shut down.
    Closed,
}

impl BufferErrorKind {
    /// The word for this kind in events.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::Unknown => "outcome unknown",
            Self::Full => "full",
            Self::NotDurable => "not durable",
            Self::Lost => "lost",
            Self::Topology => "topology",
            Self::Misconfigured => "misconfigured",
            Self::Closed => "closed",
        }
    }
}

impl fmt::Display for BufferErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A failure of a buffer: a kind for the program, a context for the human, and the client's error as source.
///
/// Cheap to clone: one failed group of writes fails each of its callers.
#[derive(Clone, Debug)]
pub struct BufferError {
    kind: BufferErrorKind,
    context: String,
    source: Option<std::sync::Arc<dyn StdError + Send + Sync>>,
}

impl BufferError {
    /// An error without a source.
    pub fn new(kind: BufferErrorKind, context: impl Into<String>) -> Self {
        Self { kind, context: context.into(), source: None }
    }

    /// The same error with its cause.
    #[must_use]
    pub fn with_source(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.source = Some(std::sync::Arc::new(source));
        self
    }

    /// The same error with more said of it.
    #[must_use]
    pub(crate) fn and(mut self, more: &str) -> Self {
        self.context.push_str(more);
        self
    }

    /// The same error of another kind.
    #[cfg(feature = "redis")]
    #[must_use]
    pub(crate) fn of_kind(self, kind: BufferErrorKind) -> Self {
        Self { kind, ..self }
    }

    /// What kind of failure it is.
    #[must_use]
    pub const fn kind(&self) -> BufferErrorKind {
        self.kind
    }
}

impl fmt::Display for BufferError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "buffer {}: {}", self.kind, self.context)
    }
}

impl StdError for BufferError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|e| e as &(dyn StdError + 'static))
    }
}
