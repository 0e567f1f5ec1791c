//! Changes that depend on the state they meet, and receipts, on Redis and real databases, between processes.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking, and prints its figures")]

mod counted;
mod counters;
mod process;
mod receipts;
mod versions;
