//! Errors that a program meets, by where it meets them.

pub(crate) mod address;
pub(crate) mod buffer;
pub mod finding;
pub(crate) mod sink;

use crate::entity::key::Id;
use std::error::Error as StdError;
use std::sync::Arc;

use crate::entity::codec::CodecError;
use crate::entity::key::KeyError;
use crate::error::buffer::BufferError;
use crate::error::sink::SinkError;

/// Why an engine does not start. A sink that is away is no reason: see [`EngineBuilder::start`](crate::EngineBuilder::start).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A setting is senseless.
    #[error("the engine is misconfigured")]
    Config(#[from] ConfigError),
    /// The buffer refuses: unreachable, or it holds records of another topology.
    #[error("the buffer cannot be used for entity `{entity}`")]
    Buffer {
        /// The entity.
        entity: &'static str,
        /// What the buffer said.
        source: BufferError,
    },
    /// What was found must not be started with.
    #[error("the engine must not start like this: {}", crate::error::finding::fatal(.findings).unwrap_or_default())]
    Unfit {
        /// Everything that was found, warnings included.
        findings: Vec<crate::error::finding::Finding>,
    },
    /// The sink refuses.
    #[error("the sink of entity `{entity}` cannot be used")]
    Sink {
        /// The entity.
        entity: &'static str,
        /// What the sink said.
        source: SinkError,
    },
}

/// A setting that is senseless.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The namespace is not a word.
    #[error("namespace `{namespace}` is not allowed; use 1 to 64 ASCII letters, digits, `_`, `-` and `.`")]
    Namespace {
        /// The namespace.
        namespace: String,
    },
    /// An entity's name is not a word.
    #[error("entity name `{entity}` is not allowed; use 1 to 64 ASCII letters, digits, `_`, `-` and `.`")]
    EntityName {
        /// The name.
        entity: &'static str,
    },
    /// Two entities have the same name or type.
    #[error("entity `{entity}` is given twice")]
    DuplicateEntity {
        /// The name.
        entity: &'static str,
    },
    /// No entity at all.
    #[error("the engine has no entity")]
    NoEntity,
    /// Entities that refer to each other by foreign keys, so that none of them could be written first.
    #[error("entities belong to each other in a circle: `{entities}`; take one `belongs_to` away")]
    Circle {
        /// The entities, from one back to itself.
        entities: String,
    },
    /// An option of an entity.
    #[error("entity `{entity}`: {what}")]
    Option {
        /// The entity.
        entity: &'static str,
        /// What is wrong, and what is allowed.
        what: &'static str,
    },
    /// A `before_flush` hook.
    #[error("before_flush of entity `{entity}`: {what}")]
    Hook {
        /// The entity.
        entity: &'static str,
        /// What is wrong.
        what: &'static str,
    },
    /// The retry policy.
    #[error("retry policy: {what}")]
    Retry {
        /// What is wrong.
        what: &'static str,
    },
    /// The lease.
    #[error("lease must be from 100 ms to 10 minutes")]
    Lease,
}

