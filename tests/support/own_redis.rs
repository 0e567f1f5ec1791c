//! A Redis that belongs to one test: a process, a port, and a folder.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use redis::AsyncConnectionConfig;
use redis::aio::MultiplexedConnection;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use crate::{required, unique};

const PATIENCE: Duration = Duration::from_secs(20);

/// A Redis that belongs to one test. It is killed, and its folder removed, when it is dropped.
#[derive(Debug)]
pub struct OwnRedis {
    process: Option<Child>,
    /// Its port on loopback.
    pub port: u16,
    folder: PathBuf,
    settings: Vec<String>,
}

impl OwnRedis {
    /// Starts a server with these settings (`["--appendonly", "yes"]`); `None` where there is no `redis-server`, and
    /// servers are not required.
    ///
    /// # Panics
    /// When it does not start where servers are required, or does not answer.
    pub async fn start(settings: &[&str]) -> Option<Self> {
        let port = free_port();
        let folder = std::env::temp_dir().join(unique(&format!("wb_redis_{port}")));
        std::fs::create_dir_all(&folder).unwrap();
        let settings = settings.iter().map(|setting| (*setting).to_owned()).collect();
        let mut server = Self { process: None, port, folder, settings };
        server.restart().await.then_some(server)
    }

    /// Starts it again in the same folder; whether there is a program to start.
    pub async fn restart(&mut self) -> bool {
        let mut command = Command::new("redis-server");
        command.args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--dir"]).arg(&self.folder);
        command.args(&self.settings);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        // Somebody else may answer on this port, or hold it for a moment: then it ends at once, and is started again.
        let until = Instant::now() + PATIENCE;
        loop {
            if !self.spawn(&mut command) {
                return false;
            }
            if self.answers().await {
                return true;
            }
            assert!(Instant::now() < until, "redis-server does not answer on port {}", self.port);
        }
    }

    /// Whether there is a program to start.
    fn spawn(&mut self, command: &mut Command) -> bool {
        match command.spawn() {
            Ok(process) => self.process = Some(process),
            Err(error) => {
                assert!(!required(), "redis-server does not start: {error}");
                eprintln!("skipped: redis-server does not start: {error}");
                return false;
            }
        }
        true
    }

    /// Waits until this process answers; `false` when it ended instead.
    async fn answers(&mut self) -> bool {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            let answer = self.whose_answer().await;
            let process = self.process.as_mut().unwrap();
            if process.try_wait().unwrap().is_some() {
                sleep(Duration::from_millis(50)).await;
                return false;
            }
            if answer.is_some() && answer == process.id() {
                return true;
            }
            sleep(Duration::from_millis(10)).await;
        }
        false
    }

    /// Which process answers on the port.
    async fn whose_answer(&self) -> Option<u32> {
        let mut plain = self.try_plain().await?;
        // INFO is answered while the data are still being loaded, PING is not.
        redis::cmd("PING").query_async::<String>(&mut plain).await.ok()?;
        let info: String = redis::cmd("INFO").arg("server").query_async(&mut plain).await.ok()?;
        info.lines().find_map(|line| line.strip_prefix("process_id:")?.trim().parse().ok())
    }

    /// `kill -9`.
    pub async fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().await.unwrap();
        }
    }

    /// Sends a signal: `-STOP` freezes it, `-CONT` wakes it up.
    ///
    /// # Panics
    /// When it does not run.
    pub async fn signal(&self, signal: &str) {
        let process = self.process.as_ref().and_then(Child::id).unwrap();
        assert!(Command::new("kill").args([signal, &process.to_string()]).status().await.unwrap().success());
    }

    /// Where it listens.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    /// A file in its folder.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    async fn try_plain(&self) -> Option<MultiplexedConnection> {
        let patient =
            AsyncConnectionConfig::new().set_connection_timeout(Some(PATIENCE)).set_response_timeout(Some(PATIENCE));
        let client = redis::Client::open(self.url()).unwrap();
        client.get_multiplexed_async_connection_with_config(&patient).await.ok()
    }

    /// A connection past the framework.
    pub async fn plain(&self) -> MultiplexedConnection {
        self.try_plain().await.unwrap()
    }

    /// A command whose answer does not matter.
    pub async fn run(&self, words: &[&str]) {
        let (name, arguments) = words.split_first().unwrap();
        redis::cmd(name).arg(arguments).exec_async(&mut self.plain().await).await.unwrap();
    }
}

/// A port below those from which the kernel picks: no connection of anybody's has it while the server is away.
fn free_port() -> u16 {
    let seed = std::process::id().wrapping_mul(31) + u32::from(NEXT.fetch_add(1, Ordering::Relaxed)) * 101;
    (0..10_000_u32)
        .filter_map(|n| u16::try_from(20_000 + (seed.wrapping_add(n * 7)) % 10_000).ok())
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .unwrap()
}

static NEXT: AtomicU16 = AtomicU16::new(0);

impl Drop for OwnRedis {
    fn drop(&mut self) {
        // The process is killed by its own handle.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
