#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

pub use wb_core::{
    Address, AppendOnly, Appended, Appender, Batch, BeforeFlush, Buffer, BufferError, BufferErrorKind, Cache,
    CacheError, CodecError, ConfigError, Counter, CounterField, DeadLetter, DeadLetters, Delete, DirtyCursor, DirtyKey,
    DirtyPage, Drained, DrainedEntity, Engine, EngineBuilder, Entity, EntityKey, EntityOptions, EntityStats, ErrorKind,
    Event, Events, Fence, Finding, Format, Id, KeyError, KeyPart, Letter, LetterCursor, LetterPage, MemoryBuffer, Mode,
    NotACursor, Operation, Overflow, Patch, Pressure, Receipt, Record, Replay, Report, Retries, RetryPolicy, Role,
    SameInserted, Scope, Severity, Sink, SinkError, Space, StartError, State, Transaction, TransactionError,
    UnknownEntity, Unstorable, Upsert, VersionField, Write, buffer, codec, ids, metrics, partition_of,
};

#[cfg(feature = "redis")]
pub use wb_core::{Durability, RedisBuffer, RedisOptions};

#[cfg(feature = "near-cache")]
pub use wb_core::NearCache;

#[cfg(feature = "testing")]
pub use wb_core::{Mechanism, Sabotage, testing};

#[cfg(feature = "derive")]
pub use wb_derive::WriteBehind;

/// The SQL sink and its mapping.
#[cfg(feature = "sea-orm")]
pub use wb_sea_orm as sql;
#[cfg(feature = "sea-orm")]
pub use wb_sea_orm::{
    Column, Reference, SqlEntity, SqlMappingError, SqlOptions, SqlSink, Table, create_table, drop_table,
};

/// The MongoDB sink and its mapping.
#[cfg(feature = "mongo")]
pub use wb_mongo as mongo;
#[cfg(feature = "mongo")]
pub use wb_mongo::{Absent, FieldRule, MappingError, MongoEntity, MongoSink, NativeBson, StoredField};

/// Paths that the derive's output names; not for use.
#[doc(hidden)]
pub mod __private {
    pub use wb_core;

    #[cfg(feature = "mongo")]
    pub use wb_mongo;
    #[cfg(feature = "sea-orm")]
    pub use wb_sea_orm;

    #[cfg(feature = "mongo")]
    pub use wb_core::__emit as if_mongo;
    #[cfg(not(feature = "mongo"))]
    pub use wb_core::__omit as if_mongo;

    #[cfg(feature = "sea-orm")]
    pub use wb_core::__emit as if_sea_orm;
    #[cfg(not(feature = "sea-orm"))]
    pub use wb_core::__omit as if_sea_orm;
}
