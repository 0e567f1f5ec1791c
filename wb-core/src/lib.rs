//! Core of write-behind. Use it through the `write-behind` crate.

mod address;
mod appender;
mod backlog;
mod batch_limit;
pub mod buffer;
mod cache;
mod change;
mod changes;
mod circuit;
pub mod codec;
mod dead_letters;
mod desk;
pub mod doctor;
mod engine;
mod entity;
mod error;
mod event;
mod events;
mod evidence;
mod failpoint;
mod findings;
mod flow;
mod gate;
mod holds;
mod hook;
pub mod ids;
mod key;
mod kin;
mod lane;
mod lease;
mod lineage;
mod load_passage;
mod loads;
pub mod metrics;
#[doc(hidden)]
pub mod moves;
mod near;
mod observed;
mod options;
mod orphans;
mod pace;
mod partition;
mod passage;
#[doc(hidden)]
pub mod patch;
mod postponed;
mod pressure;
mod readiness;
mod recheck;
mod record;
mod renewed;
mod retry;
mod sabotage;
mod search;
mod shape;
mod sink;
mod stats;
#[cfg(feature = "testing")]
pub mod testing;

pub use address::Address;
pub use appender::{Appended, Appender};
#[cfg(feature = "redis")]
pub use buffer::redis::{Durability, RedisBuffer, RedisOptions};
pub use buffer::{Buffer, BufferError, BufferErrorKind, DeadLetter, MemoryBuffer, Operation, Replay, Space};
pub use cache::{Cache, DirtyCursor, DirtyKey, DirtyPage, Receipt, State};
pub use change::{Counter, CounterField, Patch};
pub use codec::{CodecError, Format};
pub use dead_letters::{DeadLetters, Letter, LetterCursor, LetterPage, NotACursor};
pub use doctor::{Finding, Severity};
pub use engine::{Drained, DrainedEntity, Engine, EngineBuilder, Transaction, TransactionError};
pub use entity::{AppendOnly, Entity, VersionField};
pub use error::{CacheError, ConfigError, StartError, UnknownEntity};
pub use event::{Event, Events};
pub use hook::BeforeFlush;
pub use key::{EntityKey, Id, KeyError, KeyPart};
#[cfg(feature = "near-cache")]
pub use near::NearCache;
pub use options::{EntityOptions, Mode, Overflow, Role};
pub use partition::partition_of;
pub use pressure::Pressure;
pub use record::{Record, Write};
pub use retry::RetryPolicy;
pub use sabotage::{Mechanism, Sabotage};
pub use sink::{Batch, Delete, ErrorKind, Fence, Report, SameInserted, Scope, Sink, SinkError, Unstorable, Upsert};
pub use stats::{EntityStats, Retries};

/// Emits its input: what the derive writes for a backend that is switched on.
#[doc(hidden)]
#[macro_export]
macro_rules! __emit {
    ($($tokens:tt)*) => { $($tokens)* };
}

/// Swallows its input: what the derive writes for a backend that is switched off.
#[doc(hidden)]
#[macro_export]
macro_rules! __omit {
    ($($tokens:tt)*) => {};
}
