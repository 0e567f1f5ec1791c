//! `MongoSink` on real servers.
//!
//! `WB_MONGO_URL`: a replica set. `WB_MONGOD`: a `mongod` binary, to start a standalone server from. What is not set
//! is skipped with a line that says so, unless `WB_REQUIRE_SERVERS=1` or `CI=true`: then the test fails.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says what it skips"
)]

mod ambiguous;
mod conformance;
mod documents;
mod entities;
mod examine;
mod fences;
mod foreign;
mod keys;
mod loads;
mod merges;
mod moves;
mod orphans;
mod outages;
mod properties;
mod refusals;
mod server;
mod speed;
mod stopped;
mod storable;
mod versions;
mod zoo;
