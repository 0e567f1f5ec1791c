//! A Redis that belongs to one test: a process, a port, and a folder.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use redis::AsyncConnectionConfig;
use redis::aio::MultiplexedConnection;
use tokio::process::{Child, Command};
use write_behind_tests::{eventually, unique};

const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Server {
    process: Option<Child>,
    pub(crate) port: u16,
    folder: PathBuf,
    settings: Vec<String>,
}

impl Server {
    /// Starts a server with these settings (`["--appendonly", "yes"]`); `None` where there is no `redis-server`, and
    /// servers are not required.
    pub(crate) async fn start(settings: &[&str]) -> Option<Self> {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = std::env::temp_dir().join(unique(&format!("wb_redis_{port}")));
        std::fs::create_dir_all(&folder).unwrap();
        let settings = settings.iter().map(|setting| (*setting).to_owned()).collect();
        let mut server = Self { process: None, port, folder, settings };
        server.restart().await.then_some(server)
    }

    /// Starts it again in the same folder; whether there is a program to start.
    pub(crate) async fn restart(&mut self) -> bool {
        let mut command = Command::new("redis-server");
        command.args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--dir"]).arg(&self.folder);
        command.args(&self.settings);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        match command.spawn() {
            Ok(process) => self.process = Some(process),
            Err(error) => {
                // Where servers are required, this one is too.
                let required = |name| std::env::var(name).is_ok_and(|value| value == "1" || value == "true");
                assert!(!required("WB_REQUIRE_SERVERS") && !required("CI"), "redis-server does not start: {error}");
                eprintln!("skipped: redis-server does not start: {error}");
                return false;
            }
        }
        eventually("redis-server answers", PATIENCE, async || {
            let mut plain = self.try_plain().await?;
            redis::cmd("PING").query_async::<String>(&mut plain).await.ok()
        })
        .await;
        true
    }

    /// `kill -9`.
    pub(crate) async fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().await.unwrap();
        }
    }

    /// Sends a signal: `-STOP` freezes it, `-CONT` wakes it up.
    pub(crate) async fn signal(&self, signal: &str) {
        let process = self.process.as_ref().and_then(Child::id).unwrap();
        assert!(Command::new("kill").args([signal, &process.to_string()]).status().await.unwrap().success());
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    /// A file in its folder.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    async fn try_plain(&self) -> Option<MultiplexedConnection> {
        let patient =
            AsyncConnectionConfig::new().set_connection_timeout(Some(PATIENCE)).set_response_timeout(Some(PATIENCE));
        let client = redis::Client::open(self.url()).unwrap();
        client.get_multiplexed_async_connection_with_config(&patient).await.ok()
    }

    /// A connection past the framework.
    pub(crate) async fn plain(&self) -> MultiplexedConnection {
        self.try_plain().await.unwrap()
    }

    /// A command whose answer does not matter.
    pub(crate) async fn run(&self, words: &[&str]) {
        let (name, arguments) = words.split_first().unwrap();
        redis::cmd(name).arg(arguments).exec_async(&mut self.plain().await).await.unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The process is killed by its own handle.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
