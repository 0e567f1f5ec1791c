//! The whole house: derived entities, a buffer, the engine, real databases.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking, and prints its figures")]

mod account;
mod addresses;
mod away;
mod families;
mod foreign;
mod insert_only;
mod start;
mod storm;
