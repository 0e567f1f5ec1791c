//! MongoDB sink of write-behind.

mod entity;

#[doc(hidden)]
pub use bson;

pub use entity::{FieldRule, MappingError, MongoEntity};