/// Why a write or a read fails. Nothing is stored when a write fails, except where the error says
/// that its outcome is unknown, or that it is stored but not durable.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CacheError {
    /// The key cannot address a record.
    #[error("the key is not allowed")]
    Key(#[from] KeyError),
    /// The value does not encode, or what is buffered does not decode.
    #[error("record `{id}` has no readable form")]
    Codec {
        /// The record.
        id: String,
        /// What the codec said.
        source: Arc<CodecError>,
    },
    /// The record is larger than `max_record_bytes`.
    #[error("record `{id}` has {size} bytes, {limit} are allowed")]
    TooLarge {
        /// The record.
        id: String,
        /// Bytes of key and payload.
        size: usize,
        /// The limit, in bytes.
        limit: usize,
    },
    /// The value encodes to nothing, which is how a delete looks.
    #[error("record `{id}` encodes to an empty payload")]
    Empty {
        /// The record.
        id: String,
    },
    /// The sink can never hold the record, because of this field. Nothing is stored.
    #[error("the sink cannot hold record `{id}`: field `{field}` {reason}")]
    Unstorable {
        /// The record.
        id: String,
        /// The field, or the column.
        field: String,
        /// What is wrong with its value.
        reason: String,
    },
    /// The buffer failed. [`BufferErrorKind::Topology`](crate::BufferErrorKind::Topology): another program has changed the
    /// entity's topology since this one started, which must end. [`BufferErrorKind::Unknown`](crate::BufferErrorKind::Unknown): the write may have been carried out; repeating it is safe.
    #[error("the buffer failed")]
    Buffer(#[from] BufferError),
    /// The sink failed while a miss was loaded.
    #[error("the sink failed while loading")]
    Sink {
        /// What the sink said.
        source: Arc<SinkError>,
    },
    /// The record is in no buffer, and the sink is not asked for it, because it does not answer: since a start while it was away,
    /// or since a load or a write failed. One load at a time tries whether it answers again.
    #[error("the sink has not answered for {lasted:?}, and is not asked")]
    SinkAway {
        /// How long it has not answered.
        lasted: std::time::Duration,
        /// What was said when it did not.
        source: Arc<SinkError>,
    },
    /// The sink cannot hold the entity as it is: it was away when the engine started, and was found to be wrong when it was back (a
    /// table or a column is missing, the password is refused). Nothing is stored or loaded until it is put right, which is noticed
    /// within seconds; what the buffer has can be read.
    #[error("the sink cannot be used for this entity: {reason}")]
    SinkUnfit {
        /// What was found.
        reason: String,
    },
    /// The write is not stored: its version is not above that of the state that it would replace.
    #[error("record `{id}` has version {stored} already, version {offered} cannot replace it")]
    Conflict {
        /// The record.
        id: String,
        /// Version of the state that stands.
        stored: i64,
        /// Version of the state that was refused.
        offered: i64,
    },
    /// Others changed the record again and again while this call tried to; nothing of it is stored.
    #[error("record `{id}` was changed by others {tries} times in a row while this change was tried")]
    Contended {
        /// The record.
        id: String,
        /// How often it was tried.
        tries: u32,
    },
    /// There is no such record to be changed.
    #[error("there is no record `{id}`")]
    Absent {
        /// The record.
        id: String,
    },
    /// The change would give the record another key; nothing is stored.
    #[error("the change gives record `{id}` another key")]
    KeyChanged {
        /// The record.
        id: String,
    },
    /// A newer program works on the same records and knows fields that this one does not. The record was in no buffer, and
    /// as this program loads it from the sink it lacks them: a change would lose them. Nothing is stored.
    #[error("record `{id}` may have fields that only a newer program knows, and a change by this one would lose them")]
    Outdated {
        /// The record.
        id: String,
    },
    /// The sum is out of the range of the counter's type, or the next version is; nothing is stored.
    #[error("field `{field}` of record `{id}` cannot hold the sum")]
    Overflow {
        /// The record.
        id: String,
        /// The counter, or the version.
        field: &'static str,
    },
    /// The sink refuses the record for a reason of its own data. It is kept as a dead letter.
    #[error("record `{id}` is a dead letter ({kind}): {reason}")]
    DeadLettered {
        /// The record.
        id: String,
        /// Kind of the letter: see [`DeadLetter::kind`](crate::DeadLetter::kind).
        kind: String,
        /// What the sink said.
        reason: String,
    },
    /// The write was left out: when it was flushed the sink had a row of a higher [version](crate::Entity::version), which
    /// another program has written there, and which stays. A read finds that row; to write over it, give the record a higher
    /// version than the row's.
    #[error("the sink has a newer version of record `{id}` than {version}, which was left out")]
    Stale {
        /// The record.
        id: String,
        /// Version of the latest state that was left out.
        version: i64,
    },
    /// The write is in the buffer and will be flushed, but was not in the sink when the time was up.
    #[error("record `{id}` is not in the sink after {waited:?}")]
    NotPersisted {
        /// The record.
        id: String,
        /// How long was waited.
        waited: std::time::Duration,
    },
    /// The engine was shut down.
    #[error("the engine is shut down")]
    Closed,
}

impl CacheError {
    /// The sink does not answer, for so long now.
    pub(crate) fn sink_away(lasted: std::time::Duration, source: Arc<SinkError>) -> Self {
        // For people: nobody wants nanoseconds.
        let millis = u64::try_from(lasted.as_millis()).unwrap_or(u64::MAX);
        Self::SinkAway { lasted: std::time::Duration::from_millis(millis), source }
    }
}

/// The engine has no such entity, or it is not used like this.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("entity `{entity}` {advice}")]
#[non_exhaustive]
pub struct UnknownEntity {
    /// The entity.
    pub entity: &'static str,
    /// What is wrong, and what to do.
    pub advice: &'static str,
}

impl UnknownEntity {
    /// The builder was not given it.
    pub(crate) const fn absent(entity: &'static str) -> Self {
        let advice = "was not given to this engine; add `.entity::<...>(sink, options)` to its builder";
        Self { entity, advice }
    }

    /// It has no states that could be read or replaced.
    pub(crate) const fn append_only(entity: &'static str) -> Self {
        Self { entity, advice: "is append-only and has no cache; write it with `engine.appender::<...>()`" }
    }
}

/// An error and its sources in one line: `a: b: c`.
pub(crate) fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let part = source.to_string();
        // Some drivers repeat their source's text in their own.
        if !text.ends_with(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        next = source.source();
    }
    text
}

/// The error for a record that has no readable form.
pub(crate) fn codec(id: &Id, source: CodecError) -> CacheError {
    CacheError::Codec { id: id.to_string(), source: std::sync::Arc::new(source) }
}
