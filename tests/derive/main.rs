//! What the derive's output does at run time.

#![expect(clippy::unwrap_used, clippy::panic, reason = "what helpers of tests unwrap is what the tests expect")]
#![expect(unreachable_pub, reason = "SeaORM and serde name items of modules, which are public by convention")]

mod change;
mod entity;
mod family;
mod model;
mod mongo;
mod sql;
mod version;
