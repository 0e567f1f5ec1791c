//! For tests of your own sinks and engines: conformance suites and scripted twins.
//!
//! ```
//! # use wb_core::{CodecError, Entity, Format, codec};
//! # use serde::{Deserialize, Serialize};
//! use wb_core::testing::{ScriptedSink, Specimen, sink};
//!
//! #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
//! struct Player { id: u64, score: u64 }
//! # impl Entity for Player {
//! #     type Key = u64;
//! #     const NAME: &'static str = "player";
//! #     const FORMAT: Format = Format::Json;
//! #     fn key(&self) -> u64 { self.id }
//! #     fn encode(&self) -> Result<Vec<u8>, CodecError> { codec::encode(Self::FORMAT, self) }
//! #     fn decode(payload: &[u8]) -> Result<Self, CodecError> { codec::decode(Self::FORMAT, payload) }
//! # }
//!
//! impl Specimen for Player {
//!     fn specimen(n: u64) -> Self { Self { id: n, score: 0 } }
//!     fn revise(&self, round: u64) -> Self { Self { id: self.id, score: round } }
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! // In place of `ScriptedSink::new()`: your sink.
//! sink::all(&ScriptedSink::<Player>::new()).await;
//! # });
//! ```
//!
//! Failed checks panic with the step that failed, as tests do.

pub mod buffer;
pub mod fences;
mod guards;
pub mod history;
mod scripted;
pub mod sink;

use std::fmt::Debug;

pub use scripted::{Entry, Outcome, ScriptedSink};

use crate::entity::Entity;

/// An entity whose values a conformance suite can make.
///
/// # Contract
/// - [`specimen`](Specimen::specimen) of different numbers has different keys. Suites use numbers below one million.
/// - [`revise`](Specimen::revise) keeps the key; revisions of different rounds (from 1) differ from each other and from
///   the specimen.
/// - Values survive the database unchanged: a sink whose dates keep milliseconds gets specimens with milliseconds.
pub trait Specimen: Entity + Clone + PartialEq + Debug {
    /// The specimen of this number.
    fn specimen(n: u64) -> Self;

    /// Another state of the same record.
    #[must_use]
    fn revise(&self, round: u64) -> Self;
}
