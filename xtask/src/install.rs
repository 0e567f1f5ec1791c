//! Installing Debian packages, saying so, and without starting the services that come with them.

use std::fs;
use std::io::stderr;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail, ensure};

use crate::account::{Account, is_root};
use crate::folder::Folder;
use crate::process;
use crate::programs;
use crate::say;

/// Debian's maintainer scripts ask this program before they start a service; 101 means "do not".
const POLICY: &str = "/usr/sbin/policy-rc.d";
const POLICY_TEXT: &str = "#!/bin/sh\nexit 101\n";

/// What `find` finds, installing these packages when it finds nothing.
pub(crate) fn unless_found<T>(packages: &[&str], find: impl Fn() -> Option<T>) -> Result<T> {
    if let Some(found) = find() {
        return Ok(found);
    }
    install(packages)?;
    find()
        .with_context(|| format!("{} is installed, but its programs are not where they should be", packages.join(" ")))
}

/// Installs Debian packages.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    let names = packages.join(" ");
    let root = Root::find().with_context(|| format!("cannot install {names} by myself, please install it by hand"))?;
    say::progress(format!("installing the Debian package {names} (its system service stays off)"));
    let _policy = NoServices::decree(root)?;
    root.update_once()?;
    let arguments = ["install", "-y", "-q", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=300"];
    let status = process::run(root.apt_get().args(arguments).args(packages).stdout(stderr()))?;
    ensure!(status.success(), "apt-get install {names} failed ({status}); please install it by hand");
    Ok(())
}

/// How commands get root's rights.
#[derive(Debug, Clone, Copy)]
enum Root {
    /// We have them.
    Own,
    /// Through `sudo`, which does not ask for a password.
    Sudo,
}

impl Root {
    fn find() -> Result<Self> {
        ensure!(programs::find(&["apt-get"]).is_some(), "there is no apt-get here");
        if is_root() {
            Ok(Self::Own)
        } else if programs::output(Command::new("sudo").args(["-n", "true"])).is_ok() {
            Ok(Self::Sudo)
        } else {
            bail!("this is neither root nor may it use sudo without a password")
        }
    }

    fn command(self, program: &str) -> Command {
        match self {
            Self::Own => Command::new(program),
            Self::Sudo => {
                let mut command = Command::new("sudo");
                command.args(["-n", program]);
                command
            }
        }
    }

    fn apt_get(self) -> Command {
        // As an argument, because sudo drops the environment.
        let mut command = self.command("env");
        command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get"]);
        command
    }

    fn update_once(self) -> Result<()> {
        static UPDATED: AtomicBool = AtomicBool::new(false);
        if !UPDATED.swap(true, Ordering::Relaxed) {
            let status = process::run(self.apt_get().args(["update", "-q"]).stdout(stderr()))?;
            if !status.success() {
                // One broken source among many is no obstacle, if the package comes from another.
                say::progress(format!("apt-get update failed ({status}), trying with the old lists"));
            }
        }
        Ok(())
    }
}

/// While it lives, installed services are not started. A policy that the machine already has is left alone.
struct NoServices(Option<Root>);

impl NoServices {
    fn decree(root: Root) -> Result<Self> {
        if Path::new(POLICY).exists() {
            return Ok(Self(None));
        }
        let folder = Folder::create("policy", &Account::Own)?;
        let file = folder.path().join("policy-rc.d");
        fs::write(&file, POLICY_TEXT)?;
        programs::output(root.command("install").args(["-m", "755"]).arg(&file).arg(POLICY))?;
        Ok(Self(Some(root)))
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if let Some(root) = self.0
            && let Err(error) = programs::output(root.command("rm").args(["-f", POLICY]))
        {
            say::progress(format!("please remove {POLICY}, I could not: {error:#}"));
        }
    }
}
