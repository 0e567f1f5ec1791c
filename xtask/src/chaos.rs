//! `cargo xtask chaos`: the chaos suite for as long as somebody wants.

use std::process::ExitCode;

use anyhow::Result;

use crate::process;
use crate::server::{Kind, Servers};
use crate::test::{cargo, exit_code, install_nextest};

/// What to do, and how much of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Chaos {
    /// Length of the storm.
    pub(crate) minutes: u64,
    /// Instead of a storm: how often a worker is killed at each step of the flow.
    pub(crate) rounds: Option<u64>,
    pub(crate) seed: Option<u64>,
    /// PostgreSQL or MongoDB.
    pub(crate) sink: Kind,
    pub(crate) workers: u64,
    /// Names of the faults of the storm; else all of them.
    pub(crate) faults: Option<String>,
}

impl Default for Chaos {
    fn default() -> Self {
        Self { minutes: 10, rounds: None, seed: None, sink: Kind::Postgres, workers: 3, faults: None }
    }
}

/// Runs it; the exit code is that of the test.
pub(crate) fn run(chaos: &Chaos) -> Result<ExitCode> {
    install_nextest()?;
    // The storm starts servers of its own, which it can kill.
    let kinds: &[Kind] = if chaos.rounds.is_some() { &[Kind::Redis, chaos.sink] } else { &[] };
    let servers = if kinds.is_empty() { None } else { Some(Servers::start(kinds)?) };
    let test = match chaos.rounds {
        Some(_) => "kill_9_at_each_step",
        None => "nothing_is_lost_and_nothing_goes_back",
    };
    let mut command = cargo();
    // As `cargo xtask test` builds it, so that nothing is built twice.
    command.args(["nextest", "run", "--workspace", "--all-features", "--test", "chaos", "--no-capture", "-E"]);
    command.arg(format!("test({test}_on_{})", chaos.sink.name()));
    command.envs(servers.iter().flat_map(|servers| servers.iter()).map(|server| server.variable()));
    command.env("WB_REQUIRE_SERVERS", "1");
    match chaos.rounds {
        Some(rounds) => command.env("WB_CHAOS_ROUNDS", rounds.to_string()),
        None => command.env("WB_CHAOS_MINUTES", chaos.minutes.to_string()),
    };
    command.env("WB_CHAOS_WORKERS", chaos.workers.to_string());
    if let Some(faults) = &chaos.faults {
        // The suite knows their names.
        command.env("WB_CHAOS_FAULTS", faults);
    }
    if let Some(seed) = chaos.seed {
        command.env("WB_SEED", seed.to_string());
    }
    Ok(exit_code(process::run(&mut command)?))
}
