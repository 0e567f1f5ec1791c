//! The servers that the tests need: which there are, how they are found, started together and stopped.
//!
//! One file per server, all of the same shape: find or install, start on a port, wait for a real answer.

mod mariadb;
mod mongo;
mod mongo_wheel;
mod mongo_wire;
mod mortal;
mod postgres;
mod redis;

use std::net::{Ipv4Addr, TcpListener};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result};

use crate::process::{PortTaken, Process};
use crate::say;

const ATTEMPTS: usize = 5;

/// One kind of server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Redis.
    Redis,
    /// PostgreSQL.
    Postgres,
    /// MariaDB.
    Mysql,
    /// MongoDB.
    Mongo,
}

impl Kind {
    /// Every kind, in the order they are shown.
    pub(crate) const ALL: [Self; 4] = [Self::Redis, Self::Postgres, Self::Mysql, Self::Mongo];

    /// Its name on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::Postgres => "postgres",
            Self::Mysql => "mysql",
            Self::Mongo => "mongo",
        }
    }

    /// The environment variable of its URL.
    pub(crate) fn variable(self) -> &'static str {
        match self {
            Self::Redis => "WB_REDIS_URL",
            Self::Postgres => "WB_POSTGRES_URL",
            Self::Mysql => "WB_MYSQL_URL",
            Self::Mongo => "WB_MONGO_URL",
        }
    }

    fn program(self) -> Result<Box<dyn Program>> {
        Ok(match self {
            Self::Redis => Box::new(redis::Redis::find_or_install()?),
            Self::Postgres => Box::new(postgres::Postgres::find_or_install()?),
            Self::Mysql => Box::new(mariadb::Mariadb::find_or_install()?),
            Self::Mongo => Box::new(mongo::Mongo::find_or_install()?),
        })
    }
}

pub(crate) use mongo::mongod;
pub use mortal::Mortal;

/// A server that is installed and can be started.
trait Program: Send + Sync {
    /// Starts it on this port of 127.0.0.1 and returns once it answers. [`PortTaken`] asks for another port.
    fn start(&self, port: u16) -> Result<Process>;
    /// Whether it answers as it should, after it was started again.
    fn ready(&self, port: u16) -> Result<()>;
    /// The URL for clients.
    fn url(&self, port: u16) -> String;
    /// A command line with which a person talks to it.
    fn shell(&self, port: u16) -> String;
}

/// A server that answers.
#[derive(Debug)]
pub(crate) struct Server {
    kind: Kind,
    url: String,
    /// Absent for a server that somebody else runs.
    own: Option<Own>,
}

#[derive(Debug)]
struct Own {
    process: Process,
    shell: String,
}

impl Server {
    /// Its environment variable and URL.
    pub(crate) fn variable(&self) -> (&'static str, &str) {
        (self.kind.variable(), &self.url)
    }

    /// Whether it was started here.
    pub(crate) const fn is_own(&self) -> bool {
        self.own.is_some()
    }

    /// One line about it, for people.
    pub(crate) fn description(&self) -> String {
        let name = self.kind.name();
        match &self.own {
            None => format!("{name:<9} as the environment says"),
            Some(Own { process, shell }) => {
                let (id, folder) = (process.id(), process.folder().display());
                format!("{name:<9} {shell}   (process {id}, files and log in {folder})")
            }
        }
    }
}

/// Servers that answer. Dropping them stops those that were started here.
#[derive(Debug)]
pub(crate) struct Servers(Vec<Server>);

impl Servers {
    /// Starts these servers side by side, installing what is missing first. All or none.
    pub(crate) fn start(kinds: &[Kind]) -> Result<Self> {
        let begin = Instant::now();
        let mut servers = Vec::new();
        let mut programs = Vec::new();
        for &kind in kinds {
            match std::env::var(kind.variable()) {
                Ok(url) if !url.is_empty() => {
                    say::progress(format!("{} is set, using that server for {}", kind.variable(), kind.name()));
                    servers.push(Server { kind, url, own: None });
                }
                _ => {
                    // Not side by side: two installations would wait for each other anyway.
                    let program = kind.program().with_context(|| {
                        let (name, variable) = (kind.name(), kind.variable());
                        format!("no {name} server here (set {variable} to the URL of an existing one to use that)")
                    })?;
                    programs.push((kind, program));
                }
            }
        }
        // Collected before the first error is returned, so that `self` owns, and stops, whatever did start.
        let started: Vec<Result<Server>> = thread::scope(|scope| {
            let threads: Vec<_> =
                programs.iter().map(|(kind, program)| scope.spawn(|| start(*kind, &**program))).collect();
            let ended = threads.into_iter().map(|thread| thread.join());
            ended.map(|end| end.unwrap_or_else(|_| Err(anyhow::anyhow!("starting a server panicked")))).collect()
        });
        let mut first_error = None;
        for server in started {
            match server {
                Ok(server) => servers.push(server),
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        servers.sort_by_key(|server| Kind::ALL.iter().position(|&kind| kind == server.kind));
        let servers = Self(servers);
        match first_error {
            Some(error) => Err(error),
            None => {
                say::progress(format!("{} servers ready in {:.1} s", servers.0.len(), begin.elapsed().as_secs_f32()));
                Ok(servers)
            }
        }
    }

    /// Each of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Server> {
        self.0.iter()
    }

    /// An error when one of them has ended by itself.
    pub(crate) fn check_alive(&mut self) -> Result<()> {
        self.0.iter_mut().filter_map(|server| server.own.as_mut()).try_for_each(|own| own.process.check_alive())
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        // All are asked before the first is waited for.
        for own in self.0.iter_mut().filter_map(|server| server.own.as_mut()) {
            own.process.ask_to_stop();
        }
    }
}

fn start(kind: Kind, program: &dyn Program) -> Result<Server> {
    let (port, process) = start_somewhere(kind, program)?;
    let own = Own { process, shell: program.shell(port) };
    Ok(Server { kind, url: program.url(port), own: Some(own) })
}

/// Starts it on a free port.
fn start_somewhere(kind: Kind, program: &dyn Program) -> Result<(u16, Process)> {
    let mut outcome = Err(PortTaken.into());
    for _ in 0..ATTEMPTS {
        let port = free_port()?;
        outcome = program.start(port).map(|process| (port, process));
        // Between looking for a free port and using it, anybody may take it.
        if !matches!(&outcome, Err(error) if error.is::<PortTaken>()) {
            break;
        }
    }
    outcome.with_context(|| format!("cannot start {}", kind.name()))
}

fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port on 127.0.0.1")?;
    Ok(listener.local_addr()?.port())
}
