//! A server that a test kills with SIGKILL and starts again on the same port and the same files.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::{Kind, Program, redis, start_somewhere};
use crate::process::Process;

/// How long a killed server may take until it starts again: what it left behind may still be in use.
const AGAIN_WITHIN: Duration = Duration::from_secs(20);

/// A private server. Redis keeps what it acknowledged (`appendfsync always`), as the databases do. Dropping it stops it
/// and removes its files.
pub struct Mortal {
    kind: Kind,
    program: Box<dyn Program>,
    port: u16,
    process: Process,
}

impl fmt::Debug for Mortal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mortal").field("kind", &self.kind).field("port", &self.port).finish_non_exhaustive()
    }
}

impl Mortal {
    /// Starts a server that nobody else knows, installing it first where it is missing.
    ///
    /// # Errors
    /// When it cannot be installed, or does not answer within a minute; with its last words.
    pub fn start(kind: Kind) -> Result<Self> {
        let program = match kind {
            Kind::Redis => Box::new(redis::Redis::find_or_install()?.durable()),
            _ => kind.program()?,
        };
        let (port, process) = start_somewhere(kind, &*program)?;
        Ok(Self { kind, program, port, process })
    }

    /// The URL for clients; the same after a restart.
    #[must_use]
    pub fn url(&self) -> String {
        self.program.url(self.port)
    }

    /// Kills it with SIGKILL.
    ///
    /// # Errors
    /// When it was dead already.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Starts the killed server again and waits until it answers.
    ///
    /// # Errors
    /// When it does not; with its last words.
    pub fn start_again(&mut self) -> Result<()> {
        let until = Instant::now() + AGAIN_WITHIN;
        loop {
            self.process.start_again()?;
            match self.process.wait_until_ready(|| self.program.ready(self.port)) {
                Ok(()) => return Ok(()),
                Err(error) if Instant::now() > until => return Err(error),
                Err(_) => {
                    // Dead already, unless it does not answer.
                    let _ = self.process.kill();
                }
            }
        }
    }
}
