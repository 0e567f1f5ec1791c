//! Who flushes what, on a real Redis: several engines in one process, each with a connection of its own.
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a test fails by panicking, and prints what it measured")]

mod clock;
mod frozen;
mod idle;
mod moves;
mod player;
mod topology;
