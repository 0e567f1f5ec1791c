//! The struct of an entity changes while records of the old shape are in Redis, and while old programs still run.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod changes;
mod house;
mod outdated;
mod rolling;
mod structs;
