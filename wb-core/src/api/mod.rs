//! What a program calls: caches, appenders, receipts, dead letters, transactions, ids.

pub(crate) mod appender;
pub(crate) mod cache;
pub(crate) mod dead_letters;
pub mod ids;
pub(crate) mod receipt;
pub(crate) mod transaction;
