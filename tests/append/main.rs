//! Append-only entities on Redis and real databases: every row, once, in its order.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod comment;
mod duplicates;
mod order;
mod process;
