//! Transactions on Redis and real databases: gold that players trade is conserved in the database whenever somebody looks,
//! whatever step a worker dies at.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking, and prints its figures")]

mod conserved;
mod market;
mod poisoned;
mod process;
mod unmarked;
