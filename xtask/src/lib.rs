//! Developer commands: `cargo xtask test` runs the tests against real servers, `cargo xtask up` keeps those servers
//! for a person to use, `cargo xtask chaos` runs the chaos suite for long.
//!
//! Reading order: `cli` says what can be asked, `test`, `up` and `chaos` do it, `server` starts what they need. A library
//! because the chaos suite starts servers too, and kills them.

mod account;
mod chaos;
mod cli;
mod folder;
mod install;
mod interrupt;
mod layers;
mod process;
mod programs;
mod say;
mod server;
mod summary;
mod test;
mod up;

use std::process::ExitCode;

use crate::cli::Command;
pub use crate::interrupt::{requested as interrupted, watch as watch_for_interrupts};
pub use crate::server::{Kind, Mortal};

/// What `cargo xtask` does; the exit code is that of the command.
#[must_use]
pub fn main() -> ExitCode {
    let command = match cli::parse(std::env::args().skip(1)) {
        Ok(command) => command,
        Err(error) => {
            say::progress(format!("error: {error:#}\n\n{}", cli::HELP));
            return ExitCode::from(2);
        }
    };
    let outcome = interrupt::watch().and_then(|()| match command {
        Command::Help => {
            say::result(cli::HELP);
            Ok(ExitCode::SUCCESS)
        }
        Command::Layers => layers::run(),
        Command::Up { only } => up::run(&only),
        Command::Chaos(chaos) => chaos::run(&chaos),
        Command::Test { doc, nextest } => test::run(doc, &nextest),
    });
    outcome.unwrap_or_else(|error| {
        if interrupt::requested() {
            say::progress("interrupted");
            return ExitCode::from(interrupt::EXIT_CODE);
        }
        say::progress(format!("error: {error:#}"));
        ExitCode::FAILURE
    })
}
