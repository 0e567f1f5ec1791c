//! SQL sink of write-behind, through SeaORM: PostgreSQL, MySQL/MariaDB and SQLite.
//!
//! | file | what it holds |
//! |---|---|
//! | `entity` | what the sink knows of an entity: table, columns, binding, reading |
//! | `mapping`, `model` | a field as a column; a SeaORM `Model` as a table: what the derive's output calls |
//! | `sink` | `SqlSink`: open, fence, write, load, examine |
//! | `connect`, `options` | opening a database by its URL; what an operator tunes |
//! | `inspect`, `kept` | what the sink must know of a table before it writes; what it does to the values of its columns |
//! | `tables` | the tables as they were seen last, and whether they are still so |
//! | `rows`, `check` | a batch as rows; values that the database cannot hold |
//! | `limit`, `fits` | what a column keeps of a value; whether it keeps it as it is |
//! | `moment` | dates and times: cut to what a column keeps, and as MySQL takes them |
//! | `storable` | the same, asked of a value before it is stored in the buffer |
//! | `casts` | SeaORM's `save_as` and `select_as` |
//! | `write`, `isolate` | a batch as one transaction; finding the rows that are refused |
//! | `collisions` | what is said of a record whose key the database takes for another one's |
//! | `definition` | how a table is defined: whose fault a refusal of every row is |
//! | `unfit` | what is wrong with the table when every row is refused |
//! | `nowhere` | keys that the database cannot compare with its own |
//! | `stale` | which rows of a batch the database has newer versions of |
//! | `plan`, `dialect` | texts and sizes of statements; pure |
//! | `bind`, `tx` | arguments and transactions of the drivers |
//! | `fence` | generations of owners: issued, checked and locked |
//! | `insert_only` | which states have the same in columns that are set in a new row only |
//! | `load`, `read` | values by their keys; a column of a row |
//! | `loads` | how many loads at a time, and for how long: the flusher's connections are not theirs |
//! | `highest` | the highest key, above which ids are made |
//! | `doctor`, `live` | what is wrong between a mapping and the live table |
//! | `cascades` | foreign keys by which the database changes rows behind the buffer |
//! | `classify` | what an error means, by its code |
//! | `schema` | tables for tests and examples |

#![cfg_attr(
    not(all(feature = "postgres", feature = "mysql", feature = "sqlite")),
    allow(dead_code, reason = "the texts and codes of a database are not used without its driver")
)]

mod bind;
mod cascades;
mod casts;
mod check;
mod classify;
mod collisions;
mod connect;
mod definition;
mod dialect;
mod doctor;
mod entity;
mod fence;
mod fits;
mod highest;
mod insert_only;
mod inspect;
mod isolate;
mod kept;
mod limit;
mod live;
mod load;
mod loads;
#[doc(hidden)]
pub mod mapping;
#[doc(hidden)]
pub mod model;
mod moment;
mod nowhere;
mod options;
mod orphans;
mod passes;
mod plan;
mod read;
mod rows;
mod schema;
mod sink;
mod stale;
mod storable;
mod tables;
#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
mod tx;
#[cfg(not(any(feature = "postgres", feature = "mysql", feature = "sqlite")))]
#[path = "tx/absent.rs"]
mod tx;
mod unfit;
mod unique;
mod write;

#[doc(hidden)]
pub use sea_orm;

pub use entity::{Column, Columns, Reference, SqlEntity, SqlMappingError, Table};
pub use fence::fence_table_sql;
pub use options::SqlOptions;
#[doc(hidden)]
pub use read::read;
pub use schema::{create_table, drop_table};
pub use sink::SqlSink;
