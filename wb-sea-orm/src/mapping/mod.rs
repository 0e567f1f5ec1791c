//! A struct as a table: its columns, and how their values are bound and read.

pub(crate) mod casts;
pub(crate) mod column;
pub(crate) mod entity;
pub(crate) mod insert_only;
pub mod sea_model;
pub mod value;

pub use value::*;
