//! Core of write-behind. Use it through the `write-behind` crate.

pub mod codec;
mod entity;
mod error;
mod key;
mod sink;
#[cfg(feature = "testing")]
pub mod testing;

pub use codec::{CodecError, Format};
pub use entity::Entity;
pub use key::{EntityKey, Id, KeyError, KeyPart};
pub use sink::{Batch, Delete, ErrorKind, Fence, Report, Scope, Sink, SinkError, Upsert};

/// Emits its input: what the derive writes for a backend that is switched on.
#[doc(hidden)]
#[macro_export]
macro_rules! __emit {
    ($($tokens:tt)*) => { $($tokens)* };
}

/// Swallows its input: what the derive writes for a backend that is switched off.
#[doc(hidden)]
#[macro_export]
macro_rules! __omit {
    ($($tokens:tt)*) => {};
}
