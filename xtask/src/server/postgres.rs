//! PostgreSQL with its default durability: what a test sees committed must be what production would see.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use nix::sys::signal::Signal;

use super::Program;
use crate::account::Account;
use crate::folder::Folder;
use crate::install;
use crate::process::{Process, log_in, run_step};
use crate::programs;

const DEBIAN: &str = "/usr/lib/postgresql";

pub(super) struct Postgres {
    /// The folder of `initdb`, `postgres` and `psql`, all of one version.
    programs: PathBuf,
}

impl Postgres {
    pub(super) fn find_or_install() -> Result<Self> {
        let programs = install::unless_found(&["postgresql"], find)?;
        Ok(Self { programs })
    }

    fn psql(&self, account: &Account, port: u16, database: &str, sql: &str) -> Result<()> {
        let mut command: Command = account.command(&self.programs.join("psql"));
        command.args(["--no-psqlrc", "--no-password", "--quiet", "--host", "127.0.0.1", "--port", &port.to_string()]);
        command.args(["--username", "postgres", "--dbname", database, "--command", sql]);
        programs::output(&mut command).map(drop)
    }
}

impl Program for Postgres {
    fn start(&self, port: u16) -> Result<Process> {
        let account = Account::unprivileged("postgres")?;
        let folder = Folder::create("postgres", &account)?;
        let data = folder.path().join("data");

        let mut initdb = account.command(&self.programs.join("initdb"));
        initdb.args(["--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C", "--pgdata"]).arg(&data);
        run_step("initdb", &mut initdb, &log_in(&folder))?;

        let mut command = account.command(&self.programs.join("postgres"));
        command.arg("-D").arg(&data).args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1"]);
        command.args(["-c", "max_connections=200", "-c"]);
        command.arg(format!("unix_socket_directories={}", folder.path().display()));
        // SIGINT is its fast shutdown; SIGTERM would wait for every client to leave.
        let mut process = Process::start("postgres", command, Signal::SIGINT, folder)?;
        process.wait_until_ready(|| self.psql(&account, port, "postgres", "SELECT 1"))?;
        self.psql(&account, port, "postgres", "CREATE DATABASE wb")?;
        Ok(process)
    }

    fn ready(&self, port: u16) -> Result<()> {
        self.psql(&Account::unprivileged("postgres")?, port, "wb", "SELECT 1")
    }

    fn url(&self, port: u16) -> String {
        format!("postgres://postgres@127.0.0.1:{port}/wb")
    }

    fn shell(&self, port: u16) -> String {
        format!("psql {}", self.url(port))
    }
}

fn find() -> Option<PathBuf> {
    // On the PATH there are often links, or wrappers for a part of the programs only.
    let on_path = programs::find(&["postgres"]).and_then(|file| Some(file.canonicalize().ok()?.parent()?.to_owned()));
    let mut versions: Vec<PathBuf> =
        fs::read_dir(DEBIAN).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    versions.sort_by_key(|folder| folder.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok()));
    let installed = versions.into_iter().rev().map(|version| version.join("bin"));
    on_path.into_iter().chain(installed).find(|folder| is_complete(folder))
}

fn is_complete(folder: &Path) -> bool {
    ["initdb", "postgres", "psql"].iter().all(|name| programs::is_executable(&folder.join(name)))
}
