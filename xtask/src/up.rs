//! `cargo xtask up`: servers for a person, until Ctrl-C.

use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;

use crate::interrupt;
use crate::say;
use crate::server::{Kind, Servers};

const POLL: Duration = Duration::from_millis(200);

/// Starts these servers, shows how to reach them, and keeps them until this run is asked to end.
pub(crate) fn run(only: &[Kind]) -> Result<ExitCode> {
    let mut servers = Servers::start(only)?;
    say::result(describe(&servers));
    while !interrupt::requested() {
        servers.check_alive()?;
        sleep(POLL);
    }
    say::progress("stopping the servers");
    Ok(ExitCode::SUCCESS)
}

/// Valid shell input as a whole, so that it can go to a file and be sourced from there.
fn describe(servers: &Servers) -> String {
    let mut text =
        String::from("# The servers answer. In another terminal, for the tests and for your own programs:\n");
    for server in servers.iter() {
        let (variable, url) = server.variable();
        text += &if server.is_own() {
            format!("export {variable}='{url}'\n")
        } else {
            // It may hold a password, and the terminal has it already.
            format!("# {variable} is as your environment has it\n")
        };
    }
    text += "#\n# To look inside:\n";
    for server in servers.iter() {
        text += &format!("#   {}\n", server.description());
    }
    text += "#\n# Ctrl-C stops the servers that were started here and removes their data.\n";
    text
}
