//! SQL sink of write-behind, through SeaORM: PostgreSQL, MySQL/MariaDB and SQLite.
//!
//! | folder | what it holds |
//! |---|---|
//! | `sink`, `options` | `SqlSink`: the port; what an operator tunes |
//! | `tables` | the tables as they were seen last, and whether they are still so |
//! | `mapping` | a struct as a table: entity, columns, casts, SeaORM's models |
//! | `values` | what a column keeps of a value: limits, moments, what is refused before it is stored |
//! | `statement` | texts, sizes and arguments of statements, for each dialect |
//! | `connection` | opening a database by its URL; sessions, transactions; what an error means, by its code |
//! | `write` | a batch as one transaction; rows that are refused, stale, without parent, in each other's way |
//! | `read` | values by their keys; how many loads at a time |
//! | `examine` | the live table against the mapping: findings, definition, what is wrong when every row is refused |
//! | `fence` | generations of owners: issued, checked and locked |
//! | `schema` | tables for tests and examples |

#![cfg_attr(
    not(all(feature = "postgres", feature = "mysql", feature = "sqlite")),
    allow(dead_code, reason = "the texts and codes of a database are not used without its driver")
)]

mod connection;
mod examine;
mod fence;
#[doc(hidden)]
pub mod mapping;
mod options;
mod read;
mod schema;
mod sink;
mod statement;
mod tables;
mod values;
mod write;

#[doc(hidden)]
pub use mapping::sea_model as model;
#[doc(hidden)]
pub use sea_orm;

#[doc(hidden)]
pub use self::mapping::column::read;
pub use self::mapping::entity::{Column, Columns, Reference, SqlEntity, SqlMappingError, Table};
pub use fence::fence_table_sql;
pub use options::SqlOptions;
pub use schema::{create_table, drop_table};
pub use sink::SqlSink;
