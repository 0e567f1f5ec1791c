//! SQL sink of write-behind, through SeaORM: PostgreSQL, MySQL/MariaDB and SQLite.

mod entity;
#[doc(hidden)]
pub mod mapping;
#[doc(hidden)]
pub mod model;

#[doc(hidden)]
pub use sea_orm;

pub use entity::{Column, SqlEntity, SqlMappingError, Table};
