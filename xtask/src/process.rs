//! Child processes: run one to its end, or keep one as a server. Both end with an interruption, and no server
//! outlives its [`Process`].

use std::fs::{self, File, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use crate::folder::Folder;
use crate::interrupt;
use crate::say;

const READY_WITHIN: Duration = Duration::from_secs(60);
const STOP_WITHIN: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(50);
const LOG_TAIL: usize = 40;
/// Characters of one line: mongod puts thousands into some.
const LOG_WIDTH: usize = 300;

/// The server died because somebody else got its port first: worth another attempt on another port.
#[derive(Debug)]
pub(crate) struct PortTaken;

impl std::fmt::Display for PortTaken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the port was taken by another program in the meantime")
    }
}

impl std::error::Error for PortTaken {}

/// Runs a command to its end. On an interruption the command and its children are interrupted too and waited for.
pub(crate) fn run(command: &mut Command) -> Result<ExitStatus> {
    interrupt::check()?;
    let name = command.get_program().to_string_lossy().into_owned();
    // A group of its own gets a Ctrl-C once, from us, however it reached us; without the terminal's input, because
    // reading it would stop a group in the background.
    let mut child =
        command.stdin(Stdio::null()).process_group(0).spawn().with_context(|| format!("cannot run {name}"))?;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if interrupt::requested() {
            let group = pid(&child)?;
            // Fails only when the group is already gone.
            let _ = killpg(group, Signal::SIGINT);
            if !wait_for_end(&mut child, STOP_WITHIN)? {
                let _ = killpg(group, Signal::SIGKILL);
                child.wait()?;
            }
            bail!("interrupted");
        }
        sleep(POLL);
    }
}

/// Runs one step of preparing a server; its output goes to the log, which the error quotes.
pub(crate) fn run_step(name: &str, command: &mut Command, log: &Path) -> Result<()> {
    let file = open_log(log)?;
    let status = run(command.stdout(file.try_clone()?).stderr(file))?;
    ensure!(status.success(), "{name} failed ({status}); it said:\n{}", tail(log));
    Ok(())
}

/// A running server together with its folder. Dropping it stops the server, then removes the folder.
#[derive(Debug)]
pub(crate) struct Process {
    name: &'static str,
    command: Command,
    child: Child,
    stop_signal: Signal,
    asked_to_stop: bool,
    folder: Folder,
}

impl Process {
    /// Starts a server. Its output goes to the [`log_in`] its folder.
    pub(crate) fn start(name: &'static str, mut command: Command, stop_signal: Signal, folder: Folder) -> Result<Self> {
        interrupt::check()?;
        let log = open_log(&log_in(&folder))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // A Ctrl-C must not reach the servers before the tests that use them have ended.
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        Ok(Self { name, command, child, stop_signal, asked_to_stop: false, folder })
    }

    /// Kills the server and the processes that it started, with SIGKILL: it can save nothing.
    pub(crate) fn kill(&mut self) -> Result<()> {
        let id = self.id();
        // PostgreSQL has a process for each connection; they would outlive it for a moment.
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
        self.child.kill()?;
        self.child.wait()?;
        for child in children.split_whitespace().filter_map(|id| id.parse().ok()) {
            // Fails only when it is gone already.
            let _ = kill(Pid::from_raw(child), Signal::SIGKILL);
        }
        Ok(())
    }

    /// Starts the killed server again, on the files that it left.
    pub(crate) fn start_again(&mut self) -> Result<()> {
        interrupt::check()?;
        self.child = self.command.spawn().with_context(|| format!("cannot start {}", self.name))?;
        Ok(())
    }

