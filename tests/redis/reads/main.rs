//! Reads and signals through Redis.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod commands;
mod near;
mod row;
mod signals;
