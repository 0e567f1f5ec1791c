//! What a program and its operators are told: events, the log, metrics, counters, findings.

pub(crate) mod event;
pub(crate) mod findings;
pub(crate) mod log;
pub mod metrics;
pub(crate) mod scope;
pub(crate) mod stats;