    /// Waits until `probe` succeeds. The error carries what the server said last, or is [`PortTaken`].
    pub(crate) fn wait_until_ready(&mut self, mut probe: impl FnMut() -> Result<()>) -> Result<()> {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            interrupt::check()?;
            let answer = probe();
            // Looked at after the probe: an answer counts only from a server that lives, not from whoever has the port.
            self.check_alive()?;
            match answer {
                Ok(()) => return Ok(()),
                Err(error) if Instant::now() > deadline => {
                    let (name, log) = (self.name, tail(&log_in(&self.folder)));
                    return Err(error.context(format!("{name} was not ready within {READY_WITHIN:?}; it said:\n{log}")));
                }
                Err(_) => sleep(POLL),
            }
        }
    }

    /// An error when the server has ended by itself.
    pub(crate) fn check_alive(&mut self) -> Result<()> {
        let Some(status) = self.child.try_wait()? else {
            return Ok(());
        };
        let log = tail(&log_in(&self.folder));
        if log.contains("ddress already in use") {
            return Err(PortTaken.into());
        }
        bail!("{} ended by itself ({status}); it said:\n{log}", self.name)
    }

    /// Process id, for people.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The folder of its files, for people.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Asks the server to stop, without waiting: several servers stop side by side. The drop waits.
    pub(crate) fn ask_to_stop(&mut self) {
        // Only a child that has not been waited for owns its process id. And once is enough: a second signal means
        // "at once, without saving" to some servers.
        if !self.asked_to_stop && matches!(self.child.try_wait(), Ok(None)) {
            self.asked_to_stop = true;
            if let Ok(pid) = pid(&self.child) {
                let _ = kill(pid, self.stop_signal);
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.ask_to_stop();
        if !matches!(wait_for_end(&mut self.child, STOP_WITHIN), Ok(true)) {
            say::progress(format!("{} did not stop within {STOP_WITHIN:?}, killing it", self.name));
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// The log of the server in this folder.
pub(crate) fn log_in(folder: &Folder) -> PathBuf {
    folder.path().join("log")
}

fn open_log(path: &Path) -> Result<File> {
    let file = OpenOptions::new().create(true).append(true).open(path);
    file.with_context(|| format!("cannot write {}", path.display()))
}

fn tail(log: &Path) -> String {
    let text = fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let skipped = text.lines().count().saturating_sub(LOG_TAIL);
    let cut = |line: &str| line.chars().take(LOG_WIDTH).collect::<String>();
    text.lines().skip(skipped).map(|line| format!("  | {}\n", cut(line))).collect()
}

fn wait_for_end(child: &mut Child, within: Duration) -> Result<bool> {
    let deadline = Instant::now() + within;
    while child.try_wait()?.is_none() {
        if Instant::now() > deadline {
            return Ok(false);
        }
        sleep(POLL);
    }
    Ok(true)
}

fn pid(child: &Child) -> Result<Pid> {
    Ok(Pid::from_raw(i32::try_from(child.id())?))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::process::Command;

    use nix::sys::signal::Signal;

    use super::{PortTaken, Process};
    use crate::account::Account;
    use crate::folder::Folder;

    fn start(script: &str) -> anyhow::Result<(Process, PathBuf)> {
        let folder = Folder::create("test", &Account::Own)?;
        let path = folder.path().to_owned();
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Ok((Process::start("script", command, Signal::SIGTERM, folder)?, path))
    }

    #[test]
    fn a_dropped_process_is_gone_and_so_is_its_folder() -> anyhow::Result<()> {
        let (process, path) = start("exec sleep 1000")?;
        let pid = super::pid(&process.child)?;
        assert!(path.exists());
        drop(process);
        assert!(!path.exists());
        assert_eq!(super::kill(pid, None), Err(nix::errno::Errno::ESRCH));
        Ok(())
    }

    #[test]
    fn a_killed_process_starts_again_on_its_files() -> anyhow::Result<()> {
        let (mut process, path) = start("exec sleep 1000")?;
        let before = super::pid(&process.child)?;
        process.kill()?;
        assert_eq!(super::kill(before, None), Err(nix::errno::Errno::ESRCH));
        process.start_again()?;
        process.check_alive()?;
        assert!(path.exists());
        Ok(())
    }

    #[test]
    fn a_server_that_dies_is_an_error_with_its_last_words() -> anyhow::Result<()> {
        let (mut process, _) = start("echo no such option; exit 3")?;
        let error = process.wait_until_ready(|| anyhow::bail!("refused")).map_err(|error| error.to_string());
        assert!(error.as_ref().is_err_and(|text| text.contains("no such option")), "{error:?}");
        Ok(())
    }

    #[test]
    fn a_taken_port_is_told_apart() -> anyhow::Result<()> {
        let (mut process, _) = start("echo 'bind: Address already in use'; exit 1")?;
        let error = process.wait_until_ready(|| anyhow::bail!("refused"));
        assert!(error.is_err_and(|error| error.is::<PortTaken>()));
        Ok(())
    }
}
