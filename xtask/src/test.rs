//! `cargo xtask test`: all tests of the workspace, against real servers.

use std::ffi::OsString;
use std::process::{Command, ExitCode, ExitStatus};

use anyhow::{Result, ensure};

use crate::process;
use crate::programs;
use crate::say;
use crate::server::{self, Kind, Servers};
use crate::summary;

/// Names a `mongod` binary: some tests start a standalone server of their own.
const MONGOD: &str = "WB_MONGOD";

/// What nextest says when it ran the tests, and some failed.
const SOME_FAILED: i32 = 100;

/// Starts the servers, runs all tests, says what failed, stops the servers. The exit code is that of the tests, or if
/// they passed that of the doc tests.
pub(crate) fn run(doc: bool, nextest: &[String]) -> Result<ExitCode> {
    install_nextest()?;
    let mut servers = Servers::start(&Kind::ALL)?;
    let standalone = match std::env::var_os(MONGOD) {
        Some(binary) => binary,
        None => server::mongod()?.into_os_string(),
    };
    let run_cargo = |servers: &Servers, arguments: &[&str], more: &[String]| {
        let mut command = cargo();
        command.args(arguments).args(more).env("WB_REQUIRE_SERVERS", "1").env(MONGOD, &standalone);
        command.envs(servers.iter().map(|server| server.variable()));
        process::run(&mut command)
    };
    summary::forget();
    let tests = run_cargo(&servers, &["nextest", "run", "--workspace", "--all-features"], nextest)?;
    // Doc tests are run whatever failed before, but not when nothing could be run at all.
    let ran = tests.success() || tests.code() == Some(SOME_FAILED);
    let doc_tests = if doc && ran {
        Some(run_cargo(&servers, &["test", "--doc", "--workspace", "--all-features", "--no-fail-fast"], &[])?)
    } else {
        None
    };
    say::progress(summary::of(tests.success(), &summary::failed_tests(), doc_tests.map(|status| status.success())));
    let status = doc_tests.filter(|_| tests.success()).unwrap_or(tests);
    if !status.success()
        && let Err(error) = servers.check_alive()
    {
        // Otherwise the failures would be looked for in the tests.
        say::progress(format!("{error:#}"));
    }
    Ok(exit_code(status))
}

/// Without it no test runs.
pub(crate) fn install_nextest() -> Result<()> {
    if programs::output(cargo().args(["nextest", "--version"])).is_ok() {
        return Ok(());
    }
    say::progress("installing cargo-nextest (cargo install cargo-nextest --locked), which takes minutes");
    let status = process::run(cargo().args(["install", "cargo-nextest", "--locked"]))?;
    ensure!(status.success(), "cargo-nextest cannot be installed ({status}); please install it by hand");
    Ok(())
}

/// The cargo that runs us, not another one that happens to be first on the PATH.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    // What cargo says about this package is not for its child: build scripts that look at these variables would run
    // again, and minutes of dependencies be compiled again, whenever a person's own cargo and ours take turns.
    for (name, _) in std::env::vars_os() {
        let own =
            name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_"));
        if own {
            command.env_remove(name);
        }
    }
    command
}

/// The exit code of a child as our own.
pub(crate) fn exit_code(status: ExitStatus) -> ExitCode {
    // A child ended by a signal has no code; a code outside of u8 does not exist here.
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    code.map_or(ExitCode::FAILURE, ExitCode::from)
}
