//! The SQL sink on PostgreSQL, MariaDB and SQLite.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    unreachable_pub,
    reason = "tests"
)]

#[macro_use]
mod databases;
#[macro_use]
mod entities;

mod altered;
mod ambiguous;
mod batches;
mod cascades;
mod casts;
mod collisions;
mod column_types;
mod conformance;
mod doctor;
mod errors;
mod failover;
mod fences;
mod hangs;
mod house;
mod isolation;
mod kept;
mod key_properties;
mod keys;
mod late;
mod loads;
mod moves;
mod orphans;
mod postgres_types;
mod properties;
mod refusals;
mod schema_changes;
mod session_modes;
mod silent;
mod speed;
mod unmapped;
mod versions;
mod zoo;
