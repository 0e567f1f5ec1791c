//! What needs a Redis of its own: one that is killed, goes back, is full of settings, or has replicas.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod connection;
mod copies;
mod doctor;
mod durability;
mod events;
mod left_out;
mod limits;
mod lineage;
mod losses;
mod orphans;
mod player;
mod receipts;
mod relayout;
mod seams;
mod stamp;
mod start;
mod topology;
