//! MongoDB sink of write-behind.
//!
//! On a replica set, a worker that was overtaken cannot write any more: every batch is one transaction that checks the
//! fences of its partitions. A standalone server has no transactions. There, that an older state never overwrites a
//! newer one rests on leases alone, unless a field is marked with `#[wb(version)]`; see [`MongoSink`].
//!
//! | folder | what it holds |
//! |---|---|
//! | `sink` | [`MongoSink`]: the port |
//! | `connect`, `error` | URL → client, deployment, collection; codes, labels and driver errors → what the flusher does |
//! | `mapping` | a struct as a document: entity, fields, native BSON; what no document holds |
//! | `write` | one batch: commands and their replies, merges, transactions, documents that are newer or in each other's way |
//! | `fence` | generations that keep stale owners out, and which of their documents a batch uses |
//! | `read` | keys → values |
//! | `examine` | what an operator should know of server, fences and collection; how it validates |

mod connect;
mod error;
mod examine;
mod fence;
#[doc(hidden)]
pub mod mapping;
mod read;
mod sink;
mod write;

#[doc(hidden)]
pub use bson;
#[doc(hidden)]
pub use mapping::native;

pub use self::mapping::document::{from_raw, to_raw};
pub use self::mapping::entity::{Absent, FieldRule, MappingError, MongoEntity, StoredField};
pub use self::mapping::native::NativeBson;
pub use sink::MongoSink;
