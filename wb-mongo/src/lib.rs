//! MongoDB sink of write-behind.

mod entity;
#[doc(hidden)]
pub mod mapping;
#[doc(hidden)]
pub mod native;

#[doc(hidden)]
pub use bson;

pub use entity::{FieldRule, MappingError, MongoEntity};
pub use native::NativeBson;
