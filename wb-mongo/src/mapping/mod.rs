//! A struct as a document: its fields, and what is refused because no document holds it.

pub(crate) mod document;
pub(crate) mod entity;
pub(crate) mod insert_only;
pub mod native;
pub(crate) mod unstorable;
pub mod values;

pub use values::*;
