//! Under which account a server runs. PostgreSQL refuses to run as root and MariaDB warns against it, so as root they
//! run as the account that their package created, or as `nobody`.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::programs;

/// The account of a server.
#[derive(Debug)]
pub(crate) enum Account {
    /// Whoever runs this program.
    Own,
    /// Another user and group, which only root can become.
    Other {
        /// Numeric user.
        user: u32,
        /// Numeric group.
        group: u32,
    },
}

impl Account {
    /// For a server that must not run as root: the preferred account if it exists, else `nobody`.
    pub(crate) fn unprivileged(preferred: &str) -> Result<Self> {
        if !is_root() {
            return Ok(Self::Own);
        }
        let (user, group) = ids_of(preferred).or_else(|| ids_of("nobody")).with_context(|| {
            format!("neither the account {preferred} nor nobody exists; run this as an ordinary user")
        })?;
        Ok(Self::Other { user, group })
    }

    /// Numeric user and group, when they are not our own.
    pub(crate) fn ids(&self) -> Option<(u32, u32)> {
        match *self {
            Self::Own => None,
            Self::Other { user, group } => Some((user, group)),
        }
    }

    /// A command that runs `program` under this account, in a clean environment.
    ///
    /// The process id of the command is that of the program: `setpriv` executes it in its own place.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = match self {
            Self::Own => Command::new(program),
            Self::Other { user, group } => {
                let mut command = Command::new("setpriv");
                command.args([format!("--reuid={user}"), format!("--regid={group}")]);
                command.args(["--clear-groups", "--"]).arg(program);
                command
            }
        };
        // A PGOPTIONS or a MYSQL_HOST of the developer's own session must not reach a private server.
        command.env_clear().env("LC_ALL", "C");
        for kept in ["PATH", "LD_LIBRARY_PATH", "TZ"] {
            if let Some(value) = std::env::var_os(kept) {
                command.env(kept, value);
            }
        }
        // The folder we were started in may be closed to that account, and PostgreSQL warns about that.
        command.current_dir("/");
        command
    }
}

/// Whether we are root.
pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

fn ids_of(name: &str) -> Option<(u32, u32)> {
    let id = |flag: &str| programs::output(Command::new("id").args([flag, name])).ok()?.trim().parse().ok();
    Some((id("-u")?, id("-g")?))
}
