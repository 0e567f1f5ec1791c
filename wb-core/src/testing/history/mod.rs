//! Random histories: what may happen to a buffer and an engine, in any order, against a plain map.
//!
//! A history is read from pairs of bytes, so that any generator can make one and shrink it. [`flow`] plays it on a
//! [`Space`](crate::Space) step by step, with two workers, crashes and a sink that fences; [`engine`] plays it through
//! [`Engine`](crate::Engine)s that are dropped and started again, with a [`ScriptedSink`](super::ScriptedSink). After
//! every step a reader must see the last acknowledged state, and in the end the sink must hold exactly that.

pub mod engine;
pub mod flow;

/// Keys of a history. Few, so that steps meet.
const KEYS: u8 = 6;
