//! MariaDB, for the MySQL dialect.

use std::path::PathBuf;

use anyhow::Result;
use nix::sys::signal::Signal;

use super::Program;
use crate::account::Account;
use crate::folder::Folder;
use crate::install;
use crate::process::{Process, log_in, run_step};
use crate::programs;

pub(super) struct Mariadb {
    server: PathBuf,
    install_db: PathBuf,
    client: PathBuf,
}

impl Mariadb {
    pub(super) fn find_or_install() -> Result<Self> {
        install::unless_found(&["mariadb-server"], || {
            Some(Self {
                server: programs::find(&["mariadbd"])?,
                install_db: programs::find(&["mariadb-install-db"])?,
                client: programs::find(&["mariadb"])?,
            })
        })
    }

    fn sql(&self, account: &Account, port: u16, sql: &str) -> Result<()> {
        let mut command = account.command(&self.client);
        command.args(["--no-defaults", "--protocol=tcp", "--host=127.0.0.1", "--user=root", "--connect-timeout=5"]);
        command.arg(format!("--port={port}")).arg(format!("--execute={sql}"));
        programs::output(&mut command).map(drop)
    }
}

impl Program for Mariadb {
    fn start(&self, port: u16) -> Result<Process> {
        let account = Account::unprivileged("mysql")?;
        let folder = Folder::create("mariadb", &account)?;
        let data = format!("--datadir={}", folder.path().join("data").display());

        let mut install_db = account.command(&self.install_db);
        // Its default for temporary tables may be closed to that account, and would not be removed.
        install_db.env("TMPDIR", folder.path());
        // "normal" gives root an empty password; the default lets in only the system's root, over the socket.
        install_db.args(["--no-defaults", &data, "--auth-root-authentication-method=normal", "--skip-test-db"]);
        run_step("mariadb-install-db", &mut install_db, &log_in(&folder))?;

        let mut command = account.command(&self.server);
        command.env("TMPDIR", folder.path());
        command.args(["--no-defaults", &data, "--bind-address=127.0.0.1", "--skip-name-resolve"]);
        command.args(["--character-set-server=utf8mb4", "--max-allowed-packet=64M", "--max-connections=200"]);
        command.arg(format!("--port={port}"));
        for (option, file) in [("socket", "socket"), ("pid-file", "pid")] {
            command.arg(format!("--{option}={}", folder.path().join(file).display()));
        }
        let mut process = Process::start("mariadbd", command, Signal::SIGTERM, folder)?;
        process.wait_until_ready(|| self.sql(&account, port, "SELECT 1"))?;
        self.sql(&account, port, "CREATE DATABASE wb CHARACTER SET utf8mb4")?;
        Ok(process)
    }

    fn ready(&self, port: u16) -> Result<()> {
        self.sql(&Account::unprivileged("mysql")?, port, "SELECT 1")
    }

    fn url(&self, port: u16) -> String {
        format!("mysql://root@127.0.0.1:{port}/wb")
    }

    fn shell(&self, port: u16) -> String {
        format!("mariadb --no-defaults --default-character-set=utf8mb4 -h 127.0.0.1 -P {port} -u root wb")
    }
}
