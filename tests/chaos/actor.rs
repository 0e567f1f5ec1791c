//! The processes of the storm. An actor is this test binary again, with one test and a part to play; it plays until it
//! is killed, or until whoever started it is gone.

use std::fmt::Display;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use write_behind::{
    Engine, EngineBuilder, EntityOptions, Mechanism, MongoEntity, RedisBuffer, RedisOptions, RetryPolicy, Role,
    SqlEntity, StartError,
};

use crate::history::Log;
use crate::item::{Item, Noted, Record};
use crate::target::{Target, mongo_sink, sql_sink};
use crate::writer::{Load, write};

const PART: &str = "WB_CHAOS_PART";

/// What an actor does, and where.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Part {
    pub(crate) redis: String,
    pub(crate) target: Target,
    pub(crate) namespace: String,
    /// Whether it flushes.
    pub(crate) flushes: bool,
    /// What it writes.
    pub(crate) writes: Option<Writes>,
    pub(crate) lease: Duration,
    pub(crate) flush_every: Duration,
    pub(crate) partitions: u16,
    /// Whether it is the newer program.
    pub(crate) newer: bool,
    /// Runs without fences, to see what they are for.
    pub(crate) unfenced: bool,
}

/// The load of a writing actor.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Writes {
    pub(crate) first_key: i64,
    pub(crate) keys: i64,
    pub(crate) tasks: i64,
    pub(crate) first_seq: i64,
    pub(crate) pause: Duration,
    pub(crate) seed: u64,
    pub(crate) noted: bool,
    pub(crate) log: PathBuf,
}

impl Writes {
    pub(crate) fn load(&self) -> Load {
        Load {
            keys: self.first_key..self.first_key + self.keys,
            tasks: self.tasks,
            first_seq: self.first_seq,
            pause: self.pause,
            seed: self.seed,
            noted: self.noted,
        }
    }
}

impl Part {
    /// A worker with short times.
    pub(crate) fn worker(redis: &str, target: &Target, namespace: &str) -> Self {
        Self {
            redis: redis.to_owned(),
            target: target.clone(),
            namespace: namespace.to_owned(),
            flushes: true,
            writes: None,
            lease: Duration::from_secs(1),
            flush_every: Duration::from_millis(50),
            partitions: 8,
            newer: false,
            unfenced: false,
        }
    }

    /// The engine of this part.
    pub(crate) async fn start(&self) -> Result<Engine, Box<dyn std::error::Error>> {
        if self.newer { self.start_as::<Noted>().await } else { self.start_as::<Item>().await }
    }

    async fn start_as<T: Record + SqlEntity + MongoEntity>(&self) -> Result<Engine, Box<dyn std::error::Error>> {
        let seconds = Duration::from_secs(1);
        let options = RedisOptions::new().connect_timeout(seconds).response_timeout(seconds);
        let builder = Engine::builder(RedisBuffer::connect_with(&self.redis, options).await?)
            .namespace(&self.namespace)
            .lease(self.lease)
            .role(match (self.flushes, &self.writes) {
                (true, None) => Role::Worker,
                (false, _) => Role::Writer,
                (true, Some(_)) => Role::Both,
            });
        let mut options = EntityOptions::new()
            .partitions(self.partitions)
            .flush_every(self.flush_every)
            .retry(RetryPolicy::new().initial(Duration::from_millis(20)).cap(Duration::from_millis(300)));
        if self.unfenced {
            options = options.without(Mechanism::Fence);
        }
        let start = async |builder: EngineBuilder| -> Result<Engine, StartError> { builder.start().await };
        Ok(match &self.target {
            Target::Postgres(url) => {
                // Who changed a row is asked of the database afterwards.
                let program = if T::NEWER { "newer" } else { "older" };
                let url = format!("{url}?application_name={program}-{}", std::process::id());
                start(builder.entity::<T>(sql_sink(&url).await?, options)).await?
            }
            Target::Mongo(url, name) => start(builder.entity::<T>(mongo_sink(url, name).await?, options)).await?,
        })
    }
}

/// Not a test, but where an actor begins.
#[test]
#[ignore = "a process of the other tests, started by them"]
fn actor() {
    let Ok(part) = std::env::var(PART) else { return };
    let part: Part = serde_json::from_str(&part).unwrap();
    std::thread::spawn(|| {
        // The other end closes when the test is over, however it ends.
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(play(part));
}

async fn play(part: Part) {
    let engine = loop {
        match part.start().await {
            Ok(engine) => break engine,
            // Servers may be away just now.
            Err(error) => eprintln!("not started: {}", write_behind_tests::chain(&*error)),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    if let Some(writes) = &part.writes {
        let over = Arc::new(AtomicBool::new(false));
        let log = Arc::new(Log::create(&writes.log));
        if part.newer {
            write::<Noted>(engine.cache().unwrap(), log, writes.load(), over).await;
        } else {
            write::<Item>(engine.cache().unwrap(), log, writes.load(), over).await;
        }
    }
    std::future::pending::<()>().await;
}

/// A running actor. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Actor {
    child: Child,
}

impl Actor {
    /// Starts an actor; what it has to say goes to the file `says`. With failpoints, if any.
    pub(crate) fn start(part: &Part, says: &Path, failpoints: impl Display) -> Self {
        let says = std::fs::OpenOptions::new().create(true).append(true).open(says).unwrap();
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "actor::actor", "--ignored", "--nocapture"])
            .env(PART, serde_json::to_string(part).unwrap())
            .env("WB_FAILPOINT", failpoints.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(says)
            .spawn()
            .unwrap();
        Self { child }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGSTOP.
    pub(crate) fn stop(&self) {
        self.signal("-STOP");
    }

    /// SIGCONT.
    pub(crate) fn go_on(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("sh").args(["-c", "kill $0 $1", signal, &self.pid().to_string()]).status().unwrap();
        assert!(status.success(), "kill {signal}: {status}");
    }

    /// Whether all of it is stopped.
    pub(crate) fn is_stopped(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap_or_default();
        // The name of the program stands in brackets before the state.
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
    }

    /// Whether it has ended by itself, which no actor should.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for its death by SIGKILL, at its own hand.
    pub(crate) async fn dies_within(&mut self, limit: Duration) -> bool {
        let until = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                assert_eq!(status.signal(), Some(9), "an actor ended with {status}");
                return true;
            }
            if Instant::now() > until {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        // Fails only when it is dead already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
