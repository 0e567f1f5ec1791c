//! Faults on purpose: mechanisms that a test switches off, and points at which it stops a process.

pub(crate) mod failpoint;
pub(crate) mod mechanism;
