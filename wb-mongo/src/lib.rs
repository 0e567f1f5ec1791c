//! MongoDB sink of write-behind.
//!
//! On a replica set, a worker that was overtaken cannot write any more: every batch is one transaction that checks the
//! fences of its partitions. A standalone server has no transactions. There, that an older state never overwrites a
//! newer one rests on leases alone, unless a field is marked with `#[wb(version)]`; see [`MongoSink`].
//!
//! | file | what it does |
//! |---|---|
//! | `entity` | what the sink knows of an entity: collection, `_id`, field rules |
//! | `mapping`, `native` | serde's and BSON's own forms of single values: what the derive's output calls |
//! | `document` | value ⇄ document |
//! | `merge` | document → what it sets and unsets in the stored one, for `#[wb(merge)]` |
//! | `insert_only` | which states have the same in fields that are set in a new document only |
//! | `command` | documents → `update` and `delete` commands within the server's limits |
//! | `reply` | what such a command answered, write errors included |
//! | `classify` | codes, labels and driver errors → what the flusher does |
//! | `definition` | how a collection validates: whose fault its refusals are |
//! | `write` | one batch: what is written, what is refused; plain commands on a standalone server |
//! | `transaction` | one batch as one transaction |
//! | `fence`, `slots` | generations that keep stale owners out, and which of their documents a batch uses |
//! | `stale` | which documents of a batch the server has newer versions of |
//! | `examine` | what an operator should know of server, fences and collection |
//! | `load` | keys → values |
//! | `connect` | URL → client, deployment, collection |
//! | `sink` | [`MongoSink`]: the port |

mod classify;
mod command;
mod connect;
mod definition;
mod document;
mod entity;
mod examine;
mod fence;
mod insert_only;
mod load;
#[doc(hidden)]
pub mod mapping;
mod merge;
mod moves;
#[doc(hidden)]
pub mod native;
mod orphan;
mod reply;
mod sink;
mod slots;
mod spelling;
mod stale;
mod storable;
mod transaction;
mod write;

#[doc(hidden)]
pub use bson;

pub use document::{from_raw, to_raw};
pub use entity::{Absent, FieldRule, MappingError, MongoEntity, StoredField};
pub use native::NativeBson;
pub use sink::MongoSink;
