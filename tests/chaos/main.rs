//! Chaos: processes that write and flush are killed, stopped and cut off, servers are killed and started again, and
//! afterwards the database is what was acknowledged and never went back.
//!
//! Reading order: [`storm`] does every [`fault`] at random, on its [`role`]s, on Redis ([`admin`]) and by [`deploy`]s, then all is [`calm`]; [`steps`] kills at each step of the flow, [`stopped`] wakes a
//! worker that was overtaken. Writers leave a [`history`], the [`target`] remembers every change of a row, and the
//! [`oracle`] judges the one by the other.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test fails by panicking, and prints its figures"
)]

mod actor;
mod admin;
mod calm;
mod deploy;
mod fault;
mod history;
mod item;
mod oracle;
mod place;
mod report;
mod role;
mod steps;
mod stopped;
mod storm;
mod target;
mod writer;
