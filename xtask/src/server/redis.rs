//! Redis, without persistence, but for tests that kill it: there it keeps what it acknowledged.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;

use super::Program;
use crate::account::Account;
use crate::folder::Folder;
use crate::install;
use crate::process::Process;
use crate::programs;

pub(super) struct Redis {
    server: PathBuf,
    durable: bool,
}

impl Redis {
    pub(super) fn find_or_install() -> Result<Self> {
        let server = install::unless_found(&["redis-server"], || programs::find(&["redis-server"]))?;
        Ok(Self { server, durable: false })
    }

    /// Every write is on the disk before it is acknowledged.
    pub(super) fn durable(self) -> Self {
        Self { durable: true, ..self }
    }
}

impl Program for Redis {
    fn start(&self, port: u16) -> Result<Process> {
        let account = Account::Own;
        let folder = Folder::create("redis", &account)?;
        let mut command = account.command(&self.server);
        command.args(["--save", "", "--bind", "127.0.0.1", "--port", &port.to_string(), "--dir"]);
        command.arg(folder.path()).arg("--appendonly");
        if self.durable {
            command.args(["yes", "--appendfsync", "always"]);
        } else {
            command.arg("no");
        }
        let mut process = Process::start("redis-server", command, Signal::SIGTERM, folder)?;
        process.wait_until_ready(|| ping(port))?;
        Ok(process)
    }

    fn ready(&self, port: u16) -> Result<()> {
        ping(port)
    }

    fn url(&self, port: u16) -> String {
        format!("redis://127.0.0.1:{port}/")
    }

    fn shell(&self, port: u16) -> String {
        format!("redis-cli -p {port}")
    }
}

fn ping(port: u16) -> Result<()> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.write_all(b"PING\r\n")?;
    let mut answer = [0; 7];
    stream.read_exact(&mut answer)?;
    ensure!(&answer == b"+PONG\r\n", "unexpected answer to PING");
    Ok(())
}
