//! Changes that depend on the state they meet, and receipts, on Redis and real databases, between processes.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod counted;
mod counters;
mod process;
mod receipts;
mod versions;
