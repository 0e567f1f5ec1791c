//! Core of write-behind. Use it through the `write-behind` crate.
//!
//! | folder | what it holds |
//! |---|---|
//! | `api` | what a program calls: caches, appenders, receipts, dead letters, transactions, ids |
//! | `engine` | building, starting and ending an engine |
//! | `write`, `read` | into the buffer; from the buffer or the sink |
//! | `flush` | from the buffer into the sink |
//! | `receipts` | what has become of a write |
//! | `ownership` | leases: which worker flushes which partition |
//! | `relations` | entities that refer to each other |
//! | `entity_runtime` | one entity in a running engine: its roles |
//! | `sink_gate` | which batch and which load may go to the sink now |
//! | `runtime` | what every role of an entity works with |
//! | `near_cache` | values that are kept beside the buffer |
//! | `buffer`, `sink` | the two ports; the buffers in Redis and in memory |
//! | `entity`, `options`, `error`, `telemetry`, `fault` | what all of them use |
//! | `testing` | conformance suites and scripted sinks |

mod api;
pub mod buffer;
mod engine;
mod entity;
mod entity_runtime;
mod error;
mod fault;
mod flush;
mod near_cache;
mod options;
mod ownership;
mod read;
mod receipts;
mod relations;
mod runtime;
mod sink;
mod sink_gate;
mod telemetry;
#[cfg(feature = "testing")]
pub mod testing;
mod write;

pub use api::appender::{Appended, Appender};
pub use api::cache::{Cache, DirtyCursor, DirtyKey, DirtyPage};
pub use api::dead_letters::{DeadLetters, Letter, LetterCursor, LetterPage, NotACursor};
pub use api::ids;
pub use api::receipt::Receipt;
pub use api::transaction::{Transaction, TransactionError};
pub use buffer::flush_trigger::Pressure;
pub use buffer::record::{Record, Write};
#[cfg(feature = "redis")]
pub use buffer::redis::{Durability, RedisBuffer, RedisOptions};
pub use buffer::{Buffer, DeadLetter, MemoryBuffer, Operation, Replay, Space};
pub use engine::{Drained, DrainedEntity, Engine, EngineBuilder};
pub use entity::codec::{self, CodecError, Format};
pub use entity::key::{EntityKey, Id, KeyError, KeyPart};
pub use entity::partition::partition_of;
pub use entity::patch::{Counter, CounterField, Patch};
#[doc(hidden)]
pub use entity::patch_serde as patch;
pub use entity::{AppendOnly, Entity, VersionField};
pub use error::address::Address;
pub use error::buffer::{BufferError, BufferErrorKind};
pub use error::finding::{self as doctor, Finding, Severity};
pub use error::sink::{ErrorKind, SinkError, Unstorable};
pub use error::{CacheError, ConfigError, StartError, UnknownEntity};
pub use fault::mechanism::{Mechanism, Sabotage};
#[cfg(feature = "near-cache")]
pub use options::near_cache::NearCache;
pub use options::retry_policy::RetryPolicy;
pub use options::{EntityOptions, Mode, Overflow, Role};
pub use read::peek::State;
pub use sink::batch::{Batch, Delete, Fence, Report, Upsert};
pub use sink::hook::BeforeFlush;
#[doc(hidden)]
pub use sink::moves;
pub use sink::{SameInserted, Sink};
pub use telemetry::event::{Event, Events};
pub use telemetry::metrics;
pub use telemetry::scope::Scope;
pub use telemetry::stats::{EntityStats, Retries};

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
