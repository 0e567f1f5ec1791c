//! Temporary folders that go away with their owner.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, chown};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};

use crate::account::Account;
use crate::say;

/// A private temporary folder, removed with its content when dropped.
#[derive(Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// Creates a folder that `account` owns and can reach.
    pub(crate) fn create(name: &str, account: &Account) -> Result<Self> {
        // A TMPDIR inside the home of root is closed to other accounts, hence the second place.
        for parent in [std::env::temp_dir(), PathBuf::from("/tmp")] {
            let folder = Self::create_in(&parent, name, account)?;
            if folder.is_reachable_by(account) {
                return Ok(folder);
            }
        }
        bail!(
            "the account that runs {name} can reach neither {} nor /tmp; set TMPDIR to a folder it can reach",
            std::env::temp_dir().display()
        )
    }

    /// Creates a folder inside of this one, which `account` can reach.
    pub(crate) fn create_in(parent: &Path, name: &str, account: &Account) -> Result<Self> {
        // Several runs share the machine, and several attempts share the process.
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let salt = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.subsec_nanos());
        let path = parent.join(format!("wb-{name}-{}-{number}-{salt:x}", std::process::id()));
        // Fails on a path that exists: nobody can prepare the folder for us.
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .with_context(|| format!("cannot create the temporary folder {}", path.display()))?;
        let folder = Self(path);
        if let Some((user, group)) = account.ids() {
            chown(folder.path(), Some(user), Some(group))
                .with_context(|| format!("cannot give {} to user {user}", folder.path().display()))?;
        }
        Ok(folder)
    }

    fn is_reachable_by(&self, account: &Account) -> bool {
        let mut probe = account.command(Path::new("test"));
        probe.arg("-w").arg(&self.0).stderr(Stdio::null());
        probe.status().is_ok_and(|status| status.success())
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            say::progress(format!("cannot remove {}: {error}", self.0.display()));
        }
    }
}
